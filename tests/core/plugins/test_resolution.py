"""Which candidate is chosen, and why the others are not."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import PROPS, candidate, yes
from tests.fakes.requests import attention, linear, mlp, norm, tokens

from inferplane.errors import UserError
from inferplane.plugins.errors import ResolutionError
from inferplane.plugins.resolution import Pins, Resolver
from inferplane.plugins.site import Site
from inferplane.plugins.tuning import Tuning, key_of
from inferplane.spec import LayerRequest, Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

LAYER = LayerRequest(device=PROPS, architecture="Fake", index=0)


def resolver(*candidates, kernel=(), **options) -> Resolver:
    return Resolver(candidates, Pins.parse(kernel), **options)


def no(reason="too small"):
    return lambda request: Support.no(reason)


def reasons(choice) -> dict[str, str]:
    return {r.candidate.name: r.reason for r in choice.rejected}


class TestFeatures:
    def test_a_missing_one_is_refused_before_supports_is_asked(self):
        asked = []
        kernel = candidate("x.a", supports=lambda r: asked.append(r) or Support.yes())
        choice = resolver(kernel).choose(linear(bias=True))
        assert not choice.found
        assert asked == []

    def test_the_reason_names_it(self):
        choice = resolver(candidate("x.a")).choose(linear(bias=True, adapters=2))
        assert reasons(choice) == {"x.a": "it does not handle adapters, bias"}

    def test_a_semantic_that_no_field_implies_counts_too(self):
        choice = resolver(candidate("x.a")).choose(linear(extra=frozenset({"new thing"})))
        assert reasons(choice) == {"x.a": "it does not handle new thing"}

    def test_named_ones_are_accepted(self):
        kernel = candidate("x.a", features={"bias"})
        assert resolver(kernel).choose(linear(bias=True)).candidate is kernel

    def test_the_reference_handles_all_that_it_supports(self):
        kernel = candidate("reference.a")
        assert resolver(kernel).choose(linear(bias=True)).candidate is kernel


class TestAnswers:
    def test_a_refusal_keeps_its_reason(self):
        assert reasons(resolver(candidate("x.a", supports=no())).choose(linear())) == {
            "x.a": "too small"
        }

    def test_one_that_raises_is_a_refusal(self):
        choice = resolver(candidate("x.a", supports=lambda r: 1 / 0)).choose(linear())
        assert reasons(choice) == {
            "x.a": "its supports() raised ZeroDivisionError: division by zero"
        }

    @pytest.mark.parametrize("answer", [True, None, "yes"])
    def test_nonsense_is_a_refusal(self, answer):
        choice = resolver(candidate("x.a", supports=lambda r: answer)).choose(linear())
        kind = type(answer).__name__
        assert reasons(choice) == {"x.a": f"its supports() returned {kind}, not Support"}

    def test_a_refusal_without_a_reason_says_that(self):
        choice = resolver(candidate("x.a", supports=lambda r: Support(False))).choose(linear())
        assert reasons(choice) == {"x.a": "its supports() refused without a reason"}

    def test_a_bad_answer_does_not_stop_the_others(self):
        good = candidate("x.b")
        choice = resolver(candidate("x.a", supports=lambda r: 1 / 0), good).choose(linear())
        assert choice.candidate is good


class TestOrder:
    def test_priority_wins(self):
        best = candidate("x.b", priority=1)
        choice = resolver(candidate("x.a"), best).choose(linear())
        assert choice.candidate is best
        assert reasons(choice) == {"x.a": "lower priority than x.b"}

    def test_the_answer_replaces_the_priority(self):
        raised = candidate("x.b", supports=lambda r: Support.yes(priority=5))
        assert resolver(candidate("x.a", priority=4), raised).choose(linear()).candidate is raised

    def test_equal_priorities_go_by_name(self):
        choice = resolver(candidate("x.b"), candidate("x.a")).choose(linear())
        assert choice.candidate.name == "x.a"
        assert reasons(choice) == {"x.b": "same priority, name after x.a"}

    def test_a_platforms_own_come_before_equal_ones_of_features(self):
        kernels = [candidate("a.fast"), candidate("x.b"), candidate("x.c", priority=-1)]
        choice = Resolver(kernels, platform="x").choose(linear())
        assert choice.candidate.name == "x.b"
        assert reasons(choice) == {
            "a.fast": "same priority, x.b is the platform's own",
            "x.c": "lower priority than x.b",
        }

    def test_a_reference_comes_last_whatever_its_priority(self):
        choice = resolver(candidate("reference.a", priority=99), candidate("x.a")).choose(linear())
        assert choice.candidate.name == "x.a"

    def test_tuning_data_comes_before_priority(self):
        tuning = Tuning({key_of(linear()): {"x.slow": 1.0, "x.fast": 2.0}})
        kernels = candidate("x.fast", priority=9), candidate("x.slow")
        choice = resolver(*kernels, tuning=tuning).choose(linear())
        assert choice.candidate.name == "x.slow"
        assert reasons(choice) == {"x.fast": "tuning data prefers x.slow"}

    def test_tuning_data_of_another_shape_changes_nothing(self):
        tuning = Tuning({("fake1", "linear", "other"): {"x.slow": 1.0, "x.fast": 2.0}})
        kernels = candidate("x.fast", priority=9), candidate("x.slow")
        assert resolver(*kernels, tuning=tuning).choose(linear()).candidate.name == "x.fast"

    def test_level_comes_before_tuning_data(self):
        tuning = Tuning({key_of(mlp()): {"x.small": 1.0, "x.large": 2.0}})
        kernels = [
            candidate("x.small", op="mlp.block", features={"silu"}),
            candidate("x.large", op="mlp.block", level="block", features={"silu"}),
        ]
        choice = resolver(*kernels, tuning=tuning).choose(mlp())
        assert choice.candidate.name == "x.large"
        assert reasons(choice) == {"x.small": "lower level than x.large"}

    @pytest.mark.parametrize(("low", "high"), [("op", "block"), ("block", "layer")])
    def test_the_larger_level_wins(self, low, high):
        kernels = candidate("x.a", level=low, priority=9), candidate("x.b", level=high)
        assert resolver(*kernels).choose(linear()).candidate.name == "x.b"


class TestPinsAndBans:
    two = (candidate("x.a"), candidate("x.b"))

    def test_a_pin_is_used(self):
        choice = resolver(*self.two, kernel=["linear=x.b"]).choose(linear())
        assert choice.candidate.name == "x.b"
        assert reasons(choice) == {"x.a": "linear is pinned to x.b"}

    def test_a_pin_that_cannot_serve_gives_nothing(self):
        kernels = candidate("x.a"), candidate("x.b", supports=no())
        assert not resolver(*kernels, kernel=["linear=x.b"]).choose(linear()).found

    def test_a_ban_is_kept(self):
        choice = resolver(*self.two, kernel=["linear!=x.a"]).choose(linear())
        assert choice.candidate.name == "x.b"
        assert reasons(choice) == {"x.a": "forbidden by --kernel"}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("linear", "write OP=NAME"),
            ("=x.a", "write OP=NAME"),
            ("linear=", "write OP=NAME"),
            ("linaer=x.a", "no op 'linaer' .did you mean 'linear'"),
            ("linear=x.aa", "no candidate 'x.aa' .did you mean 'x.a'.*candidates: x.a, x.b"),
            ("linear!=x.aa", "no candidate 'x.aa'"),
            ("rotary=x.a", "--kernel rotary: no candidate 'x.a'; candidates: none"),
        ],
    )
    def test_a_wrong_text_says_what_is_right(self, text, says):
        with pytest.raises(UserError, match=says):
            resolver(*self.two, kernel=[text])

    def test_two_pins_of_one_op_are_refused(self):
        with pytest.raises(UserError, match=r"linear is pinned twice, to x\.a and to x\.b"):
            resolver(*self.two, kernel=["linear=x.a", "linear=x.b"])


class TestStrict:
    def test_refuses_a_reference(self):
        choice = resolver(candidate("reference.a"), strict=True).choose(linear())
        assert reasons(choice) == {"reference.a": "a reference kernel, refused by --strict"}

    def test_changes_nothing_else(self):
        assert resolver(candidate("x.a"), strict=True).choose(linear()).found

    def test_without_it_the_fallback_is_reported(self):
        assert resolver(candidate("reference.a")).choose(linear()).falls_back


class TestTokenRanges:
    def few(self, most):
        """Supports calls of up to `most` tokens."""

        def supports(request):
            if request.tokens.last > most:
                return Support.no(f"at most {most} tokens")
            return Support.yes(priority=1)

        return candidate("x.few", supports=supports, token_breaks=(most,))

    def found(self, *kernels, request=None):
        choice = resolver(*kernels).choose(request or linear())
        return [(str(range), c.name) for range, c in choice.ranges]

    def test_are_split_where_the_answer_changes(self):
        found = self.found(self.few(16), candidate("x.many"))
        assert found == [("1-16", "x.few"), ("17+", "x.many")]

    def test_are_joined_where_it_does_not(self):
        assert self.found(candidate("x.a", token_breaks=(4, 16, 64))) == [("any", "x.a")]

    def test_breaks_of_all_candidates_count(self):
        kernels = self.few(16), candidate("x.many", token_breaks=(64,))
        assert self.found(*kernels) == [("1-16", "x.few"), ("17+", "x.many")]

    def test_stay_within_the_request(self):
        request = linear(tokens=tokens(8, 32))
        found = self.found(self.few(16), candidate("x.many"), request=request)
        assert found == [("8-16", "x.few"), ("17-32", "x.many")]

    def test_one_that_nothing_serves_is_a_problem_for_all(self):
        choice = resolver(self.few(16)).choose(linear())
        assert not choice.found
        assert reasons(choice) == {"x.few": "at most 16 tokens"}

    def test_a_winner_of_one_range_is_not_among_the_rejected(self):
        choice = resolver(self.few(16), candidate("x.many")).choose(linear())
        assert reasons(choice) == {}

    def test_names_say_which_serves_what(self):
        choice = resolver(self.few(16), candidate("x.many")).choose(linear())
        assert choice.names == "x.few (M 1-16), x.many (M 17+)"


class TestLargerKernels:
    """A layer of a norm, attention and an MLP block."""

    base = (
        candidate("x.linear"),
        candidate("x.norm", op="norm.rms"),
        candidate("x.attention", op="attention"),
    )
    block = candidate("x.mlp", op="mlp.block", level="block", features={"silu"})

    def layer(self) -> Site:
        block = Site("layer.mlp", mlp(), 0, [Site("layer.mlp.up", linear(), 0)])
        inside = [Site("layer.norm", norm(), 0), Site("layer.attn", attention(), 0), block]
        return Site("", children=[Site("layer", LAYER, 0, inside)])

    def paths(self, *kernels, **options):
        resolution = resolver(*self.base, *kernels, **options).resolve(self.layer())
        assert resolution.problems == []
        return {path: choice.candidate.name for path, choice in resolution.choices.items()}

    def test_without_one_every_part_is_bound(self):
        assert self.paths().keys() == {"layer.norm", "layer.attn", "layer.mlp.up"}

    def test_a_block_takes_the_place_of_its_parts(self):
        found = self.paths(self.block)
        assert found.keys() == {"layer.norm", "layer.attn", "layer.mlp"}

    def test_a_layer_takes_the_place_of_its_blocks_and_keeps_attention(self):
        found = self.paths(
            self.block,
            candidate("x.layer", op="layer", level="layer"),
        )
        assert found == {"layer": "x.layer", "layer.attn": "x.attention"}

    def test_a_pinned_inner_op_excludes_all_that_contain_it(self):
        found = self.paths(
            self.block,
            candidate("x.layer", op="layer", level="layer"),
            kernel=["linear=x.linear"],
        )
        assert found["layer.mlp.up"] == "x.linear"

    def test_the_reason_names_the_pin(self):
        kernels = [*self.base, candidate("x.layer", op="layer", level="layer")]
        resolution = resolver(*kernels, kernel=["linear=x.linear"]).resolve(self.layer())
        assert reasons(resolution.composed["layer"]) == {
            "x.layer": "it contains linear, which is pinned"
        }

    def test_one_that_is_refused_is_composed(self):
        refused = candidate("x.layer", op="layer", level="layer", supports=no())
        assert self.paths(refused).keys() == {"layer.norm", "layer.attn", "layer.mlp.up"}

    def test_a_semantic_of_a_part_is_one_of_the_whole(self):
        block = candidate("x.mlp", op="mlp.block", level="block")
        choice = resolver(block).choose(mlp(gate_up=linear(bias=True)))
        assert reasons(choice) == {"x.mlp": "it does not handle bias, silu"}

    def test_a_pinned_one_that_cannot_serve_is_a_problem(self):
        kernels = [*self.base, candidate("x.mlp", op="mlp.block", level="block", supports=no())]
        resolution = resolver(*kernels, kernel=["mlp.block=x.mlp"]).resolve(self.layer())
        assert [path for path, _ in resolution.problems] == ["layer.mlp"]


class TestProblems:
    def root(self) -> Site:
        sites = [Site(f"l{i}", linear()) for i in range(3)]
        return Site("", children=[*sites, Site("n", norm())])

    def error(self, *kernels) -> ResolutionError:
        with pytest.raises(ResolutionError) as error:
            resolver(*kernels).resolve(self.root()).check("tiny", "Fake 1")
        return error.value

    def test_all_are_listed_at_once(self):
        error = self.error(candidate("x.linear", supports=no()))
        assert "2 problems stop tiny on Fake 1" in str(error)
        assert len(error.problems) == 2
        one = self.error(candidate("x.linear", supports=no()), candidate("x.n", op="norm.rms"))
        assert "1 problem stops tiny on Fake 1" in str(one)

    def test_equal_ones_are_counted(self):
        error = self.error(candidate("x.linear", supports=no()), candidate("x.n", op="norm.rms"))
        assert error.problems == ("1. linear fp32 8x16 (3 sites): x.linear: too small",)

    def test_those_that_a_pin_excludes_are_not_told(self):
        kernels = candidate("x.a", supports=no()), candidate("x.b"), candidate("x.n", op="norm.rms")
        with pytest.raises(ResolutionError) as error:
            resolver(*kernels, kernel=["linear=x.a"]).resolve(self.root()).check("tiny", "Fake 1")
        assert error.value.problems == ("1. linear fp32 8x16 (3 sites): x.a: too small",)

    def test_every_candidate_gives_its_reason(self):
        kernels = candidate("x.a", supports=no("too small")), candidate("x.b", supports=no("off"))
        assert "(3 sites):\n     x.a: too small\n     x.b: off\n" in str(self.error(*kernels))

    def test_requests_that_are_refused_alike_are_one_problem(self):
        root = Site("", children=[Site("a", linear()), Site("b", linear(out_features=32))])
        with pytest.raises(ResolutionError) as error:
            resolver(candidate("x.a", supports=no())).resolve(root).check("tiny", "Fake 1")
        assert error.value.problems == ("1. linear fp32 8x16 and 1 more (2 sites): x.a: too small",)

    def test_what_would_work_is_named(self):
        hint = candidate("x.a", supports=lambda r: Support.no("not here", instead="x.z"))
        assert "x.a: not here (x.z would work)" in str(self.error(hint))

    def test_an_op_without_candidates_says_so(self):
        assert "norm.rms fp32 8 (1 site): no candidate is installed" in str(self.error())

    def test_none_is_no_error(self):
        kernels = candidate("x.a", supports=yes), candidate("x.n", op="norm.rms")
        assert resolver(*kernels).resolve(self.root()).check("tiny", "Fake 1") is None

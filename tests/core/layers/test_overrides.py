"""A larger kernel in the place of a composition computes the same, and the plan says so."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.fakes import kernels
from tests.fakes.models import build, logits, plan
from tests.fakes.plugins import candidate

from inferplane.plugins.errors import BadHook
from inferplane.spec import Packed, Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=6)

FEATURES = {"silu", "qk_norm", "window"}
LARGER = {
    "mlp.block": ("block", kernels.MLP, ".mlp"),
    "attention.block": ("block", kernels.Attention, ".self_attn"),
    "layer": ("layer", kernels.Layer, ""),
}


def larger(op: str, **changes):
    """A candidate for a block or layer, and the class of its kernel."""
    level, base, _ = LARGER[op]
    kind = type("Kernel", (base,), {"calls": 0})
    fields = {
        "name": "extra.large",
        "op": op,
        "level": level,
        "features": FEATURES,
        "load": lambda: kind,
    }
    return candidate(**(fields | changes)), kind


@pytest.fixture
def composed(tmp_path):
    """The same model without any larger kernel but the platform's own."""
    return logits(build(plan(tmp_path)))


@pytest.mark.parametrize("op", LARGER)
class TestLargerKernel:
    def test_computes_the_same(self, tmp_path, composed, op):
        kernel, kind = larger(op)
        made = build(plan(tmp_path, [kernel]))
        kind.calls = 0  # a kernel may have been tried while it was built
        found = logits(made)
        assert kind.calls == 3
        torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)

    def test_computes_the_same_in_chunks_and_decodes(self, tmp_path, composed, op):
        kernel, _ = larger(op)
        found = logits(build(plan(tmp_path, [kernel])), (7, 6, 1, 5, 1))
        torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)

    def test_is_in_the_plan(self, tmp_path, op):
        kernel, _ = larger(op)
        choices = plan(tmp_path, [kernel]).resolution.choices
        sites = [f"model.layers.{index}{LARGER[op][2]}" for index in range(3)]
        assert [choices[site].names for site in sites] == ["extra.large"] * 3

    def test_that_refuses_leaves_the_composition(self, tmp_path, composed, op):
        kernel, kind = larger(op, supports=lambda r: Support.no("not this one"))
        found = logits(build(plan(tmp_path, [kernel])))
        assert kind.calls == 0
        assert torch.equal(found, composed)

    def test_that_lacks_a_feature_leaves_the_composition(self, tmp_path, composed, op):
        kernel, kind = larger(op, features=frozenset())
        logits(build(plan(tmp_path, [kernel])))
        assert kind.calls == 0

    def test_works_with_windows_and_full_layers_mixed(self, tmp_path, op):
        windows = {
            "use_sliding_window": True,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        }
        kernel, _ = larger(op)
        found = logits(build(plan(tmp_path, [kernel], **windows)), (9, 1, 10))
        wanted = logits(build(plan(tmp_path, **windows)))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_layer_alone_can_be_replaced(tmp_path, composed):
    def middle(request):
        return Support.yes() if request.index == 1 else Support.no("only layer 1")

    kernel, kind = larger("layer", supports=middle)
    found = logits(build(plan(tmp_path, [kernel])))
    assert kind.calls == 1
    torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)


def test_a_layer_takes_the_place_of_its_blocks(tmp_path):
    layer, _ = larger("layer")
    mlp, kind = larger("mlp.block", load=None)
    logits(build(plan(tmp_path, [layer, mlp])))
    assert kind.calls == 0


def test_a_pinned_op_keeps_the_composition(tmp_path, composed):
    kernel, kind = larger("layer")
    found = logits(build(plan(tmp_path, [kernel], kernel=["linear=cpu.onednn"])))
    assert kind.calls == 0
    torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)


class Counted:
    """A kernel that owns a weight, and counts its calls by rows."""

    def __init__(self, run, rows: list[int]) -> None:
        self.run, self.rows = run, rows

    def prepare(self, source) -> Packed:
        weight = source.read("weight")
        return Packed(data=weight, final_bytes=weight.nbytes)

    def __call__(self, x, packed):
        self.rows.append(x.shape[0])
        return self.run(x, packed.data)


class TestTokenBreaks:
    """A kernel for at most four tokens, beside the platform's own."""

    def few(self, op: str, run, rows: list[int]):
        def supports(request):
            if request.tokens.last > 4:
                return Support.no("at most 4 tokens")
            return Support.yes(priority=9)

        return candidate(
            "extra.few",
            op=op,
            supports=supports,
            token_breaks=(4,),
            load=lambda: lambda request: Counted(run, rows),
        )

    @pytest.mark.parametrize(
        ("op", "run", "calls"),
        [("linear", F.linear, 3 * 4 + 1), ("embedding", F.embedding, 1)],
    )
    def test_serve_steps_of_few_tokens_only(self, tmp_path, composed, op, run, calls):
        rows: list[int] = []
        made = plan(tmp_path, [self.few(op, run, rows)])
        built = build(made)
        rows.clear()
        found = logits(built, (15, 1, 4))
        assert rows == [1] * calls + [4] * calls
        torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)

    def test_of_a_block_serve_steps_of_few_tokens_only(self, tmp_path, composed):
        kernel, kind = larger(
            "mlp.block",
            token_breaks=(4,),
            supports=lambda r: Support.no("few only") if r.tokens.last > 4 else Support.yes(),
        )
        wide, _ = larger("mlp.block", name="extra.wide", priority=-1)
        made = build(plan(tmp_path, [kernel, wide]))
        kind.calls = 0
        found = logits(made, (16, 4))
        assert kind.calls == 3
        torch.testing.assert_close(found, composed, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("op", ["attention", "rotary", "attention.input", "layer"])
    def test_are_refused_where_a_kernel_has_state(self, tmp_path, op):
        made = plan(tmp_path, [candidate("extra.few", op=op, token_breaks=(4,))])
        (warning,) = [w for w in made.warnings if "extra.few" in w]
        with pytest.raises(BadHook, match=f"token_breaks are not for {op!r}"):
            raise BadHook(warning)

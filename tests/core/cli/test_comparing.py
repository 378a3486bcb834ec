"""`inferplane tune --compare`: kernels of one op against each other, on the CPU."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from tests.fakes.attention_mutants import SeesNext
from tests.fakes.packages import install_source

from inferplane.cli.comparing import Contest, compare, contests, write
from inferplane.cli.main import run as command
from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.plugins.resolution import Choice, is_reference
from inferplane.plugins.tuning import key_of
from inferplane.reference.attention import Attention
from inferplane.reference.linear import Linear
from inferplane.settings import Settings
from inferplane.spec import (
    ANY_TOKENS,
    Candidate,
    Device,
    Fault,
    GraphRequest,
    Support,
    standard_layout,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=20)

SIZES = {"max_num_seqs": 2, "max_num_batched_tokens": 16, "max_model_len": 64}
OPS = ("norm.rms", "norm.add_rms", "linear", "attention", "moe.experts")

PLUGIN = """
import time
from inferplane.reference.norm import rms_norm
from inferplane.spec import Candidate, FeatureSpec, Support, hookimpl

@hookimpl
def inferplane_feature():
    return FeatureSpec(name="rival", api=(0, 4))

def slow(request):
    def run(x, weight):
        time.sleep(0.002)
        return rms_norm(request)(x, weight)
    return run

def wrong(request):
    return lambda x, weight: x

def broken(request):
    def run(x, weight):
        raise RuntimeError("no code for this device")
    return run

@hookimpl
def inferplane_ops(props):
    return [
        Candidate(op="norm.rms", name=f"rival.{name}", supports=lambda request: Support.yes(),
                  load=f"inferplane_rival:{name}", priority=priority)
        for name, priority in (("slow", 1000), ("broken", 900), ("wrong", 800))
    ]
"""


def plan(model: str = "tiny-arithmetic-moe", **settings):
    given = {"model": model, "device": "cpu", "tuning": "none", **SIZES} | settings
    return make_plan(Settings(**given))


@pytest.fixture(scope="module")
def found() -> list[Contest]:
    made = plan()
    results = contests(made)
    with torch.inference_mode():
        for contest in results:
            compare(contest, made, made.catalog.device())
    return results


def test_every_op_that_more_than_one_kernel_could_serve_is_measured(found):
    assert {contest.request.op for contest in found} >= set(OPS)
    keys = [key_of(c.request) for c in found]
    assert len(set(keys)) == len(keys)


def test_every_kernel_runs_both_steps(found):
    for contest in found:
        assert contest.failed == {}
        assert set(contest.microseconds) == {candidate.name for candidate in contest.able}
        assert all(t > 0 for times in contest.microseconds.values() for t in times.values())
        assert not any(is_reference(candidate) for candidate in contest.able)


def test_the_place_is_the_mean_of_both_steps_relative_to_the_fastest(found):
    times = {
        "a": {"decode": 1.0, "prefill": 400.0},
        "b": {"decode": 4.0, "prefill": 100.0},
        "c": {"decode": 1.0, "prefill": 200.0},
    }
    contest = Contest(found[0].site, found[0].request, [], times)
    assert contest.places() == [("c", pytest.approx(2**0.5)), ("a", 2.0), ("b", 2.0)]


def test_forbidden_kernels_and_other_ops_take_no_part():
    (contest,) = contests(
        plan(kernel=("attention!=cpu.flash", "norm.rms!=cpu.rms_norm")), "norm.add_rms"
    )
    assert contest.request.op == "norm.add_rms"
    assert contests(plan(kernel=("attention!=cpu.flash",)), "attention") == []


def test_quantized_weights_are_made_up_too():
    made = plan("tiny-arithmetic", quantization="int8", load_format="dummy")
    linear = [c for c in contests(made, "linear") if c.request.scheme.quantized]
    assert linear
    with torch.inference_mode():
        compare(linear[0], made, made.catalog.device())
    assert linear[0].failed == {}


def test_a_kernel_that_takes_one_scale_for_all_outputs_has_no_place():
    class OneScale(Linear):
        def prepare(self, source):
            class Source:
                def __getattr__(self, name):
                    return getattr(source, name)

                def read(self, name, *part):
                    found = source.read(name, *part)
                    return found.mean().expand_as(found) if name == "scale" else found

            return super().prepare(Source())

    made = plan("tiny-arithmetic", quantization="int8", load_format="dummy")
    contest = next(c for c in contests(made, "linear") if c.request.scheme.quantized)
    contest.able += [rival("right", Linear, "linear"), rival("one", OneScale, "linear")]
    measured(contest, made)
    assert "x.right" in contest.microseconds
    assert contest.failed.keys() == {"x.one"}
    assert "differs" in contest.failed["x.one"]


def test_entries_of_other_requests_and_devices_stay(found, tmp_path):
    path = tmp_path / "tuning.json"
    write(found[:1], path, {})
    document = json.loads(path.read_text())
    other = {**document["entries"][0], "device": "h1"}
    path.write_text(json.dumps({**document, "entries": [other]}))
    write(found[1:2], path, {"torch": "2"})
    document = json.loads(path.read_text())
    assert [e["device"] for e in document["entries"]] == ["h1", found[1].request.device.profile]
    assert document["entries"][1]["made"]["torch"] == "2"


def test_a_file_of_another_version_is_replaced_and_nothing_else(found, tmp_path):
    path = tmp_path / "tuning.json"
    path.write_text('{"format": 1, "entries": [{"device": "host"}]}')
    write(found[:1], path, {})
    assert json.loads(path.read_text())["format"] == 2
    path.write_text('{"shopping": ["milk"]}')
    with pytest.raises(UserError, match="KeyError: 'format'"):
        write(found[:1], path, {})
    assert path.read_text() == '{"shopping": ["milk"]}'


def norm_contest(made, *rivals) -> Contest:
    """Of an RMS norm, with kernels behind those of the CPU: (name, its call)."""
    (contest,) = contests(made, "norm.rms")
    for name, call in rivals:
        contest.able.append(rival(name, lambda request, call=call: call))
    return contest


def rival(name: str, factory, op: str = "norm.rms", **fields) -> Candidate:
    return Candidate(
        op=op, name=f"x.{name}", supports=lambda r: Support.yes(), load=lambda: factory, **fields
    )


def measured(contest: Contest, made, device: Device | None = None) -> Contest:
    with torch.inference_mode():
        compare(contest, made, device or made.catalog.device())
    return contest


def test_the_kernel_that_serves_without_measurements_is_the_first(found):
    made = plan()
    for contest in contests(made):
        today = next(
            c.candidate for c in made.resolution.choices.values() if c.request == contest.request
        )
        assert contest.able[0] is today


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_kernel_that_computes_something_else_has_no_place(dtype):
    made = plan(dtype=dtype)

    def near(x, weight):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], weight) * (1 + 2e-4)

    wrong = ("wrong", lambda x, weight: x), ("none", lambda x, weight: x * float("nan"))
    shape = ("shape", lambda x, weight: x[:1])
    contest = measured(norm_contest(made, *wrong, shape, ("near", near)), made)
    trusted = contest.able[0].name
    assert contest.failed.keys() == {"x.wrong", "x.none", "x.shape"}
    assert f"its decode result differs from that of {trusted} by " in contest.failed["x.wrong"]
    assert "by inf of its norm" in contest.failed["x.none"]
    assert "not [(2, 256)]" in contest.failed["x.shape"]
    assert "x.near" in contest.microseconds
    assert not {"x.wrong", "x.none"} & {name for name, _ in contest.places()}


def test_a_kernel_that_is_wrong_in_prefills_only_has_no_place():
    def late(x, weight):
        y = torch.nn.functional.rms_norm(x, x.shape[-1:], weight)
        return y if len(x) < 4 else y.roll(1, 0)

    made = plan()
    contest = measured(norm_contest(made, ("late", late)), made)
    assert "its prefill result differs" in contest.failed["x.late"]


def test_where_the_first_kernel_fails_the_next_one_is_trusted():
    made = plan()
    contest = norm_contest(made)
    contest.able.insert(0, rival("empty", lambda r: lambda x, weight: x * float("nan")))
    measured(contest, made)
    assert contest.failed == {
        "x.empty": "ArithmeticError: no number of its decode result is finite"
    }
    assert len(contest.microseconds) == 2


class HalfScale(Attention):
    def attend(self, q, k, v, sinks):
        return super().attend(q * 0.5, k, v, sinks)


class NextPages(Attention):
    """Reads pages that are another row's, or another part's of the row."""

    def plan(self, metadata, buffers):
        table = (metadata.page_table + 1) % metadata.page_table.size
        return super().plan(replace(metadata, page_table=table), buffers)


class WritesNothing(Attention):
    def run(self, *given):
        pass


@pytest.mark.parametrize("kernel", [HalfScale, SeesNext, NextPages, WritesNothing])
def test_attention_must_give_what_is_in_the_cache(kernel):
    made = plan("tiny-arithmetic")
    (contest,) = contests(made, "attention")
    contest.able += [rival("right", Attention, "attention"), rival("one", kernel, "attention")]
    measured(contest, made)
    assert "x.right" in contest.microseconds
    assert contest.failed.keys() == {"x.one"}
    assert f"differs from that of {contest.able[0].name} by" in contest.failed["x.one"]


@pytest.mark.parametrize("own", [True, False])
def test_a_cache_of_another_layout_is_filled_by_its_kernel_or_the_kernel_fails(own):
    class Turned(Attention):
        """Keeps [2, P, K, D] a page."""

        def run(self, q, k, v, cache, *more):
            super().run(q, k, v, cache.transpose(1, 2), *more)

    class Filled(Turned):
        def import_pages(self, cache, pages, data):
            cache[list(pages)] = data.transpose(1, 2)

    def layout(request):
        page, two, *rest = standard_layout(request).shape
        return replace(standard_layout(request), name="turned", shape=(two, page, *rest))

    made = plan("tiny-arithmetic")
    (contest,) = contests(made, "attention")
    contest.able.append(rival("one", Filled if own else Turned, "attention", layout=layout))
    measured(contest, made)
    assert ("x.one" in contest.microseconds) == own
    if not own:
        assert "layout 'turned', cannot be filled" in contest.failed["x.one"]


class Fragile(Device):
    """Is lost by an error that says so."""

    lost_words = ("the device is gone",)


def gone(x, weight):
    raise RuntimeError("the device is gone")


def test_a_kernel_that_loses_the_device_ends_the_comparison_and_is_named():
    made = plan()
    contest = norm_contest(made, ("killer", gone), ("after", gone))
    with pytest.raises(UserError, match=r"x\.killer lost the device.*'norm\.rms!=x\.killer'"):
        measured(contest, made, Fragile("cpu", made.catalog.props))
    assert contest.failed.keys() == {"x.killer"}
    assert len(contest.microseconds) == 2


def test_a_cache_that_cannot_be_emptied_is_that_kernels_failure():
    class Late(Fragile):
        def empty_cache(self):
            raise RuntimeError("the device is gone")

    made = plan()
    device = Late("cpu", made.catalog.props)
    assert device.fault(RuntimeError("the device is gone")) is Fault.LOST
    contest = norm_contest(made)
    with pytest.raises(UserError, match="lost the device"):
        measured(contest, made, device)
    assert contest.failed.keys() == {contest.able[0].name}
    assert contest.microseconds == {}


def test_an_error_that_does_not_lose_the_device_is_one_kernels_failure():
    def fails(x, weight):
        raise RuntimeError("no code for this device")

    made = plan()
    contest = measured(norm_contest(made, ("broken", fails), ("next", lambda x, weight: x)), made)
    assert contest.failed["x.broken"] == "RuntimeError: no code for this device"
    assert "x.next" in contest.failed


def test_decodes_are_timed_as_replays_where_steps_are_captured():
    """A graph of the tests: it records that it was captured, and a replay takes its own time."""
    calls, graphs = [], []

    class Graphs:
        def __init__(self, request):
            graphs.append(self)
            self.replays = 0

        def capture(self, run):
            before = len(calls)
            run()
            self.held = len(calls) - before
            return self

        def replay(self):
            self.replays += 1

    def counts(x, weight):
        calls.append(len(x))
        return torch.nn.functional.rms_norm(x, x.shape[-1:], weight)

    made = plan()
    request = GraphRequest(device=made.catalog.props)
    choice = Choice(request, ((ANY_TOKENS, rival("graph", Graphs, "graph")),))
    made = replace(made, graph=choice)
    contest = norm_contest(made, ("counts", counts))
    contest.able = contest.able[-1:]
    measured(contest, made)
    (graph,) = graphs
    assert graph.replays > 1
    decodes = calls.count(SIZES["max_num_seqs"])
    assert decodes == 1 + graph.held
    assert len(calls) > decodes  # prefills are not captured


def test_kernels_that_no_graph_can_hold_are_told_where_steps_are_captured():
    made = plan()
    request = GraphRequest(device=made.catalog.props)
    made = replace(made, graph=Choice(request, ((ANY_TOKENS, rival("graph", None, "graph")),)))
    loose = rival("loose", None, capture="none")
    made.catalog.candidates.append(loose)
    (contest,) = contests(made, "norm.rms")
    assert loose not in contest.able
    assert contest.failed == {"x.loose": "steps are captured, and no graph can hold it"}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in this process, with a plugin that is found by its metadata."""
    monkeypatch.syspath_prepend(install_source(tmp_path / "site", "rival", PLUGIN))
    monkeypatch.setattr("inferplane.plugins.tuning.default_file", lambda: tmp_path / "tuning.json")
    monkeypatch.delenv("INFERPLANE_TUNING")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = command([*arguments, "--device", "cpu"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield call
    sys.modules.pop("inferplane_rival", None)


def norm(run) -> tuple[str, dict[str, str]]:
    code, out, err = run("explain", "tiny-arithmetic", "--json")
    assert code == 0, err
    (row,) = (r for r in json.loads(out)["ops"] if r["op"] == "norm.rms")
    return row["kernel"], {r["kernel"]: r["reason"] for r in row["rejected"]}


def test_the_fastest_kernel_serves_from_then_on_and_explain_says_why(run, tmp_path):
    assert norm(run)[0] == "rival.slow"
    asked = ("tune", "--compare", "--model", "tiny-arithmetic", "--op", "norm.rms", "--json")
    code, out, err = run(*asked)
    assert code == 0, err
    (entry,) = json.loads(out)
    assert entry["kernels"][-1]["kernel"] == "rival.slow"
    failed = {row["kernel"]: row["reason"] for row in entry["failed"]}
    assert failed["rival.broken"] == "RuntimeError: no code for this device"
    assert "its decode result differs from that of rival.slow" in failed["rival.wrong"]
    kernel, reasons = norm(run)
    assert kernel == entry["kernels"][0]["kernel"] != "rival.slow"
    assert reasons["rival.slow"] == reasons["rival.broken"] == f"tuning data prefers {kernel}"
    assert run("explain", "tiny-arithmetic", "--tuning", "none", "--json")[0] == 0


def test_explain_tells_that_other_versions_measured(run, tmp_path):
    asked = ("tune", "--compare", "--model", "tiny-arithmetic", "--op", "norm.rms")
    assert run(*asked)[0] == 0

    def source(*more: str) -> str:
        _, out, _ = run("explain", "tiny-arithmetic", "--json", *more)
        return json.loads(out)["settings"]["tuning"]["source"]

    assert source() == "inferplane tune --compare"
    path = tmp_path / "tuning.json"
    document = json.loads(path.read_text())
    document["entries"][0]["made"]["torch"] = "1.0"
    path.write_text(json.dumps(document))
    assert source().startswith("inferplane tune --compare; measured with torch 1.0, here are ")
    assert source("--tuning", str(path)).startswith("flag; measured with torch 1.0, here are ")


def test_what_other_measurements_prefer_is_not_what_results_are_compared_with(run, tmp_path):
    """Else one wrong kernel in an old file would make all right ones fail."""
    asked = ("tune", "--compare", "--model", "tiny-arithmetic", "--op", "norm.rms", "--json")
    assert run(*asked)[0] == 0
    path = tmp_path / "tuning.json"
    document = json.loads(path.read_text())
    (entry,) = document["entries"]
    entry["kernels"].append({"kernel": "rival.wrong", "relative": 0.01})
    entry["failed"] = [row for row in entry["failed"] if row["kernel"] != "rival.wrong"]
    path.write_text(json.dumps(document))
    assert norm(run)[0] == "rival.wrong"
    (entry,) = json.loads(run(*asked)[1])
    assert "rival.wrong" in {row["kernel"] for row in entry["failed"]}
    assert norm(run)[0] not in ("rival.wrong", "rival.slow")


def test_an_old_file_says_to_measure_again_and_measuring_replaces_it(run, tmp_path):
    path = tmp_path / "tuning.json"
    path.write_text('{"format": 1, "made": {}, "entries": []}')
    code, _, err = run("explain", "tiny-arithmetic")
    assert code == 1
    assert "measure again with inferplane tune --compare" in err
    asked = ("tune", "--compare", "--model", "tiny-arithmetic", "--op", "norm.rms")
    assert run(*asked)[0] == 0
    assert norm(run)[0] != "rival.slow"


def test_what_was_measured_before_the_device_was_lost_is_kept(run, tmp_path, monkeypatch):
    """The device is lost in the second contest."""
    from inferplane.cli import comparing

    right, ran = comparing.compare, []

    def loses(contest, plan, device):
        ran.append(contest)
        if len(ran) == 2:
            contest.failed["x.killer"] = "gone"
            raise UserError("x.killer lost the device")
        right(contest, plan, device)

    monkeypatch.setattr(comparing, "compare", loses)
    code, _, err = run("tune", "--compare", "--model", "tiny-arithmetic", "--op", "linear")
    path = tmp_path / "tuning.json"
    assert code == 1
    assert f"x.killer lost the device; what was measured before is in {path}" in err
    first, second = json.loads(path.read_text())["entries"]
    assert first["kernels"]
    assert second["failed"] == [{"kernel": "x.killer", "reason": "gone"}]
    assert second["kernels"] == []


def test_the_file_is_written_after_every_request(run, tmp_path, monkeypatch):
    from inferplane.cli import comparing

    right, held = comparing.compare, []

    def looks(contest, plan, device):
        path = tmp_path / "tuning.json"
        held.append(len(json.loads(path.read_text())["entries"]) if path.exists() else 0)
        right(contest, plan, device)

    monkeypatch.setattr(comparing, "compare", looks)
    assert run("tune", "--compare", "--model", "tiny-arithmetic", "--op", "linear")[0] == 0
    assert held == list(range(len(held)))
    assert len(held) > 2


def test_a_file_of_ones_own_is_used_where_it_is_named(run, tmp_path):
    mine = str(tmp_path / "mine.json")
    asked = ("tune", "--compare", "--model", "tiny-arithmetic", "--op", "norm.rms", "--out", mine)
    code, out, _ = run(*asked)
    assert code == 0
    assert "rival.broken failed: RuntimeError: no code for this device" in out
    assert norm(run)[0] == "rival.slow"
    _, out, _ = run("explain", "tiny-arithmetic", "--tuning", mine, "--json")
    (row,) = (r for r in json.loads(out)["ops"] if r["op"] == "norm.rms")
    assert row["kernel"] != "rival.slow"


def test_an_op_with_one_kernel_is_an_error_that_says_so(run):
    code, _, err = run("tune", "--compare", "--model", "tiny-arithmetic", "--op", "sample")
    assert code == 1
    assert "could be served by more than one kernel" in err

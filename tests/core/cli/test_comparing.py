"""`inferplane tune --compare`: kernels of one op against each other, on the CPU."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest
import torch

from inferplane.cli.comparing import Contest, compare, contests, write
from inferplane.cli.main import run as command
from inferplane.planning.plan import make_plan
from inferplane.plugins.resolution import is_reference
from inferplane.settings import Settings

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

def broken(request):
    def run(x, weight):
        raise RuntimeError("no code for this device")
    return run

@hookimpl
def inferplane_ops(props):
    return [
        Candidate(op="norm.rms", name=f"rival.{name}", supports=lambda request: Support.yes(),
                  load=f"inferplane_rival:{name}", priority=priority)
        for name, priority in (("slow", 1000), ("broken", 900))
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
    keys = [(c.request.op, c.request.describe()) for c in found]
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


def test_entries_of_other_requests_and_devices_stay(found, tmp_path):
    path = tmp_path / "tuning.json"
    write(found[:1], path, {})
    document = json.loads(path.read_text())
    other = {**document["entries"][0], "device": "h1"}
    path.write_text(json.dumps({**document, "entries": [other]}))
    write(found[1:2], path, {"torch": "2"})
    document = json.loads(path.read_text())
    assert [e["device"] for e in document["entries"]] == ["h1", found[1].request.device.profile]
    assert document["made"]["torch"] == "2"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in this process, with a plugin that is found by its metadata."""
    site = tmp_path / "site"
    info = site / "inferplane_rival-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "inferplane_rival.py").write_text(textwrap.dedent(PLUGIN))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: inferplane-rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inferplane.v0]\nrival = inferplane_rival\n")
    monkeypatch.syspath_prepend(str(site))
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
    (failed,) = entry["failed"]
    assert failed == {"kernel": "rival.broken", "reason": "RuntimeError: no code for this device"}
    kernel, reasons = norm(run)
    assert kernel == entry["kernels"][0]["kernel"] != "rival.slow"
    assert reasons["rival.slow"] == reasons["rival.broken"] == f"tuning data prefers {kernel}"
    assert run("explain", "tiny-arithmetic", "--tuning", "none", "--json")[0] == 0


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

"""benchmarks/accelerator: a trial of all parts on the CPU, and what keeps its figures honest."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.fakes import tunable as fake

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=60)

ROOT = Path(__file__).parent.parent
RUN = ROOT / "benchmarks" / "accelerator" / "run.py"
PARTS = {
    *("accuracy", "parity", "ceilings", "decode", "prefill", "single"),
    *("many", "many_transformers", "tune", "conformance"),
}


def run(out: Path, *arguments: str) -> dict:
    command = [sys.executable, str(RUN), "--small", "--out", str(out), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["parts"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(scope="module")
def trial(folder):
    """All parts on the CPU."""
    return run(folder, "--device", "cpu")


@pytest.fixture
def accelerator(monkeypatch):
    """The package, as `run.py` imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import accelerator.attention
    import accelerator.paged
    import accelerator.tuning

    return accelerator


def test_every_part_is_measured_or_says_why_not(trial):
    assert trial.keys() == PARTS
    status = {name: (part["status"], part["reason"]) for name, part in trial.items()}
    assert status.pop("tune")[0] == "not run", "the CPU's kernels have nothing to tune"
    assert set(status.values()) == {("done", "")}, status
    for part in trial.values():
        assert part["trial"] and part["versions"]["torch"] and part["date"] and part["command"]


def test_what_was_wanted_is_told_beside_what_was_found(trial):
    checks = {check["what"]: check for part in trial.values() for check in part["checks"]}
    assert len(checks) == 9, checks.keys()
    for name in ("right sums", "CPU's tokens", "conformance"):
        assert all(check["met"] for what, check in checks.items() if name in what), checks


def test_kernels_are_checked_before_they_are_timed(trial):
    for name, ours in (("decode", "cpu.native_attention"), ("prefill", "cpu.native_attention")):
        figures = {k: v for k, v in trial[name]["figures"].items() if "not_run" not in v}
        assert any(figure.endswith(ours) for figure in figures), figures.keys()
        assert any("torch" in figure for figure in figures)
        for figure in figures.values():
            assert 0 < figure["error"] < 1e-2 and figure["seconds"]["median"] > 0


def test_the_certificate_is_the_one_of_inferplane_conformance(trial, folder):
    asked = ["--device", "cpu", "--op", "norm.rms", "--draws", "0", "--json", "-"]
    command = [sys.executable, "-m", "inferplane.cli.main", "conformance", *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads((folder / "certificate.json").read_text()) == json.loads(done.stdout)


def test_a_part_that_fails_or_takes_too_long_loses_nothing_of_the_others(tmp_path):
    parts = run(tmp_path, "--device", "cpu", "--only", "ceilings")
    assert parts["ceilings"]["status"] == "done"
    again = run(tmp_path, "--device", "nothing", "--only", "ceilings", "prefill")
    for part in again.values():
        assert part["status"] == "failed" and "no platform 'nothing'" in part["reason"]
    late = run(tmp_path, "--device", "cpu", "--only", "decode", "--minutes", "0.1")
    assert late["decode"]["status"] == "not run" and "minutes were up" in late["decode"]["reason"]


def test_a_part_that_hangs_is_ended_and_keeps_what_it_had_found(tmp_path, accelerator):
    import accelerator.run as driver
    from accelerator.job import read, save
    from accelerator.parts import Part

    args = driver.parse(["--device", "cpu", "--small", "--out", str(tmp_path)])
    part = Part("single", 0.0, "single:run", "")
    driver.run_apart(args, part, 0.5, "command")
    stopped = read(tmp_path / "single.json")
    assert stopped["status"] == "stopped" and "0 s" in stopped["reason"]
    save(tmp_path / "single.json", stopped | {"figures": {"load": {"seconds": 1.0}}})
    driver.mark(args, part, "command", "stopped", "why")
    assert read(tmp_path / "single.json")["figures"] == {"load": {"seconds": 1.0}}


@pytest.fixture
def batch(accelerator, tmp_path):
    """(rows, context, new): keys and values in random pages, and the device."""
    from accelerator.job import Job

    job = Job("decode", "cpu", tmp_path, small=True)
    plan = job.plan()
    device = plan.catalog.device()
    request = accelerator.paged.request_of(plan)

    def make(rows, context, new):
        return accelerator.paged.draw(job, device, request, rows, context, new), device, plan

    return make


@pytest.mark.parametrize(("rows", "context", "new"), [(3, 37, 1), (1, 300, 300), (2, 40, 7)])
def test_the_right_result_is_torch_s_in_fp64(accelerator, batch, rows, context, new):
    made, _, _ = batch(rows, context, new)
    last = made.sets - 1
    q, k, v = (x.double() for x in accelerator.paged.dense_of(made, last))
    mask = torch.ones(new, context, dtype=torch.bool).tril(context - new)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, enable_gqa=True
    )
    wanted = wanted.transpose(1, 2).reshape(rows * new, *made.q_STHD.shape[2:])
    found = accelerator.paged.right(made, last)
    assert torch.linalg.vector_norm(found - wanted) < 1e-5 * torch.linalg.vector_norm(wanted)


@pytest.mark.parametrize("fault", ["nothing", "one row unwritten", "scaled"])
def test_a_kernel_with_wrong_results_is_not_timed(accelerator, batch, fault):
    made, device, plan = batch(3, 37, 1)
    candidate = accelerator.paged.ours(plan, made.request, 3)
    paged = accelerator.paged.Paged(candidate, made, device)
    run = paged.kernel.run

    def broken(q, k, v, cache, plan, out):
        run(q, k, v, cache, plan, out)
        if fault == "one row unwritten":
            out[2] = float("nan")
        elif fault == "scaled":
            out *= 1.05

    paged.kernel.run = broken
    if fault == "nothing":
        assert paged.error() < 1e-2
    else:
        with pytest.raises(accelerator.paged.Wrong, match="results are wrong"):
            paged.error()


def test_the_best_configuration_is_written_for_the_kernel(accelerator, batch, tmp_path):
    from accelerator.job import Job
    from accelerator.tuning import Nearest, tune

    from inferplane.cli.measuring import Subject
    from inferplane.spec import NormRequest

    _, device, plan = batch(1, 16, 1)
    request = NormRequest(device=plan.catalog.props, size=8, dtype="fp32", eps=1e-6)
    subject = Subject(fake.candidate(), Nearest(fake.FakeTunable()), request, "prefill")
    job = Job("tune", "cpu", tmp_path, small=True)
    tune(job, subject, device)
    written = json.loads((tmp_path / "tuned" / "fake.json").read_text())
    assert written["op"] == "norm.rms" and written["device"] == plan.catalog.props.name
    assert written["entries"][0]["configuration"] == fake.FAST
    (figure,) = job.figures.values()
    assert figure["tried"] == 2 and figure["refused"] == 1 and figure["known"] == 3


def test_configurations_nearest_to_the_default_come_first(accelerator):
    class Some:
        def configurations(self, request, case):
            return [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2}, {"a": 3, "b": 1}]

    ordered = accelerator.tuning.Nearest(Some()).configurations(None, "")
    assert ordered == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 3, "b": 1}, {"a": 2, "b": 2}]


def test_bytes_of_a_token_leave_out_the_embedding(accelerator, batch):
    from accelerator.single import bytes_read

    _, _, plan = batch(1, 16, 1)
    table = plan.config.vocab * plan.config.hidden * 2
    assert bytes_read(plan) == plan.weight_bytes - table


def test_captures_are_timed_from_outside_and_nothing_stays_changed(accelerator):
    from accelerator.captures import Captures

    from inferplane.runner.graphs import DecodeGraphs
    from inferplane.spec import Step

    class Backend:
        def capture(self, run):
            run()
            return self

    def compute(step):
        time.sleep(0.02)
        return torch.zeros(len(step.tokens_T), 3)

    backend, original = Backend(), DecodeGraphs.capture
    with Captures() as captures:
        graphs = DecodeGraphs(backend, compute, [1, 2], torch.device("cpu"))
        for rows in (1, 2):
            tokens = torch.zeros(rows, dtype=torch.int64)
            graphs.capture(Step(tokens_T=tokens, positions_T=tokens, groups=[]))
    assert DecodeGraphs.capture is original and graphs.backend is backend and not graphs.failed
    found = captures.figures()
    assert found["graphs"] == 2 and found["seconds"] > found["recording_s"] + 0.03
    assert found["recording_s"] > 0.03


def test_only_complete_documents_are_ever_read(accelerator, tmp_path):
    from accelerator.job import Job, read

    job = replace(Job("decode", "cpu", tmp_path, small=True), command="c")
    job.figure("first", share=0.5)
    assert read(tmp_path / "decode.json")["status"] == "running"
    assert not list(tmp_path.glob("*.new"))

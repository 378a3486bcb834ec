"""Plans for GPUs that are not here, and the message where there is none (V0)."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inferplane_cuda import libraries
from inferplane_cuda.profiles import profile_of, rows

from inferplane.cli.comparing import compare, contests, write
from inferplane.planning.plan import make_plan
from inferplane.planning.report import report
from inferplane.settings import Settings
from inferplane.spec import Device

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=12)

CONFIGS = Path(__file__).parents[3] / "tests" / "fixtures" / "configs"
MODELS = ("tiny-arithmetic", *(str(folder) for folder in sorted(CONFIGS.iterdir())))


def plan(model: str, target: str, **settings):
    given = {"model": model, "device": "cuda", "target": target, "tuning": "none"} | settings
    return make_plan(Settings(**given))


@pytest.mark.parametrize("target", rows())
@pytest.mark.parametrize("model", MODELS, ids=lambda m: Path(m).name)
def test_every_op_has_a_kernel_that_is_no_reference(model, target):
    found = plan(model, target, strict=True)
    chosen = {choice.request.op: choice.names for choice in found.resolution.choices.values()}
    assert chosen["linear"] == "cuda.cublas"
    assert chosen["attention"].startswith("triton.")
    assert not found.resolution.fallbacks
    assert found.budget.tokens > 2 * found.config.max_positions // 3


def test_the_memory_of_a_real_model_adds_up():
    found = plan(str(CONFIGS / "llama-3-8b"), "h200")
    weights = 2 * 8_030_261_248  # parameters of Llama 3 8B, bf16
    assert found.weight_bytes == weights
    assert found.budget.token_bytes == 2 * 32 * 8 * 128 * 2


@pytest.mark.parametrize("profile", rows())
def test_every_number_of_a_profile_has_a_source(profile):
    row = rows()[profile]
    assert set(row["sources"]) == set(row) - {"name", "match", "sources"}
    assert all(len(source) > 20 for source in row["sources"].values())


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
    ],
)
def test_a_device_belongs_to_the_profile_of_its_name(name, profile):
    assert profile_of(name) == profile


def versions(monkeypatch, **installed):
    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(libraries, "version", version)


def test_explain_says_why_a_library_is_not_used(monkeypatch):
    versions(monkeypatch, **{"flashinfer-python": "0.6.1"})
    (row,) = (r for r in report(plan(MODELS[1], "h200"))["ops"] if r["op"] == "attention")
    reasons = {r["kernel"]: r["reason"] for r in row["rejected"]}
    assert "flashinfer-python is 0.6.1; calls were written for 0.7" in reasons["cuda.flashinfer"]
    assert "pip install 'inferplane-cuda[flash-attn]'" in reasons["cuda.flash_attn"]


def test_a_library_serves_where_it_is_pinned(monkeypatch):
    versions(monkeypatch, **{"flashinfer-python": "0.7.2.post1"})
    found = plan(MODELS[1], "h200", kernel=("attention=cuda.flashinfer",))
    chosen = {c.names for c in found.resolution.choices.values() if c.request.op == "attention"}
    assert chosen == {"cuda.flashinfer"}


def test_a_library_serves_where_it_was_measured_to_be_faster(monkeypatch, libraries, tmp_path):
    """Measured by `inferplane tune --compare`: the libraries are emulated, and Triton fails."""
    versions(monkeypatch, **{"flashinfer-python": "0.7.2.post1", "flash_attn_3": "3.0.0"})
    small = {"max_num_seqs": 2, "max_num_batched_tokens": 16, "max_model_len": 48}
    small["graphs"] = False  # nothing can be captured here
    measured = plan("tiny-arithmetic", "h200", **small)
    (contest,) = contests(measured)
    compare(contest, measured, Device("cpu", measured.catalog.props))
    assert set(contest.microseconds) == {"cuda.flashinfer", "cuda.flash_attn_3"}
    assert set(contest.failed) == {"triton.attention"}  # its tensors are not on a GPU
    times = {"cuda.flashinfer": 1.0, "cuda.flash_attn_3": 2.0}
    contest.microseconds = {n: {"decode": t, "prefill": t} for n, t in times.items()}
    write([contest], tmp_path / "tuning.json", {})
    found = plan("tiny-arithmetic", "h200", tuning=str(tmp_path / "tuning.json"))
    (row,) = (r for r in report(found)["ops"] if r["op"] == "attention")
    assert row["kernel"] == "cuda.flashinfer"
    reasons = {r["kernel"]: r["reason"] for r in row["rejected"]}
    assert reasons["triton.attention"] == "tuning data prefers cuda.flashinfer"


def run(*arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "inferplane.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, time.perf_counter() - begin


def test_serving_without_a_gpu_ends_at_once_with_the_reason():
    done, seconds = run("serve", "tiny-arithmetic", "--device", "cuda")
    assert done.returncode == 1
    assert "platform 'cuda' is installed (inferplane-cuda" in done.stderr
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr
    assert seconds < 10  # 1 s on an idle machine; torch alone takes longer to import


def test_explain_prints_the_whole_plan_without_a_gpu():
    done, _ = run("explain", "tiny-arithmetic", "--device", "cuda", "--target", "b200", "--json")
    found = json.loads(done.stdout)
    assert found["platform"]["planning"] is True
    assert all(row["kernel"] for row in found["ops"])

"""Plans for GPUs that are not here, and the plugin as the core meets it (V0)."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from inferplane_rocm import plugin, profiles

from inferplane.cli.comparing import compare, contests
from inferplane.planning.plan import make_plan
from inferplane.plugins.binding import load
from inferplane.plugins.discovery import discover
from inferplane.settings import Settings
from inferplane.spec import Device

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=10)

CONFIGS = Path(__file__).parents[3] / "tests" / "fixtures" / "configs"
MODELS = ("tiny-arithmetic", *(str(folder) for folder in sorted(CONFIGS.iterdir())))
ROWS = json.loads(files("inferplane_rocm").joinpath("profiles.json").read_text())
HOOKS = ("ops", "attention", "quantization", "communicator", "graphs")


@pytest.mark.parametrize("target", ROWS)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: Path(m).name)
def test_every_op_has_a_kernel_that_is_no_reference(model, target):
    found = make_plan(Settings(model=model, device="rocm", target=target, strict=True))
    chosen = {choice.request.op: choice.names for choice in found.resolution.choices.values()}
    assert chosen["linear"] == "rocm.gemm"
    assert chosen["attention"].startswith("triton.")
    assert not found.resolution.fallbacks
    assert found.budget.tokens > 100_000


@pytest.mark.parametrize(
    ("target", "scheme", "kernel"),
    [
        ("mi300x", "int4", "triton.linear"),
        ("mi300x", "int8", "triton.linear"),
        ("mi300x", "fp8", "rocm.hipblaslt_fp8"),
        ("mi300x", "mxfp8", "triton.linear"),
        ("mi355x", "mxfp8", "triton.linear"),
    ],
)
def test_quantized_weights_are_served(target, scheme, kernel):
    asked = Settings(
        model=MODELS[-1], device="rocm", target=target, strict=True, quantization=scheme
    )
    choices = make_plan(asked).resolution.choices.values()
    linear = [choice for choice in choices if choice.request.op == "linear"]
    found = {choice.names for choice in linear if choice.request.scheme.quantized}
    assert found == {kernel}


@pytest.mark.parametrize("profile", ROWS)
def test_every_number_of_a_profile_has_a_source(profile):
    row = ROWS[profile]
    assert set(row["sources"]) == set(row) - {"name", "sources"}
    assert all(len(source) > 20 for source in row["sources"].values())


def test_serving_without_a_gpu_ends_at_once_with_the_reason():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "inferplane.cli.main",
            "serve",
            "tiny-arithmetic",
            "--device",
            "rocm",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "platform 'rocm' is installed (inferplane-rocm" in done.stderr
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr


def test_discovery_imports_no_torch_and_no_amd_library(run_python):
    code = """
import sys
from inferplane.plugins.discovery import discover
assert [p.name for p in discover() if p.ready and p.name == "rocm"] == ["rocm"]
print([m for m in ("torch", "amdsmi", "aiter") if m in sys.modules])
"""
    assert run_python(code).strip() == "[]"


def test_it_is_ready_without_a_warning():
    (found,) = (p for p in discover() if p.name == "rocm")
    assert (found.error, found.warnings) == (None, [])


def test_every_candidate_loads(aiter):
    props = plugin.inferplane_platform().profile("mi300x")
    for hook in HOOKS:
        for candidate in getattr(plugin, f"inferplane_{hook}")(props):
            assert callable(load(candidate)), candidate.name


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="torch 2.11: no scales of rows on the CPU"
)
@pytest.mark.parametrize(("target", "scheme"), [("mi300x", None), ("mi355x", "fp8")])
def test_aiters_kernels_are_measured_beside_the_portable_ones(target, scheme, aiter, monkeypatch):
    """By `inferplane tune --compare`: AITER is emulated, and Triton fails."""
    monkeypatch.setattr("inferplane_rocm.profiles.library_details", lambda: {"aiter": "0.1.20"})
    monkeypatch.setattr(plugin, "profiles", lambda: profiles.profiles())
    made = make_plan(
        Settings(
            model="tiny-arithmetic-moe",
            device="rocm",
            target=target,
            tuning="none",
            quantization=scheme,
            max_num_seqs=2,
            max_num_batched_tokens=16,
            max_model_len=48,
            graphs=False,  # nothing can be captured here
        )
    )
    found = contests(made)
    with torch.inference_mode():
        for contest in found:
            compare(contest, made, Device("cpu", made.catalog.props))
            assert contest.microseconds
            assert all(name.startswith("triton.") for name in contest.failed), contest.failed
    ours = {"norm.rms", "norm.add_rms", "attention", "moe.route", "moe.experts"}
    assert {contest.request.op for contest in found} == ours | ({"linear"} if scheme else set())

"""Kernels compiled ahead of time for real devices, without one (level V1).

After a change that is meant: python plugins/triton/tests/aot/compiling.py --write
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

AOT = Path(__file__).parent / "aot"
sys.path.insert(0, str(AOT))

from regressions import committed, regressions  # noqa: E402
from targets import TARGETS  # noqa: E402

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=80)
with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

EVERY_COMMIT = (
    "norm.add_rms bf16 4096",
    "activation silu",
    "embedding",
    "attention.input neox bf16",
    "attention decode bf16 H32 K8 D128",
    "attention prefill bf16 H32 K8 D128",
    "sample all",
    "latent decode bf16 H16",
    "linear few int4 g128",
    "linear many int8 int8",
    "linear many fp8 fp8 block",
    "moe.route groups 8 of 256",
    "moe.experts many plain",
    "moe.experts few mxfp4",
)


def printed(script: str, *arguments: str, seconds: int) -> dict[str, Any]:
    """By a process of its own: this one may have Triton in its interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(AOT / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compiled(*arguments: str, seconds: int) -> dict[str, Any]:
    return printed("compiling.py", *arguments, seconds=seconds)


def check(document: dict[str, Any]) -> None:
    kept = committed()
    if document["triton"] != kept["triton"]:
        pytest.skip(f"figures are of Triton {kept['triton']}, here is {document['triton']}")
    worse = [
        line
        for target, figures in document["figures"].items()
        for line in regressions(target, figures, kept["figures"][target])
    ]
    assert worse == []


@with_triton
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_the_main_kernels_are_no_worse_than_the_committed_figures(target):
    calls = [word for name in EVERY_COMMIT for word in ("--call", name)]
    document = compiled("--targets", target, *calls, seconds=250)
    assert len(document["figures"][target]) >= len(EVERY_COMMIT)
    check(document)


@with_triton
@pytest.mark.ci(nightly=True, est_seconds=900)
@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_all_kernels_are_no_worse_than_the_committed_figures(target):
    document = compiled("--targets", target, seconds=3500)
    kept = committed()["figures"][target]
    assert document["figures"][target].keys() == kept.keys()
    check(document)


@with_triton
def test_numbers_that_change_with_every_step_compile_nothing_again():
    assert printed("varying.py", seconds=100) == {}


@pytest.mark.parametrize("target", TARGETS)
def test_committed_figures_are_within_the_device(target):
    kept = committed()["figures"][target]
    assert list(regressions(target, kept, kept)) == []


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("sm_80", "mma.sync"),
        ("sm_90", "wgmma"),
        ("sm_100", "tcgen05"),
        ("sm_120", "mma.sync"),
        ("gfx942", "v_mfma"),
        ("gfx950", "v_mfma"),
    ],
)
def test_half_precision_prefill_uses_matrix_instructions(target, wanted):
    figures = committed()["figures"][target]
    names = [
        n for n in figures if n.startswith(("attention prefill bf16", "attention prefill fp16"))
    ]
    assert len(names) >= 8
    assert {name: figures[name]["matrix"] for name in names} == dict.fromkeys(names, wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_products_with_quantized_weights_use_matrix_instructions(target):
    figures = committed()["figures"][target]
    names = [n for n in figures if re.search(r"linear_kernel|experts_kernel|latent_kernel", n)]
    assert len(names) >= 40
    assert [name for name in names if not figures[name]["matrix"]] == []


@pytest.mark.parametrize("target", TARGETS)
def test_steps_take_several_of_the_groups_whose_scales_go_into_the_weight(target):
    found = {
        name: figures
        for name, figures in committed()["figures"][target].items()
        if re.search(r" (mxfp4|mxfp8 weight|nvfp4): (linear|experts)_kernel", name)
    }
    assert len(found) == 14  # few and many; of experts two products, and no mxfp8
    assert {name: f for name, f in found.items() if f["step"] < 64 or f["spills"]} == {}


@pytest.mark.parametrize("target", ["sm_90", "sm_100", "sm_120", "gfx942", "gfx950"])
def test_devices_with_8_bit_floats_multiply_them(target):
    figures = committed()["figures"][target]
    assert "linear many fp8 fp8 block: linear_kernel" in figures
    assert "moe.experts many fp8 fp8 block: experts_kernel 2" in figures


@pytest.mark.parametrize("target", TARGETS)
def test_grouped_decode_uses_matrix_instructions_and_one_head_does_not(target):
    figures = committed()["figures"][target]
    assert figures["attention decode bf16 H32 K8 D128: decode_kernel"]["matrix"]
    assert not figures["attention decode bf16 H32 K32 D64: decode_kernel"]["matrix"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["attention decode", "attention prefill"])
def test_keys_of_the_next_tile_are_copied_while_one_is_multiplied(target, kind):
    figures = committed()["figures"][target]
    ahead = {
        name: found["ahead"]
        for name, found in figures.items()
        if name.startswith(kind) and found["matrix"] and not re.search("join|fp32|D256", name)
    }
    assert len(ahead) >= 6
    assert {name: count for name, count in ahead.items() if count < 2} == {}


WORSE = {"spills": 8, "shared": 1 << 20, "warps_a_core": 4, "matrix": "", "ahead": 0}


@pytest.mark.parametrize("name", WORSE)
def test_a_regression_is_seen(name):
    kept = {"spills": 0, "shared": 1024, "warps_a_core": 32, "matrix": "wgmma", "ahead": 2}
    worse = {**kept, name: WORSE[name]}
    (line,) = regressions("sm_90", {"x": worse}, {"x": kept})
    assert "sm_90 x" in line


def test_a_kernel_without_figures_is_seen():
    now = {"new": {"spills": 0, "shared": 0, "warps_a_core": 32, "matrix": "", "ahead": 0}}
    assert "has no committed figures" in next(regressions("sm_90", now, {}))

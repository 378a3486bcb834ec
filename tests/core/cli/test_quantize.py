"""`inferplane quantize`, and what `explain` says of its result."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=8)


def test_a_quantized_copy_that_explain_reads(run, tmp_path):
    out = tmp_path / "out"
    done = run("quantize", "tiny-arithmetic", "--scheme", "int4", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schemes"] == {"int4-g128": 28}
    assert found["bytes_after"] < found["bytes_before"] / 3
    plan = json.loads(run("explain", str(out), "--device", "cpu", "--json").stdout)
    assert plan["settings"]["quantization"] == {
        "value": "compressed-tensors",
        "source": "checkpoint",
    }
    assert plan["quantization"]["schemes"] == {"int4-g128": 28}
    assert plan["quantization"]["format"] == "compressed-tensors, pack-quantized"
    refused = run("quantize", str(out), "--scheme", "fp8", "--out", str(tmp_path / "more"))
    assert refused.returncode == 1
    assert "is quantized with 'compressed-tensors' already" in refused.stderr


def test_an_unknown_scheme_names_the_nearest(run, tmp_path):
    done = run("quantize", "tiny-arithmetic", "--scheme", "int5", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "--scheme 'int5' is not known (did you mean 'int8'?)" in done.stderr or (
        "did you mean 'int4'?" in done.stderr
    )
    assert not (tmp_path / "out").exists()


def test_text_for_people(run, tmp_path):
    out = tmp_path / "out"
    done = run("quantize", "tiny-arithmetic", "--scheme", "fp8-block", "--out", str(out))
    assert "fp8_e4m3-b128x128-a:fp8_e4m3-g128" in done.stdout
    assert f"wrote {out}" in done.stdout.replace("\n", "")

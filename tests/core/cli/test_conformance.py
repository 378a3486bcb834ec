"""`inferplane conformance`."""

from __future__ import annotations

import json

import pytest

from inferplane.cli.conformance import failure_lines

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=20)


def test_one_kernel_with_its_certificate(run, tmp_path):
    file = tmp_path / "cpu.json"
    done = run(
        "conformance",
        *("--device", "cpu", "--candidate", "cpu.rms_norm", "--area", "ops"),
        *("--draws", "2", "--json", str(file)),
    )
    assert done.returncode == 0, done.stderr
    assert "cpu.rms_norm" in done.stdout
    made = json.loads(file.read_text())
    (row,) = made["results"]
    assert row["level"] == "V3"
    assert row["passed"] > 10
    assert 0 < row["largest_error"]["fp32"] < 1e-5
    assert made["complete"] is False


def test_one_case_by_its_id(run):
    id = "attention/cpu.flash/mixed.bf16"
    done = run("conformance", "--device", "cpu", "--case", id, "--json", "-")
    (row,) = json.loads(done.stdout)["results"]
    assert (row["candidate"], row["passed"]) == ("cpu.flash", 1)


def test_answers_need_no_device_and_no_torch(run, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = run(
        "conformance",
        *("--device", "cpu", "--target", "laptop", "--level", "V0", "--area", "contract"),
        *("--op", "attention", "--json", "-"),
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert {row["level"] for row in json.loads(done.stdout)["results"]} == {"V0"}


def test_a_plan_is_not_shown_as_a_device(run):
    flags = ("--device", "cpu", "--target", "laptop", "--level", "V0", "--op", "sample")
    done = run("conformance", *flags)
    assert "(answers only)" in done.stdout.splitlines()[0]
    assert done.stderr == ""  # no empty progress bar
    assert done.stdout.splitlines()[-1].startswith("only answers were checked")


def test_kernels_that_refuse_everything_are_a_line_and_not_rows(run):
    pytest.importorskip("inferplane_triton")
    flags = ("conformance", "--device", "cpu", "--op", "norm.rms", "--draws", "0")
    short, whole = run(*flags).stdout, run(*flags, "-v").stdout
    assert "refuse all that was asked here (-v shows why): triton.norm_rms\n" in short
    assert sum("triton.norm_rms" in line for line in short.splitlines()) == 1
    assert "refuse all" not in whole
    assert any(line.split()[:2] == ["norm.rms", "triton.norm_rms"] for line in whole.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpuu"], "no platform 'cpuu' (did you mean 'cpu'?)"),
        (["--device", "cpu", "--level", "V4"], "no level 'V4'"),
        (["--device", "cpu", "--level", "V1"], "the plugin's own build"),
        (["--device", "cpu", "--target", "laptop"], "give --level V0 with it"),
        (["--device", "cpu", "--area", "opps"], "did you mean 'ops'?"),
        (["--device", "cpu", "--op", "linaer"], "did you mean 'linear'?"),
    ],
)
def test_a_wrong_call_says_what_to_do(run, options, message):
    done = run("conformance", *options)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_failure_names_the_command_that_repeats_it():
    failed = {"id": "linear/a.b/x (1).fp32", "failures": [["parity", "it is off"]]}
    assert list(failure_lines("--device acme --level V0", [failed])) == [
        "failed: linear/a.b/x (1).fp32 [parity] it is off",
        "  inferplane conformance --device acme --level V0 --case 'linear/a.b/x (1).fp32'",
    ]


@pytest.mark.nightly
@pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=60, nightly=True)
def test_the_cpu_passes_completely(run):
    done = run("conformance", "--device", "cpu")
    assert done.returncode == 0, done.stderr

"""From results to a certificate."""

from __future__ import annotations

import json

import pytest

from inferplane.plugins.certificates import read
from inferplane.testing.conformance.certificate import certificate, rows

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=1)

ABOUT = {
    "platform": "acme",
    "device": "Acme A1",
    "profile": "a1",
    "execution": "emulated",
    "host": "Linux x86_64",
    "level": "V2e",
    "versions": {"inferplane": "1", "contract": "0.2", "python": "3", "torch": "2"},
    "candidates": {"linear/acme.mm": {"level": "V2i", "kind": "op", "plugin": "p", "version": "1"}},
}


def result(status="passed", area="linear", **changes):
    fields = {"op": "linear", "candidate": "acme.mm", "error": None, "dtype": "", "note": ""}
    return fields | {"status": status, "area": area} | changes


def level(*results) -> str:
    (row,) = rows(ABOUT, results)
    return row["level"]


def test_the_candidates_own_level_counts():
    assert level(result()) == "V2i"


def test_the_platforms_level_counts_for_what_is_no_kernel():
    assert level(result(op="memory", candidate="acme", area="memory")) == "V2e"


def test_only_answers_are_v0():
    assert level(result(area="contract"), result("refused")) == "V0"


def test_nothing_at_all_is_not_run():
    assert level(result("not run")) == "not run"


@pytest.mark.parametrize("area", ["linear", "contract"])
def test_one_failure_is_enough(area):
    assert level(result(), result("failed", area=area)) == "failed"


def test_the_largest_error_of_each_dtype_is_kept():
    (row,) = rows(
        ABOUT,
        [
            result(error=1e-7, dtype="fp32"),
            result(error=3e-7, dtype="fp32"),
            result("failed", error="inf", dtype="bf16"),
        ],
    )
    assert row["largest_error"] == {"fp32": 3e-7, "bf16": float("inf")}


def test_it_can_be_read_back(tmp_path):
    found = rows(ABOUT, [result(error=1.23456e-7, dtype="fp32", note="a note")])
    made = certificate(ABOUT, found, draws=8, complete=True)
    path = tmp_path / "acme.json"
    path.write_text(json.dumps(made))
    (row,) = read(path).results
    assert row.largest_error == {"fp32": 1.23e-7}
    assert row.notes == ("a note",)


def test_a_kernel_that_refuses_everything_is_left_out():
    found = rows(ABOUT, [result("refused"), result(area="contract")])
    assert certificate(ABOUT, found, draws=8, complete=True)["results"] == []


def test_an_infinite_error_can_be_read_back(tmp_path):
    found = rows(ABOUT, [result("failed", error="inf", dtype="fp32")])
    path = tmp_path / "acme.json"
    path.write_text(json.dumps(certificate(ABOUT, found, draws=8, complete=True)))
    assert read(path).results[0].largest_error == {"fp32": "inf"}

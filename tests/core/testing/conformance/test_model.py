"""The bundled model from end to end is compared token by token."""

from __future__ import annotations

import pytest

from inferplane.testing.conformance import model
from inferplane.testing.conformance.case import Case, Result
from inferplane.testing.conformance.target import Target

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=8)

CASE = Case("model", "model", "cpu", "greedy")


def greedy(expected: model.Expected) -> Result:
    result = Result(CASE)
    model._greedy(expected, 16, 512, CASE, Target.open("cpu"), result)
    return result


def test_one_wrong_token_is_caught():
    expected = model.Expected()
    expected.tokens = [list(tokens) for tokens in model.Expected().get()]
    assert greedy(expected).failures == []
    expected.tokens[5][3] += 1
    (failure,) = greedy(expected).failures
    assert failure.check == "tokens"
    assert failure.message.startswith("prompt 5: ")


def test_what_is_expected_comes_of_reference_kernels_only():
    pins = model._only_references()
    assert "attention=reference.attention" in pins
    assert "attention.input!=cpu.attention_input" in pins


def test_what_was_measured_on_this_machine_is_not_read(tmp_path, monkeypatch):
    broken = tmp_path / "tuning.json"
    broken.write_text("no JSON: a plan that reads this fails")
    monkeypatch.setenv("INFERPLANE_TUNING", str(broken))
    assert all(model._answers(device="cpu", page_size=16))


def test_a_platform_that_is_not_installed_is_told_as_not_run():
    from tests.fakes.kit import results, target_of

    statuses = {r.status for r in results(target_of(), areas=("model",))}
    assert statuses == {"not run"}

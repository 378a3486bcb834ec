"""Rows with numbers that are not finite are named, with the position and the layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inferplane.params import SamplingParams
from inferplane.runner.inputs import Inputs
from inferplane.runner.numerics import FiniteTokens, wrong_logits, wrong_rows

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

NAN, INF = float("nan"), float("inf")
GREEDY = SamplingParams(temperature=0.0, max_tokens=6)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ([1.0, 2.0, 3.0], False),
        ([1.0, -INF, -INF], False),
        ([-INF, -INF, -INF], True),
        ([1.0, NAN, 3.0], True),
        ([NAN, -INF, -INF], True),
        ([1.0, INF, 3.0], True),
    ],
)
def test_masked_logits_are_right_and_others_that_are_not_finite_are_wrong(row, wrong):
    logits_BV = torch.tensor([[0.0, 0.0, 0.0], row])
    assert wrong_logits(logits_BV).tolist() == [False, wrong]


def inputs() -> Inputs:
    """Two rows: one decodes at position 7, one computes positions 3, 4 and 5."""
    return Inputs(
        tokens=np.zeros(4, np.int64),
        positions=np.array([7, 3, 4, 5]),
        starts=np.array([0, 1, 4], np.int32),
        lengths=np.array([8, 6], np.int32),
        slots=[],
        last=np.array([0, 3]),
        rows=np.array([0, 1, 1, 1], np.int32),
    )


def found(layers: list[int], bad: dict[int, int], logits: tuple[bool, bool]) -> dict[int, str]:
    """bad: place among the layers (the last: the final state) -> token that is not finite."""
    kept, hidden = FiniteTokens(), torch.zeros(len(layers) + 1, 4, 2)
    for place, token in bad.items():
        hidden[place, token, 1] = NAN
    for layer_TC in hidden[:-1]:
        kept.append(layer_TC)
    return wrong_rows(inputs(), layers, kept, hidden[-1], [0, 1], np.array(logits))


def test_nothing_wrong_is_nothing_found():
    assert found([0, 1], {}, (False, False)) == {}


def test_the_first_layer_and_its_first_token_are_named():
    told = found([4, 9], {1: 2, 2: 1}, (False, True))
    assert list(told) == [1]
    assert "at position 4, first seen after layer 9" in told[1]


def test_a_wrong_last_state_is_named_where_no_layer_was_seen():
    assert "at position 7, first seen after the last layer" in found([], {0: 0}, (False, False))[0]


def test_wrong_logits_of_right_states_are_named_as_such():
    assert "at position 7, first seen in the logits" in found([0], {}, (True, False))[0]


@pytest.fixture
def broken_layer(monkeypatch):
    """(LLM, layer): from the second step on, the layer gives a NaN for the first token."""

    def arrange(llm, index: int) -> None:
        model, calls = llm.engine.executor.runner.model, [0]
        layer = model.layers[index]

        def broken(x_TC, residual_TC, step):
            x_TC, residual_TC = layer(x_TC, residual_TC, step)
            calls[0] += 1
            if calls[0] == 2:
                x_TC[0, 0] = NAN
            return x_TC, residual_TC

        layers = [*model.layers[:index], broken, *model.layers[index + 1 :]]
        monkeypatch.setattr(model, "layers", layers)

    return arrange


PROMPTS = [{"prompt_token_ids": [5, 17, 256, 31]}, {"prompt_token_ids": [9, 8, 7]}]


def test_the_request_of_a_wrong_row_ends_and_the_other_goes_on(make_llm, broken_layer):
    llm = make_llm(check_numerics=True)
    wanted = [o.outputs[0].token_ids for o in llm.generate(PROMPTS, GREEDY)]
    broken_layer(llm, 1)
    first, second = (o.outputs[0] for o in llm.generate(PROMPTS, GREEDY))
    assert first.finish_reason == "error"
    assert "at position 4, first seen after layer 1" in first.error
    assert first.token_ids == wanted[0][:1]
    assert second.token_ids == wanted[1]


def test_a_check_changes_no_answer(make_llm):
    outputs = [
        [o.outputs[0].token_ids for o in make_llm(check_numerics=on).generate(PROMPTS, GREEDY)]
        for on in (False, True)
    ]
    assert outputs[0] == outputs[1]


def test_without_it_no_layer_is_looked_at(make_llm):
    assert make_llm().engine.executor.runner._watched == frozenset()

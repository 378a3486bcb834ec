"""Which choices of experts are right."""

import pytest
import torch

from inferplane.spec import RoutingRequest
from inferplane.testing.conformance.case import Case, Result
from inferplane.testing.conformance.problem import Observed, Problem
from inferplane.testing.conformance.routed import _oracle, judge
from inferplane.testing.conformance.target import HOST

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=2)

LOGITS = torch.tensor([[3.0, 1.0, 2.0, 2.0 + 1e-7, 0.0, 1.0]], dtype=torch.float64)


def failures(experts, weights=None, logits=LOGITS, **fields):
    """What is said of a choice for one token. weights: the right ones if None."""
    given = {"experts": 6, "top_k": 3, "dtype": "fp32"} | fields
    request = RoutingRequest(device=HOST, **given)
    scores = logits.softmax(-1)
    order = scores[0].argsort(descending=True, stable=True)[: request.top_k]
    expected = {"experts_TE": order[None].to(torch.int32), "weights_TE": torch.zeros(1, 3)}
    problem = Problem({}, expected, length=6, extra=_oracle(request, logits))
    chosen = torch.tensor([experts], dtype=torch.int32)
    if weights is None:
        right = scores.gather(1, chosen.long().clamp(0, 5))
        weights = (right / right.sum()).float()
    case = Case("moe", "moe.route", "kit", "one", request)
    result = Result(case)
    judge(case, problem, Observed({"weights_TE": weights, "experts_TE": chosen}, {}, {}), result)
    return [failure.message for failure in result.failures]


def test_the_reference_s_choice_is_right():
    assert failures([0, 3, 2]) == []


def test_scores_that_rounding_cannot_tell_apart_may_be_in_either_order():
    assert failures([0, 2, 3]) == []


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ([0, 3, 1], "has the experts"),
        ([3, 0, 2], "has the experts"),
        ([0, 3, 3], "one twice"),
        ([0, 3, -1], "there are 6"),
        ([0, 3, 6], "there are 6"),
    ],
)
def test_other_choices_are_wrong(experts, message):
    (found,) = failures(experts)
    assert message in found


def test_equal_scores_go_to_the_lower_expert():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.5, 0.0, 1.0]], dtype=torch.float64)
    assert failures([0, 2, 1], logits=logits) == []
    assert "the lower expert" in failures([0, 2, 5], logits=logits)[0]


def test_weights_are_compared_for_the_experts_that_were_found():
    assert "weights are off" in failures([0, 3, 2], torch.tensor([[0.5, 0.3, 0.2]]))[0]


def test_weights_and_experts_have_their_types():
    assert "not torch.float32" in failures([0, 3, 2], torch.zeros(1, 3, dtype=torch.float16))[0]

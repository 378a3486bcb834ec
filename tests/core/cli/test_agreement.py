"""How far the results of two kernels are apart, on tensors of the tests."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from inferplane.cli.agreement import bound, difference, finite, results_of
from inferplane.spec import DeviceProps, LinearRequest, QuantScheme, RoutingRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=1)

PROPS = DeviceProps(name="A", profile="a", memory_bytes=1, dtypes={"fp32"})
INT8 = QuantScheme.named(weight="int8")


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"dtype": "bf16"}, 5e-2),
        ({"dtype": "fp16"}, 5e-2),
        ({"dtype": "fp32"}, 1e-3),
        ({"dtype": "fp32", "scheme": INT8}, 5e-2),
    ],
)
def test_the_bound_is_of_the_dtype_and_of_quantized_weights(fields, most):
    assert bound(LinearRequest(device=PROPS, in_features=8, out_features=8, **fields)) == most


def test_it_is_the_relative_norm_of_the_result_that_differs_most(monkeypatch):
    right = [torch.tensor([[3.0, 4.0]]), torch.ones(4)]
    assert difference(right, right) == 0.0
    found = [torch.tensor([[3.0, 4.5]]), torch.ones(4)]
    assert difference(found, right) == pytest.approx(0.1)
    monkeypatch.setattr("inferplane.cli.agreement._CHUNK", 1)  # large results go in parts
    assert difference(found, right) == pytest.approx(0.1)


def test_what_is_no_number_where_the_other_is_one_is_infinitely_far():
    right = [torch.ones(3)]
    assert difference([torch.tensor([1.0, 1.0, nan])], right) == inf
    assert difference([torch.tensor([1.0, 1.0, inf])], right) == inf
    assert difference([torch.tensor([1.0, 1.0, 7.0])], [torch.tensor([1.0, 1.0, inf])]) == 0.0


def test_zeros_agree_with_zeros_only():
    zeros = [torch.zeros(2)]
    assert difference(zeros, zeros) == 0.0
    assert difference([torch.ones(2)], zeros) == inf


@pytest.mark.parametrize("found", [[torch.ones(3)], [torch.ones(2), torch.ones(2)], []])
def test_another_shape_or_number_of_results_is_an_error(found):
    with pytest.raises(ValueError, match="its results have the shapes"):
        difference(found, [torch.ones(2)])


def test_results_without_a_finite_number_cannot_be_compared_with():
    assert finite([torch.tensor([nan, 1.0])])
    assert not finite([torch.ones(1), torch.tensor([nan, inf])])


def test_routing_is_compared_expert_by_expert():
    """The order of a token's experts is none of its results; which they are is."""
    request = RoutingRequest(device=PROPS, experts=4, top_k=2, dtype="fp32")
    weights = torch.tensor([[0.5, 0.5]])

    def results(*experts: int) -> list[torch.Tensor]:
        return results_of(request, (weights, torch.tensor([experts], dtype=torch.int32)))

    assert difference(results(2, 1), results(1, 2)) == 0.0
    assert difference(results(2, 3), results(1, 2)) == pytest.approx(1.0)

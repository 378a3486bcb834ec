"""Quantized weights that the kit draws, and where their kernels may differ."""

import pytest
import torch

from inferplane.layers.scheme_parts import tensors_of
from inferplane.spec.quantized import as_quantized
from inferplane.spec.torch_types import torch_dtype
from inferplane.testing.conformance.checks import within
from inferplane.testing.conformance.numbers import Numbers
from inferplane.testing.conformance.problem import Observed, Problem
from inferplane.testing.conformance.quantized import Sizes, doubt, draw, rows_of, worth
from inferplane.testing.conformance.schemes import EXPERTS, SCHEMES, THOROUGH

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=3)


@pytest.mark.parametrize("name", SCHEMES)
def test_tensors_are_the_canonical_ones(name):
    scheme = SCHEMES[name]
    parts = (256,) if scheme.reordered else (128, 256)
    found = draw(scheme, Sizes(parts, 256), Numbers(1))
    wanted = {tensor.name: torch_dtype(tensor.dtype) for tensor in tensors_of(scheme)}
    assert {key: tensor.dtype for key, tensor in found.items()} == wanted
    for key, tensor in found.items():
        rows = rows_of(scheme, parts, key)
        assert not rows or sum(rows) == tensor.shape[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_weights_keep_the_size_of_what_goes_through(name):
    scheme = SCHEMES[name]
    weight = worth(scheme, draw(scheme, Sizes((256,), 256), Numbers(2)), (256,))
    assert weight.isfinite().all()
    assert 0.4 < float(weight.pow(2).sum(-1).mean().sqrt()) < 2.5


def test_lists_of_schemes_name_schemes():
    assert {*THOROUGH, *EXPERTS} <= SCHEMES.keys()
    assert len({scheme.name for scheme in SCHEMES.values()}) > len(SCHEMES) - 3


def test_an_input_next_to_an_edge_may_go_either_way():
    scheme = SCHEMES["int8-token"]
    x = torch.tensor([[127.0, 2.5 + 1e-6, 2.4, 0.0]])
    assert doubt(scheme, x, {})[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    other = x.clone()
    other[0, 1] = 2.5 - 1e-6
    seen, moved = as_quantized(scheme, x, None), as_quantized(scheme, other, None)
    assert float((seen - moved).abs().max()) == 1.0


def test_inputs_that_stay_as_they_are_are_never_in_doubt():
    assert not doubt(SCHEMES["int4-g32"], torch.randn(2, 64), {}).any()


def test_what_is_allowed_moves_the_right_value_no_further():
    problem = Problem({}, {"y": torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)})
    seen = Observed({"y": torch.tensor([1.05, 2.0, float("nan")])}, {}, {})
    near = within(problem, seen, "y", torch.full((3,), 0.1, dtype=torch.float64)).expected["y"]
    assert near.tolist() == pytest.approx([1.05, 1.1, 1.0])

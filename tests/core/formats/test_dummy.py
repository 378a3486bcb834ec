"""Random weights are the same for the same key."""

import pytest
import torch

from inferplane.formats.dummy import DummyStore
from inferplane.spec import WeightPart

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

STORE = DummyStore(torch.device("cpu"), torch.bfloat16)


def read(key: str, *shape: int) -> torch.Tensor:
    return STORE.read(
        WeightPart(name="weight", key=key, full_shape=shape, offset=(0,) * len(shape), shape=shape)
    )


def test_the_same_key_gives_the_same_numbers():
    assert torch.equal(read("a.weight", 8, 8), read("a.weight", 8, 8))


def test_other_keys_give_other_numbers():
    assert not torch.equal(read("a.weight", 8, 8), read("b.weight", 8, 8))


def test_norms_are_one_and_biases_zero():
    assert read("norm.weight", 4).tolist() == [1.0] * 4
    assert read("q_proj.bias", 4).tolist() == [0.0] * 4


def test_the_type_is_the_models():
    assert read("a.weight", 2, 2).dtype is torch.bfloat16

"""Sampling: the contract's noise bit by bit, and the reference's tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from inferplane_triton import noise
from inferplane_triton.sample import sample
from interpreter_platform import PROPS

from inferplane.reference import noise as reference_noise
from inferplane.reference.sample import keep
from inferplane.reference.sample import sample as reference_sample
from inferplane.spec import SampleInputs, SampleRequest

ROWS, VOCABULARY = 6, 200


@triton.jit
def noise_kernel(keys, out, count, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    first, second = tl.load(keys).to(tl.uint32), tl.load(keys + 1).to(tl.uint32)
    found = noise.gumbel(at.to(tl.uint32), first, second)
    tl.store(out + at, found, mask=at < count)


@triton.jit
def log_kernel(x, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, noise.log(tl.load(x + at)))


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 12345678901234567])
def test_the_noise_is_the_contracts(seed):
    keys = reference_noise.row_keys(np.array([seed], np.uint64), np.array([77]))
    keys_B2, out = torch.from_numpy(keys), torch.empty(4096)
    noise_kernel[(1,)](keys_B2, out, 4096, BLOCK=4096)
    right = reference_noise.gumbel(keys_B2, torch.arange(4096))[0]
    assert torch.allclose(out, right, rtol=3e-7, atol=3e-7)


def test_the_logarithm_is_right_to_two_units_everywhere_noise_uses_it():
    near_one = 1.0 - torch.arange(1, 2049) * 2.0**-24
    small = torch.logspace(-7.3, 0, 1024)
    large = torch.logspace(-0.01, 1.3, 1024)
    x = torch.cat([near_one, small, large]).float()
    out = torch.empty_like(x)
    log_kernel[(1,)](x, out, BLOCK=4096)
    right = x.double().log()
    units = (out.double() - right).abs() / (right.abs() * 2.0**-24).clamp(min=1e-30)
    assert float(units[right != 0].max()) < 4


def batch(seed: int, *uses: str, ties: bool = False) -> tuple[torch.Tensor, SampleInputs]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(ROWS, VOCABULARY)) * 3).float()
    if ties:
        logits = logits.round()
    inputs = SampleInputs(
        greedy_B=torch.tensor([False] * (ROWS - 1) + [True]),
        temperature_B=torch.tensor([0.5, 1.0, 1.7, 0.9, 1.0, 1.0]),
        seed_B2=torch.from_numpy(
            reference_noise.row_keys(rng.integers(0, 2**62, ROWS), np.arange(ROWS))
        ),
    )
    if "top_k" in uses:
        inputs.top_k_B = torch.tensor([1, 2, 7, 50, VOCABULARY, 3], dtype=torch.int32)
    if "top_p" in uses:
        inputs.top_p_B = torch.tensor([0.9, 0.5, 0.95, 1.0, 0.01, 0.3])
    if "min_p" in uses:
        inputs.min_p_B = torch.tensor([0.0, 0.1, 0.02, 0.5, 0.3, 0.0])
    return logits, inputs


USES = [(), ("top_k",), ("top_p",), ("min_p",), ("top_k", "top_p", "min_p")]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("uses", USES, ids="-".join)
def test_tokens_are_the_references(uses, ties):
    request = SampleRequest(device=PROPS, vocab=VOCABULARY, extra=frozenset(uses) | {"random"})
    logits, inputs = batch(3, *uses, ties=ties)
    right = reference_sample(request)(logits.clone(), inputs).tokens_B
    found = sample(request)(logits.clone(), inputs).tokens_B
    assert found.tolist() == right.tolist()


@pytest.mark.parametrize("block", [64, 512])
def test_tiles_of_a_row_do_not_change_its_token(block):
    request = SampleRequest(device=PROPS, vocab=VOCABULARY)
    logits, inputs = batch(5, "top_k", ties=True)
    right = reference_sample(request)(logits.clone(), inputs).tokens_B
    found = sample(request, {"block": block, "warps": 4})(logits.clone(), inputs).tokens_B
    assert found.tolist() == right.tolist()


def test_only_kept_tokens_are_drawn_and_each_of_them_is():
    """Ten equal best tokens, of which top-k keeps the three with the lowest ids."""
    logits = torch.zeros(1, 40)
    logits[0, 5:15] = 2.0
    request = SampleRequest(device=PROPS, vocab=40)
    drawn = set()
    for position in range(12):
        inputs = SampleInputs(
            greedy_B=torch.tensor([False]),
            temperature_B=torch.ones(1),
            seed_B2=torch.from_numpy(
                reference_noise.row_keys(np.array([9], np.uint64), np.array([position]))
            ),
            top_k_B=torch.tensor([3], dtype=torch.int32),
        )
        drawn.add(int(sample(request)(logits.clone(), inputs).tokens_B))
    assert drawn == {5, 6, 7}
    assert torch.isfinite(keep(logits, inputs)).sum() == 3


def test_ties_of_a_greedy_row_go_to_the_lowest_id_also_across_tiles():
    logits = torch.zeros(2, VOCABULARY)
    logits[0, [70, 130, 199]] = 4.0
    logits[1] = float("-inf")
    logits[1, 157] = -3.0
    request = SampleRequest(device=PROPS, vocab=VOCABULARY)
    found = sample(request, {"block": 64, "warps": 1})(logits, SampleInputs())
    assert found.tokens_B.tolist() == [70, 157]

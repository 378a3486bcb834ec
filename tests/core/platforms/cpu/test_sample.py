"""The CPU's sampler gives the reference's tokens, for all parameters, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.platforms.cpu.sample import _among_best, sample
from inferplane.reference.noise import row_keys
from inferplane.reference.sample import sample as reference
from inferplane.spec import DeviceProps, SampleInputs, SampleRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
VOCAB = 80
REQUEST = SampleRequest(device=PROPS, vocab=VOCAB)


@st.composite
def calls(draw: st.DrawFn) -> tuple[torch.Tensor, SampleInputs]:
    rows, seed = draw(st.integers(1, 5)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, VOCAB)).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)  # many ties
    inputs = SampleInputs(logprobs=draw(st.sampled_from([-1, 0, 3])))
    if draw(st.sampled_from([True, True, False])):
        inputs.greedy_B = torch.from_numpy(rng.random(rows) < 0.3)
        warm = rng.choice([0.3, 1.0, 2.0], rows).astype(np.float32)
        inputs.temperature_B = torch.from_numpy(warm)
        inputs.temperature_B[inputs.greedy_B] = 1.0
        seeds = rng.integers(0, 1 << 63, rows).astype(np.uint64)
        inputs.seed_B2 = torch.from_numpy(row_keys(seeds, rng.integers(0, 5000, rows)))
        if draw(st.booleans()):
            top_k = rng.choice([1, 2, 7, 40, VOCAB - 1, VOCAB], rows).astype(np.int32)
            inputs.top_k_B = torch.from_numpy(top_k)
        if draw(st.booleans()):
            top_p = rng.choice([0.05, 0.5, 0.93, 1.0], rows).astype(np.float32)
            inputs.top_p_B = torch.from_numpy(top_p)
        if draw(st.booleans()):
            min_p = rng.choice([0.0, 0.02, 0.3, 1.0], rows).astype(np.float32)
            inputs.min_p_B = torch.from_numpy(min_p)
    if draw(st.booleans()):
        inputs.counts_BV = torch.from_numpy(rng.integers(0, 3, (rows, VOCAB)).astype(np.int32))
        inputs.prompt_BV = torch.from_numpy(rng.random((rows, VOCAB)) < 0.3)
        inputs.penalties_B3 = torch.tensor([[1.5, 0.25, 0.5]]).repeat(rows, 1)
    if draw(st.booleans()):
        inputs.bias = torch.tensor([0, 0]), torch.tensor([3, 5]), torch.tensor([4.0, -4.0])
    if draw(st.booleans()):
        words = rng.integers(1, 1 << 31, (rows, -(-VOCAB // 32))).astype(np.int32)
        inputs.mask_BN = torch.from_numpy(words)
    return torch.from_numpy(logits), inputs


@settings(max_examples=300, deadline=None, derandomize=True)
@given(calls())
def test_tokens_and_logprobs_are_the_references(call):
    logits, inputs = call
    found, expected = (make(REQUEST)(logits.clone(), inputs) for make in (sample, reference))
    assert torch.equal(found.tokens_B, expected.tokens_B)
    if inputs.logprobs >= 0:
        assert torch.equal(found.chosen_B, expected.chosen_B)
        assert torch.equal(found.rank_B, expected.rank_B)
        assert torch.equal(found.top_ids_BL, expected.top_ids_BL)


def drawn(logits: list[float], top_k: int) -> tuple[torch.Tensor, SampleInputs]:
    keys = torch.from_numpy(row_keys(np.zeros(1, dtype=np.uint64), np.zeros(1)))
    inputs = SampleInputs(
        greedy_B=torch.tensor([False]),
        temperature_B=torch.ones(1),
        top_k_B=torch.tensor([top_k], dtype=torch.int32),
        seed_B2=keys,
    )
    return torch.tensor([logits]), inputs


def test_only_the_best_are_looked_at_where_top_k_allows():
    assert _among_best(*drawn([4.0, 3.0, 2.0, 1.0], 2)) is not None


@pytest.mark.parametrize(
    ("logits", "top_k"), [([4.0, 3.0, 3.0, 1.0], 2), ([4.0, 3.0, 2.0, 1.0], 4)]
)
def test_ties_at_the_edge_and_wide_top_k_go_to_the_reference(logits, top_k):
    assert _among_best(*drawn(logits, top_k)) is None

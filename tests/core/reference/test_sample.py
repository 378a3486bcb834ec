"""Sampling by the definition: each step against a plain loop, and draws against the softmax."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.reference.noise import row_keys
from inferplane.reference.sample import adjust, choose, keep, sample, unpack
from inferplane.spec import DeviceProps, SampleInputs, SampleRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=8)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
REQUEST = SampleRequest(device=PROPS, vocab=8)


def naive_keep(logits: list[float], top_k: int, top_p: float, min_p: float) -> set[int]:
    """Ids that stay, by the words of the definition."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    kept = order[:top_k]
    largest = logits[order[0]]
    weights = {i: math.exp(logits[i] - largest) for i in kept}
    total, before, found = sum(weights.values()), 0.0, set()
    for place, token in enumerate(kept):
        enough = before / total < top_p and weights[token] >= min_p
        if place == 0 or enough:
            found.add(token)
        before += weights[token]
    return found


# Logits in quarters: cut-offs are then never within rounding of a token's weight, ties included.
LOGITS = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=2, max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    logits=LOGITS,
    top_k=st.integers(1, 12),
    top_p=st.sampled_from([0.013, 0.317, 0.519, 0.8771, 0.9993, 1.0]),
    min_p=st.sampled_from([0.0, 0.0113, 0.1717, 0.713, 1.0]),
)
def test_keep_is_the_definition(logits, top_k, top_p, min_p):
    inputs = SampleInputs(
        top_k_B=torch.tensor([top_k], dtype=torch.int32),
        top_p_B=torch.tensor([top_p]),
        min_p_B=torch.tensor([min_p]),
    )
    found = keep(torch.tensor([logits]), inputs)[0]
    assert set(found.isfinite().nonzero()[:, 0].tolist()) == naive_keep(logits, top_k, top_p, min_p)


def test_narrow_indices_choose_and_keep_the_same():
    logits = torch.linspace(-3, 3, 24).view(3, 8)
    inputs = SampleInputs(
        greedy_B=torch.tensor([True, False, False]),
        temperature_B=torch.ones(3),
        top_k_B=torch.tensor([8, 3, 5], dtype=torch.int32),
        seed_B2=torch.from_numpy(row_keys(np.arange(3), np.arange(3))),
    )
    narrow = choose(logits, inputs, torch.int32)
    assert narrow.dtype == torch.int32
    assert narrow.tolist() == choose(logits, inputs).tolist()
    assert torch.equal(keep(logits, inputs, torch.int32), keep(logits, inputs))


def test_keep_changes_no_logit_that_stays():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    found = keep(logits, SampleInputs(top_k_B=torch.tensor([2])))
    assert found.tolist() == [[float("-inf"), 3.0, 2.0]]


def test_keep_treats_rows_apart():
    logits = torch.tensor([[1.0, 3.0, 2.0]] * 3)
    found = keep(logits, SampleInputs(top_k_B=torch.tensor([1, 2, 3])))
    assert found.isfinite().sum(-1).tolist() == [1, 2, 3]


def test_top_k_keeps_the_lower_id_of_a_tie():
    found = keep(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), SampleInputs(top_k_B=torch.tensor([2])))
    assert found.isfinite().tolist() == [[False, True, True, False]]


def test_penalties():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0, 1.0]])
    inputs = SampleInputs(
        counts_BV=torch.tensor([[3, 1, 0, 0, 0]], dtype=torch.int32),
        prompt_BV=torch.tensor([[False, False, True, True, False]]),
        penalties_B3=torch.tensor([[2.0, 0.25, 0.5]]),
    )
    adjust(logits, inputs)
    assert logits.tolist() == [[1.0 - 0.25 - 1.5, -4.0 - 0.25 - 0.5, 1.0, -4.0, 1.0]]


def test_neutral_penalties_change_nothing():
    logits = torch.tensor([[2.0, -2.0]])
    inputs = SampleInputs(
        counts_BV=torch.tensor([[3, 1]], dtype=torch.int32),
        prompt_BV=torch.tensor([[True, True]]),
        penalties_B3=torch.tensor([[1.0, 0.0, 0.0]]),
    )
    adjust(logits, inputs)
    assert logits.tolist() == [[2.0, -2.0]]


def test_biases_add_up():
    logits = torch.zeros(2, 3)
    bias = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 2]), torch.tensor([1.5, 1.0, -4.0])
    adjust(logits, SampleInputs(bias=bias))
    assert logits.tolist() == [[0.0, 2.5, 0.0], [0.0, 0.0, -4.0]]


def test_processors_run_in_order_with_their_rows():
    calls = []

    def double(logits, rows):
        calls.append(("double", rows))
        logits[rows] *= 2

    def add(logits, rows):
        calls.append(("add", rows))
        logits[rows] += 1

    logits = torch.ones(3, 2)
    adjust(logits, SampleInputs(processors=((double, [0, 2]), (add, [2]))))
    assert calls == [("double", [0, 2]), ("add", [2])]
    assert logits[:, 0].tolist() == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("vocab", [1, 31, 32, 33, 64, 70])
def test_a_packed_mask_unpacks_to_its_bits(vocab):
    bits = np.random.default_rng(vocab).random((3, vocab)) < 0.5
    padded = np.zeros((3, -(-vocab // 32) * 32), dtype=np.uint8)
    padded[:, :vocab] = bits
    packed = np.packbits(padded, axis=1, bitorder="little").view("<i4")
    assert torch.equal(unpack(torch.from_numpy(packed.copy()), vocab), torch.from_numpy(bits))


def test_a_mask_leaves_allowed_tokens_only():
    logits = torch.zeros(1, 40)
    mask = torch.tensor([[1 << 3, 1 << 2]], dtype=torch.int32)
    adjust(logits, SampleInputs(mask_BN=mask))
    assert logits.isfinite().nonzero()[:, 1].tolist() == [3, 34]


def test_logprobs_and_ranks_are_of_the_raw_logits():
    logits = torch.tensor([[1.0, 4.0, 2.0, 3.0]])
    bias = torch.tensor([0]), torch.tensor([2]), torch.tensor([100.0])
    expected = logits.log_softmax(-1)[0]
    output = sample(REQUEST)(logits.clone(), SampleInputs(bias=bias, logprobs=2))
    assert output.tokens_B.tolist() == [2]
    assert output.rank_B.tolist() == [3]
    assert output.top_ids_BL.tolist() == [[1, 3]]
    torch.testing.assert_close(output.chosen_B, expected[[2]])
    torch.testing.assert_close(output.top_BL[0], expected[[1, 3]])


def test_more_logprobs_than_tokens_give_all_tokens():
    output = sample(REQUEST)(torch.tensor([[1.0, 2.0]]), SampleInputs(logprobs=5))
    assert output.top_ids_BL.tolist() == [[1, 0]]


def test_no_logprobs_are_given_unasked():
    output = sample(REQUEST)(torch.tensor([[1.0, 4.0]]), SampleInputs())
    assert (output.chosen_B, output.rank_B, output.top_BL) == (None, None, None)


def drawing(rows: int, temperature: float = 1.0, greedy: bool = False, seed: int = 0):
    """Inputs of `rows` draws, each at a position of its own."""
    seeds = np.full(rows, seed, dtype=np.uint64)
    return SampleInputs(
        greedy_B=torch.full((rows,), greedy),
        temperature_B=torch.full((rows,), temperature),
        seed_B2=torch.from_numpy(row_keys(seeds, np.arange(rows))),
    )


def test_greedy_rows_take_the_best_beside_drawn_ones():
    logits = torch.tensor([[0.0, 0.1, 0.0]]).repeat(50, 1)
    inputs = drawing(50)
    inputs.greedy_B[::2] = True
    found = choose(logits, inputs)
    assert set(found[::2].tolist()) == {1}
    assert set(found[1::2].tolist()) == {0, 1, 2}


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    expected = probs * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, 1.5, 0.2])
    draws = 40_000
    found = choose(logits.repeat(draws, 1), drawing(draws, temperature, seed=5))
    counts = torch.bincount(found, minlength=8).double()
    probs = (logits.double() / temperature).softmax(-1)
    assert chi_square(counts, probs) < 24.3  # 99.9 % point of 7 degrees of freedom


def test_draws_after_top_k_follow_what_is_left():
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0])
    inputs = drawing(40_000, seed=6)
    inputs.top_k_B = torch.full((40_000,), 3)
    counts = torch.bincount(choose(logits.repeat(40_000, 1), inputs), minlength=4).double()
    assert counts[3] == 0
    assert chi_square(counts[:3], logits[:3].double().softmax(-1)) < 13.8  # 2 degrees


def test_draws_at_neighbouring_positions_are_independent():
    found = choose(torch.zeros(20_000, 2), drawing(20_000, seed=7))
    pairs = torch.bincount(found[:-1] * 2 + found[1:], minlength=4).double()
    assert chi_square(pairs, torch.full((4,), 0.25, dtype=torch.float64)) < 16.3  # 3 degrees

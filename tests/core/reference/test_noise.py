"""Counter-based noise: fixed for ever, uniform, and independent of its batch."""

import numpy as np
import pytest
import torch

from inferplane.reference.noise import gumbel, row_keys, uniform

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

SEEDS = np.array([0, 1, 2**64 - 1, 12345], dtype=np.uint64)
POSITIONS = np.array([0, 7, 31, 2000])
IDS = [0, 1, 1000, 151935]
KEYS = [
    [2065550767, 3793791033],
    [3225833434, 2864558428],
    [2789938617, 3473973936],
    [2815331185, 1446500982],
]
UNIFORM = [  # in units of 2^-24
    [5892061, 9896201, 7968573, 14186179],
    [14578055, 328561, 1746683, 512365],
    [16507395, 15587429, 16308569, 4317395],
    [11901103, 4571809, 7860181, 1993909],
]


def keys(seed: int = 0, positions: int = 1) -> torch.Tensor:
    seeds = np.full(positions, seed, dtype=np.uint64)
    return torch.from_numpy(row_keys(seeds, np.arange(positions)))


def test_keys_are_the_committed_ones():
    assert row_keys(SEEDS, POSITIONS).tolist() == KEYS


def test_values_are_the_committed_ones():
    found = uniform(torch.tensor(KEYS), torch.tensor(IDS))
    assert (found * 2**24).tolist() == UNIFORM


def test_ids_of_each_row_give_what_shared_ids_give():
    ids = torch.tensor(IDS)
    shared = uniform(torch.tensor(KEYS), ids)
    assert torch.equal(uniform(torch.tensor(KEYS), ids.repeat(4, 1)), shared)


def test_a_row_does_not_depend_on_its_batch():
    ids = torch.arange(100)
    batch = uniform(torch.tensor(KEYS), ids)
    for row in range(4):
        assert torch.equal(uniform(torch.tensor(KEYS[row : row + 1]), ids), batch[row : row + 1])


def test_a_value_does_not_depend_on_the_other_ids():
    whole = uniform(torch.tensor(KEYS), torch.arange(1000))
    assert torch.equal(uniform(torch.tensor(KEYS), torch.tensor([7, 999])), whole[:, [7, 999]])


def test_inputs_are_left_as_they_were():
    given, ids = torch.tensor(KEYS), torch.tensor(IDS)
    uniform(given, ids)
    assert given.tolist() == KEYS
    assert ids.tolist() == IDS


@pytest.mark.parametrize("token", [1127464, 5447547, 16792490])
def test_the_largest_value_is_below_one(token):
    """The upper 24 bits of these are all ones."""
    found = uniform(keys(), torch.tensor([token]))
    assert float(found) == 1 - 2**-24
    assert gumbel(keys(), torch.tensor([token])).isfinite().all()


def test_values_lie_strictly_between_zero_and_one():
    found = uniform(keys(positions=100), torch.arange(20_000))
    assert 0 < float(found.min()) < 1e-5
    assert 1 - 1e-5 < float(found.max()) < 1


def chi_square(counts: torch.Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


LIMIT = 104.0  # 99.9 % point of 63 degrees of freedom


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_values_over_ids_are_uniform(seed):
    found = uniform(keys(seed), torch.arange(200_000))
    assert chi_square(torch.histc(found, 64, 0, 1).double()) < LIMIT


def test_values_over_positions_are_uniform():
    found = uniform(keys(3, positions=200_000), torch.tensor([17]))
    assert chi_square(torch.histc(found, 64, 0, 1).double()) < LIMIT


def test_values_over_seeds_are_uniform():
    seeds = np.arange(200_000).astype(np.uint64)
    made = torch.from_numpy(row_keys(seeds, np.full(200_000, 9)))
    found = uniform(made, torch.tensor([17]))
    assert chi_square(torch.histc(found, 64, 0, 1).double()) < LIMIT


@pytest.mark.parametrize("step", [1, 2, 32])
def test_neighbouring_ids_are_not_correlated(step):
    found = uniform(keys(), torch.arange(100_000))[0]
    together = torch.corrcoef(torch.stack([found[:-step], found[step:]]))
    assert abs(float(together[0, 1])) < 0.012


def test_neighbouring_positions_are_not_correlated():
    found = uniform(keys(positions=2), torch.arange(100_000))
    assert abs(float(torch.corrcoef(found)[0, 1])) < 0.012


def test_gumbel_has_the_mean_and_variance_of_its_distribution():
    found = gumbel(keys(), torch.arange(200_000)).double()
    assert float(found.mean()) == pytest.approx(0.5772, abs=0.012)
    assert float(found.var()) == pytest.approx(np.pi**2 / 6, abs=0.04)

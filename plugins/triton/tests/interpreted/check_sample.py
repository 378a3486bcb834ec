"""Sampling: the contract's noise bit by bit, and the reference's tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from inferplane_triton import heads, noise, sample_kernels
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


LONG = 1300
HEADS = {"block": 256, "warps": 4}  # 6 tiles, of each of which 64 scores are kept
LIMITS: dict[str, dict[str, list[float]]] = {
    "none": {},
    "least share": {"min_p_B": [0.0, 0.1, 0.02, 0.5, 0.3, 0.0]},
    "few": {"top_k_B": [1, 2, 7, 50, 64, 20]},
    "more than a head": {"top_k_B": [65, 200, 1299, 1300, 100, 3]},
    "mass": {"top_p_B": [0.9, 0.5, 0.95, 0.99, 0.01, 0.3]},
    "few, and mass": {
        "top_k_B": [1, 2, 7, 50, 64, 20],
        "top_p_B": [0.9, 0.5, 0.95, 1.0, 0.01, 0.3],
    },
    "all": {
        "top_k_B": [20, 40, 100, 1300, 64, 20],
        "top_p_B": [0.95, 1.0, 0.5, 0.9, 0.8, 0.3],
        "min_p_B": [0.0, 0.1, 0.02, 0.5, 0.3, 0.0],
    },
}
SHAPES = {"peaked": 6.0, "flat": 0.05, "ties": 3.0, "masked": 3.0}


def long_batch(limits: str, shape: str) -> tuple[torch.Tensor, SampleInputs]:
    _, inputs = batch(7)
    logits = torch.randn(ROWS, LONG, generator=torch.Generator().manual_seed(1)) * SHAPES[shape]
    if shape == "ties":
        logits = logits.round()
    if shape == "masked":  # a grammar leaves few tokens
        logits[:, torch.arange(LONG) % 97 != 5] = float("-inf")
    for name, values in LIMITS[limits].items():
        kind = torch.int32 if name == "top_k_B" else torch.float32
        setattr(inputs, name, torch.tensor(values, dtype=kind))
    return logits, inputs


@pytest.mark.parametrize(
    "shape", ["ties", *(pytest.param(s, marks=pytest.mark.nightly) for s in SHAPES if s != "ties")]
)
@pytest.mark.parametrize("limits", LIMITS)
def test_rows_of_many_tiles_give_the_references_tokens(limits, shape):
    request = SampleRequest(device=PROPS, vocab=LONG)
    logits, inputs = long_batch(limits, shape)
    right = reference_sample(request)(logits.clone(), inputs).tokens_B
    found = sample(request, HEADS)(logits.clone(), inputs).tokens_B
    assert found.tolist() == right.tolist()


@pytest.mark.parametrize(
    ("limits", "shape", "told"),
    [
        ("few", "flat", True),
        ("few, and mass", "ties", True),
        ("mass", "peaked", True),
        ("mass", "flat", False),
        ("more than a head", "peaked", False),
        ("none", "ties", True),
        ("least share", "ties", False),
    ],
)
def test_whole_rows_are_searched_only_where_their_heads_do_not_tell(
    limits, shape, told, monkeypatch
):
    def searched(*_args):
        raise RuntimeError("a whole row is searched")

    for name in ("choice", "argmax_of"):
        monkeypatch.setattr(sample_kernels, name, searched)
    logits, inputs = long_batch(limits, shape)
    request = SampleRequest(device=PROPS, vocab=LONG)
    if told:
        sample(request, HEADS)(logits, inputs)
        return
    with pytest.raises(Exception, match="a whole row is searched"):
        sample(request, HEADS)(logits, inputs)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_is_the_largest_scores_of_its_tile_in_the_order_of_ids(shape):
    logits, inputs = long_batch("few", shape)
    tiles = -(-LONG // 256)
    scores, names = torch.full((ROWS, tiles, 64), 9e9), torch.full((ROWS, tiles, 64), -1)
    names, cuts = names.int(), torch.full((ROWS, tiles), -1).int()
    tops, masses = torch.empty(2, ROWS, tiles)
    greedy, heat = inputs.greedy_B.view(torch.uint8), inputs.temperature_B
    heads.heads_kernel[(ROWS, tiles)](
        *(logits, greedy, heat, inputs.seed_B2, scores, names, cuts, tops, masses),
        *(LONG, LONG, tiles),
        RANDOM=True,
        LIMITED=True,
        MOST=64,
        BLOCK=256,
    )
    for row in range(ROWS - 1):
        for tile in range(tiles):
            part = (logits[row] / heat[row])[tile * 256 : (tile + 1) * 256]
            order = torch.sort(part, descending=True, stable=True).indices[:64].sort().values
            count = len(order)  # the last tile has fewer
            assert names[row, tile, :count].tolist() == (order + tile * 256).tolist()
            assert torch.equal(scores[row, tile, :count], part[order])
            assert (scores[row, tile, count:] == float("-inf")).all()
            assert (int(cuts[row, tile]) == 0) == (len(part) <= 64)
            assert float(tops[row, tile]) == float(part.max())
            right = (part - part.max()).exp().nan_to_num().sum()
            torch.testing.assert_close(masses[row, tile], right)
    assert int(names[-1].max()) == -1  # the greedy row has no head
    best = int(logits[-1].argmax())
    assert int(cuts[-1, best // 256]) == best


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


@pytest.mark.parametrize("block", [64, 256])
def test_a_greedy_batch_of_many_tiles(block):
    logits = torch.randn(3, LONG, generator=torch.Generator().manual_seed(2)).round()
    logits[1] = float("-inf")
    request = SampleRequest(device=PROPS, vocab=LONG)
    found = sample(request, {"block": block, "warps": 1})(logits.clone(), SampleInputs())
    assert found.tokens_B.tolist() == logits.argmax(-1).tolist()


def test_ties_of_a_greedy_row_go_to_the_lowest_id_also_across_tiles():
    logits = torch.zeros(2, VOCABULARY)
    logits[0, [70, 130, 199]] = 4.0
    logits[1] = float("-inf")
    logits[1, 157] = -3.0
    request = SampleRequest(device=PROPS, vocab=VOCABULARY)
    found = sample(request, {"block": 64, "warps": 1})(logits, SampleInputs())
    assert found.tokens_B.tolist() == [70, 157]

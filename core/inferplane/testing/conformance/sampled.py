"""Inputs of sampling, and which tokens are right.

A token is right if it is the reference's. It is also right if rounding could have chosen it: in
fp64, with top-p and min-p moved by 1e-5 either way, its score is within 1e-4 of the best one. An
exact tie is no matter of rounding: it goes to the lowest id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inferplane.reference.noise import gumbel, row_keys
from inferplane.reference.sample import adjust, keep, sample
from inferplane.spec import SampleInputs, SampleRequest

from .case import Result
from .numbers import Numbers
from .problem import Observed, Problem, Tensors
from .target import HOST
from .tensors import error
from .tolerances import bound

if TYPE_CHECKING:
    from .suites.sampling import Shape

_EDGE, _NEAR = 1e-5, 1e-4
_ROWS = (
    "greedy_B",
    "temperature_B",
    "top_k_B",
    "top_p_B",
    "min_p_B",
    "seed_B2",
    "counts_BV",
    "prompt_BV",
    "penalties_B3",
    "mask_BN",
)


class Raise:
    """A logits processor: token `id` becomes likelier in its rows."""

    def __init__(self, id: int, by: float) -> None:
        self.id, self.by = id, by

    def __call__(self, logits_BV: torch.Tensor, rows: list[int]) -> None:
        for row in rows:
            logits_BV[row, self.id] += self.by


def problem(request: SampleRequest, shape: Shape, seed: int) -> Problem:
    vocab = request.vocab
    draw, rows = Numbers(seed), shape.rows
    logits = draw.normal(rows, vocab, dtype="fp32", scale=3.0)
    if shape.ties:
        logits = logits.round()
    inputs = {"logits_BV": logits} | _parameters(vocab, shape, draw)
    given = sample_inputs({k: v.clone() for k, v in inputs.items()}, shape)
    kernel = sample(replace(request, device=HOST))
    output = kernel(logits.clone(), given)
    expected: Tensors = {"tokens_B": output.tokens_B}
    if shape.logprobs >= 0 and "logprobs" in shape.uses:
        expected["logprobs"] = logits.double().log_softmax(-1)
    return Problem(
        inputs,
        expected,
        indices=frozenset({"bias_rows", "bias_ids"}),
        writes=frozenset({"logits_BV"}),
        extra=shape,
    )


def _parameters(vocab: int, shape: Shape, draw: Numbers) -> Tensors:
    rows, uses, rng = shape.rows, shape.uses, draw.numpy
    found: Tensors = {}
    if "random" in uses:
        greedy = torch.arange(rows) % shape.greedy == shape.greedy - 1
        found["greedy_B"] = greedy
        heat = torch.tensor(rng.choice([0.5, 1.0, 1.7], rows), dtype=torch.float32)
        found["temperature_B"] = torch.where(greedy, 1.0, heat)
        seeds = rng.integers(0, 2**63, rows).astype(np.uint64)
        seeds[:] = seeds[0] if shape.one_seed else seeds
        positions = np.arange(5, 5 + rows)
        found["seed_B2"] = torch.from_numpy(row_keys(seeds, positions))
    if "top_k" in uses:
        some = rng.choice([1, 2, 5, 20, vocab], rows)
        found["top_k_B"] = torch.from_numpy(np.minimum(some, vocab)).to(torch.int32)
    if "top_p" in uses:
        found["top_p_B"] = torch.tensor(rng.choice([0.05, 0.5, 0.9, 1.0], rows)).float()
    if "min_p" in uses:
        found["min_p_B"] = torch.tensor(rng.choice([0.0, 0.05, 0.5, 1.0], rows)).float()
    if "penalties" in uses:
        found["counts_BV"] = torch.from_numpy(rng.poisson(0.4, (rows, vocab))).to(torch.int32)
        found["prompt_BV"] = torch.from_numpy(rng.random((rows, vocab)) < 0.3)
        triples = np.stack(
            [
                rng.choice([1.0, 1.3, 0.8], rows),
                rng.choice([0.0, 1.5], rows),
                rng.choice([0.0, 0.7], rows),
            ],
            axis=-1,
        )
        found["penalties_B3"] = torch.from_numpy(triples).float()
    if "bias" in uses:
        count = min(6, vocab) * rows
        cells = torch.from_numpy(rng.permutation(rows * vocab)[:count].astype(np.int64))
        found["bias_rows"], found["bias_ids"] = cells // vocab, cells % vocab
        values = rng.choice([9.0, -4.0, 0.5], count)
        if vocab > 2:
            values[:1] = -np.inf
        found["bias_values"] = torch.from_numpy(values).float()
    if "mask" in uses:
        allowed = rng.random((rows, -(-vocab // 32) * 32)) < 0.5
        allowed[:, 0] = True
        words = np.packbits(allowed, axis=1, bitorder="little").view("<i4")
        found["mask_BN"] = torch.from_numpy(words.copy())
    return found


def sample_inputs(given: Tensors, shape: Shape) -> SampleInputs:
    """As the runner makes it. given: tensors by name, on one device."""
    inputs = SampleInputs()
    for name in _ROWS:
        setattr(inputs, name, given.get(name))
    if "bias_ids" in given:
        inputs.bias = (given["bias_rows"], given["bias_ids"], given["bias_values"])
    if "processors" in shape.uses:
        vocab = given["logits_BV"].shape[1]
        inputs.processors = (
            (Raise(vocab // 2, 20.0), [0]),
            (Raise(vocab - 1, 30.0), list(range(0, shape.rows, 2))),
        )
    inputs.logprobs = shape.logprobs if "logprobs" in shape.uses else -1
    return inputs


def judge(problem: Problem, seen: Observed, result: Result) -> None:
    right = problem.expected["tokens_B"]
    found = seen.results.get("tokens_B")
    if found is None or found.shape != right.shape or found.is_floating_point():
        result.fail("shape", f"tokens_B must be whole numbers, {tuple(right.shape)}")
        return
    found = found.long()
    vocab = problem.inputs["logits_BV"].shape[1]
    for row in torch.nonzero(found != right)[:, 0].tolist():
        token, wanted = int(found[row]), int(right[row])
        if not 0 <= token < vocab or not _rounding(problem, row, token):
            result.fail("parity", f"row {row} gave token {token}, the reference gives {wanted}")
            return
    result.measured(0.0, 0.0)
    if "logprobs" in problem.expected:
        _judge_logprobs(problem, seen, found, result)


def _rounding(problem: Problem, row: int, token: int) -> bool:
    """Whether the difference may come of rounding."""
    shape = problem.extra
    for move in (0.0, _EDGE, -_EDGE):
        given = {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in problem.inputs.items()
        }
        inputs, logits = sample_inputs(given, shape), given["logits_BV"]
        adjust(logits, inputs)
        scores = logits
        if inputs.temperature_B is not None and not bool(inputs.greedy_B[row]):  # type: ignore[index]
            assert inputs.seed_B2 is not None
            if inputs.top_p_B is not None:
                inputs.top_p_B = inputs.top_p_B + move
            if inputs.min_p_B is not None:
                inputs.min_p_B = inputs.min_p_B * (1 - move)
            scores = keep(logits / inputs.temperature_B[:, None], inputs)
            scores = scores + gumbel(inputs.seed_B2, torch.arange(logits.shape[1]))
        gap = float(scores[row].max() - scores[row, token])
        exact = shape.ties and "random" not in shape.uses
        if gap <= _NEAR and not (gap == 0.0 and (exact or "penalties" not in shape.uses)):
            return True
    return False


def _judge_logprobs(problem: Problem, seen: Observed, tokens: torch.Tensor, result: Result) -> None:
    right = problem.expected["logprobs"]
    count = min(problem.extra.logprobs, right.shape[1])
    missing = {"chosen_B", "rank_B", "top_ids_BL", "top_BL"} - seen.results.keys()
    if missing:
        result.fail("shape", f"log-probabilities were asked for; missing: {sorted(missing)}")
        return
    chosen = right.gather(1, tokens[:, None])
    allowed = bound("sample", "fp32", right.shape[1])
    best, ids = seen.results["top_BL"], seen.results["top_ids_BL"].long()
    pairs: dict[str, tuple[Any, Any]] = {
        "chosen_B": (seen.results["chosen_B"], chosen[:, 0]),
        "top_BL": (best, right.topk(count, dim=-1).values),
    }
    for name, (found, wanted) in pairs.items():
        if found.shape != wanted.shape:
            result.fail("shape", f"{name} is {tuple(found.shape)}, not {tuple(wanted.shape)}")
            return
        share = error(found, wanted)
        result.measured(share, allowed)
        if not share <= allowed:
            result.fail("parity", f"{name} is off by {share:.3g}, {allowed:.3g} is allowed")
    if error(right.gather(1, ids), best) > allowed:
        result.fail("parity", "top_ids_BL are not the ids of top_BL")
    low = (right > chosen + _NEAR).sum(-1) + 1
    high = (right > chosen - _NEAR).sum(-1) + 1
    rank = seen.results["rank_B"].long()
    if bool(((rank < low) | (rank > high)).any()):
        result.fail("parity", f"rank_B is {rank.tolist()}, not {low.tolist()}")

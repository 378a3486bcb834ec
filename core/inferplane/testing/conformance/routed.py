"""Inputs of routing, and which choices are right.

A choice is right if it is the reference's. Where rounding in fp32 could have decided otherwise (two
scores, or two groups, within 1e-5 of each other, and not equal) the other one is right too; equal
ones go to the lower expert. Weights are compared for the experts that were found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from inferplane.reference.moe import route
from inferplane.spec import RoutingRequest

from .case import Case, Result
from .numbers import Numbers
from .problem import Observed, Problem
from .target import HOST
from .tensors import error, worst
from .tolerances import bound

_NEAR = 1e-5


@dataclass
class Oracle:
    """Of every token: scores fp64 [T, X]; what the choice is by, -inf outside of the best groups;
    whether the best groups are a matter of rounding."""

    scores_TX: torch.Tensor
    choice_TX: torch.Tensor
    close_T: torch.Tensor


def problem(case: Case, seed: int) -> Problem:
    request, shape = case.request, case.shape
    assert isinstance(request, RoutingRequest)
    draw = Numbers(seed)
    logits = draw.normal(shape.tokens, request.experts, dtype=request.dtype)
    if shape.logits == "ties":
        logits = logits.sign() * (logits.abs() > 0.7)
    if shape.logits == "equal":
        logits = torch.full_like(logits, 0.5)
    if shape.logits == "far":
        logits = logits * 60
    inputs = {"logits_TX": logits}
    if request.bias:
        inputs["bias_X"] = draw.normal(request.experts, dtype="fp32", scale=0.3)
    wide = {name: tensor.double() for name, tensor in inputs.items()}
    right = route(replace(request, dtype="fp64", device=HOST))
    weights, experts = right(*wide.values())
    expected = {"weights_TE": weights, "experts_TE": experts}
    return Problem(inputs, expected, length=request.experts, extra=_oracle(request, **wide))


def _oracle(
    request: RoutingRequest, logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
) -> Oracle:
    softmax = request.scoring == "softmax"
    scores = logits_TX.softmax(-1) if softmax else logits_TX.sigmoid()
    choice = scores if bias_X is None else scores + bias_X
    close = torch.zeros(len(scores), dtype=torch.bool)
    if request.groups:
        grouped = choice.unflatten(-1, (request.groups, -1))
        if request.group_score == "max":
            of_group = grouped.amax(-1)
        else:
            of_group = grouped.topk(2, dim=-1).values.sum(-1)
        ordered, order = of_group.sort(dim=-1, descending=True, stable=True)
        best = order[:, : request.top_groups]
        allowed = torch.zeros_like(of_group, dtype=torch.bool).scatter_(1, best, True)
        choice = choice.masked_fill(
            ~allowed.repeat_interleave(grouped.shape[-1], dim=-1), float("-inf")
        )
        if request.top_groups < request.groups:
            gap = ordered[:, request.top_groups - 1] - ordered[:, request.top_groups]
            close = (gap > 0) & (gap < _NEAR)
    return Oracle(scores, choice, close)


def judge(case: Case, problem: Problem, seen: Observed, result: Result) -> None:
    """ "shape", and "parity" of the choice and of the weights."""
    request, oracle = case.request, problem.extra
    assert isinstance(request, RoutingRequest) and isinstance(oracle, Oracle)
    result.dtype = "fp32"
    weights, experts = seen.results["weights_TE"], seen.results["experts_TE"]
    shape = tuple(problem.expected["experts_TE"].shape)
    kind = torch.float64 if request.dtype == "fp64" else torch.float32
    for name, found, dtype in (
        ("weights_TE", weights, kind),
        ("experts_TE", experts, torch.int32),
    ):
        if tuple(found.shape) != shape or found.dtype != dtype:
            what = f"{name} is {found.dtype} {tuple(found.shape)}"
            result.fail("shape", f"{what}, not {dtype} {shape}")
            return
    wrong = _wrong(request, oracle, problem.expected["experts_TE"].long(), experts.long())
    if wrong:
        result.fail("parity", wrong)
        return
    right = _weights(request, oracle, experts.long())
    share, allowed = error(weights, right), bound("moe.route", "fp32", problem.length)
    result.measured(share, allowed)
    if not share <= allowed:
        text = f"weights are off by {share:.3g} of the largest, {allowed:.3g} is allowed"
        result.fail("parity", f"{text}: {worst(weights, right)}")


def _wrong(
    request: RoutingRequest, oracle: Oracle, right_TE: torch.Tensor, found_TE: torch.Tensor
) -> str:
    """What is wrong with the choice, "" if nothing is."""
    shared = found_TE[:, request.top_k :]
    if not torch.equal(shared, right_TE[:, request.top_k :]):
        return (
            f"shared experts are {shared[0].tolist()}, not {right_TE[0, request.top_k :].tolist()}"
        )
    found, right = found_TE[:, : request.top_k], right_TE[:, : request.top_k]
    for token in (found != right).any(-1).nonzero().flatten().tolist():
        ours, theirs = found[token], right[token]
        text = f"token {token} has the experts {ours.tolist()}, not {theirs.tolist()}"
        if int(ours.min()) < 0 or int(ours.max()) >= request.experts:
            return f"{text}: there are {request.experts}"
        if len(set(ours.tolist())) < len(ours):
            return f"{text}: one twice"
        if bool(oracle.close_T[token]):
            continue
        choice = oracle.choice_TX[token]
        gap = (choice[ours] - choice[theirs]).abs()
        differ = ours != theirs
        if bool((gap[differ] > _NEAR).any()):
            return text
        if bool((gap[differ] == 0).any()) and not bool((gap[differ] > 0).any()):
            return f"{text}: equal scores go to the lower expert"
    return ""


def _weights(request: RoutingRequest, oracle: Oracle, found_TE: torch.Tensor) -> torch.Tensor:
    """fp64 [T, E]: of the experts that were found."""
    chosen = oracle.scores_TX.gather(1, found_TE[:, : request.top_k])
    if request.renormalize:
        chosen = chosen / (chosen.sum(-1, keepdim=True) + 1e-20)
    ones = torch.ones((len(chosen), request.shared), dtype=chosen.dtype)
    return torch.cat([chosen * request.scaling, ones], dim=-1)

"""op "moe.route": scores, groups, the best experts and their weights in one launch.

Sources: Mixtral (arXiv 2401.04088), DeepSeek-V2 (2405.04434), DeepSeek-V3 (2412.19437).
Legend: T tokens, X experts, G groups of S experts, E experts a token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from inferplane.spec import RoutingRequest

from .launch import between, launch, power_of_two


@triton.jit
def best_of(values, index):
    """(the largest value, the lowest index that has it). All of both, as 1 number each."""
    top = tl.max(tl.max(values, axis=1), axis=0)
    found = tl.where(values == top, index, 1 << 30)
    return top, tl.min(tl.min(found, axis=1), axis=0)


@triton.jit
def route_kernel(
    logits, bias, weights, experts, logits_t, scaling,
    X: tl.constexpr, G: tl.constexpr, S: tl.constexpr, TOP_GROUPS: tl.constexpr,
    TOP_TWO: tl.constexpr, TOP_K: tl.constexpr, SHARED: tl.constexpr, SIGMOID: tl.constexpr,
    BIAS: tl.constexpr, RENORMALIZE: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program routes one token; its experts lie as [G, S]. Ties go to the lower expert."""
    token = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, BLOCK_G)[:, None]
    index = group * S + tl.arange(0, BLOCK_S)[None, :]
    exists = (group < G) & (tl.arange(0, BLOCK_S)[None, :] < S)
    lowest = float("-inf")
    logit = tl.load(logits + token * logits_t + index, mask=exists, other=0.0).to(tl.float32)
    if SIGMOID:
        score = tl.where(
            exists, tl.sigmoid(logit), 0.0
        )  # a place behind a group has a next one's index
    else:
        logit = tl.where(exists, logit, lowest)
        top = tl.max(tl.max(logit, axis=1), axis=0)
        score = tl.exp(logit - top)
        score = score / tl.sum(tl.sum(score, axis=1), axis=0)
    choice = score
    if BIAS:
        choice += tl.load(bias + index, mask=exists, other=0.0)
    choice = tl.where(exists, choice, lowest)
    if TOP_GROUPS > 0:
        best = tl.max(choice, axis=1)
        if TOP_TWO:
            first = tl.min(tl.where(choice == best[:, None], index, 1 << 30), axis=1)
            others = tl.where(index == first[:, None], lowest, choice)
            best = best + tl.max(others, axis=1)
        left = tl.where(group < G, best[:, None], lowest)
        chosen = group < 0
        for _ in range(TOP_GROUPS):
            _top, at = best_of(left, group)
            chosen = chosen | (group == at)
            left = tl.where(group == at, lowest, left)
        choice = tl.where(chosen, choice, lowest)
    place = tl.arange(0, BLOCK_E)
    weight = tl.zeros((BLOCK_E,), tl.float32)
    expert = tl.zeros((BLOCK_E,), tl.int32)
    for k in range(TOP_K):
        _top, at = best_of(choice, index)
        at = tl.minimum(at, X - 1)  # of NaN logits there is no best
        own = tl.sum(tl.sum(tl.where(index == at, score, 0.0), axis=1), axis=0)
        choice = tl.where(index == at, lowest, choice)
        weight = tl.where(place == k, own, weight)
        expert = tl.where(place == k, at, expert)
    if RENORMALIZE:
        weight = weight / (tl.sum(weight, axis=0) + 1e-20)
    weight = weight * scaling
    if SHARED > 0:
        weight = tl.where(place < TOP_K, weight, 1.0)
        expert = tl.where(place < TOP_K, expert, X + place - TOP_K)
    E: tl.constexpr = TOP_K + SHARED
    tl.store(weights + token * E + place, weight, mask=place < E)
    tl.store(experts + token * E + place, expert, mask=place < E)


def route(request: RoutingRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(logits [T, X], bias fp32 [X]) -> (weights fp32 [T, E], experts int32 [T, E])."""
    r = request
    groups = r.groups or 1
    size, each = r.experts // groups, r.top_k + r.shared
    constants = {
        "X": r.experts,
        "G": groups,
        "S": size,
        "TOP_GROUPS": r.top_groups if r.groups else 0,
        "TOP_TWO": r.group_score == "top2",
        "TOP_K": r.top_k,
        "SHARED": r.shared,
        "SIGMOID": r.scoring == "sigmoid",
        "BIAS": r.bias,
        "RENORMALIZE": r.renormalize,
        "BLOCK_G": power_of_two(groups),
        "BLOCK_S": power_of_two(size),
        "BLOCK_E": power_of_two(each),
    }
    warps = between(1, power_of_two(r.experts) // 128, 4)

    def run(
        logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, device = logits_TX.shape[0], logits_TX.device
        weights_TE = torch.empty((tokens, each), dtype=torch.float32, device=device)
        experts_TE = torch.empty((tokens, each), dtype=torch.int32, device=device)
        launch(
            route_kernel,
            (tokens,),
            *(logits_TX, bias_X, weights_TE, experts_TE, logits_TX.stride(0), r.scaling),
            **constants,
            options={"num_warps": warps},
        )
        return weights_TE, experts_TE

    return run

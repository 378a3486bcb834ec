"""Graph capture has no in-tree implementer yet; this fake proves that the contract allows it.

The step is split as a graph needs it: `plan` runs on the host and writes buffers at fixed places,
`run` reads only those. So a model captured once gives new results when it is replayed over new
inputs and a new plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from inferplane import LLM
from inferplane.plugins.binding import make
from inferplane.plugins.resolution import Resolver
from inferplane.reference.attention import Attention
from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    Candidate,
    GraphRequest,
    GroupStep,
    Step,
    Support,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=5)


class FakeGraph:
    """Keeps the work, and refuses to plan while it is replayed."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run

    def replay(self) -> None:
        FixedAttention.planning_allowed = False
        try:
            self.run()
        finally:
            FixedAttention.planning_allowed = True


class FakeBackend:
    def __init__(self, request: GraphRequest) -> None:
        self.request = request

    def capture(self, run: Callable[[], None]) -> FakeGraph:
        run()
        return FakeGraph(run)


class FixedAttention(Attention):
    """The reference, with its plan in arrays that keep their addresses."""

    planning_allowed = True

    def buffers(self, limits: AttentionLimits, device: torch.device) -> AttentionMetadata:
        pages = -(-limits.max_context // self.request.page_size)
        return AttentionMetadata(
            query_starts=np.zeros(limits.max_rows + 1, dtype=np.int32),
            context_lens=np.zeros(limits.max_rows, dtype=np.int32),
            page_table=np.zeros((limits.max_rows, pages), dtype=np.int32),
            slots=np.zeros(limits.max_tokens, dtype=np.int64),
            decodes=limits.max_rows,
            device_slots=torch.zeros(limits.max_tokens, dtype=torch.int64),
        )

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> AttentionMetadata:
        assert self.planning_allowed
        buffers.query_starts[:] = metadata.query_starts
        buffers.context_lens[:] = metadata.context_lens
        buffers.page_table[:, : metadata.page_table.shape[1]] = metadata.page_table
        return buffers


def graph_candidate() -> Candidate:
    return Candidate(
        op="graph",
        name="fake.graph",
        supports=lambda request: Support.yes(),
        load=lambda: FakeBackend,
    )


def test_a_captured_decode_step_replays_over_new_inputs():
    with LLM(
        "tiny-arithmetic", device="cpu", dtype="float32", load_format="dummy", num_pages=8
    ) as llm:
        runner = llm.engine.executor.runner
        request = GraphRequest(device=llm.plan.catalog.props, what="decode")
        backend = make(Resolver([graph_candidate()]).choose(request).candidate, request)
        kernel = FixedAttention(runner.kernels[0].request)
        for slot in runner.slots.values():
            slot.kernel = kernel
        limits = AttentionLimits(max_rows=1, max_tokens=1, max_context=64)
        plan = kernel.buffers(limits, torch.device("cpu"))
        token, position, slot = (torch.zeros(1, dtype=torch.int64) for _ in range(3))
        out = torch.zeros(1, llm.plan.config.hidden)

        def set_inputs(at: int, id: int) -> None:
            token[0], position[0], slot[0] = id, at, at
            metadata = AttentionMetadata(
                query_starts=np.array([0, 1], dtype=np.int32),
                context_lens=np.array([at + 1], dtype=np.int32),
                page_table=np.arange(4, dtype=np.int32)[None],
                slots=np.array([at]),
                decodes=1,
                device_slots=slot,
            )
            assert kernel.plan(metadata, plan) is plan

        def run() -> None:
            step = Step(tokens_T=token, positions_T=position, groups=[GroupStep(plan, slot)])
            out.copy_(runner.model.forward(step))

        with torch.inference_mode():
            set_inputs(0, 5)
            graph = backend.capture(run)
            replayed = []
            for at, id in enumerate((7, 8, 9), 1):
                set_inputs(at, id)
                graph.replay()
                replayed.append(out.clone())
            eager = []
            for at, id in enumerate((7, 8, 9), 1):
                set_inputs(at, id)
                run()
                eager.append(out.clone())
    assert all(torch.equal(a, b) for a, b in zip(replayed, eager, strict=True))
    assert not torch.equal(replayed[0], replayed[1])

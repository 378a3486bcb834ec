"""What `inferplane tune` measures: configurations of each kernel, and calls as large as in use.

Legend: T tokens, B rows, V vocabulary, H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    GroupKind,
    SampleInputs,
    SampleRequest,
)
from inferplane.spec.kv import standard_layout
from inferplane.spec.torch_types import torch_dtype

from . import activation as activation_kernel
from . import attention as attention_kernel
from . import defaults
from . import norm as norm_kernel
from . import sample as sample_kernel
from .defaults import Configuration
from .latent import LatentAttention
from .spaces import SPACES
from .tuned_files import FOLDER, file_name

_TOKENS = 4096
_DECODES, _CONTEXT, _PROMPT = 64, 4096, 4096
_ROWS = 64


class Tunable(ABC):
    """One op. See `inferplane.spec.Tunable`."""

    def __init__(self, op: str) -> None:
        self.op = op

    def cases(self, request: Any) -> Sequence[str]:
        return tuple(SPACES[self.op])

    def configurations(self, request: Any, case: str) -> Sequence[Configuration]:
        """The default, and all that differ from it in one or two parameters."""
        default = self.default(request, case)
        space = SPACES[self.op][case]
        every = (dict(zip(space, values, strict=True)) for values in product(*space.values()))
        near = [c for c in every if 0 < sum(c[name] != default[name] for name in space) <= 2]
        return [default, *near]

    def file(self, request: Any) -> Path:
        return FOLDER / file_name(request.device.name, self.op)

    @abstractmethod
    def default(self, request: Any, case: str) -> Configuration: ...

    @abstractmethod
    def call(
        self, request: Any, case: str, configuration: Mapping[str, int], device: torch.device
    ) -> Callable[[], object]: ...


class Norm(Tunable):
    """A prefill step of T tokens."""

    def default(self, request: Any, case: str) -> Configuration:
        return defaults.norm(request)

    def call(
        self, request: Any, case: str, configuration: Mapping[str, int], device: torch.device
    ) -> Callable[[], object]:
        dtype = torch_dtype(request.dtype)
        x = torch.randn(_TOKENS, request.size, device=device).to(dtype)
        weight = torch.ones(request.size, device=device, dtype=dtype)
        if self.op == "norm.rms":
            norm = norm_kernel.rms_norm(request, configuration)
            return lambda: norm(x, weight)
        residual, add_norm = torch.zeros_like(x), norm_kernel.add_rms_norm(request, configuration)
        return lambda: add_norm(x, residual, weight)


class Activation(Tunable):
    """A prefill step of T tokens."""

    def default(self, request: Any, case: str) -> Configuration:
        return defaults.activation(request)

    def call(
        self, request: Any, case: str, configuration: Mapping[str, int], device: torch.device
    ) -> Callable[[], object]:
        x = torch.randn(_TOKENS, 2 * request.size, device=device).to(torch_dtype(request.dtype))
        gated = activation_kernel.gated(request, configuration)
        return lambda: gated(x)


class Sample(Tunable):
    """Rows that draw, with top-k and top-p where the request has them."""

    def default(self, request: Any, case: str) -> Configuration:
        return defaults.sample(request)

    def call(
        self,
        request: SampleRequest,
        case: str,
        configuration: Mapping[str, int],
        device: torch.device,
    ) -> Callable[[], object]:
        logits = torch.randn(_ROWS, request.vocab, device=device) * 3
        inputs = SampleInputs()
        if "random" in request.requires:
            inputs.greedy_B = torch.zeros(_ROWS, dtype=torch.bool, device=device)
            inputs.temperature_B = torch.ones(_ROWS, device=device)
            inputs.seed_B2 = torch.arange(2 * _ROWS, device=device).view(-1, 2)
        if {"top_k", "top_p", "random"} <= request.requires:
            inputs.top_k_B = torch.full((_ROWS,), 50, dtype=torch.int32, device=device)
            inputs.top_p_B = torch.full((_ROWS,), 0.9, device=device)
        sample = sample_kernel.sample(request, configuration)
        return lambda: sample(logits, inputs)


class Attention(Tunable):
    """decode: B rows over a long context. prefill: one prompt. latent ...: the same of latent
    groups."""

    def cases(self, request: Any) -> Sequence[str]:
        of_latent = request.kind is GroupKind.LATENT
        return tuple(case for case in super().cases(request) if ("latent" in case) == of_latent)

    def default(self, request: Any, case: str) -> Configuration:
        if "latent" in case:
            return defaults.latent(request, case)
        return (defaults.decode if case == "decode" else defaults.prefill)(request)

    def call(
        self,
        request: AttentionRequest,
        case: str,
        configuration: Mapping[str, int],
        device: torch.device,
    ) -> Callable[[], object]:
        r, decoding = request, case.endswith("decode")
        rows, context = (_DECODES, _CONTEXT) if decoding else (1, _PROMPT)
        given: dict[str, Any] = {case.removeprefix("latent "): configuration}
        kernel: Any = (LatentAttention if "latent" in case else attention_kernel.Attention)(
            r, **given
        )
        counts = np.full(rows, 1 if decoding else context)
        tokens, width = int(counts.sum()), -(-context // r.page_size)
        limits = AttentionLimits(max_rows=rows, max_tokens=tokens, max_context=context)
        pages = np.random.default_rng(0).permutation(rows * width).astype(np.int32)
        metadata = AttentionMetadata(
            query_starts=np.cumsum([0, *counts]).astype(np.int32),
            context_lens=np.full(rows, context, np.int32),
            page_table=pages.reshape(rows, width),
            slots=np.zeros(tokens, np.int64),
            decodes=rows if decoding else 0,
            device_slots=torch.zeros(tokens, dtype=torch.int64, device=device),
        )
        plan = kernel.plan(metadata, kernel.buffers(limits, device))
        dtype = torch_dtype(r.dtype)
        shape = rows * width, *standard_layout(r).shape
        cache = torch.randn(shape, device=device, dtype=dtype).to(torch_dtype(r.kv_dtype))
        q = torch.randn(tokens, r.heads, r.head_dim, device=device, dtype=dtype)
        out, kv = torch.empty_like(q[..., : r.out_dim]), q[:, : r.kv_heads]
        sinks = torch.zeros(r.heads, device=device, dtype=dtype) if r.sinks else None
        scales = torch.ones(2, device=device) if r.kv_scales else None
        return lambda: kernel.run(q, kv, kv, cache, plan, out, sinks, scales)


norm_rms, norm_add_rms = Norm("norm.rms"), Norm("norm.add_rms")
activation = Activation("activation.gated")
sample = Sample("sample")
attention = latent_attention = Attention("attention")

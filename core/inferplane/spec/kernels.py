"""Shapes of the callables that candidates load. `OPS` says which op uses which.

Legend: T tokens, C input features, N output features, H query heads, K kv heads, D head size,
R rotary size, V vocabulary, B rows that sample. All calls queue work on the current stream and do
not synchronise; results are allocated by the kernel unless an argument is said to be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .sampling import SampleInputs, SampleOutput
from .step import AttentionSlot, Step
from .weights import Packed, WeightSource

if TYPE_CHECKING:
    import torch


class LinearKernel(Protocol):
    """op "linear". Owns the packed form of its weight."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads "weight" [N, C] and, if the request says so, "bias" [N]. Called once."""

    def __call__(
        self, x_TC: torch.Tensor, packed: Packed, adapters_T: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[T, N] in the request's dtype. `x_TC` is contiguous and is not written.

        adapters_T: int32, each token's adapter slot, -1 for none; given only where the request has
        adapters, so a kernel without that feature may leave the argument out.
        """


class Dumpable(Protocol):
    """(optional) For kernels whose `prepare` is slow: its result can be kept and read back."""

    def dump(self, packed: Packed) -> Mapping[str, torch.Tensor]:
        """Dense tensors that `restore` takes. Names are the kernel's own."""

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> Packed:
        """What `prepare` gave, on the device of the tensors."""


class EmbeddingKernel(Protocol):
    """op "embedding"."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads "weight" [V, C]."""

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        """ids int64 [T], or int32 on devices without `int64_index` -> [T, C]."""


class RotaryKernel(Protocol):
    """op "rotary"."""

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> Any:
        """Once a step. table fp32 [max_positions, R] (cosines, then sines, R/2 each);
        positions int64 [T] (int32 without `int64_index`). Gives what `__call__` wants; may be just
        the positions."""

    def __call__(self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: Any) -> None:
        """Writes q and k in place. They may be strided views; the last axis is contiguous."""


class KVWriteKernel(Protocol):
    """op "kv.write"."""

    def __call__(
        self,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: Any,
        slots_T: torch.Tensor,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        """Writes token t's key and value to slot slots_T[t] = page * P + offset. A slot of -1 is
        skipped (padding). slots int64, or int32 on devices without `int64_index`. kv_scales: fp32
        [2], given only where the request has them."""


class AttentionInputKernel(Protocol):
    """op "attention.input": q/k norm, rotary and KV write of one layer."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads child "q_norm" and "k_norm" ("weight" [D]) if the request has `qk_norm`."""

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> Any:
        """As `RotaryKernel.step`."""

    def __call__(
        self, qkv_TX: torch.Tensor, cache: Any, slots_T: torch.Tensor, state: Any, packed: Packed
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """qkv [T, (H + 2K) * D], may be written -> q [T, H, D], k and v [T, K, D]."""


class BlockKernel(Protocol):
    """op "mlp.block"; with `step` and `slot` after `x`, op "attention.block"."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads the children of the reference composition by name. The block owns the reductions
        that its requests' sharding asks for."""

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor: ...


class LayerKernel(Protocol):
    """op "layer": a whole decoder layer, in place of its reference composition."""

    def prepare(self, source: WeightSource) -> Packed: ...

    def __call__(
        self,
        x_TC: torch.Tensor,
        residual_TC: torch.Tensor | None,
        step: Step,
        slot: AttentionSlot,
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """residual is None for the first layer. The layer writes its keys and values, and reads
        them through `slot.kernel`."""


class HeadsLinearKernel(Protocol):
    """op "linear.heads": a matrix of its own for every head."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads "weight" [H, N, C]: y[t, h] = weight[h] @ x[t, h]."""

    def __call__(self, x_THC: torch.Tensor, packed: Packed) -> torch.Tensor:
        """[T, H, N] in the request's dtype. `x_THC` may be a strided view; it is not written."""


class RoutingKernel(Protocol):
    """op "moe.route". Legend: X experts, E experts a token (top_k, and those that all meet)."""

    def __call__(
        self, logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(weights fp32 [T, E], experts int32 [T, E]), best first. bias: fp32 [X], given where the
        request has one. Scores are computed in fp32. Inputs are not written."""


class ExpertsKernel(Protocol):
    """op "moe.experts". Legend: X experts, E experts a token, I intermediate size."""

    def prepare(self, source: WeightSource) -> Packed:
        """Reads "gate_up.weight" [X, 2I, C] (gate's rows, then up's) and "down.weight" [X, C, I];
        with a scheme "gate_up.scale", "down.scale" and so on, as `spec.quant` lists them with X in
        front (a "tensor" granularity gives [X, 2] and [X, 1]); with bias "gate_up.bias" [X, 2I] and
        "down.bias" [X, C]. Called once."""

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        """[T, C] in the request's dtype: the sum over a token's experts of weight * MLP(x). weights
        fp32, experts int32; an expert of -1 is another rank's, and adds nothing. `x_TC` is
        contiguous and is not written."""


class SampleKernel(Protocol):
    """op "sample"."""

    def __call__(self, logits_BV: torch.Tensor, inputs: SampleInputs) -> SampleOutput:
        """logits fp32 [B, V]; the kernel may write to them. Ties go to the lowest token id."""

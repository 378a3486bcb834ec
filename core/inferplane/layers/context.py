"""What a builder needs to know, and where it finds weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferplane.plugins.resolution import Resolution
from inferplane.plugins.site import Site
from inferplane.spec import (
    UNQUANTIZED,
    AttentionRequest,
    DeviceProps,
    KVLayout,
    Mesh,
    QuantScheme,
    WeightSource,
)

from .groups import Groups
from .rotary import Rope
from .trial import trial

if TYPE_CHECKING:
    import torch


@dataclass
class BuildContext:
    """Shared by all builders of one model.

    Recording needs the first part. Building needs `resolution`, `source` and `device` too.
    layout_of: the KV layout that the chosen attention kernel publishes for a request.
    scheme_of: of a module's weight, by its path in the checkpoint, its number of inputs, and
    whether it must not be quantized while loading.
    fuse_shared_experts: compute shared experts as further experts of the grouped kernel.
    kv_scales: names in the checkpoint of the scales of cached keys and values, by the path of an
    attention module; None where it has none.
    """

    props: DeviceProps
    dtype: str
    kv_dtype: str
    page_size: int
    layout_of: Callable[[AttentionRequest], KVLayout]
    mesh: Mesh = field(default_factory=Mesh)
    max_positions: int = 0
    scheme_of: Callable[[str, int, bool], QuantScheme] = lambda module, inputs, plain: UNQUANTIZED
    fuse_shared_experts: bool = False
    kv_scales: Callable[[str], tuple[str, str] | None] = lambda module: None
    # building
    resolution: Resolution | None = None
    source: Callable[[Site], WeightSource] | None = None
    device: torch.device | None = None
    groups: Groups = field(default_factory=Groups)
    rotary_states: list[tuple[Any, Any]] = field(default_factory=list)
    ropes: dict[str, Rope] = field(default_factory=dict)
    rotary_index: dict[Any, int] = field(default_factory=dict)
    kernels: dict[Any, Any] = field(default_factory=dict)
    tried: set[tuple[str, Any]] = field(default_factory=set)
    packed_bytes: int = 0

    def trial(self, candidate: Any, request: Any, kernel: Any, packed: Any = None) -> None:
        """Calls a kernel once a distinct request, and raises KernelFailed if that goes wrong."""
        key = candidate.name, request
        if self.device is not None and key not in self.tried:
            self.tried.add(key)
            trial(candidate, request, kernel, self.device, packed)

    @property
    def building(self) -> bool:
        return self.resolution is not None

"""A candidate: one kernel that offers itself for one op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .device import Execution
from .kv import KVLayout
from .support import Support

Level = Literal["op", "block", "layer", "model"]
Capture = Literal["none", "decode", "all"]
Packing = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kernel for one op.

    Required:
      op: a key of `OPS`. name: "<plugin>.<kernel>", unique.
      supports: `supports(request) -> Support`. Pure: data in, data out, no torch, no vendor import,
        no device. It must give the same answer every time.
      load: "module:attribute", or a callable without arguments. Loading may import the vendor
        library. It gives a factory: `factory(request) -> kernel`, the callable of `OPS`.
    (optional):
      level: "op" < "block" < "layer" < "model": the larger wins when both support a request.
      features: the non-default semantics that the kernel handles (see `Request.requires`).
      priority: the larger wins within a level. `Support.priority` replaces it for one request.
      token_breaks: token counts at which the answer may change; (16,) gives ranges 1-16 and 17+.
      packing: candidates of one op with the same packing share prepared weights; "" is its own.
      extra_bytes: bytes of packed weights beyond the checkpoint's, for one request.
      capture: which steps a graph may record this kernel in.
      layout: (attention and blocks that contain it) the KV layout; default `standard_layout`.
      page_sizes: (same) page sizes in tokens, best first; empty means any.
      tunable: "module:attribute" of a `Tunable`: its configurations can be measured.
      execution: how this kernel runs here, where that differs from the device: "interpreted" for
        one whose code an interpreter runs on the host.
    """

    op: str
    name: str
    supports: Callable[[Any], Support]
    load: str | Callable[[], Any]
    level: Level = "op"
    features: frozenset[str] = frozenset()
    priority: int = 0
    token_breaks: tuple[int, ...] = ()
    packing: Packing = ""
    extra_bytes: Callable[[Any], int] | None = None
    capture: Capture = "all"
    layout: Callable[[Any], KVLayout] | None = None
    page_sizes: tuple[int, ...] = ()
    execution: Execution = "device"
    tunable: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", frozenset(self.features))
        object.__setattr__(self, "token_breaks", tuple(sorted(self.token_breaks)))
        if "." not in self.name:
            raise ValueError(f"candidate name {self.name!r} must be '<plugin>.<kernel>'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingProposal:
    """A change to the effective settings that a platform asks for. Users' own values win.

    key: the setting's name. value: what to use. reason: why, for `explain`.
    """

    key: str
    value: Any
    reason: str

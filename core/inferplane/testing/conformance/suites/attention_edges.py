"""Edge batches and edge requests of attention, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferplane.spec import GroupKind

Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Edge:
    """rows: (tokens before, new tokens), decodes first. fields: of the request."""

    rows: Rows
    style: str = "runs"
    fields: dict[str, Any] = field(default_factory=dict)


def rows_of(page: int) -> dict[str, Edge]:
    """Batches at the edges of pages of this size, and of windows."""
    mixed: Rows = ((page + 1, 1), (3, 1), (0, 9), (page - 1, page + 2))
    return {
        "first-token": Edge(((0, 1),)),
        "second-token": Edge(((1, 1),)),
        "decode-page-minus-one": Edge(((page - 2, 1),)),
        "decode-full-page": Edge(((page - 1, 1),)),
        "decode-page-plus-one": Edge(((page, 1),)),
        "empty-prefix": Edge(((0, 7),)),
        "prefill-page-minus-one": Edge(((0, page - 1),)),
        "prefill-full-page": Edge(((0, page),)),
        "prefill-page-plus-one": Edge(((0, page + 1),)),
        "prefix-of-a-page": Edge(((page, 5),)),
        "prefix-inside-a-page": Edge(((page + 3, page),)),
        "mixed": Edge(mixed),
        "mixed-scattered": Edge(mixed, "scattered"),
        "shared-prefix": Edge(((2 * page + 3, 1), (2 * page, 1), (2 * page + 1, 6)), "shared"),
        "many-decodes": Edge(tuple((7 * i % (2 * page), 1) for i in range(17)), "scattered"),
        "long-context": Edge(((7 * page + 3, 1), (5 * page - 1, 2)), "scattered"),
        "window-of-one": Edge(mixed, fields={"window": 1}),
        "window-of-a-page": Edge(
            ((3 * page, 1), (page - 1, 1), (0, 2 * page)), "scattered", {"window": page}
        ),
        "window-page-plus-one": Edge(
            ((3 * page, 1), (page, 1), (page, page + 5)), "scattered", {"window": page + 1}
        ),
        "window-shorter-than-prompt": Edge(((0, 2 * page + 5),), fields={"window": 6}),
        "window-longer-than-prompt": Edge(((0, 9), (4, 3)), fields={"window": 4 * page}),
        "window-as-long-as-context": Edge(((20, 1), (21, 1), (22, 1)), fields={"window": 22}),
        "window-sinks": Edge(mixed, "scattered", {"window": page, "sinks": True}),
    }


LATENT: dict[str, Any] = {"kind": GroupKind.LATENT, "heads": 4, "kv_heads": 1}
"""One vector a token: all of it is the key, its first part the value."""

LATENT_SIZES = {64: (96, 64), 128: (128, 96), 96: (576, 512), 32: (32, 32), 256: (192, 128)}
"""By the head size of a base: of the vector, and of the value."""

REQUESTS: dict[str, dict[str, Any]] = {
    "one-head": {"heads": 1, "kv_heads": 1},
    "no-groups": {"heads": 4, "kv_heads": 4},
    "groups-of-four": {"heads": 8, "kv_heads": 2},
    "one-kv-head": {"heads": 7, "kv_heads": 1},
    "groups-of-three": {"heads": 6, "kv_heads": 2},
    "head-size-16": {"head_dim": 16},
    "head-size-80": {"head_dim": 80},
    "head-size-96": {"head_dim": 96},
    "head-size-128": {"head_dim": 128},
    "head-size-256": {"head_dim": 256, "heads": 2, "kv_heads": 1},
    "other-scale": {"scale": 0.3},
    "softcap": {"softcap": 2.0},
    "sinks": {"sinks": True},
    "sinks-softcap": {"sinks": True, "softcap": 3.0},
    "not-causal": {"causal": False},
    "other-kv-dtype": {"kv_dtype": "other"},
    "kv-scales": {"kv_dtype": "fp8", "kv_scales": True},
    "latent": LATENT,
    "latent-one-head": LATENT | {"heads": 1},
    "latent-wide": LATENT | {"heads": 16, "head_dim": 576, "value_dim": 512},
    "latent-no-rotary-part": LATENT | {"head_dim": 64, "value_dim": 64},
    "latent-other-kv-dtype": LATENT | {"kv_dtype": "other"},
    "latent-sinks": LATENT | {"sinks": True},
    "latent-kv-scales": LATENT | {"kv_dtype": "fp8", "kv_scales": True},
}
"""Requests, each over one batch of prefill and decode."""

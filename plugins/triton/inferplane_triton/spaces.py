"""What can be tuned: op -> case -> parameter -> the values that it may have. No torch.

A case is a way in which the op is used that has its own best configuration; "" is the only one.
"""

from __future__ import annotations

Space = dict[str, tuple[int, ...]]

_WARPS = (1, 2, 4, 8, 16)
_NORM: dict[str, Space] = {"": {"rows": (1, 2, 4, 8), "warps": _WARPS}}
_FEW: Space = {
    "block_n": (16, 32, 64, 128),
    "block_k": (32, 64, 128, 256),
    "warps": (2, 4, 8),
    "stages": (1, 2, 3, 4, 5),
}
_MANY: Space = {
    "block_m": (16, 32, 64, 128),
    "block_n": (32, 64, 128, 256),
    "block_k": (32, 64, 128),
    "warps": (4, 8),
    "stages": (1, 2, 3, 4),
    "abreast": (1, 4, 8),
}
_LATENT: Space = {
    "rows": (16, 32, 64, 128),
    "keys": (16, 32, 64),
    "warps": (4, 8),
    "stages": (1, 2, 3),
}

SPACES: dict[str, dict[str, Space]] = {
    "norm.rms": _NORM,
    "norm.add_rms": _NORM,
    "activation.gated": {"": {"block": (64, 128, 256, 512, 1024, 2048), "warps": _WARPS}},
    "sample": {"": {"block": (64, 128, 256, 512, 1024, 2048, 4096, 8192), "warps": _WARPS}},
    "linear": {"decode": _FEW | {"waves": (0, 1, 2, 4)}, "prefill": _MANY},
    "moe.experts": {"decode": _FEW, "prefill": _MANY},
    "attention": {
        "decode": {
            "keys": (16, 32, 64, 128),
            "warps": (1, 2, 4, 8),
            "stages": (1, 2, 3, 4),
            "waves": (1, 2, 4, 8),
        },
        "prefill": {
            "queries": (16, 32, 64, 128),
            "keys": (16, 32, 64, 128),
            "warps": (2, 4, 8),
            "stages": (1, 2, 3, 4),
        },
        "latent decode": _LATENT | {"waves": (1, 2, 4)},
        "latent prefill": _LATENT,
    },
}

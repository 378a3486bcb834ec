"""The compiled library and its calls."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch  # noqa: F401  its OpenMP library must be loaded before ours

from .build import build

_P, _N, _F, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int

_CALLS: dict[str, tuple[Any, ...]] = {
    "ip_multiply": (_P, _P, _P, _N, _I),
    "ip_pack": (_P, _P, _P, _N),
    "ip_experts": (*(_P,) * 6, _N, _N, _N, _I, _F, _I),
    "ip_route": (_P, _P, _P, _P, _P, _N, _I),
    "ip_huge_pages": (_P, _N),
    "ip_norm": (_P, _P, _P, _N, _N, _F, _I),
    "ip_add_norm": (_P, _P, _P, _P, _N, _N, _F, _I),
    "ip_silu": (_P, _P, _N, _N, _I),
    "ip_attention_input": (_P, _P, _P, _P, _P, _P, _P, _N, _N, _N, _N, _F, _I),
    "ip_decode": (_P, _N, *(_P,) * 8, *(_N,) * 7, _F, _I),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Raises RuntimeError with the reason where the kernels could not be built."""
    built = build()
    if built.path is None:
        raise RuntimeError(f"the CPU's compiled kernels are not there: {built.reason}")
    loaded = ctypes.CDLL(str(built.path))
    for name, arguments in _CALLS.items():
        call = getattr(loaded, name, None)
        if call is not None:  # some are compiled only where the processor has their instructions
            call.argtypes, call.restype = arguments, None
    return loaded

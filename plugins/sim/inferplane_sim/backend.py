"""Makes torch know the device type "sim". Once a process, and only when it is used."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from . import dispatch
from .module import SimModule

_WHOLE = (
    "copy_.default",
    "_local_scalar_dense.default",
    "lift_fresh.default",
    "arange.default",
    "arange.start",
    "arange.start_step",
    "linspace.default",
    "logspace.default",
    "eye.default",
    "eye.m",
    "randperm.default",
    "randperm.generator",
)
"""Ops that torch computes by parts for any device, some by resizing an empty output: here they
reach the device whole."""


class _Backend:
    """The registrations. They end with the object, so it is kept."""

    made: _Backend | None = None

    def __init__(self) -> None:
        _setup_privateuseone_for_python_backend("sim", backend_module=SimModule("sim"))
        self.fallback = torch.library.Library("_", "IMPL")
        self.fallback.fallback(lambda op, *a, **k: dispatch.call(op, a, k), "PrivateUse1")
        self.fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        self.aten = torch.library.Library("aten", "IMPL")
        for name in _WHOLE:
            packet, overload = name.split(".")
            op = getattr(getattr(torch.ops.aten, packet), overload)
            self.aten.impl(op, _forward(op), "PrivateUse1")


def _forward(op: Any) -> Any:
    return lambda *args, **kwargs: dispatch.call(op, args, kwargs)


def install() -> None:
    """Idempotent."""
    if _Backend.made is None:
        _Backend.made = _Backend()

"""What the simulated device raises. Imported when the device is used, since it needs torch.

None is a TypeError: Python would take that from an operator as "not for these operands".
"""

from __future__ import annotations

import torch


class SimOutOfMemory(torch.OutOfMemoryError):
    """An allocation did not fit. The message has the bytes asked for, free and in all."""


class SimKernelError(RuntimeError):
    """A kernel failed. Raised by what synchronised with it, as on a real device."""


class SimDeviceLost(RuntimeError):
    """The device is gone: every later call on it raises this, until a new process."""


class SimCaptureError(RuntimeError):
    """A call that is not allowed while a graph is captured."""


class SimIndexError(RuntimeError):
    """A 64-bit index on a device that has 32-bit indices only."""


class SimDtypeError(RuntimeError):
    """An op on a dtype that the device does not compute with."""

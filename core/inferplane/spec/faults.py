"""What went wrong on a device, in the few kinds that an engine treats differently."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Kinds of device errors. `Device.fault` sorts an exception into one of them.

    MEMORY: an allocation did not fit; the device and all earlier allocations are sound.
    KERNEL: a call failed; the results of the step are lost, the device works on.
    LOST: the device is gone or its state is unknown; the process that holds it must end.
    """

    MEMORY = "memory"
    KERNEL = "kernel"
    LOST = "lost"

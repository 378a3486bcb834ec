"""Between host and device, without waiting where the device has events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from inferplane.spec import Device
from inferplane.spec.torch_types import index_dtype


class Transfers:
    """Copies of one device. Host memory is page-locked by `Device.pin`, which keeps it until the
    copy is done.

    overlaps: copies and kernels run behind the host, and an event tells when they are done.
    """

    def __init__(self, device: Device, overlap: bool = False) -> None:
        self.device, self.target = device, device.torch_device
        self.on_host = self.target.type == "cpu"
        self.index = index_dtype(device.props)
        self.overlaps = overlap and not self.on_host and device.event() is not None

    def send(self, data: np.ndarray | torch.Tensor) -> torch.Tensor:
        """A host array on the device. It is not written afterwards."""
        tensor = torch.from_numpy(data) if isinstance(data, np.ndarray) else data
        if self.on_host:
            return tensor
        return self.device.pin(tensor).to(self.target, non_blocking=True)

    def read(self, tensors: Sequence[torch.Tensor | None]) -> Reading:
        """Begins to copy results to the host."""
        return Reading(self, tensors)


class Reading:
    """Results on their way to the host. `get` waits for them once."""

    def __init__(self, transfers: Transfers, tensors: Sequence[torch.Tensor | None]) -> None:
        self._event = None
        if not transfers.overlaps:
            self._found = [None if t is None else t.cpu() for t in tensors]
            if all(t is None for t in tensors):  # else an error would show in a later step
                transfers.device.synchronize()
            return
        self._kept = tensors  # until they are copied
        self._found = [None if t is None else self._begin(transfers, t) for t in tensors]
        self._event = transfers.device.event()
        assert self._event is not None
        self._event.record()

    @staticmethod
    def _begin(transfers: Transfers, tensor: torch.Tensor) -> torch.Tensor:
        room = transfers.device.pin(torch.empty(tensor.shape, dtype=tensor.dtype))
        return room.copy_(tensor, non_blocking=True)

    def get(self) -> list[torch.Tensor | None]:
        """The tensors on the host. Raises what a kernel before them raised."""
        if self._event is not None:
            self._event.synchronize()
            self._event, self._kept = None, ()
        return self._found

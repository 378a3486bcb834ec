"""A device: what it can do (data), and how to drive it (a class with working defaults)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from .faults import Fault

if TYPE_CHECKING:
    import torch

Execution = Literal["device", "interpreted", "emulated"]
"""How code runs: on the real device; interpreted on the host; or on an emulation of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProps:
    """What a device is and can do. Hashable data: requests carry it, so planning needs no device.

    Required:
      name: the product's name, for people. profile: a short name for `--target`.
      memory_bytes: memory of the device, in bytes.
      dtypes: names (see `DTYPE_BITS`) that it can compute with.
    (optional):
      capabilities: semantic words such as `fp8_e4m3_gemm`, `fp8_e4m3_convert` (kernels may load
        and store it), `int64_index` (tensors that index others may be int64; without it they are
        int32), `graph_capture`, `unified_memory`, `events`, `triton` (Triton is installed, and
        compiles for the device). Never an architecture number.
      page_sizes: KV page sizes in tokens, best first; empty means any.
      index: position among the visible devices. cores: compute units, 0 when unknown.
      details: anything that only the vendor's own candidates read, as (key, value) pairs; and
        `shared_memory_bytes`, the memory that one program of a kernel may share on chip.
      execution: anything but "device" where there is no such hardware: what was verified there is
        never presented as verified on the device (levels V2i and V2e instead of V3).
    """

    name: str
    profile: str
    memory_bytes: int
    dtypes: frozenset[str]
    capabilities: frozenset[str] = frozenset()
    page_sizes: tuple[int, ...] = ()
    index: int = 0
    cores: int = 0
    details: tuple[tuple[str, str], ...] = ()
    execution: Execution = "device"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtypes", frozenset(self.dtypes))
        object.__setattr__(self, "capabilities", frozenset(self.capabilities))
        object.__setattr__(self, "page_sizes", tuple(self.page_sizes))
        object.__setattr__(self, "details", tuple(self.details))

    def at(self, index: int) -> DeviceProps:
        """The same device at another position."""
        return replace(self, index=index)

    def detail(self, key: str, default: str = "") -> str:
        """The value of a vendor's own detail, or `default`."""
        return dict(self.details).get(key, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInfo:
    """Device memory now, in bytes.

    free_bytes, total_bytes: as the source tells. source: the call or file that told, for people.
    unified: the device shares the host's memory, so the free bytes are the host's too.
    used_by_us_bytes: (optional) what this process holds, -1 when unknown.
    """

    free_bytes: int
    total_bytes: int
    source: str
    unified: bool = False
    used_by_us_bytes: int = -1

    def checked_by(self, other: MemoryInfo | str, margin_bytes: int = 1 << 30) -> MemoryInfo:
        """The same memory, with what a second source says: its figures, or why it has none.

        Where the free bytes differ by more than the margin (what a driver keeps to itself), the
        smaller figure counts, and `source` tells both.
        """
        if isinstance(other, str):
            return replace(self, source=f"{self.source} ({other})")
        mine, theirs = self.free_bytes, other.free_bytes
        if abs(mine - theirs) <= margin_bytes:
            return replace(self, source=f"{self.source}, as {other.source}")
        told = " and ".join(
            f"{info.source} ({info.free_bytes / 2**30:.1f} GiB free)" for info in (self, other)
        )
        return replace(self, free_bytes=min(mine, theirs), source=f"{told} disagree: the smaller")


class Stream(Protocol):
    """An ordered queue of device work."""

    def synchronize(self) -> None: ...


class Event(Protocol):
    """A mark in a stream. `record` puts it there, `query` tells if it was passed."""

    def record(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool: ...


@dataclass
class Device:
    """Drives one device. Every method has a default over torch's own device modules.

    torch_type: torch's name of the device type. props: what `probe` found.
    Override only what differs. No method may be called before `activate`.
    (optional) memory_codes, lost_codes: codes of the vendor's runtime that mean `Fault.MEMORY`
    and `Fault.LOST`. lost_words: parts of messages that mean `Fault.LOST`.
    """

    memory_codes: ClassVar[frozenset[int]] = frozenset()
    lost_codes: ClassVar[frozenset[int]] = frozenset()
    lost_words: ClassVar[tuple[str, ...]] = ()

    torch_type: str
    props: DeviceProps

    @property
    def torch_device(self) -> torch.device:
        import torch

        if self.torch_type == "cpu":
            return torch.device("cpu")
        return torch.device(self.torch_type, self.props.index)

    def _module(self) -> Any:
        import torch

        return torch.get_device_module(self.torch_type)

    def activate(self) -> None:
        """(optional) Makes this the current device of the calling thread."""
        if self.torch_type != "cpu":
            self._module().set_device(self.props.index)

    def synchronize(self) -> None:
        """(optional) Blocks until all work queued on the device is done."""
        if self.torch_type != "cpu":
            self._module().synchronize(self.props.index)

    def stream(self) -> Stream | None:
        """(optional) A new stream; None where the device has none and works in call order."""
        return None if self.torch_type == "cpu" else self._module().Stream()

    def event(self) -> Event | None:
        """(optional) A new event; None where work is done when the call returns."""
        return None if self.torch_type == "cpu" else self._module().Event()

    def seed(self, seed: int) -> None:
        """(optional) Seeds torch's generator of this device. Sampling does not use it."""
        import torch

        torch.manual_seed(seed)

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """(optional) A page-locked copy of a host tensor, or the tensor itself."""
        return tensor if self.torch_type == "cpu" else tensor.pin_memory()

    def fault(self, error: BaseException) -> Fault:
        """(optional) What kind of error a kernel or an allocation raised. Must not use the device.

        Default: torch's own out-of-memory error is MEMORY; then `memory_codes` and `lost_codes` of
        the class, by `torch.AcceleratorError.error_code`, and `lost_words` in the text of any
        error; all else is KERNEL.
        """
        import torch

        code = getattr(error, "error_code", None)
        if isinstance(error, torch.OutOfMemoryError) or code in self.memory_codes:
            return Fault.MEMORY
        text = str(error)
        lost = code in self.lost_codes or any(words in text for words in self.lost_words)
        return Fault.LOST if lost else Fault.KERNEL

    def empty_cache(self) -> None:
        """(optional) Gives memory that the allocator holds but does not use back to the device."""
        if self.torch_type != "cpu":
            self._module().empty_cache()

    def reset_peak(self) -> None:
        """(optional) Starts a new measurement of peak memory."""
        if self.torch_type != "cpu":
            self._module().reset_peak_memory_stats(self.props.index)

    def peak_bytes(self) -> int:
        """(optional) Most bytes allocated since `reset_peak`; -1 when unknown."""
        if self.torch_type == "cpu":
            return -1
        return int(self._module().max_memory_allocated(self.props.index))

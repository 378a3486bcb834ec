"""The device under test: its platform, its offers, and how tensors get there and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import Plugin, discover
from inferplane.plugins.resolution import is_reference
from inferplane.plugins.selection import Selection, select
from inferplane.settings import load_settings
from inferplane.spec import Candidate, Device, DeviceProps

if TYPE_CHECKING:
    import torch

FLOATS = ("fp32", "bf16", "fp16")
LEVELS = ("V0", "V1", "V2i", "V2e", "V3")
HOST = DeviceProps(
    name="the oracle",
    profile="oracle",
    memory_bytes=0,
    dtypes=frozenset({"fp64"}),
    capabilities=frozenset({"int64_index"}),
)
"""What oracles run on, whatever the device under test is."""
_REACHED = {"interpreted": "V2i", "emulated": "V2e", "device": "V3"}


@dataclass
class Target:
    """What is tested. data_only: no device is touched, so only answers can be checked (V0).

    installed: other processes find the same plugins. inputs_on_host: kernels get host tensors, to
    see what they make of them.
    """

    plugins: list[Plugin]
    selection: Selection
    catalog: Catalog
    data_only: bool = False
    installed: bool = True
    inputs_on_host: bool = False
    _device: Device | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        device: str,
        profile: str | None = None,
        data_only: bool = False,
        plugins: Sequence[Plugin] | None = None,
    ) -> Target:
        """Raises PluginError as `select` does. With data_only, a platform whose device is not here
        is taken with its first profile. plugins: default, those that the settings allow."""
        if plugins is None:
            found = discover(load_settings({})[0].plugins)
        else:
            found = list(plugins)
        if data_only and profile is None:
            profile = _first_profile(found, device)
        selection = select(found, device, profile)
        catalog = Catalog(found, selection)
        return cls(found, selection, catalog, data_only or selection.planning, plugins is None)

    @property
    def name(self) -> str:
        return self.selection.platform.name

    @property
    def props(self) -> DeviceProps:
        return self.catalog.props

    @property
    def floats(self) -> tuple[str, ...]:
        """Float types that the device computes in, widest first."""
        return tuple(d for d in FLOATS if d in self.props.dtypes)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Float types that it does not have: a request for one is refused, or served right."""
        return tuple(d for d in (*FLOATS, "fp64") if d not in self.props.dtypes)

    def level(self, candidate: Candidate | None = None) -> str:
        """The highest level that a run here can prove."""
        if self.data_only:
            return "V0"
        kinds = [self.props.execution, candidate.execution if candidate else "device"]
        return min((_REACHED[kind] for kind in kinds), key=LEVELS.index)

    def offers(self, op: str = "", named: str = "") -> Iterator[Candidate]:
        """Candidates under test. Reference kernels are, only where `named` names one."""
        for candidate in self.catalog.candidates:
            if op and candidate.op != op:
                continue
            if named == candidate.name or (not named and not is_reference(candidate)):
                yield candidate

    @property
    def device(self) -> Device:
        """The driver, activated once."""
        if self._device is None:
            assert not self.data_only
            self._device = self.catalog.device()
            self._device.activate()
        return self._device

    @property
    def asynchronous(self) -> bool:
        """Whether work is queued, so that a kernel could wait for it where it must not."""
        if self.device.torch_type != "cpu":
            return True
        return self.device.stream() is not None or self.device.event() is not None

    @property
    def torch_device(self) -> torch.device:
        return self.device.torch_device

    def put(self, host: torch.Tensor) -> torch.Tensor:
        """A copy on the device."""
        return host.clone() if self.torch_device.type == "cpu" else host.to(self.torch_device)

    def index_type(self) -> torch.dtype:
        """Of token ids, positions and slots: int32 where the device has no 64-bit indices."""
        import torch

        return torch.int64 if self.wide_indices else torch.int32

    @property
    def wide_indices(self) -> bool:
        return "int64_index" in self.props.capabilities

    def index(self, host: Any) -> torch.Tensor:
        """An index tensor on the device, from a host array or tensor."""
        import torch

        return self.put(torch.as_tensor(host).to(self.index_type()))


def _first_profile(plugins: list[Plugin], device: str) -> str | None:
    name = device.partition(":")[0]
    for plugin in plugins:
        if plugin.ready and plugin.platform and plugin.platform.name == name:
            profiles = plugin.platform.profiles
            return profiles[0].profile if profiles else None
    return None

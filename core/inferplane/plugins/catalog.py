"""What the chosen platform and the feature plugins offer, collected once at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferplane.spec import (
    OPS,
    Candidate,
    Device,
    DeviceProps,
    MemoryInfo,
    ModelSpec,
    SettingProposal,
)

from .discovery import Plugin
from .errors import BadHook, PluginError
from .selection import Selection

CANDIDATE_HOOKS = (
    "inferplane_ops",
    "inferplane_attention",
    "inferplane_moe",
    "inferplane_quantization",
    "inferplane_communicator",
    "inferplane_graphs",
    "inferplane_transfer",
    "inferplane_blocks",
)


class Catalog:
    """The offers for one device. warnings: feature plugins that could not be asked, and why."""

    def __init__(self, plugins: Sequence[Plugin], selection: Selection) -> None:
        self.selection = selection
        self.props: DeviceProps = selection.props
        self.warnings: list[str] = [f"{p.label}: {w}" for p in plugins for w in p.warnings]
        self.plugins = [selection.plugin, *_features(plugins, selection.platform.name)]
        self.candidates = self._collect()

    def _collect(self) -> list[Candidate]:
        found: list[Candidate] = []
        owners: dict[tuple[str, str], Plugin] = {}
        for plugin in self.plugins:
            try:
                offered = [c for hook in CANDIDATE_HOOKS for c in self._offers(plugin, hook)]
                for candidate in offered:
                    other = owners.setdefault((candidate.op, candidate.name), plugin)
                    if other is not plugin or offered.count(candidate) > 1:
                        raise BadHook(
                            f"{plugin.label} offers {candidate.op} {candidate.name}, which "
                            f"{other.label} offers already"
                        )
            except PluginError as error:
                if plugin is self.selection.plugin:
                    raise
                self.warnings.append(str(error))
                continue
            found += offered
        return found

    def _offers(self, plugin: Plugin, hook: str) -> list[Candidate]:
        offered = plugin.call(hook, props=self.props) or []
        for candidate in offered:
            if not isinstance(candidate, Candidate):
                raise BadHook(
                    f"{plugin.label}: {hook} gave {type(candidate).__name__}, not Candidate"
                )
            if candidate.op not in OPS:
                raise BadHook(
                    f"{plugin.label}: {candidate.name} is for {candidate.op!r}, not an op"
                )
        return list(offered)

    def device(self) -> Device:
        """The driver of the device: the platform's, or the default over torch's modules."""
        device = self.selection.plugin.call("inferplane_device", props=self.props)
        return device or Device(self.selection.platform.torch_device, self.props)

    def memory(self) -> MemoryInfo:
        """Memory of the device now."""
        if not self.selection.planning:
            info = self.selection.plugin.call("inferplane_memory", props=self.props)
            if info is not None:
                return info
        total = self.props.memory_bytes
        return MemoryInfo(
            free_bytes=total, total_bytes=total, source=f"profile {self.props.profile}"
        )

    def proposals(self, settings: Mapping[str, Any]) -> list[tuple[str, SettingProposal]]:
        """(plugin name, proposal) of the platform and the feature plugins."""
        return [
            (plugin.name, proposal)
            for plugin in self.plugins
            for proposal in plugin.call("inferplane_settings", settings=settings, props=self.props)
            or []
        ]

    def models(self) -> list[ModelSpec]:
        """Architectures that plugins add."""
        return [m for plugin in self.plugins for m in plugin.call("inferplane_models") or []]


def _features(plugins: Sequence[Plugin], platform: str) -> list[Plugin]:
    return [
        p
        for p in plugins
        if p.ready and p.feature and (not p.feature.platforms or platform in p.feature.platforms)
    ]

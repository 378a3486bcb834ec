"""What the chosen platform and the feature plugins offer, collected once at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferplane.errors import nearest
from inferplane.spec import (
    OPS,
    Candidate,
    Device,
    DeviceProps,
    FormatSpec,
    MemoryInfo,
    ModelSpec,
    SettingProposal,
)

from .discovery import CORE_DISTRIBUTION, Plugin
from .errors import BadHook, PluginError
from .resolution import LEVELS, REFERENCE, is_reference
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

# Ops whose kernel is one call on tokens, so that several kernels can share a site by token count.
BY_TOKENS = frozenset(
    {
        "linear",
        "embedding",
        "norm.rms",
        "norm.add_rms",
        "activation.gated",
        "kv.write",
        "mlp.block",
        "moe.route",
        "moe.experts",
        "moe.block",
        "sample",
    }
)


class Catalog:
    """The offers for one device. warnings: feature plugins that could not be asked, and why.

    owners: the plugin of each candidate, by op and name.
    """

    def __init__(self, plugins: Sequence[Plugin], selection: Selection) -> None:
        self.selection = selection
        self.props: DeviceProps = selection.props
        self.warnings: list[str] = [f"{p.label}: {w}" for p in plugins for w in p.warnings]
        self.plugins = [selection.plugin, *_features(plugins, selection.platform.name)]
        self.owners: dict[tuple[str, str], Plugin] = {}
        self.candidates = self._collect()

    def _collect(self) -> list[Candidate]:
        found: list[Candidate] = []
        owners = self.owners
        for plugin in self.plugins:
            try:
                offered = [c for hook in CANDIDATE_HOOKS for c in self._offers(plugin, hook)]
                _check_names(plugin, offered, owners)
            except PluginError as error:
                if plugin is self.selection.plugin:
                    raise
                self.warnings.append(str(error))
                continue
            owners.update({(c.op, c.name): plugin for c in offered})
            found += offered
        return found

    def _offers(self, plugin: Plugin, hook: str) -> list[Candidate]:
        offered = plugin.call(hook, props=self.props)
        if offered is None:
            return []
        if not isinstance(offered, list | tuple):
            raise BadHook(f"{plugin.label}: {hook} gave {type(offered).__name__}, not a list")
        for candidate in offered:
            if not isinstance(candidate, Candidate):
                raise BadHook(
                    f"{plugin.label}: {hook} gave {type(candidate).__name__}, not Candidate"
                )
            check_offer(plugin, candidate)
        return list(offered)

    def device(self) -> Device:
        """The driver of the device: the platform's, or the default over torch's modules."""
        device = self._one("inferplane_device", Device)
        return device or Device(self.selection.platform.torch_device, self.props)

    def _one(self, hook: str, kind: type) -> Any:
        """The platform's answer to a hook that gives one object, or None."""
        plugin = self.selection.plugin
        answer = plugin.call(hook, props=self.props)
        if answer is not None and not isinstance(answer, kind):
            raise BadHook(
                f"{plugin.label}: {hook} returned {type(answer).__name__}, "
                f"it must return {kind.__name__}"
            )
        return answer

    def memory(self) -> MemoryInfo:
        """Memory of the device now."""
        if not self.selection.planning:
            info: MemoryInfo | None = self._one("inferplane_memory", MemoryInfo)
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
            for proposal in self._ask(
                plugin, "inferplane_settings", settings=settings, props=self.props
            )
        ]

    def models(self) -> list[ModelSpec]:
        """Architectures that plugins add."""
        return [m for plugin in self.plugins for m in self._ask(plugin, "inferplane_models")]

    def formats(self) -> list[FormatSpec]:
        """Checkpoint formats that plugins add."""
        return [f for plugin in self.plugins for f in self._ask(plugin, "inferplane_formats")]

    def _ask(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        """A hook's list. A feature plugin that raises gives nothing, and a warning."""
        try:
            return plugin.call(hook, **arguments) or []
        except PluginError as error:
            if plugin is self.selection.plugin:
                raise
            self.warnings.append(str(error))
            return []


def check_offer(plugin: Plugin, candidate: Candidate) -> None:
    label, name = plugin.label, candidate.name
    if candidate.op not in OPS:
        raise BadHook(
            f"{label}: {name} is for {candidate.op!r}, not an op{nearest(candidate.op, OPS)}"
        )
    if candidate.level not in LEVELS:
        raise BadHook(
            f"{label}: {name} has the level {candidate.level!r}; levels: {', '.join(LEVELS)}"
        )
    if candidate.token_breaks and candidate.op not in BY_TOKENS:
        raise BadHook(f"{label}: {name}: token_breaks are not for {candidate.op!r}")
    if is_reference(candidate) and plugin.distribution != CORE_DISTRIBUTION:
        raise BadHook(f"{label}: {name}: names with {REFERENCE!r} are the core's")


def _check_names(
    plugin: Plugin, offered: Sequence[Candidate], owners: Mapping[tuple[str, str], Plugin]
) -> None:
    """A name is one candidate of an op, so that pins and reasons are about one kernel."""
    seen = set()
    for candidate in offered:
        key = candidate.op, candidate.name
        if key in owners:
            raise BadHook(
                f"{plugin.label} offers {candidate.op} {candidate.name}, which "
                f"{owners[key].label} offers already"
            )
        if key in seen:
            raise BadHook(f"{plugin.label} offers {candidate.op} {candidate.name} twice")
        seen.add(key)


def _features(plugins: Sequence[Plugin], platform: str) -> list[Plugin]:
    return [
        p
        for p in plugins
        if p.ready and p.feature and (not p.feature.platforms or platform in p.feature.platforms)
    ]

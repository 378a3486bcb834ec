"""The hooks that a plugin may implement. Each is called once, at start; pluggy plays no part later.

A platform plugin implements `inferplane_platform`; its other hooks run only when its platform was
chosen. A feature plugin implements `inferplane_feature`, and offers candidates to any platform.
Hooks run in the process that owns the device, on its main thread, before any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from .candidate import Candidate, SettingProposal
from .device import Device, DeviceProps, MemoryInfo
from .models import FormatSpec, ModelSpec
from .platform import FeatureSpec, PlatformSpec

if TYPE_CHECKING:
    from .communicator import LinkTopology

PROJECT = "inferplane"
HOOK_PREFIX = "inferplane_"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

PROVISIONAL_HOOKS = frozenset(
    {
        "inferplane_topology",
        "inferplane_graphs",
        "inferplane_transfer",
        "inferplane_models",
        "inferplane_formats",
    }
)
"""Hooks that nobody implements yet, or that ran on no real device: their objects may change within
this major."""


class InferplaneSpecs:
    """Hook specs. A plugin writes a function of the same name, marked with `hookimpl`."""

    @hookspec
    def inferplane_platform(self) -> PlatformSpec:  # type: ignore[empty-body]
        """Says which platform this plugin is. Must not import the vendor library."""

    @hookspec
    def inferplane_feature(self) -> FeatureSpec:  # type: ignore[empty-body]
        """Says that this plugin offers candidates to other platforms. No vendor import."""

    @hookspec
    def inferplane_device(self, props: DeviceProps) -> Device:  # type: ignore[empty-body]
        """(optional) The device's driver. Default: `Device` over torch's own modules."""

    @hookspec
    def inferplane_memory(self, props: DeviceProps) -> MemoryInfo:  # type: ignore[empty-body]
        """(optional) Memory now. Called again whenever memory is asked for. Default: `props`."""

    @hookspec
    def inferplane_ops(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Element ops: norms, rotary, activations, embedding, sampling, KV write."""

    @hookspec
    def inferplane_attention(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Attention. The kernel owns its KV layout and its page sizes."""

    @hookspec
    def inferplane_moe(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Routing, grouped experts, dispatch and combine."""

    @hookspec
    def inferplane_quantization(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Linear and expert kernels, by `QuantScheme` (unquantized is one of them)."""

    @hookspec
    def inferplane_communicator(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Collectives by group size, dtype and message size."""

    @hookspec
    def inferplane_topology(self, props: DeviceProps) -> LinkTopology:  # type: ignore[empty-body]
        """(optional, provisional) How this host's devices are joined."""

    @hookspec
    def inferplane_graphs(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional, provisional) Capture and replay."""

    @hookspec
    def inferplane_transfer(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional, provisional) KV transfer between workers."""

    @hookspec
    def inferplane_blocks(self, props: DeviceProps) -> list[Candidate]:  # type: ignore[empty-body]
        """(optional) Candidates of a level above "op": blocks, decoder layers, whole models."""

    @hookspec
    def inferplane_models(self) -> list[ModelSpec]:  # type: ignore[empty-body]
        """(optional, provisional) New architectures."""

    @hookspec
    def inferplane_formats(self) -> list[FormatSpec]:  # type: ignore[empty-body]
        """(optional, provisional) New checkpoint formats."""

    @hookspec
    def inferplane_settings(  # type: ignore[empty-body]
        self, settings: Mapping[str, Any], props: DeviceProps
    ) -> list[SettingProposal]:
        """(optional) Changes to the effective settings, each with its reason. Pure; no vendor
        import. `settings` holds the users' own values; those are never overruled."""

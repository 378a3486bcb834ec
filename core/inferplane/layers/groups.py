"""KV groups: attention layers with the same layout and reuse rule share a page table."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferplane.spec import AttentionRequest, AttentionSlot, GroupKind, KVGroup, KVLayout

Key = tuple[GroupKind, int, KVLayout]


@dataclass
class Groups:
    """Collects attention layers in the order in which the model is made."""

    layers: dict[Key, list[int]] = field(default_factory=dict)
    slots: dict[int, AttentionSlot] = field(default_factory=dict)

    def add(self, layer: int, request: AttentionRequest, layout: KVLayout) -> int:
        """Puts a layer into its group and gives the group's index."""
        key = (request.kind, request.window, layout)
        self.layers.setdefault(key, []).append(layer)
        return list(self.layers).index(key)

    def of(self, layer: int) -> int:
        """The index of the group that a layer is in."""
        return next(i for i, layers in enumerate(self.layers.values()) if layer in layers)

    def all(self) -> list[KVGroup]:
        """The groups, by index."""
        return [
            KVGroup(
                index=index,
                name=f"{kind.value}{window or ''}",
                kind=kind,
                layers=tuple(layers),
                layout=layout,
                window=window,
            )
            for index, ((kind, window, layout), layers) in enumerate(self.layers.items())
        ]

"""The format of the package compressed-tensors, as LLM Compressor writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .compressed_schemes import FLOAT_SCALES, Config, layout_of
from .layout import LaidOut, Layout
from .matching import class_of, matches
from .schema import CONFIG, read_schema, refuse

_IGNORE, _TARGETS = f"{CONFIG}.ignore", f"{CONFIG}.config_groups"


class CompressedTensors(LaidOut):
    """Groups of modules by name, pattern ("re:...") or class ("Linear"), in this order of
    preference; `ignore` comes before all of them."""

    name: ClassVar[str] = "compressed-tensors"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        _refuse(found)
        seen = found.stored.get("weight_scale")
        scale = FLOAT_SCALES.get(seen.dtype if seen else "", "fp32")
        ignore = found.ignore or ()
        self.ignore = frozenset(ignore)
        self.ignored_patterns = [text for text in ignore if text.startswith("re:")]
        self.targets: dict[str, Layout | None] = {}
        for name, group in found.config_groups.items():
            layout = layout_of(name, group, found.format, scale)
            self.targets |= dict.fromkeys(group.targets, layout)
        self.patterns = sorted(text for text in self.targets if text.startswith("re:"))
        self._found: dict[str, Layout | None] = {}

    def layout(self, module: str) -> Layout | None:
        if module not in self._found:
            self._found[module] = self._search(module)
        return self._found[module]

    def _search(self, module: str) -> Layout | None:
        kind = class_of(module)
        if module in self.ignore or kind in self.ignore:
            return None
        if any(matches(module, text, _IGNORE) for text in self.ignored_patterns):
            return None
        if module in self.targets:
            return self.targets[module]
        for target in self.patterns:
            if matches(module, target, _TARGETS):
                return self.targets[target]
        found = self.targets.get(kind)
        if found is not None and kind == "Embedding":
            raise refuse("config_groups", kind, "quantized embeddings are not supported")
        return found

    def kv_scales(self, attention: str) -> tuple[str, str] | None:
        cache = self.config.kv_cache_scheme
        if cache is None or cache.dynamic or (cache.type, cache.shared) != ("float", "tensor"):
            return None
        return f"{attention}.k_scale", f"{attention}.v_scale"

    def describe(self) -> str:
        cache = self.config.kv_cache_scheme
        kept = f"; its KV cache is meant as {cache.type}{cache.num_bits}" if cache else ""
        return f"{self.name}, {self.config.format}{kept}"


def _refuse(found: Config) -> None:
    sparsity = found.sparsity_config or {}
    if sparsity.get("format", "dense") != "dense":
        raise refuse(
            "sparsity_config.format", sparsity["format"], "sparse weights are not supported"
        )
    if found.transform_config and found.transform_config.get("config_groups"):
        raise refuse("transform_config", "given", "transforms (rotations) are not supported")
    if found.moe_sparsity_config:
        raise refuse("moe_sparsity_config", "given", "pruned experts are not supported")
    if found.quantization_status not in (None, "compressed"):
        raise refuse(
            "quantization_status", found.quantization_status, "only 'compressed' files can be read"
        )

"""A checkpoint format that quantizes nothing, and has scales for a quantized KV cache."""

from __future__ import annotations

from inferplane.formats.base import Format
from inferplane.spec import UNQUANTIZED, FormatSpec


class ScaledCache(Format):
    name = "scaled-cache"

    def __init__(self, config):
        pass

    def scheme(self, module):
        return UNQUANTIZED

    def stored(self, module, shape):
        raise NotImplementedError

    def load(self, module, read):
        raise NotImplementedError

    def kv_scales(self, attention):
        return f"{attention}.k_scale", f"{attention}.v_scale"


SPEC = FormatSpec(
    name=ScaledCache.name,
    detect=lambda config: config.get("quantization_config") == {"quant_method": ScaledCache.name},
    load="tests.fakes.formats:ScaledCache",
)
CONFIG = {"quantization_config": {"quant_method": ScaledCache.name}}

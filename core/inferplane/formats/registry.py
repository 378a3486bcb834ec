"""From a checkpoint's config to its format, or to quantization while loading. Pure data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

from inferplane.errors import UserError, nearest
from inferplane.spec import UNQUANTIZED, FormatSpec, QuantScheme

from .base import Format
from .online import NAMES, Online


def _method(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the config's `quant_method` is one of these."""

    def detect(config: Mapping[str, Any]) -> bool:
        found = config.get("quantization_config")
        return isinstance(found, Mapping) and found.get("quant_method") in names

    return detect


DEQUANTIZE = "dequantize"


def _spec(name: str, load: str, *others: str) -> FormatSpec:
    """others: further names that files have for it."""
    return FormatSpec(name=name, detect=_method(name, *others), load=f"inferplane.formats.{load}")


BUILT_IN: tuple[FormatSpec, ...] = (
    _spec("gptq", "gptq:GPTQ"),
    _spec("awq", "awq:AWQ"),
    _spec("bitsandbytes", "bitsandbytes:BitsAndBytes"),
    _spec("gguf", "gguf:GGUF"),
    _spec("compressed-tensors", "compressed_tensors:CompressedTensors", "compressed_tensors"),
    _spec("fp8", "fp8:Fp8"),
    _spec("fbgemm_fp8", "fp8:FbgemmFp8"),
    _spec("mxfp8", "fp8:Mxfp8"),
    _spec("mxfp4", "mxfp4:Mxfp4"),
    _spec("modelopt", "modelopt:ModelOpt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"),
    _spec("modelslim", "modelslim:ModelSlim"),
    _spec("quark", "quark:Quark"),
)


@dataclass(frozen=True)
class Quantization:
    """How the weights of one model are quantized: by its format, while loading, or not at all.

    name: for people and `--quantization`. source: what decided it. dequantize: the format's
    weights are read as numbers of the model's type, and its inputs are not quantized.
    """

    format: Format | None = None
    online: Online | None = None
    source: str = "the checkpoint is not quantized"
    dequantize: bool = False

    @property
    def name(self) -> str | None:
        if self.format is not None:
            return self.format.name
        return self.online.name if self.online else None

    def scheme(self, module: str, inputs: int, plain: bool) -> QuantScheme:
        """Of a module's weight. plain: never quantized while loading."""
        if self.format is not None:
            return UNQUANTIZED if self.dequantize else self.format.scheme(module)
        return self.online.scheme(module, inputs, plain) if self.online else UNQUANTIZED

    def kv_scales(self, attention: str) -> tuple[str, str] | None:
        """Names of an attention module's scales of cached keys and values, if there are any."""
        return self.format.kv_scales(attention) if self.format is not None else None


def find_quantization(
    config: Mapping[str, Any], asked: str | None, added: Iterable[FormatSpec] = ()
) -> Quantization:
    """config: config.json. asked: the flag `--quantization`. Raises UserError where the flag and
    the checkpoint contradict, and for a format that is not known."""
    known = {spec.name: spec for spec in (*BUILT_IN, *added)}
    spec = next((s for s in reversed(known.values()) if s.detect(config)), None)
    given = config.get("quantization_config")
    if spec is None and given:
        method = given.get("quant_method") if isinstance(given, Mapping) else given
        raise UserError(
            f"the checkpoint is quantized with {method!r}, which is not known; known formats: "
            f"{', '.join(sorted(known))}"
        )
    if spec is not None:
        if asked == DEQUANTIZE:
            return Quantization(format=_load(spec)(config), source="argument", dequantize=True)
        if asked is not None and asked != spec.name:
            raise UserError(
                f"--quantization is {asked!r}, but the checkpoint is quantized with "
                f"{spec.name!r} already; leave the flag out, take an unquantized checkpoint, or "
                f"ask for {DEQUANTIZE!r} to load it as numbers of the dtype"
            )
        return Quantization(format=_load(spec)(config), source="checkpoint")
    if asked is None:
        return Quantization()
    if asked not in NAMES and (asked in known or asked == DEQUANTIZE):
        raise UserError(
            f"--quantization is {asked!r}, but the checkpoint is not quantized; to quantize while "
            f"loading: {', '.join(NAMES)}"
        )
    if asked not in NAMES:
        raise UserError(
            f"--quantization {asked!r} is not known{nearest(asked, NAMES)}; known: "
            f"{', '.join(NAMES)}"
        )
    return Quantization(online=Online(asked, _experts_inputs(config)), source="argument")


def _experts_inputs(config: Mapping[str, Any]) -> int:
    """What divides the hidden size and the experts' own size; 0 where they are not known."""
    inner = config.get("moe_intermediate_size") or config.get("intermediate_size")
    sizes = [size for size in (config.get("hidden_size"), inner) if isinstance(size, int)]
    return gcd(*sizes) if len(sizes) == 2 else 0


def _load(spec: FormatSpec) -> Any:
    module, _, attribute = spec.load.partition(":")
    return getattr(importlib.import_module(module), attribute)

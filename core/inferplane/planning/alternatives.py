"""What would work instead, for a model whose quantization has no kernels on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from inferplane.formats.online import NAMES, Online
from inferplane.formats.registry import Quantization
from inferplane.plugins.resolution import Resolution
from inferplane.plugins.site import Site
from inferplane.spec import ExpertsRequest, LinearRequest


def advice(
    quantization: Quantization, resolution: Resolution, works: Callable[[Quantization], bool]
) -> str:
    """A sentence for the user, "" where quantization is not the problem. works: whether every op
    of the model has a kernel with another quantization."""
    if not any(_quantized(choice.request) for _, choice in resolution.problems):
        return ""
    if quantization.format is not None:
        whole = replace(quantization, dequantize=True)
        if works(whole):
            return "--quantization dequantize would work: weights as the dtype, and larger"
        return ""
    experts = any(isinstance(s.request, ExpertsRequest) for s in resolution.root.walk())
    others = [n for n in NAMES if n != quantization.name and (experts or not n.endswith("_moe"))]
    common = quantization.online.experts if quantization.online else 0
    able = [name for name in others if works(Quantization(online=Online(name, common)))]
    plain = ["no --quantization"] if works(Quantization()) else []
    able = plain + [f"--quantization {name}" for name in able]
    return f"{' or '.join(able)} would work" if able else ""


def without_effect(quantization: Quantization, root: Site) -> list[str]:
    """A warning where quantizing while loading finds nothing in the model."""
    if quantization.online is None or any(_quantized(site.request) for site in root.walk()):
        return []
    return [f"--quantization {quantization.name} quantizes nothing of this model"]


def _quantized(request: object) -> bool:
    return isinstance(request, LinearRequest | ExpertsRequest) and request.scheme.quantized

"""Platforms with kernels made on the spot, and what the conformance kit says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from inferplane.plugins.discovery import discover
from inferplane.spec import UNQUANTIZED, Candidate, Device, DeviceProps, GiB, Support
from inferplane.testing.conformance.case import Failure, Result
from inferplane.testing.conformance.session import Choice, Session
from inferplane.testing.conformance.target import Target

from .plugins import platform

PROPS = DeviceProps(
    name="Mutant 1",
    profile="mutant1",
    memory_bytes=4 * GiB,
    dtypes=frozenset({"fp32"}),
    capabilities=frozenset({"int64_index"}),
)
SCHEMES = {
    *("quantized", "zero_point", "reordered", "global_scale"),
    *("quantized_activation", "static_activation"),
}
FEATURES = {
    "attention": {
        *("window", "softcap", "sinks", "non_causal"),
        *("latent", "value_dim", "kv_scales", "kv_dtype"),
    },
    "kv.write": {"kv_scales", "kv_dtype"},
    "norm.rms": {"weight_offset"},
    "norm.add_rms": {"weight_offset"},
    "rotary": {"interleaved", "partial_rotary"},
    "activation.gated": {"silu", "gelu", "gelu_tanh", "limit"},
    "embedding": {"scale", "sharded"},
    "linear": {"bias", *SCHEMES},
    "moe.route": {
        *("sigmoid", "no_renormalize", "bias", "groups", "group_max", "scaling", "shared"),
    },
    "moe.experts": {"silu", "gelu", "gelu_tanh", "swigluoai", "limit", "bias", *SCHEMES},
    "sample": {
        "random",
        "top_k",
        "top_p",
        "min_p",
        "penalties",
        "bias",
        "mask",
        "processors",
        "logprobs",
    },
    "attention.input": {"qk_norm"},
    "mlp.block": {"silu", "gelu", "gelu_tanh", "limit", "bias"},
    "layer": {"silu", "gelu", "gelu_tanh", "qk_norm"},
}


def floats(request: Any) -> Support:
    """A fair answer: the device's dtypes, and what the kernels below can do."""
    dtype = getattr(request, "dtype", None) or "fp32"
    if dtype not in ("fp32", "bf16"):
        return Support.no(f"dtype is {dtype}, there are fp32 and bf16")
    if getattr(request, "layout", "standard") not in ("standard", "latent"):
        return Support.no(f"layout is {request.layout}, it has the standard and the latent one")
    if "kit" in (getattr(request, "scoring", ""), getattr(request, "activation", "")):
        return Support.no("it has no such function")
    scheme = getattr(request, "scheme", UNQUANTIZED)
    if "kit5" in (scheme.weight, scheme.activation):
        return Support.no(f"scheme is {scheme.name}")
    return Support.yes()


def candidate(op: str, factory: Callable[..., Any], **fields: Any) -> Candidate:
    """A kernel of the platform "mutant"."""
    given: dict[str, Any] = {
        "name": "mutant.kernel",
        "supports": floats,
        "load": lambda: factory,
        "features": frozenset(FEATURES.get(op, ())),
        "capture": "none",
    }
    return Candidate(op=op, **(given | fields))


def target_of(
    *candidates: Candidate,
    props: DeviceProps = PROPS,
    device: type[Device] = Device,
    **more: Callable[..., Any],
) -> Target:
    """A platform that offers these, on the host. more: hooks."""
    hooks: dict[str, Any] = {
        "inferplane_ops": lambda props: list(candidates),
        "inferplane_device": lambda props: device("cpu", props),
        **more,
    }
    probe = _probe(props)
    found = platform("mutant", hooks, probe=probe, profiles=(props,))
    return Target.open("mutant", plugins=[*discover([]), *discover(found=[found])])


def _probe(props: DeviceProps) -> Callable[[], Any]:
    from inferplane.spec import Probe

    return lambda: Probe.found([props])


def results(target: Target, draws: int = 2, **choice: Any) -> Iterator[Result]:
    session = Session(target, Choice(draws=draws, **choice))
    for case in session.cases:
        yield session.run(case)


def failures(target: Target, draws: int = 2, **choice: Any) -> Iterator[tuple[str, Failure]]:
    """(case id, failure), as they come."""
    for result in results(target, draws, **choice):
        for failure in result.failures:
            yield result.case.id, failure


def caught_by(check: str, target: Target, draws: int = 2, **choice: Any) -> str:
    """The first case that fails by this check; "" if none does."""
    for id, failure in failures(target, draws, **choice):
        if failure.check == check:
            return id
    return ""

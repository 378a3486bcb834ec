"""The first call of a kernel, while the model is loaded: does its result have the right shape?

A wrong shape would otherwise show in whatever runs next, as that kernel's error. Only ops whose
call needs no cache are tried, with as few rows as the request allows. Nothing synchronises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inferplane.plugins.binding import failed
from inferplane.spec import (
    ActivationRequest,
    Candidate,
    EmbeddingRequest,
    ExpertsRequest,
    GatedMLPRequest,
    HeadsLinearRequest,
    LinearRequest,
    NormRequest,
    Packed,
    Request,
    RoutingRequest,
)

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
_MOST_ROWS = 4096


def trial(
    candidate: Candidate,
    request: Any,
    kernel: Any,
    device: torch.device,
    packed: Packed | None = None,
) -> None:
    """Raises KernelFailed that names the kernel, if the call raises or gives another shape.

    packed: what the kernel prepared, for ops that take weights.
    """
    import torch

    rows = request.tokens.first
    call = _CALLS.get(type(request))
    if call is None or rows > _MOST_ROWS:
        return
    with torch.inference_mode():
        planned = call(request, rows, device, packed)
        if planned is None:
            return
        arguments, shapes = planned
        try:
            result = kernel(*arguments)
        except Exception as error:
            text = f"its first call, with {_shapes(arguments)}, raised {type(error).__name__}"
            raise failed(candidate, request, f"{text}: {error}") from error
    given = [_shape(part) for part in (result if isinstance(result, tuple) else (result,))]
    if given != [tuple(shape) for shape in shapes]:
        wanted = ", ".join(str(list(shape)) for shape in shapes)
        got = ", ".join(str(list(g)) if isinstance(g, tuple) else str(g) for g in given)
        raise failed(candidate, request, f"it returned {got}; the contract says {wanted}")


def _shape(value: Any) -> Shape | str:
    return tuple(value.shape) if hasattr(value, "shape") else type(value).__name__


def _shapes(arguments: tuple[Any, ...]) -> str:
    return ", ".join(str(list(a.shape)) for a in arguments if hasattr(a, "shape"))


Planned = tuple[tuple[Any, ...], list[Shape]]


def _ones(shape: Shape, dtype: str, device: torch.device) -> torch.Tensor:
    import torch

    from inferplane.spec.torch_types import torch_dtype

    return torch.ones(shape, dtype=torch_dtype(dtype), device=device)


def _norm(request: NormRequest, rows: int, device: Any, packed: Any) -> Planned:
    shape = (rows, request.size)
    x, weight = (_ones(s, request.dtype, device) for s in (shape, shape[1:]))
    if request.op == "norm.rms":
        return (x, weight), [shape]
    return (x, _ones(shape, request.dtype, device), weight), [shape, shape]


def _activation(request: ActivationRequest, rows: int, device: Any, packed: Any) -> Planned:
    x = _ones((rows, 2 * request.size), request.dtype, device)
    return (x,), [(rows, request.size)]


def _linear(request: LinearRequest, rows: int, device: Any, packed: Any) -> Planned | None:
    if request.shards > 1 or packed is None:
        return None
    x = _ones((rows, request.in_features), request.dtype, device)
    return (x, packed), [(rows, request.out_features)]


def _heads(request: HeadsLinearRequest, rows: int, device: Any, packed: Any) -> Planned | None:
    if packed is None:
        return None
    x = _ones((rows, request.heads, request.inputs), request.dtype, device)
    return (x, packed), [(rows, request.heads, request.outputs)]


def _routing(request: RoutingRequest, rows: int, device: Any, packed: Any) -> Planned:
    x = _ones((rows, request.experts), request.dtype, device)
    bias = (_ones((request.experts,), "fp32", device),) if request.bias else ()
    return (x, *bias), [(rows, request.top_k + request.shared)] * 2


def _experts(request: ExpertsRequest, rows: int, device: Any, packed: Any) -> Planned | None:
    if packed is None:
        return None
    x = _ones((rows, request.hidden), request.dtype, device)
    weights = _ones((rows, request.top_k), "fp32", device)
    experts = _ones((rows, request.top_k), "int32", device) * 0
    return (x, weights, experts, packed), [(rows, request.hidden)]


def _embedding(request: EmbeddingRequest, rows: int, device: Any, packed: Any) -> Planned | None:
    import torch

    from inferplane.spec.torch_types import index_dtype

    if request.shards > 1 or packed is None:
        return None
    ids = torch.zeros(rows, dtype=index_dtype(request.device), device=device)
    return (ids, packed), [(rows, request.size)]


def _mlp(request: GatedMLPRequest, rows: int, device: Any, packed: Any) -> Planned | None:
    if request.gate_up.shards > 1 or packed is None:
        return None
    shape = (rows, request.gate_up.in_features)
    return (_ones(shape, request.gate_up.dtype, device), packed), [shape]


_CALLS: dict[type[Request], Callable[..., Planned | None]] = {
    NormRequest: _norm,
    ActivationRequest: _activation,
    LinearRequest: _linear,
    EmbeddingRequest: _embedding,
    GatedMLPRequest: _mlp,
    HeadsLinearRequest: _heads,
    RoutingRequest: _routing,
    ExpertsRequest: _experts,
}

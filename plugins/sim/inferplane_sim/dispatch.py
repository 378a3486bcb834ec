"""Any torch op on the device: shapes are found at once, the work is queued.

Views are made at once, since they touch no memory. All else is one piece of work on the host
tensors. Ops whose result's shape depends on data wait for the device first, as on real devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .arguments import as_meta, asked_board, board_of, leaves, on_host, swap
from .copies import copy_, to_copy
from .driver import SimBoard
from .dtypes import check_dtypes
from .indices import INDEX_ARGUMENTS, refuse_wide, widen
from .shapes import DataDependent, Shapes
from .streams import Work
from .tensor import SimTensor, allocate, view_of

Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_VIEWS = {"aten::_unsafe_view", "aten::lift_fresh", "aten::_reshape_alias"}
_handlers: dict[Any, Handler] = {}
_shapes = Shapes()


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One op, from `__torch_dispatch__` or the fallback for the device."""
    handler = _handlers.get(func)
    if handler is None:
        handler = _handlers[func] = _handler(func)
    return handler(func, args, kwargs)


def _handler(func: Any) -> Handler:
    """What kind of op it is, from its schema."""
    schema = func._schema
    special = _SPECIAL.get(schema.name)
    if special is not None:
        return special
    if _has_own_kernel(func):
        return lambda op, args, kwargs: op._op_dk(torch._C.DispatchKey.PrivateUse1, *args, **kwargs)
    if func._can_decompose():
        return lambda op, args, kwargs: op.decompose(*args, **kwargs)
    returned = [r.alias_info for r in schema.returns]
    aliases = [info for info in returned if info is not None and not info.is_write]
    if schema.name in _VIEWS or (aliases and len(aliases) == len(returned)):
        return _view
    tensors = [r for r in schema.returns if "Tensor" in str(r.type)]
    if schema.returns and not tensors:
        return _to_host
    return _queue


def _has_own_kernel(func: Any) -> bool:
    """A custom op with a kernel that was registered for the device."""
    if func.namespace in ("aten", "prims", "c10d"):
        return False
    has: bool = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "PrivateUse1")
    return has


# kinds of ops


def _view(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    base = args[0]
    found = func(base.raw, *args[1:], **kwargs)
    if isinstance(found, torch.Tensor):
        return view_of(base, found)
    return type(found)(view_of(base, item) for item in found)


def _to_host(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ops that give numbers to the host: they wait."""
    board = board_of(func._schema.name, args, kwargs)
    board.check(func._schema.name, waits=True)
    board.stream.run_to(board.stream.launched)
    return func(*swap(args, on_host), **{k: on_host(v) for k, v in kwargs.items()})


def _queue(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Everything else: allocate what it gives, queue what it does."""
    name = func._schema.name
    device = kwargs.get("device")
    if device is not None and device.type != "sim":  # `zeros_like` and its kind, for the host
        return func(*swap(args, as_meta), **kwargs)
    board = board_of(name, args, kwargs) if device is None else asked_board(device)
    kwargs = {k: v for k, v in kwargs.items() if k != "pin_memory"}
    at = INDEX_ARGUMENTS.get(name)
    if at is not None:
        refuse_wide(name, args[at], board.wide_index)
    tensors = [v for v in leaves((*args, *kwargs.values())) if isinstance(v, SimTensor)]
    check_dtypes(name, tensors, board.dtypes, board.name)
    host_args = swap(args, on_host)
    host_kwargs = {key: swap(value, on_host) for key, value in kwargs.items()}

    def compute() -> Any:
        if at is not None:
            host_args[at] = widen(host_args[at])
        return func(*host_args, **host_kwargs)

    mutated = _mutated(func, args, kwargs)
    for tensor in mutated:
        tensor.memory.fresh = False
    whole = tuple(t.raw for t in mutated) if at is None else ()  # others are written in places
    moved = sum(t.raw.nbytes for t in tensors)
    try:
        metas = _shapes.of(func, args, kwargs, at)
    except DataDependent:
        found = _now(board, name, compute, whole, moved)
        results = _results(func, args, kwargs, found, board)
        _copy(found, _targets(results, tensors))
        return results
    results = _results(func, args, kwargs, metas, board)
    targets = _targets(results, tensors)
    new = tuple(target for target in targets if target is not None)
    check_dtypes(name, new, board.dtypes, board.name)
    moved += sum(t.nbytes for t in new)
    work = (lambda: _copy(compute(), targets)) if new else compute
    board.launch(Work(name, work, (*new, *whole), moved))
    return results


def _now(board: SimBoard, name: str, compute: Any, whole: Any, moved: int) -> Any:
    """Waits for the stream and computes: what the op gives depends on data."""
    board.check(name, waits=True)
    found: list[Any] = []
    board.launch(Work(name, lambda: found.append(compute()), whole, moved))
    board.stream.run_to(board.stream.launched)
    return found[0]


def _targets(results: Any, arguments: list[SimTensor]) -> list[torch.Tensor | None]:
    """Where each result goes; None for an argument that the op wrote itself."""
    tensors = [r for r in leaves([results]) if isinstance(r, SimTensor)]
    return [None if any(r is a for a in arguments) else r.raw for r in tensors]


def _copy(found: Any, targets: list[torch.Tensor | None]) -> None:
    """What the host computed, to the memory of the results."""
    values = [f for f in leaves([found]) if isinstance(f, torch.Tensor)]
    for target, value in zip(targets, values, strict=True):
        if target is not None:
            target.copy_(value)


def _mutated(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[SimTensor]:
    """Arguments that an op writes."""
    found = []
    for at, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[at] if at < len(args) else kwargs.get(argument.name)
            found += [v for v in leaves([value]) if isinstance(v, SimTensor)]
    return found


def _results(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], metas: Any, board: SimBoard
) -> Any:
    """Written arguments as themselves; new device memory for all else."""
    name, schema = func._schema.name, func._schema
    written: dict[str, Any] = {}
    for at, argument in enumerate(schema.arguments):
        info = argument.alias_info
        if info is not None and info.is_write:
            value = args[at] if at < len(args) else kwargs.get(argument.name)
            written.update(dict.fromkeys(info.before_set, value))

    def new(meta: Any) -> Any:
        if not isinstance(meta, torch.Tensor):
            return meta
        return allocate(board, name, meta.shape, meta.dtype, meta.stride())

    if not schema.returns:
        return None
    given = (metas,) if len(schema.returns) == 1 else tuple(metas or ())
    found = []
    for ret, meta in zip(schema.returns, given, strict=True):
        if ret.alias_info is not None and ret.alias_info.is_write:
            target = next(written[key] for key in ret.alias_info.before_set)
            _same_shape(name, target, meta)
            found.append(target)
        else:
            found.append(swap(meta, new) if isinstance(meta, list | tuple) else new(meta))
    return found[0] if len(schema.returns) == 1 else tuple(found)


def _same_shape(name: str, target: Any, meta: Any) -> None:
    if isinstance(target, SimTensor) and target.shape != meta.shape:
        raise RuntimeError(
            f"{name} would resize its output from {list(target.shape)} to {list(meta.shape)}: "
            "device memory is not resized; give an output of the right shape"
        )


# special ops


def _empty(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SimTensor:
    board = board_of("aten::empty", (), kwargs)
    stride = args[1] if func._schema.name == "aten::empty_strided" else None
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return allocate(board, func._schema.name, args[0], dtype, stride)


def _zero_(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SimTensor:
    """Memory that the system zeroed and nobody wrote needs no work."""
    if not args[0].memory.fresh:
        _queue(func, args, kwargs)
    tensor: SimTensor = args[0]
    return tensor


def _refuse(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise NotImplementedError(f"{func._schema.name} is not for the simulated device")


_SPECIAL: dict[str, Handler] = {
    "aten::empty": _empty,
    "aten::empty_strided": _empty,
    "aten::copy_": copy_,
    "aten::_to_copy": to_copy,
    "aten::zero_": _zero_,
    "aten::_local_scalar_dense": _to_host,
    "aten::is_pinned": lambda func, args, kwargs: False,
    "aten::record_stream": lambda func, args, kwargs: None,
    "aten::set_": _refuse,
    "aten::resize_": _refuse,
}

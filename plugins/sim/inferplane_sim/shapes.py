"""Shapes of results, found on torch's meta device and remembered."""

from __future__ import annotations

from typing import Any

from .arguments import as_meta, key_of, swap
from .indices import widen

_MOST = 4096


class DataDependent(Exception):
    """The shape of the result depends on data."""


class Shapes:
    """results: what an op gives for arguments of certain shapes, as meta tensors."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}

    def of(self, func: Any, args: Any, kwargs: dict[str, Any], index: int | None) -> Any:
        """What the op gives. index: position of an index argument. Raises DataDependent."""
        try:
            key = (func, key_of(args), tuple((k, key_of(v)) for k, v in kwargs.items()))
            found = self.results.get(key, self)
        except TypeError:
            return self._infer(func, args, kwargs, index)
        if found is self:
            found = self._infer(func, args, kwargs, index)
            if len(self.results) >= _MOST:
                self.results.clear()
            self.results[key] = found
        return found

    def _infer(self, func: Any, args: Any, kwargs: dict[str, Any], index: int | None) -> Any:
        meta_args = swap(args, as_meta)
        meta_kwargs = {name: swap(value, as_meta) for name, value in kwargs.items()}
        if meta_kwargs.get("generator") is not None:
            meta_kwargs["generator"] = None
        if index is not None:
            meta_args[index] = widen(meta_args[index])
        try:
            return func(*meta_args, **meta_kwargs)
        except NotImplementedError:  # what torch raises where data would have to be read
            raise DataDependent from None

"""A safetensors checkpoint: what is in it, and lazy slices of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import WeightPart

from .header import read_header
from .locate import read_json
from .views import cut, view

if TYPE_CHECKING:
    import torch

# scales of a quantized KV cache are read only where the cache is quantized
_IGNORED = ("rotary_emb.inv_freq", ".k_scale", ".v_scale")


class Checkpoint:
    """files: tensor name -> file. shapes: tensor name -> shape. A file is mapped when it is first
    read, and let go when all that the model wants of it was read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.bytes = 0
        for path in self._paths():
            header = read_header(path)
            for name, entry in header.items():
                self.files[name] = path
                self.shapes[name] = tuple(entry["shape"])
                self.bytes += entry["data_offsets"][1] - entry["data_offsets"][0]
        self._open: dict[Path, Any] = {}
        self._unread: dict[Path, set[str]] = {}  # of what `check` was told

    def _paths(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            names = read_json(index).get("weight_map")
            if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
                raise UserError(f"{index} has no valid 'weight_map'")
            paths = [self.folder / name for name in sorted(set(names.values()))]
            escaped = [p for p in paths if p.parent != self.folder or p.name == ".."]
            missing = [p.name for p in paths if not p.is_file()]
            if escaped or missing:
                raise UserError(f"{index} names files that are not there: {missing or escaped}")
            return paths
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            others = sorted(p.name for p in self.folder.glob("*.bin"))
            hint = f" ({', '.join(others)} is pickle, which is never loaded)" if others else ""
            raise UserError(f"{self.folder} has no *.safetensors file{hint}")
        return paths

    def name(self, key: str) -> str:
        """The stored name of a canonical one: stacked experts are parameters without a module, so
        "x.weight" is "x" and "x.bias" is "x_bias"."""
        module, _, last = key.rpartition(".")
        bare = module if last == "weight" else f"{module}_{last}"
        return bare if key not in self.files and bare in self.files else key

    def tensor(self, name: str) -> torch.Tensor:
        """A whole tensor, as stored. The memory is the file's. KeyError if there is none."""
        tensor = self._file(name).get_tensor(name)
        self._was_read(name)
        return tensor

    def _was_read(self, name: str) -> None:
        path = self.files[name]
        unread = self._unread.get(path, set())
        unread.discard(name)
        if not unread:
            self._open.pop(path, None)

    def read(self, part: WeightPart) -> torch.Tensor:
        """One slice, as stored but for the part's view. The memory may be the file's: copy it to
        keep it."""
        name = self.name(part.key)
        if part.view:
            return cut(view(self.tensor(name), part.view), part)
        if part.shape == part.full_shape:
            return self.tensor(name)
        places = tuple(slice(o, o + n) for o, n in zip(part.offset, part.shape, strict=True))
        piece = self._file(name).get_slice(name)[places]
        self._was_read(name)
        return piece

    def _file(self, name: str) -> Any:
        from safetensors import safe_open

        path = self.files[name]
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt")
            except Exception as error:
                raise UserError(f"{path} cannot be opened: {error}") from None
        return self._open[path]

    def close(self) -> None:
        self._open.clear()

    def check(
        self,
        needs: Iterable[WeightNeed],
        tied: bool,
        others: Mapping[str, tuple[int, ...] | None] = MappingProxyType({}),
        ignored: tuple[str, ...] = (),
    ) -> None:
        """Raises UserError that lists missing and unexpected tensors and wrong shapes. others:
        stored tensors beside the needs', with their shapes, where axes of one do not count; None
        for those that may be absent. ignored: beginnings of names of tensors that are not read.
        One number may have no axis."""
        wanted = {
            self.name(part.key): part.stored or part.full_shape
            for need in needs
            for part in need.parts
        }
        wanted |= {name: shape for name, shape in others.items() if shape is not None}
        missing = sorted(wanted.keys() - self.shapes.keys())
        ends = (*_IGNORED, "lm_head.weight") if tied else _IGNORED
        known = wanted.keys() | others.keys()
        unexpected = sorted(
            name
            for name in self.shapes.keys() - known
            if not name.endswith(ends) and not name.startswith(ignored)
        )

        def same(name: str, shape: tuple[int, ...]) -> bool:
            found = self.shapes[name]
            one = _long(found) == _long(shape)
            return found == shape or (one and (name in others or max(shape, default=1) == 1))

        wrong = [
            f"{name} is {list(self.shapes[name])}, the model needs {list(shape)}"
            for name, shape in sorted(wanted.items())
            if name in self.shapes and not same(name, shape)
        ]
        lines = [
            *_listing("missing tensors", missing),
            *_listing("unexpected tensors", unexpected),
            *_listing("wrong shapes", wrong),
        ]
        for name in known & self.files.keys():
            self._unread.setdefault(self.files[name], set()).add(name)
        if lines:
            raise UserError("\n  ".join([f"{self.folder} does not fit its config.json", *lines]))


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _listing(title: str, items: list[str], most: int = 12) -> list[str]:
    if not items:
        return []
    more = [f"  ... and {len(items) - most} more"] if len(items) > most else []
    return [f"{title} ({len(items)}):", *(f"  {item}" for item in items[:most]), *more]

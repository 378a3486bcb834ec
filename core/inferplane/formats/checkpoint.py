"""A safetensors checkpoint: what is in it, and lazy slices of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import WeightPart

from .header import read_header
from .locate import read_json

if TYPE_CHECKING:
    import torch

_IGNORED = ("rotary_emb.inv_freq",)


class Checkpoint:
    """files: tensor name -> file. shapes: tensor name -> shape. Opens a file when first read."""

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

    def read(self, part: WeightPart) -> torch.Tensor:
        """One slice, as stored. The memory is the file's: copy it to keep it."""
        from safetensors import safe_open

        path = self.files[part.key]
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt")
            except Exception as error:
                raise UserError(f"{path} cannot be opened: {error}") from None
        if part.shape == part.full_shape:
            return self._open[path].get_tensor(part.key)
        cut = tuple(slice(o, o + n) for o, n in zip(part.offset, part.shape, strict=True))
        return self._open[path].get_slice(part.key)[cut]

    def close(self) -> None:
        self._open.clear()

    def check(self, needs: Iterable[WeightNeed], tied: bool) -> None:
        """Raises UserError that lists missing and unexpected tensors and wrong shapes."""
        wanted = {part.key: part.full_shape for need in needs for part in need.parts}
        missing = sorted(wanted.keys() - self.shapes.keys())
        ignored = (*_IGNORED, "lm_head.weight") if tied else _IGNORED
        unexpected = sorted(n for n in self.shapes if n not in wanted and not n.endswith(ignored))
        wrong = [
            f"{name} is {list(self.shapes[name])}, the model needs {list(shape)}"
            for name, shape in sorted(wanted.items())
            if name in self.shapes and self.shapes[name] != shape
        ]
        lines = [
            *_listing("missing tensors", missing),
            *_listing("unexpected tensors", unexpected),
            *_listing("wrong shapes", wrong),
        ]
        if lines:
            raise UserError("\n  ".join([f"{self.folder} does not fit its config.json", *lines]))


def _listing(title: str, items: list[str], most: int = 12) -> list[str]:
    if not items:
        return []
    more = [f"  ... and {len(items) - most} more"] if len(items) > most else []
    return [f"{title} ({len(items)}):", *(f"  {item}" for item in items[:most]), *more]

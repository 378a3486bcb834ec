"""A GGUF file as a checkpoint: tensors under the names of the model, mapped from the file."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.spec import WeightPart

from .checkpoint import Checkpoint
from .gguf import BLOCKS, SCHEMES, canonical, file_in, model_name
from .gguf_file import Entry, read_header
from .views import cut, view

if TYPE_CHECKING:
    import torch

_PLAIN = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def open_checkpoint(folder: Path) -> Checkpoint:
    """Of the folder's safetensors, or of its one GGUF file."""
    path = file_in(folder)
    return Checkpoint(folder) if path is None else GGUFCheckpoint(folder, path)


class GGUFCheckpoint(Checkpoint):
    """Raises UserError for types that nothing here can read, before anything is loaded."""

    def __init__(self, folder: Path, path: Path) -> None:
        header = read_header(path)
        self.folder, self.path = folder, path
        self.entries = {model_name(name): entry for name, entry in header.tensors.items()}
        self.files = dict.fromkeys(self.entries, path)
        self.shapes = {name: entry.shape for name, entry in self.entries.items()}
        self.bytes = sum(entry.bytes for entry in self.entries.values())
        self._open, self._unread = {}, {}
        kind = header.metadata.get("general.architecture")
        self.heads: dict[str, int] = {}
        if kind == "llama":
            heads = header.metadata.get("llama.attention.head_count", 1)
            kv = header.metadata.get("llama.attention.head_count_kv", heads)
            self.heads = {"q_proj": heads, "k_proj": kv}
        others = {e.type for e in self.entries.values()} - {*_PLAIN, *SCHEMES}
        if others:
            _package(sorted(others))

    def tensor(self, name: str) -> torch.Tensor:
        """Numbers; with `BLOCKS` after the name, the blocks."""
        import torch

        from inferplane.spec.quantized import dequantize
        from inferplane.spec.torch_types import torch_dtype

        raw = name.removesuffix(BLOCKS)
        entry = self.entries[raw]
        blocks = self._in_order(raw, self._bytes(entry))
        if raw != name:
            return blocks
        if entry.type in _PLAIN:
            return blocks.view(torch_dtype(_PLAIN[entry.type])).view(entry.shape)
        if entry.type in SCHEMES:
            return dequantize(SCHEMES[entry.type], canonical(entry.type, blocks))
        package = _package([entry.type])
        kind = package.GGMLQuantizationType[entry.type]
        return torch.from_numpy(package.quants.dequantize(blocks.numpy(), kind)).view(entry.shape)

    def _bytes(self, entry: Entry) -> torch.Tensor:
        """uint8 [rows, bytes of a row]. The memory is the file's, copied when it is written."""
        import torch

        if self.path not in self._open:
            with self.path.open("rb") as file:
                self._open[self.path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        held = self._open[self.path]
        flat = torch.frombuffer(held, dtype=torch.uint8, count=entry.bytes, offset=entry.start)
        return flat.view(entry.shape[0] if len(entry.shape) > 1 else 1, -1)

    def _in_order(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Llama's q and k: rows from neighbours back to halves of a head."""
        heads = self.heads.get(name.rsplit(".", 2)[-2])
        if not heads or len(self.shapes[name]) != 2:
            return rows
        if rows.shape[0] % (2 * heads):
            raise UserError(f"{name} has {rows.shape[0]} rows, for {heads} heads")
        return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def read(self, part: WeightPart) -> torch.Tensor:
        return cut(view(self.tensor(self.name(part.key)), part.view), part)


def _package(types: list[str]) -> Any:
    try:
        import gguf
    except ImportError:
        known = ", ".join([*_PLAIN, *SCHEMES])
        raise UserError(
            f"the GGUF file has tensors of {', '.join(types)}, which the package gguf reads: "
            f"pip install inferplane[gguf]; without it there are {known}"
        ) from None
    return gguf

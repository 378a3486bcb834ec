"""The header of a GGUF file: metadata, and where tensors are. No torch.

Source: the GGUF specification (ggml, docs/gguf.md), versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from inferplane.errors import UserError

TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
"""Number of a type -> its name, elements a block, bytes a block."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9
_MOST = 1 << 20  # tensors, and keys


@dataclass(frozen=True)
class Entry:
    """A tensor. shape: as torch has it, the slowest axis first. start, bytes: in the file."""

    type: str
    shape: tuple[int, ...]
    start: int
    bytes: int


@dataclass(frozen=True)
class Header:
    """metadata: scalars and strings; of an array its length, as texts may be many."""

    metadata: dict[str, Any]
    tensors: dict[str, Entry]


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def one(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        length = self.one("Q")
        if length > len(self.data) - self.at:
            raise ValueError(f"a text of {length} bytes")
        found = self.data[self.at : self.at + length]
        self.at += length
        return found.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.one("I"), self.one("Q")
            if inner == _STRING:
                for _ in range(min(count, len(self.data))):
                    length = self.one("Q")
                    self.at += length
            else:
                self.at += count * struct.calcsize(f"<{_SCALARS[inner]}")
            if self.at > len(self.data):
                raise ValueError(f"an array of {count}")
            return count
        return self.one(_SCALARS[kind])


def read_header(path: Path) -> Header:
    """Raises UserError for a file that is damaged, or holds a type that is not known."""
    if path.stat().st_size < 24:
        raise UserError(f"{path} is not a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise UserError(f"{path} is not a GGUF file")
        try:
            return _read(_Reader(data), len(data))
        except (struct.error, ValueError, KeyError, OverflowError) as error:
            raise UserError(f"{path} has a damaged header: {error}") from None


def _read(reader: _Reader, size: int) -> Header:
    reader.at = 4
    version, count, keys = reader.one("I"), reader.one("Q"), reader.one("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version}; known are 2 and 3")
    if count > _MOST or keys > _MOST:
        raise ValueError(f"{count} tensors and {keys} keys")
    metadata = {}
    for _ in range(keys):
        key = reader.text()
        metadata[key] = reader.value(reader.one("I"))
    found = []
    for _ in range(count):
        name, axes = reader.text(), reader.one("I")
        if axes > 4:
            raise ValueError(f"{name} has {axes} axes")
        shape = tuple(reader.one("Q") for _ in range(axes))[::-1]
        found.append((name, shape, reader.one("I"), reader.one("Q")))
    unit = metadata.get("general.alignment", 32)
    if not isinstance(unit, int) or unit < 1:
        raise ValueError(f"general.alignment is {unit!r}")
    first = -(-reader.at // unit) * unit
    return Header(metadata, {n: _entry(n, s, k, first + o, size) for n, s, k, o in found})


def _entry(name: str, shape: tuple[int, ...], kind: int, start: int, size: int) -> Entry:
    if kind not in TYPES:
        known = ", ".join(word for word, _, _ in TYPES.values())
        raise ValueError(f"{name} is of type {kind}; known are {known}")
    word, elements, each = TYPES[kind]
    if shape and shape[-1] % elements:
        raise ValueError(f"{name} has rows of {shape[-1]}, blocks of {word} have {elements}")
    length = prod(shape) // elements * each
    if start + length > size:
        raise ValueError(f"{name} ends at {start + length:,}, the file at {size:,}: fetch it again")
    return Entry(word, shape, start, length)

"""Headers of safetensors files: read whole, or refused with the reason."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from inferplane.errors import UserError
from inferplane.formats.header import read_header

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def written(tmp_path):
    """(header object or bytes, data bytes) -> the file."""

    def write(header, data: bytes = b"\0" * 8):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path

    return write


def test_a_saved_file_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(1)}, path, metadata={"format": "pt"})
    found = read_header(path)
    assert {name: entry["shape"] for name, entry in found.items()} == {"a": [2, 3], "b": [1]}


@pytest.mark.parametrize("content", [b"", b"\x08\0\0", b"<html>not found</html>", b"\xff" * 64])
def test_something_else_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a safetensors file, or is cut off"):
        read_header(path)


def test_a_header_that_is_cut_off_is_refused(written):
    path = written({"a": ENTRY})
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UserError, match="cut off"):
        read_header(path)


def test_data_that_is_cut_off_is_refused_with_the_sizes(written):
    path = written({"a": ENTRY}, data=b"\0" * 7)
    size = path.stat().st_size
    with pytest.raises(UserError, match=f"promises {size + 1} bytes, it has {size}"):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{nonsense",
        b'{"a": \xff\xfe}',
        b"[" * 50_000,
        [1, 2],
        {"a": 7},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
        {"a": ENTRY | {"shape": 2}},
        {"a": ENTRY | {"shape": ["2"]}},
        {"a": ENTRY | {"shape": [-2]}},
        {"a": ENTRY | {"data_offsets": ["0", "8"]}},
        {"a": ENTRY | {"data_offsets": [8, 0]}},
        {"a": ENTRY | {"data_offsets": [-8, 0]}},
        {"a": ENTRY | {"data_offsets": [0]}},
        {"a": ENTRY | {"data_offsets": [0, float("inf")]}},
    ],
    ids=range(15),
)
def test_a_damaged_header_is_refused(written, header):
    with pytest.raises(UserError, match="damaged header"):
        read_header(written(header))

"""Headers of GGUF files: read, or refused with the reason."""

import random
import struct

import pytest
from tests.fakes.gguf_files import write

from inferplane.errors import UserError
from inferplane.formats.gguf_file import read_header

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

METADATA = {"general.architecture": "llama", "x": 3, "y": 1.5, "words": ["a", "bc"]}


@pytest.fixture
def path(tmp_path):
    tensors = {"a": ("F32", (2, 3), bytes(24)), "b": ("Q8_0", (2, 64), bytes(136))}
    write(tmp_path / "m.gguf", METADATA, tensors)
    return tmp_path / "m.gguf"


def test_metadata_and_tensors_are_read(path):
    found = read_header(path)
    assert found.metadata == METADATA | {"words": 2}
    assert (found.tensors["a"].shape, found.tensors["a"].type) == ((2, 3), "F32")
    assert found.tensors["b"].bytes == 136
    assert found.tensors["b"].start == found.tensors["a"].start + 32


def test_something_else_is_refused(tmp_path):
    for content in (b"", b"GGUF", b"<html>" * 10):
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(UserError, match="is not a GGUF file"):
            read_header(tmp_path / "m.gguf")


def test_a_file_that_is_cut_off_is_refused(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"ends at .* fetch it again"):
        read_header(path)


@pytest.mark.parametrize("version", [1, 4, 1 << 24])
def test_other_versions_are_refused(path, version):
    raw = bytearray(path.read_bytes())
    raw[4:8] = struct.pack("<I", version)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="known are 2 and 3"):
        read_header(path)


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path):
    write(tmp_path / "m.gguf", {}, {"a": ("Q8_0", (2, 40), bytes(200))})
    with pytest.raises(UserError, match="a has rows of 40, blocks of Q8_0 have 32"):
        read_header(tmp_path / "m.gguf")


def test_damage_anywhere_is_an_error_of_ours(path):
    whole, draw = path.read_bytes(), random.Random(1)
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            raw[draw.randrange(4, 220)] = draw.randrange(256)
        path.write_bytes(raw)
        try:
            read_header(path)
        except UserError:
            continue

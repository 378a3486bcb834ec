"""Memory for packed weights: parts of blocks that lie on large pages."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from inferplane.platforms.cpu.native.arena import BLOCK, HUGE, Arena
from inferplane.platforms.cpu.native.build import build

pytestmark = [
    pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2),
    pytest.mark.skipif(build().path is None, reason=build().reason or "compiled"),
]


def test_small_matrices_share_a_block():
    arena = Arena()
    first, second = arena.take(100), arena.take(1000)
    assert (first.numel(), second.numel()) == (100, 1000)
    assert first.data_ptr() % HUGE == 0
    assert second.data_ptr() == first.data_ptr() + 128  # at a multiple of 64 bytes


def test_parts_do_not_overlap():
    arena, sizes = Arena(), [1, 63, 64, 65, 1 << 20, BLOCK // 8, 3]
    parts = [arena.take(size).fill_(i) for i, size in enumerate(sizes)]
    assert [int(part.unique()) for part in parts] == list(range(len(sizes)))
    assert all(part.data_ptr() % 64 == 0 for part in parts)


@pytest.mark.parametrize("size", [BLOCK // 4 + 1, BLOCK, BLOCK + 5])
def test_large_matrices_have_memory_of_their_own(size):
    arena = Arena()
    small = arena.take(64)
    large = arena.take(size)
    assert large.numel() == size
    assert large.data_ptr() % HUGE == 0
    assert arena.take(64).data_ptr() == small.data_ptr() + 64  # the block goes on


def test_a_full_block_is_followed_by_another():
    arena = Arena()
    parts = [arena.take(BLOCK // 5) for _ in range(6)]
    assert len({part.untyped_storage().data_ptr() for part in parts}) == 2


def test_a_block_goes_with_its_last_part():
    arena = Arena()
    part = arena.take(BLOCK // 5)
    block = StorageWeakRef(part.untyped_storage())
    arena.block = torch.empty(0, dtype=torch.uint8)
    assert not block.expired()
    del part
    assert block.expired()

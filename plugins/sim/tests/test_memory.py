"""Device memory: what is live is counted, and no more fits than there is."""

from __future__ import annotations

import pytest
import torch
from inferplane_sim.errors import SimOutOfMemory
from inferplane_sim.memory import memory_info
from inferplane_sim.ops import add_rms_norm

from inferplane.spec import MiB, NormRequest

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


def test_a_tensor_counts_while_it_lives(sim):
    book = sim.boards[0].memory
    x = torch.empty(1024, 256, device="sim")
    assert book.used == MiB
    del x
    assert book.used == 0
    assert book.peak == MiB


@pytest.mark.parametrize("inference", [False, True])
def test_views_share_their_storage(sim, inference):
    book = sim.boards[0].memory
    with torch.inference_mode(inference):
        x = torch.empty(1024, 256, device="sim")
        rows = x[10:20].view(-1)
    del x
    assert book.used == MiB
    del rows
    assert book.used == 0


def test_queued_work_does_not_keep_memory(sim):
    book = sim.boards[0].memory
    x = torch.ones(1024, 256, device="sim")
    for _ in range(5):
        x = x + 1
    assert book.used == MiB
    assert x.sum().item() == 6 * 1024 * 256


def test_what_does_not_fit_says_the_numbers_and_changes_nothing(sim):
    kept = torch.empty(48 * MiB // 4, device="sim")
    with pytest.raises(SimOutOfMemory) as raised:
        torch.empty(32 * MiB // 4, device="sim")
    assert isinstance(raised.value, torch.OutOfMemoryError)
    for said in ("asked for 32.00 MiB", "free 16.00 MiB", "of 64.00 MiB"):
        assert said in str(raised.value)
    assert sim.boards[0].memory.used == kept.nbytes


def test_results_of_ops_and_copies_need_memory_too(sim):
    x = torch.empty(40 * MiB // 4, device="sim")
    with pytest.raises(SimOutOfMemory, match="asked for 40"):
        x + 1
    with pytest.raises(SimOutOfMemory, match="asked for 80"):
        torch.empty(20 * MiB).to("sim")


def test_memory_info_is_what_the_book_says(sim):
    x = torch.empty(MiB, dtype=torch.uint8, device="sim")
    info = memory_info(sim.boards[0].props)
    assert (info.total_bytes, info.free_bytes, info.used_by_us_bytes) == (64 * MiB, 63 * MiB, MiB)
    assert torch.sim.mem_get_info() == (63 * MiB, 64 * MiB)
    del x


def test_the_peak_is_reset_to_what_is_live(sim):
    x = torch.empty(MiB, dtype=torch.uint8, device="sim")
    torch.empty(4 * MiB, dtype=torch.uint8, device="sim")
    assert torch.sim.max_memory_allocated() == 5 * MiB
    torch.sim.reset_peak_memory_stats()
    assert torch.sim.max_memory_allocated() == MiB
    del x


def test_the_peak_is_of_what_lived_at_once(sim):
    for _ in range(3):
        torch.empty(MiB, dtype=torch.uint8, device="sim")
    assert torch.sim.max_memory_allocated() == MiB


LARGE = 5 << 20  # floats: more than what is left to the system to zero


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x[5:9].fill_(1),
        lambda x: x.copy_(torch.ones(())),
        lambda x: x[:3].copy_(torch.ones(3)),
        lambda x: x[:3].copy_(torch.ones(3, device="sim")),
        lambda x: torch._foreach_add_([x], 1),
    ],
)
def test_large_memory_that_was_written_is_zeroed_again(start, write):
    start()
    x = torch.zeros(LARGE, device="sim")
    write(x)
    x.zero_()
    assert x.abs().max().item() == 0.0


def test_large_memory_that_a_kernel_wrote_is_zeroed_again(start):
    props = start().boards[0].props
    x = torch.zeros(LARGE // 4, 4, device="sim")
    request = NormRequest(op="norm.add_rms", device=props, size=4, dtype="fp32", eps=1e-6)
    add_rms_norm(request)(torch.ones_like(x), x, torch.ones(4, device="sim"))
    x.zero_()
    assert x.abs().max().item() == 0.0


def test_an_exception_gives_its_memory_back(sim):
    with pytest.raises(RuntimeError, match="shape"):
        torch.ones(3, device="sim") + torch.ones(4, device="sim")
    assert sim.boards[0].memory.used == 0

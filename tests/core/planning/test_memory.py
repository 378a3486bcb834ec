"""How many pages of KV fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.fakes.requests import attention

from inferplane.errors import UserError
from inferplane.planning.effective import Effective, Value
from inferplane.planning.memory import KVBudget, kv_budget
from inferplane.spec import GiB, GroupKind, KVGroup, MemoryInfo, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

CONFIG = SimpleNamespace(widest=2 * 64 + 4 * 32 + 4 * 4 * 8, vocab=100)
SETTINGS = {
    "dtype": "fp32",
    "num_pages": None,
    "kv_memory": None,
    "memory_fraction": 0.5,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 64,
    "max_model_len": 1 << 20,
    "enable_prefix_caching": True,
    "overlap": False,
}


def group(index: int = 0, layers: int = 2, page: int = 16, window: int = 0) -> KVGroup:
    """A token of one layer takes 2 x 2 heads x 8 x 4 bytes = 128 bytes."""
    return KVGroup(
        index=index,
        name="group",
        kind=GroupKind.WINDOW if window else GroupKind.FULL,
        layers=tuple(range(layers)),
        layout=standard_layout(attention(page_size=page)),
        window=window,
    )


def budget(
    groups=None, weights: int = 0, free: int = 4 * GiB, users=(), **settings: Any
) -> KVBudget:
    values = {
        name: Value(value, "flag" if name in users else "default")
        for name, value in (SETTINGS | settings).items()
    }
    memory = MemoryInfo(free_bytes=free, total_bytes=4 * GiB, source="test")
    return kv_budget(Effective(values), groups or [group()], CONFIG, memory, weights)


def test_a_token_takes_its_bytes_in_all_layers():
    assert budget().token_bytes == 256


def test_a_number_of_pages_is_taken_as_it_is():
    found = budget(num_pages=10)
    assert (found.pages, found.tokens, found.source) == ((10,), 160, "num-pages")


def test_bytes_for_kv_are_taken_as_they_are():
    assert budget(kv_memory=256 * 320).pages == (20,)


def test_the_share_of_memory_without_weights_is_used():
    found = budget()
    used = found.pages[0] * group().page_bytes
    assert used <= 2 * GiB - found.workspace < used + group().page_bytes


def test_more_than_all_requests_can_use_is_not_taken_and_the_source_says_so():
    found = budget(max_model_len=100)
    assert found.tokens == 4 * 100 * 2  # with a prefix tree twice that
    assert found.source == "all that --max-num-seqs 4 can use (50% of 4.0 GiB holds more)"
    assert budget().source == "50% of 4.0 GiB"


def test_weights_take_memory_from_kv():
    assert budget(weights=GiB).tokens == pytest.approx(budget().tokens - GiB / 256, abs=16)


def test_memory_that_is_not_free_is_not_used():
    assert budget(free=GiB).tokens * 256 < GiB * 0.61


def test_groups_share_the_memory():
    both = budget([group(0), group(1, page=32)])
    assert both.token_bytes == 512
    assert both.pages[0] == pytest.approx(2 * both.pages[1], abs=2)


def test_no_more_than_requests_could_ever_use():
    found = budget(max_model_len=100, enable_prefix_caching=False)
    assert found.tokens <= 4 * 100


def test_prefix_caching_makes_more_of_use():
    assert (
        budget(max_model_len=100).tokens
        > budget(max_model_len=100, enable_prefix_caching=False).tokens
    )


def test_no_memory_left_says_where_it_went():
    with pytest.raises(UserError, match=r"no memory is left for KV.*weights take 2.00 GiB"):
        budget(weights=2 * GiB)


def test_weights_that_the_device_cannot_hold_are_not_helped_by_a_larger_share():
    with pytest.raises(UserError, match=r"do not fit.*--quantization") as raised:
        budget(weights=5 * GiB)
    assert "memory-fraction" not in str(raised.value)


def test_a_length_that_nobody_asked_for_shrinks():
    assert budget(num_pages=10).max_model_len == 160


def test_a_length_that_a_user_asked_for_is_refused():
    with pytest.raises(UserError, match="max-model-len is 1048576, the KV cache holds 160 tokens"):
        budget(num_pages=10, users=("max_model_len",))


def test_a_window_does_not_bound_the_length():
    found = budget([group(0), group(1, window=64)], num_pages=1000)
    assert (found.tokens, found.max_model_len) == (16_000, 16_000)
    assert found.pages[1] < 1000 // 8


def test_with_windows_alone_the_length_is_the_one_asked_for():
    found = budget([group(window=64)], num_pages=10, users=("max_model_len",))
    assert (found.pages, found.tokens, found.max_model_len) == ((10,), 160, 1 << 20)


def test_a_window_that_has_no_room_bounds_the_length():
    assert budget([group(window=64)], num_pages=4).max_model_len == 64


def test_steps_that_overlap_add_to_a_window():
    one, two = (budget([group(window=64)], overlap=overlap) for overlap in (False, True))
    assert two.pages[0] - one.pages[0] == 64 // 16  # max_num_batched_tokens

"""A device that tells wrong numbers of its memory is caught."""

from __future__ import annotations

from itertools import count

import pytest
from tests.fakes.kit import caught_by, target_of

from inferplane.spec import Device, Fault, GiB, MemoryInfo

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=3)


class Sorts(Device):
    """As a platform's driver sorts its own library's error."""

    def fault(self, error: BaseException) -> Fault:
        return Fault.MEMORY


def caught(check: str, memory, device: type[Device] = Sorts) -> str:
    target = target_of(device=device, inferplane_memory=lambda props: memory())
    return caught_by(check, target, areas=("memory",))


def info(**changes) -> MemoryInfo:
    given = {"free_bytes": 2 * GiB, "total_bytes": 4 * GiB, "source": "a test", "unified": True}
    return MemoryInfo(**(given | changes))


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("memory-info", {"free_bytes": 5 * GiB}),
        ("memory-info", {"total_bytes": 0, "free_bytes": 0}),
        ("memory-info", {"source": " "}),
        ("allocation", {"used_by_us_bytes": 7}),
    ],
)
def test_wrong_numbers(check, changes):
    assert caught(check, lambda: info(**changes))


def test_memory_that_is_never_given_back():
    calls = count()
    assert caught("given-back", lambda: info(used_by_us_bytes=next(calls) * 64 << 20))


def test_a_full_device_that_is_sorted_as_a_broken_kernel():
    assert caught("out-of-memory", info, Device)


def test_right_numbers_pass():
    for check in ("memory-info", "allocation", "given-back", "out-of-memory", "raises"):
        assert not caught(check, info)

"""Defaults of a device, and memory that two sources tell."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from inferplane.spec import Device, DeviceProps, Fault, GiB, MemoryInfo

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))


class Mine(Device):
    memory_codes: ClassVar[frozenset[int]] = frozenset({2})
    lost_codes: ClassVar[frozenset[int]] = frozenset({7})
    lost_words: ClassVar[tuple[str, ...]] = ("fell off",)


def coded(code: int) -> Exception:
    error = torch.AcceleratorError("an error")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("x"), Fault.MEMORY),
        (coded(2), Fault.MEMORY),
        (coded(7), Fault.LOST),
        (coded(8), Fault.KERNEL),
        (RuntimeError("the device fell off the bus"), Fault.LOST),
        (RuntimeError("a shape"), Fault.KERNEL),
    ],
)
def test_a_platform_names_its_errors_as_data(error, kind):
    assert Mine("cpu", PROPS).fault(error) is kind


@pytest.mark.parametrize("error", [coded(2), coded(7), RuntimeError("the device fell off")])
def test_without_such_data_all_are_errors_of_a_kernel(error):
    assert Device("cpu", PROPS).fault(error) is Fault.KERNEL


def info(free: float, source: str = "one") -> MemoryInfo:
    return MemoryInfo(free_bytes=int(free * GiB), total_bytes=80 * GiB, source=source)


@pytest.mark.parametrize("free", [49.5, 50, 50.9])
def test_sources_that_agree_keep_the_first_figure(free):
    found = info(50).checked_by(info(free, "two"))
    assert (found.free_bytes, found.source) == (50 * GiB, "one, as two")


@pytest.mark.parametrize(("first", "second"), [(50, 40), (40, 50)])
def test_of_sources_that_differ_the_smaller_counts(first, second):
    found = info(first).checked_by(info(second, "two"))
    assert found.free_bytes == 40 * GiB
    assert found.source == f"one ({first}.0 GiB free) and two ({second}.0 GiB free) disagree: " + (
        "the smaller"
    )


def test_why_a_source_has_no_figure_is_told():
    assert info(50).checked_by("two is missing").source == "one (two is missing)"

"""Area "memory": the device's own numbers, and what happens when it is full.

Names of checks: "memory-info", "allocation" (does not show), "given-back", "out-of-memory".
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from inferplane.spec import Fault, MemoryInfo, MiB

from .case import Case, Result, not_run
from .target import Target

_MOST = 64 * MiB


def cases(target: Target, draws: int) -> Iterator[Case]:
    checks = {"memory-info": _info, "allocation-shows": _shows, "out-of-memory": _full}
    for name, check in checks.items():
        yield Case("memory", "memory", target.name, name, runner=partial(_run, check))


def _run(check: Any, case: Case, target: Target) -> Result:
    from .driver import explain

    if target.data_only:
        return not_run(case, "no device")
    begin, result = time.perf_counter(), Result(case)
    try:
        result = check(case, target, result) or result
    except Exception as error:
        result.fail("raises", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


def _info(case: Case, target: Target, result: Result) -> None:
    target.device.synchronize()
    info = target.catalog.memory()
    if not isinstance(info, MemoryInfo):
        result.fail("memory-info", f"inferplane_memory gave {type(info).__name__}, not MemoryInfo")
        return
    if not info.total_bytes > 0 or not 0 <= info.free_bytes <= info.total_bytes:
        result.fail("memory-info", f"{info.free_bytes} of {info.total_bytes} bytes are free")
    if not info.source.strip():
        result.fail("memory-info", "source is empty; it names the call or file that told")


def _shows(case: Case, target: Target, result: Result) -> Result | None:
    import torch

    info = target.catalog.memory()
    if info.unified and info.used_by_us_bytes < 0:
        return not_run(case, "memory is shared with other programs, and nobody counts our part")
    size = min(_MOST, info.free_bytes // 8)
    before = _held(target)
    tensor = torch.ones(size, dtype=torch.uint8, device=target.torch_device)
    target.device.synchronize()
    grown = _held(target) - before
    if not 0.9 * size <= grown <= 2 * size + 32 * MiB:
        result.fail("allocation", f"{size} bytes were allocated, {grown} more are in use")
    del tensor
    gc.collect()
    target.device.synchronize()
    target.device.empty_cache()
    left = _held(target) - before
    if left > 0.1 * size:
        result.fail("given-back", f"{left} of {size} bytes are still in use after they were freed")
    return None


def _held(target: Target) -> int:
    info = target.catalog.memory()
    if info.used_by_us_bytes >= 0:
        return info.used_by_us_bytes
    return info.total_bytes - info.free_bytes


def _full(case: Case, target: Target, result: Result) -> None:
    """A tensor that cannot fit is an error of the kind MEMORY, and the device works on."""
    import torch

    total = target.catalog.memory().total_bytes
    size = 1 << 60 if target.catalog.memory().unified else 2 * total
    try:
        torch.empty(size, dtype=torch.uint8, device=target.torch_device)
        target.device.synchronize()
        result.fail("out-of-memory", f"{size} bytes were allocated on a device of {total}")
    except Exception as error:
        if target.device.fault(error) is not Fault.MEMORY:
            text = f"{type(error).__name__} is sorted as {target.device.fault(error)}"
            result.fail("out-of-memory", f"{text}, not as {Fault.MEMORY}")
    one = torch.ones(4, device=target.torch_device) + 1
    if one.cpu().tolist() != [2.0] * 4:
        result.fail("out-of-memory", "after it, the device computes wrong")

"""Area "attention": a kernel's cache: allocated, copied, sent and received.

Names of checks: "pages" (wrong shape, wrong bytes, or wrong after a copy), "wire" (export is not in
the wire form, or import does not undo it).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from inferplane.plugins.binding import make
from inferplane.spec import AttentionRequest

from .case import Case, Result, not_run, refused
from .listing import case_of, edges
from .sample import Sample
from .suites import find
from .target import Target

if TYPE_CHECKING:
    import torch

_PAGES = 6


def cases(target: Target, draws: int) -> Iterator[Case]:
    suite = find("attention")
    assert suite is not None
    for candidate in target.offers("attention"):
        for dtype in target.floats:
            sample = edges(suite, target, candidate, dtype)[0]
            for name, check in (("wire-form", _wire), ("copy-pages", _copy)):
                full = Sample(name, sample.request, None)
                yield case_of(suite, candidate, f"{name}.{dtype}", full, partial(_run, check))


def _run(check: Any, case: Case, target: Target) -> Result:
    from .driver import explain, refusal

    begin, reason = time.perf_counter(), refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    result = Result(case)
    try:
        check(case, target, result)
    except Exception as error:
        result.fail("raises", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


def _open(case: Case, target: Target) -> tuple[Any, Any, torch.Tensor]:
    """The kernel, its cache of `_PAGES` pages, and pages in the wire form."""
    from .numbers import Numbers
    from .paging import layout_of

    request = case.request
    assert isinstance(request, AttentionRequest) and case.offer is not None
    kernel, layout = make(case.offer, request), layout_of(case.offer, request)
    shape = (_PAGES, request.page_size, 2, request.kv_heads, request.head_dim)
    wire = Numbers(case.seed).normal(*shape, dtype=layout.dtype)
    return kernel, kernel.allocate(layout, _PAGES, target.torch_device), wire


def _wire(case: Case, target: Target, result: Result) -> None:
    from .tensors import same

    kernel, cache, wire = _open(case, target)
    order = [4, 0, 5, 2]
    kernel.import_pages(cache, order, wire[:4])
    found = kernel.export_pages(cache, order)
    if found.device.type != "cpu" or not found.is_contiguous():
        result.fail("wire", "exported pages must be contiguous and on the host")
    elif found.shape != wire[:4].shape:
        result.fail("wire", f"exported pages are {tuple(found.shape)}, not {tuple(wire[:4].shape)}")
    elif not same(found, wire[:4]):
        result.fail("wire", "what was imported is not what is exported")
    elif not same(kernel.export_pages(cache, [5]), wire[2:3]):
        result.fail("wire", "one page alone is exported differently")


def _copy(case: Case, target: Target, result: Result) -> None:
    from .tensors import same

    kernel, cache, wire = _open(case, target)
    kernel.import_pages(cache, list(range(_PAGES)), wire)
    kernel.copy_pages(cache, [0, 1], [3, 0])
    kernel.copy_pages(cache, [], [])
    target.device.synchronize()
    wanted = wire.clone()
    wanted[3], wanted[0] = wire[0], wire[1]
    found = kernel.export_pages(cache, list(range(_PAGES)))
    for page in range(_PAGES):
        if not same(found[page], wanted[page]):
            result.fail("pages", f"page {page} is wrong after 0 was copied to 3, then 1 to 0")
            return

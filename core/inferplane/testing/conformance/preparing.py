"""Area "memory": what `prepare` says it keeps, and `dump` and `restore`.

Names of checks: "bytes" (`Packed` accounts for less or more than is kept), "dump".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from inferplane.plugins.binding import make
from inferplane.spec import Candidate, LinearRequest, Packed

from .case import Case, Result, not_run, refused
from .listing import case_of, edges
from .sample import Sample
from .suites import find
from .target import Target

_OPS = ("linear", "embedding")


def cases(target: Target, draws: int) -> Iterator[Case]:
    for op in _OPS:
        suite = find(op)
        assert suite is not None
        names = ("plain", "tied", "dump") if op == "linear" else ("plain", "dump")
        for candidate in target.offers(op):
            for dtype in target.floats:
                sample = next(
                    s
                    for s in edges(suite, target, candidate, dtype)
                    if s.name in ("many-tokens", "tied")
                )
                for name in names:
                    asked = Sample(name, sample.request, sample.shape)
                    run = partial(_run, suite, name)
                    full = f"prepare-{name}.{dtype}"
                    yield case_of(suite, candidate, full, asked, run, area="memory")


def _run(suite: Any, what: str, case: Case, target: Target) -> Result:
    import torch

    from .driver import explain, refusal

    begin, reason = time.perf_counter(), refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    result = Result(case)
    try:
        with torch.inference_mode():
            if what == "dump":
                return _dump(suite, case, target, result)
            _bytes(suite, case, target, result, what == "tied")
    except Exception as error:
        result.fail("raises", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


def _bytes(suite: Any, case: Case, target: Target, result: Result, tied: bool) -> None:
    from .weights import HostSource

    assert case.offer is not None and case.request is not None
    problem = suite.problem(case, target, case.seed)
    source = HostSource(problem.weights, target, tied=tied)
    kernel = make(case.offer, case.request)
    before = _used(target)
    packed = kernel.prepare(source)
    after = _used(target)
    if not isinstance(packed, Packed):
        result.fail("bytes", f"prepare gave {type(packed).__name__}, not Packed")
        return
    if packed.final_bytes < 0 or packed.peak_bytes < 0:
        result.fail("bytes", f"{packed.final_bytes} and {packed.peak_bytes} bytes are no sizes")
    weight = problem.weights["weight"].nbytes
    _tensors(packed, source, result)
    if tied and isinstance(case.request, LinearRequest):
        extra = _extra(case.offer, case.request)
        if packed.final_bytes > extra:
            text = f"{packed.final_bytes} bytes beside a tied weight, extra_bytes says {extra}"
            result.fail("bytes", text)
    elif packed.final_bytes < weight and not packed.tensors:
        text = f"{packed.final_bytes} bytes are accounted for, the weight alone has {weight}"
        result.fail("bytes", text)
    if before >= 0 and after >= 0:
        kept, slack = after - before, max(1 << 16, weight // 4)
        if abs(kept - packed.final_bytes) > slack:
            result.fail("bytes", f"final_bytes is {packed.final_bytes}, {kept} bytes were kept")


def _tensors(packed: Packed, source: Any, result: Result) -> None:
    """If the tensors are named, they are what is counted, without the tied one."""
    if not packed.tensors:
        return
    owned = [t for t in packed.tensors.values() if t is not source.shared]
    total = sum(t.nbytes for t in owned)
    if total != packed.final_bytes:
        result.fail("bytes", f"final_bytes is {packed.final_bytes}, its tensors have {total}")


def _extra(candidate: Candidate, request: LinearRequest) -> int:
    return candidate.extra_bytes(request) if candidate.extra_bytes else 0


def _used(target: Target) -> int:
    """Bytes that this process holds on the device, -1 where nobody knows."""
    target.device.synchronize()
    return target.catalog.memory().used_by_us_bytes


def _dump(suite: Any, case: Case, target: Target, result: Result) -> Result:
    """What is restored computes the same."""
    from .problem import views
    from .tensors import same

    assert case.offer is not None and case.request is not None
    kernel = make(case.offer, case.request)
    if not (hasattr(kernel, "dump") and hasattr(kernel, "restore")):
        return not_run(case, "it offers no dump and restore")
    problem = suite.problem(case, target, case.seed)
    call = suite.start(case, kernel, problem, target)
    (name, first), *_ = call.run().items()
    kept = {key: tensor.cpu() for key, tensor in kernel.dump(call.prepared).items()}
    fresh = make(case.offer, case.request)
    packed = fresh.restore({key: target.put(tensor) for key, tensor in kept.items()})
    (argument, *_) = views(call.arguments).values()
    second = fresh(argument, packed)
    target.device.synchronize()
    if not same(first.cpu(), second.cpu()):
        result.fail("dump", f"{name} differs after dump and restore")
    return result

"""What a bound op costs beside calling the kernel directly: median over runs, in nanoseconds.

python benchmarks/bound_call.py
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from inferplane.layers.linear import Linear
from inferplane.layers.norm import Norm
from inferplane.plugins.binding import bind
from inferplane.plugins.resolution import Resolver
from inferplane.spec import Candidate, DeviceProps, NormRequest, Packed, Support

CALLS, RUNS = 200_000, 15


def kernel(x: Any, weight: Any) -> Any:
    return x


def cost(function: Callable[..., Any], *arguments: Any) -> float:
    """Nanoseconds a call, the empty loop included."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            function(*arguments)
        times.append((time.perf_counter_ns() - begin) / CALLS)
    return statistics.median(times)


def main() -> None:
    props = DeviceProps(name="none", profile="none", memory_bytes=0, dtypes=frozenset({"fp32"}))
    candidate = Candidate(
        op="norm.rms",
        name="noop.norm",
        supports=lambda request: Support.yes(),
        load=lambda: lambda request: kernel,
    )
    request = NormRequest(device=props, size=1, dtype="fp32", eps=0.0)
    bound = bind(Resolver([candidate]).choose(request))
    direct = cost(kernel, None, None)
    packed = Packed(data=None, final_bytes=0)
    result = {
        "direct_ns": direct,
        "bound_extra_ns": cost(bound, None, None) - direct,
        "layer_with_weight_extra_ns": cost(Norm(bound, None), None) - direct,
        "layer_with_packed_extra_ns": cost(Linear(bound, packed), None) - direct,
    }
    print(json.dumps({name: round(value, 1) for name, value in result.items()}, indent=2))


if __name__ == "__main__":
    main()

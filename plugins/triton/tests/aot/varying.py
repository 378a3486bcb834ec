"""Numbers that change from step to step must not be what a kernel is compiled for: a new one that
is 1, or divides by 16 where the last did not, would stop a running server for a second.

Prints the names of those that are, as JSON: {kernel: [names]}. Not in the interpreter.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import calls
import products
from calls import Launch, recorded
from targets import TARGETS


def launches(tokens: int) -> list[Launch]:
    """Of all calls. tokens: more than usual."""
    calls.TOKENS, products.MORE = 48 + tokens, tokens
    found = calls.calls(TARGETS["sm_90"].props)
    return [launch for _, call in found for launch in recorded(call)]


def varying() -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for one, other in zip(launches(0), launches(1), strict=True):
        assert one.kernel is other.kernel
        for at, (a, b) in enumerate(zip(one.arguments, other.arguments, strict=True)):
            number = isinstance(a, int) and a != b
            if number and not one.kernel.params[at].do_not_specialize:
                found.setdefault(one.kernel.__name__, set()).add(one.kernel.arg_names[at])
    return {kernel: sorted(names) for kernel, names in found.items()}


if __name__ == "__main__":
    print(json.dumps(varying()))

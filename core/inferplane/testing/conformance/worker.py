"""Runs cases in a process of its own, so that a kernel that crashes or hangs ends this one only.

Reads one line of JSON (an `Order`), and writes lines of JSON: what the target is, then for every
case its id before it is run and its result after.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from inferplane.errors import UserError

from .case import Result
from .session import Choice, Session
from .target import Target
from .versions import about


@dataclass(frozen=True)
class Order:
    """skip: ids of cases that were run already. profile: see `Target.open`."""

    device: str
    profile: str | None
    data_only: bool
    choice: Choice
    skip: tuple[str, ...] = ()

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Order:
        fields = json.loads(text)
        choice = fields.pop("choice")
        choice["areas"] = tuple(choice["areas"])
        return cls(**fields | {"choice": Choice(**choice), "skip": tuple(fields["skip"])})


def as_data(result: Result) -> dict[str, Any]:
    """A result as JSON has it. An infinite error is told as a text, which JSON can hold."""
    case, error = result.case, result.error
    return {
        "id": case.id,
        "area": case.area,
        "op": case.op,
        "candidate": case.candidate,
        "status": result.status,
        "failures": [[f.check, f.message] for f in result.failures],
        "error": error if error is None or error < float("inf") else "inf",
        "bound": result.bound,
        "dtype": result.dtype,
        "note": result.note,
        "seconds": round(result.seconds, 4),
    }


def main() -> None:
    order = Order.read(sys.stdin.readline())
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what kernels print does not mix with our lines

    def tell(**fields: Any) -> None:
        lines.write(json.dumps(fields) + "\n")

    try:
        target = Target.open(order.device, order.profile, order.data_only)
        session = Session(target, order.choice)
        skip = set(order.skip)
        todo = [case for case in session.cases if case.id not in skip]
    except UserError as error:
        tell(error=str(error))
        return
    if not order.data_only:
        import torch  # noqa: F401  now, so that the first case is not charged for it
    tell(about=about(target), cases=[[c.id, c.area, c.op, c.candidate] for c in session.cases])
    for case in todo:
        tell(start=case.id)
        tell(result=as_data(session.run(case)))
    tell(done=True)


if __name__ == "__main__":
    main()

"""Faults as text and as data. No torch.

    SIM_FAULTS="kernel@120,oom@300,nan@50,lost@500,hang@7,slow@3:2s,kernel/5s:p0.5"

kind@N: the N-th launch (kernel, nan, lost), allocation (oom) or collective (hang, slow), from 1.
kind%N: every N-th. kind/5s: the next one after every 5 seconds. Options follow, each after a colon:
a time (slow), p0.5 (probability), r1 (on rank 1 only).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Kind = Literal["oom", "kernel", "lost", "nan", "hang", "slow"]
Counter = Literal["launch", "allocation", "collective"]

COUNTED_BY: dict[Kind, Counter] = {
    "kernel": "launch",
    "nan": "launch",
    "lost": "launch",
    "oom": "allocation",
    "hang": "collective",
    "slow": "collective",
}
"""What each kind counts."""

_ENTRY = re.compile(r"(?P<kind>[a-z]+)(?P<how>[@%/])(?P<number>[^:]+)(?P<options>(:[^:]+)*)")
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """When one fault happens. Exactly one of `at`, `every` and `period_s` is not 0.

    probability: of happening when it is due. delay_s: for "slow". rank: -1 for every rank.
    """

    kind: Kind
    at: int = 0
    every: int = 0
    period_s: float = 0.0
    probability: float = 1.0
    delay_s: float = 1.0
    rank: int = -1

    def __post_init__(self) -> None:
        if self.kind not in COUNTED_BY:
            raise ValueError(f"no fault {self.kind!r}; faults: {', '.join(get_args(Kind))}")
        if sum(value > 0 for value in (self.at, self.every, self.period_s)) != 1:
            raise ValueError(f"fault {self.kind!r} needs one of @N, %N or /TIME, above 0")
        if not 0 < self.probability <= 1:
            raise ValueError(f"fault {self.kind!r}: probability {self.probability} is not in 0-1")


def parse_faults(text: str) -> list[FaultPlan]:
    """Plans in the order given. Raises ValueError that shows the wrong entry."""
    return [parse_fault(entry.strip()) for entry in text.split(",") if entry.strip()]


def parse_fault(entry: str) -> FaultPlan:
    """One entry."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f"fault {entry!r}: write kind@N, kind%N or kind/TIME, then :options")
    kind, how, number = cast(Kind, match["kind"]), match["how"], match["number"]
    at = every = 0
    period_s = 0.0
    if how == "/":
        period_s = _time(entry, number)
    elif not number.isdigit():
        raise ValueError(f"fault {entry!r}: {number!r} is not a count")
    else:
        at, every = (int(number), 0) if how == "@" else (0, int(number))
    probability, delay_s, rank = 1.0, 1.0, -1
    for option in match["options"].split(":")[1:]:
        if re.fullmatch(r"p\d*\.?\d+", option):
            probability = float(option[1:])
        elif re.fullmatch(r"r\d+", option):
            rank = int(option[1:])
        else:
            delay_s = _time(entry, option)
    return FaultPlan(
        kind=kind,
        at=at,
        every=every,
        period_s=period_s,
        probability=probability,
        delay_s=delay_s,
        rank=rank,
    )


def _time(entry: str, text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"fault {entry!r}: {text!r} is not a time such as 500ms, 2s or 1m")
    return float(match[1]) * _SECONDS[match[2]]

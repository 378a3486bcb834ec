"""Splits jobs over parts: longest processing time first. The same input gives the same parts."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from inferplane.errors import UserError

from .registry import Job


def partition(jobs: Sequence[Job], parts: int) -> list[list[Job]]:
    """Each job goes, longest first and then by path, to the part with the least so far.

    No part takes more than total / parts + (1 - 1 / parts) * longest, and no more than
    4/3 - 1/(3 * parts) of the best split there is (R. L. Graham, Bounds on multiprocessing timing
    anomalies, 1969). Of equally loaded parts the first is taken.
    """
    if parts < 1:
        raise UserError(f"{parts} parts were asked for; there must be at least 1")
    made: list[list[Job]] = [[] for _ in range(parts)]
    loads = [(0.0, index) for index in range(parts)]
    for job in sorted(jobs, key=lambda job: (-job.est_seconds, job.path)):
        load, index = heapq.heappop(loads)
        made[index].append(job)
        heapq.heappush(loads, (load + job.est_seconds, index))
    return made


def part_of(jobs: Sequence[Job], index: int, parts: int) -> list[Job]:
    """One part; index counts from 1."""
    if not 1 <= index <= max(parts, 1):
        raise UserError(f"there is no part {index} of {parts}: parts count from 1 to {parts}")
    return partition(jobs, parts)[index - 1]


def parts_for(jobs: Sequence[Job], seconds: float) -> int:
    """How many parts of about `seconds` the jobs make: at least one, at most one a job."""
    return max(1, min(len(jobs), math.ceil(load(jobs) / seconds)))


def load(jobs: Sequence[Job]) -> float:
    """Estimated seconds of all jobs."""
    return sum(job.est_seconds for job in jobs)


def parse_part(text: str) -> tuple[int, int]:
    """(index, parts) of "2/3"."""
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal()):
        raise UserError(f"--part {text!r} is not understood: write I/N, as 1/3")
    return int(index), int(parts)

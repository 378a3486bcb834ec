"""The conformance kit, its cases spread over several processes: most of their time is compiling.

The same cases, results and certificate as `inferplane conformance --device NAME --json FILE`. Cases
that look at the whole device (memory, models, graphs, collectives) run after the others, alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from .job import Job, NotRun, save

ALONE = ("memory", "model", "graphs", "collectives")


def processes() -> int:
    """That may compile at a time."""
    return max(1, min(12, (os.cpu_count() or 2) - 2))


def run(job: Job) -> None:
    from inferplane.testing.conformance.certificate import certificate, rows
    from inferplane.testing.conformance.session import Choice, Session
    from inferplane.testing.conformance.target import Target
    from inferplane.testing.conformance.worker import Order

    op = "norm.rms" if job.small else ""
    choice = Choice(op=op, draws=job.draws)
    cases = Session(Target.open(job.device, None, True), choice).cases
    count = 2 if job.small else processes()
    results = Results(job, Order(job.device, None, False, choice), [case.id for case in cases])
    together = [case.id for case in cases if case.area not in ALONE]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(results.run, [together[at::count] for at in range(count)]))
    alone = [case.id for case in cases if case.area in ALONE]
    if alone:
        results.run(alone)
    missing = [id for id in results.ids if id not in results.found]
    if missing:
        raise NotRun(f"{len(missing)} of {len(cases)} cases were not run, {missing[0]} the first")
    ordered = [results.found[id] for id in results.ids]
    listed = rows(results.about, ordered)
    save(job.out / "certificate.json", certificate(results.about, listed, job.draws, not op))
    _tell(job, json.loads((job.out / "certificate.json").read_text()), results)


class Results:
    """Results by case, from several processes at once. about: what they ran on."""

    def __init__(self, job: Job, order: Any, ids: Sequence[str]) -> None:
        self.job, self.order, self.ids = job, order, ids
        self.found: dict[str, dict[str, Any]] = {}
        self.about: dict[str, Any] = {}
        self._lock = threading.Lock()

    def run(self, mine: Sequence[str]) -> None:
        """These cases, in a process of their own, or in more where one crashes."""
        from inferplane.testing.conformance.isolated import run

        others = tuple(set(self.ids) - set(mine))
        for line in run(replace(self.order, skip=others)):
            with self._lock:
                self._keep(line)

    def _keep(self, line: dict[str, Any]) -> None:
        if "about" in line:
            self.about = line["about"]
        if "result" not in line:
            return
        result = line["result"]
        self.found[result["id"]] = result
        if result["status"] == "failed":
            self.job.figure(f"failed: {result['id']}", failures=result["failures"])
        if len(self.found) % 100 == 0:
            self.job.figure("cases", done=len(self.found), of=len(self.ids))


def _tell(job: Job, certificate: dict[str, Any], results: Results) -> None:
    job.about["device"] = {"name": certificate["device"], "execution": certificate["execution"]}
    job.figure("cases", done=len(results.found), of=len(results.ids), draws=job.draws)
    for row in certificate["results"]:
        kept = ("level", "passed", "refused", "failed", "not_run", "largest_error")
        job.figure(f"{row['op']} {row['candidate']}", **{name: row[name] for name in kept})
    failed = sum(row["failed"] for row in certificate["results"])
    passed = sum(row["passed"] for row in certificate["results"])
    told = f"{failed} failed, {passed} passed, {job.draws} draws"
    job.check("conformance", "0 failed", told, not failed and passed > 0)

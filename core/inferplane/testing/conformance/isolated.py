"""Runs a worker, and starts it again behind a case that crashed or hung it. No torch here."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from inferplane.errors import UserError

from .processes import environment
from .worker import Order

CASE_LIMIT_S = 300.0
_OPEN_LIMIT_S = 300.0
_MOST_CRASHES = 25


def run(order: Order, limit_s: float = CASE_LIMIT_S) -> Iterator[dict[str, Any]]:
    """First {"about", "cases"}, then {"start"} and {"result"} for every case that the order does
    not skip."""
    skip = list(order.skip)
    areas: dict[str, list[str]] = {}
    for _ in range(_MOST_CRASHES):
        current = None
        for line in _lines(replace(order, skip=tuple(skip)), limit_s):
            if "cases" in line:
                if not areas:
                    areas = {case[0]: case for case in line["cases"]}
                    yield line
            elif "start" in line:
                current = line["start"]
                yield line
            elif "result" in line:
                skip.append(line["result"]["id"])
                current = None
                yield line
            elif "died" in line:
                if current is None:
                    raise UserError(f"the conformance process ended: {line['died']}")
                skip.append(current)
                yield {"result": _crashed(areas[current], line["died"])}
            elif "error" in line:
                raise UserError(line["error"])
            elif "done" in line:
                return
    raise UserError(f"{_MOST_CRASHES} cases crashed their process; look at one: --case ID")


def _crashed(case: list[str], what: str) -> dict[str, Any]:
    id, area, op, candidate = case
    return {
        "id": id,
        "area": area,
        "op": op,
        "candidate": candidate,
        "status": "failed",
        "failures": [["crashes", what]],
        "error": None,
        "bound": None,
        "dtype": "",
        "note": "",
        "seconds": 0.0,
    }


def _lines(order: Order, limit_s: float) -> Iterator[dict[str, Any]]:
    """Of one worker, until it is done or dead."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "inferplane.testing.conformance.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert worker.stdin is not None
    inbox: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []
    threads = [
        threading.Thread(target=_pump, args=(worker.stdout, inbox), daemon=True),
        threading.Thread(target=_drain, args=(worker.stderr, errors), daemon=True),
    ]
    for thread in threads:
        thread.start()
    worker.stdin.write(order.text() + "\n")
    worker.stdin.flush()
    limit = _OPEN_LIMIT_S
    try:
        while True:
            try:
                text = inbox.get(timeout=limit)
            except queue.Empty:
                yield {"died": f"it was not done after {limit:.0f} s"}
                return
            if text is None:
                break
            line: dict[str, Any] = json.loads(text)
            yield line
            if "done" in line or "error" in line:
                return
            limit = limit_s
        code = worker.wait()
        threads[1].join(timeout=5)
        yield {"died": _why(code, errors)}
    finally:
        worker.kill()
        worker.wait()


def _why(code: int, errors: list[str]) -> str:
    last = "".join(errors)[-400:].strip()
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {last}" if last else ended


def _pump(stream: Any, inbox: queue.Queue[str | None]) -> None:
    for line in stream:
        inbox.put(line)
    inbox.put(None)


def _drain(stream: Any, kept: list[str]) -> None:
    for line in stream:
        kept.append(line)
        del kept[:-50]

"""A soak: a server on the simulated accelerator, faults every few seconds, clients of all kinds.

    python benchmarks/soak.py                       an hour
    python benchmarks/soak.py --minutes 5 --json soak.json

Requests arrive at random; some stream, some are aborted, some clients go away, some ask nonsense.
At the end, after a drain: all pages free or cached, invariants hold, memory flat, and no request
without an answer or an error. Exit code 1 where that is not so. Needs `inferplane-sim` and httpx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

FAULTS = "kernel/5s,oom/4s,nan/7s,lost/2m:p0.5"
MOST_GROWTH = 0.15  # of resident memory, second half against first; and at least MOST_GROWTH_MIB
MOST_GROWTH_MIB = 48
PATIENCE_S = 120.0  # for one answer; a restart takes seconds

Kind = Callable[["Soak", random.Random], Awaitable[str]]


@dataclass
class Soak:
    """What is asked, and what came of it. open: requests that were sent and have no end yet."""

    url: str
    client: httpx.AsyncClient
    asked: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    open: int = 0

    async def ask(self, name: str, kind: Kind, seed: int) -> None:
        """One request. It must end, with an answer or an error of the documented kinds."""
        self.asked[name] += 1
        self.open += 1
        try:
            end = await asyncio.wait_for(kind(self, random.Random(seed)), PATIENCE_S)
            self.ended[end] += 1
        except TimeoutError:
            self.wrong.append(f"{name}: no answer and no error within {PATIENCE_S:g} s")
        except Exception as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            self.open -= 1

    def body(self, rng: random.Random, **changes: Any) -> dict[str, Any]:
        a, b = rng.randrange(1000), rng.randrange(1000)
        shared = "1+1=2, 10+10=20, " * rng.choice([0, 0, 0, 10, 20])
        return {
            "model": "soak",
            "prompt": f"{shared}{a}+{b}=",
            "max_tokens": rng.choice([1, 4, 16, 64, 200]),
            "temperature": rng.choice([0.0, 0.0, 1.0]),
            "ignore_eos": rng.random() < 0.5,
            "seed": rng.randrange(1 << 30),
            **changes,
        }

    def end_of(self, answer: httpx.Response, allowed: tuple[int, ...]) -> str:
        body = answer.json()
        if answer.status_code == 200:
            reasons = {choice["finish_reason"] for choice in body["choices"]}
            if not reasons <= {"stop", "length"}:
                raise AssertionError(f"finish reasons {reasons}")
            return "answered"
        if answer.status_code not in allowed or "message" not in body["error"]:
            raise AssertionError(f"status {answer.status_code}: {answer.text[:200]}")
        return f"error {answer.status_code}"


async def whole(soak: Soak, rng: random.Random) -> str:
    body = soak.body(rng, n=rng.choice([1, 1, 1, 2]))
    answer = await soak.client.post("/v1/completions", json=body)
    return soak.end_of(answer, (429, 500, 503))


async def chat(soak: Soak, rng: random.Random) -> str:
    messages = [{"role": "user", "content": f"{rng.randrange(99)}+{rng.randrange(99)}"}]
    body = {"model": "soak", "messages": messages, "max_tokens": 8, "logprobs": True}
    answer = await soak.client.post("/v1/chat/completions", json=body)
    return soak.end_of(answer, (429, 500, 503))


async def stream(soak: Soak, rng: random.Random) -> str:
    """A whole stream: it ends with a reason or an error event, then [DONE]."""
    return await _stream(soak, rng, leave_after=1 << 30)


async def disconnect(soak: Soak, rng: random.Random) -> str:
    """The client goes away after a few events."""
    return await _stream(soak, rng, leave_after=rng.randrange(1, 6))


async def _stream(soak: Soak, rng: random.Random, leave_after: int) -> str:
    body = soak.body(rng, stream=True)
    last = ""
    async with soak.client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return soak.end_of(answer, (429, 500, 503))
        events = 0
        async for line in answer.aiter_lines():
            if not line:
                continue
            if line == "data: [DONE]":
                event = json.loads(last)
                if "error" in event:
                    return "error in a stream"
                if event["choices"][0]["finish_reason"] not in ("stop", "length"):
                    raise AssertionError(f"the stream's last event is {last}")
                return "answered"
            last = line.removeprefix("data: ")
            events += 1
            if events >= leave_after:
                return "left by the client"
    raise AssertionError(f"the stream broke off after {last!r}")


async def abort(soak: Soak, rng: random.Random) -> str:
    """The client gives up on an answer that it waits for."""
    body = soak.body(rng, max_tokens=300, ignore_eos=True)
    try:
        answer = await soak.client.post(
            "/v1/completions", json=body, timeout=rng.uniform(0.02, 0.5)
        )
    except httpx.TimeoutException:
        return "left by the client"
    return soak.end_of(answer, (429, 500, 503))


async def nonsense(soak: Soak, rng: random.Random) -> str:
    """Requests that must be refused, in any state of the engine."""
    bad: dict[str, Any] = rng.choice(
        [
            {"max_tokens": -1},
            {"temperature": "hot"},
            {"prompt": [1 << 40]},
            {"prompt": "1" * 5000},
            {"model": "another"},
            {"tools": 1, "unknown": 2},
        ]
    )
    answer = await soak.client.post("/v1/completions", json=soak.body(rng, **bad))
    if answer.status_code == 200 and "unknown" not in bad:
        raise AssertionError(f"{bad} was answered")
    return soak.end_of(answer, (400, 404, 429, 500, 503))


KINDS: dict[str, tuple[Kind, float]] = {
    "whole": (whole, 0.35),
    "chat": (chat, 0.1),
    "stream": (stream, 0.25),
    "disconnect": (disconnect, 0.1),
    "abort": (abort, 0.1),
    "nonsense": (nonsense, 0.1),
}


async def load(soak: Soak, seconds: float, rate: float, seed: int) -> None:
    """Poisson arrivals, with bursts and pauses; waits for all to end."""
    rng, tasks = random.Random(seed), set[asyncio.Task[None]]()
    end = time.monotonic() + seconds
    names, weights = list(KINDS), [weight for _, weight in KINDS.values()]
    while time.monotonic() < end:
        phase = rate * rng.choice([0.3, 1.0, 1.0, 3.0])
        phase_end = min(end, time.monotonic() + rng.uniform(2, 10))
        while time.monotonic() < phase_end:
            await asyncio.sleep(rng.expovariate(phase))
            (name,) = rng.choices(names, weights)
            task = asyncio.create_task(soak.ask(name, KINDS[name][0], rng.getrandbits(60)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)


def resident_mib(pid: int) -> float:
    """Resident memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def engine_of(server: int) -> int:
    """The server's engine process; 0 while there is none."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(server)]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    found = [line for line in lines if "inferplane.engine.process" in line]
    return int(found[0].split()[0]) if found else 0


async def watch(server: int, samples: list[tuple[float, float, int, float]]) -> None:
    """(time, server MiB, engine's id, engine MiB) every second."""
    begin = time.monotonic()
    while True:
        await asyncio.sleep(1)
        engine = engine_of(server)
        now = time.monotonic() - begin
        samples.append((now, resident_mib(server), engine, resident_mib(engine)))


def growth(values: list[float]) -> dict[str, Any]:
    """Start, median and end in MiB, and the growth of the second half's median over the first's,
    after a tenth to warm up. curve: medians of tenths."""
    values = values[len(values) // 10 :]
    if len(values) < 20:
        return {}
    half = len(values) // 2
    tenths = [values[len(values) * at // 10 : len(values) * (at + 1) // 10] for at in range(10)]
    first, second = statistics.median(values[:half]), statistics.median(values[half:])
    return {
        "start": values[0],
        "median": statistics.median(values),
        "end": values[-1],
        "growth": second - first,
        "allowed": max(MOST_GROWTH_MIB, MOST_GROWTH * first),
        "curve": [round(statistics.median(tenth), 1) for tenth in tenths],
    }


def engine_growth(samples: list[tuple[float, float, int, float]]) -> dict[str, Any]:
    """Of the engine that lived longest: each restart begins with little memory."""
    lives = Counter(pid for _, _, pid, _ in samples if pid)
    if not lives:
        return {}
    (longest, _), *_ = lives.most_common(1)
    return growth([mib for _, _, pid, mib in samples if pid == longest])


async def drained(soak: Soak, seconds: float = 180.0) -> dict[str, Any]:
    """The checked statistics of an engine that has nothing to do."""
    end, found = time.monotonic() + seconds, {}
    while time.monotonic() < end:
        answer = await soak.client.get("/debug/invariants")
        found = answer.json()
        stats = found.get("stats")
        if stats and stats["running"] == stats["waiting"] == 0:
            return found
        await asyncio.sleep(0.2)
    return {"error": f"the engine did not come to rest: {found}", "stats": {"pages": []}}


async def metrics(soak: Soak) -> dict[str, float]:
    text = (await soak.client.get("/metrics")).text
    wanted = ("inferplane_faults_total", "inferplane_engine_restarts_total", "inferplane_preempt")
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(wanted)]
    return {name.removeprefix("inferplane_"): float(value) for name, _, value in lines}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(options: argparse.Namespace, log: Any) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    command = [sys.executable, "-m", "inferplane.cli.main", "serve", "tiny-arithmetic"]
    command += ["--device", options.device, "--port", str(port), "--served-model-name", "soak"]
    command += ["--num-pages", "30", "--max-num-seqs", "16", "--max-waiting", "64"]
    command += ["--max-num-batched-tokens", "256", "--check-numerics", "--threads", "1"]
    command += ["--restart-limit", "100000", "--restart-backoff-s", "0.5"]
    command += ["--step-timeout-s", "60", "--log-level", "warning"]
    environment = {
        **os.environ,
        "SIM_FAULTS": options.faults,
        "SIM_SEED": str(options.seed),
        # oneDNN keeps code for the last 1,024 shapes: 100 MiB that hide or feign a leak
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
    }
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    return process, f"http://127.0.0.1:{port}"


async def ready(client: httpx.AsyncClient, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("the server did not become ready")


async def run(options: argparse.Namespace, process: Any, url: str) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)  # before the server ends them
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as client:
        await ready(client)
        soak = Soak(url, client)
        samples: list[tuple[float, float, int, float]] = []
        watching = asyncio.create_task(watch(process.pid, samples))
        await load(soak, options.minutes * 60, options.rate, options.seed)
        watching.cancel()
        await ready(client)
        found = await drained(soak)
        counts = await metrics(soak)
    server = growth([mib for _, mib, _, _ in samples])
    engine = engine_growth(samples)
    return {
        "minutes": options.minutes,
        "faults": options.faults,
        "asked": dict(soak.asked),
        "ended": dict(soak.ended),
        "metrics": counts,
        "server_mib": server,
        "engine_mib": engine,
        "stats": found["stats"],
        "problems": problems(soak, found, server, engine),
    }


def problems(
    soak: Soak, found: dict[str, Any], server: dict[str, Any], engine: dict[str, Any]
) -> list[str]:
    """What must not be, in words."""
    told = list(soak.wrong)
    if soak.open or sum(soak.asked.values()) != sum(soak.ended.values()) + len(soak.wrong):
        told.append(f"{soak.open} requests have no end")
    if found.get("error"):
        told.append(f"invariants: {found['error']}")
    for pages in found["stats"]["pages"]:
        if pages["free"] + pages["cached"] != pages["total"]:
            told.append(f"pages of group {pages['group']} are neither free nor cached: {pages}")
    for name, memory in (("server", server), ("engine", engine)):
        if memory and memory["growth"] > memory["allowed"]:
            told.append(f"memory of the {name} grew by {memory['growth']:.0f} MiB")
    return told


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    for title in ("asked", "ended", "metrics"):
        for name, count in sorted(result[title].items()):
            table.add_row(f"{title}: {name}", f"{count:,.0f}")
    console.print(table)
    for name in ("server", "engine"):
        memory = result[f"{name}_mib"]
        if memory:
            console.print(
                f"memory of the {name}: {memory['start']:.0f} MiB at the start, "
                f"{memory['median']:.0f} in the middle, {memory['end']:.0f} at the end; second "
                f"half {memory['growth']:+.1f} MiB (allowed {memory['allowed']:.0f}); "
                f"by tenths of the time: {memory['curve']}"
            )
    for problem in result["problems"][:40]:
        console.print(f"problem: {problem}", style="red", markup=False)
    console.print("the soak failed" if result["problems"] else "the soak passed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, on average")
    parser.add_argument("--faults", default=FAULTS, help="SIM_FAULTS of the engine")
    parser.add_argument("--device", default="sim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--log", type=Path, help="the server's log; default: a temporary file")
    options = parser.parse_args()
    with options.log.open("wb") if options.log else tempfile.TemporaryFile() as log:
        process, url = start(options, log)
        try:
            result = asyncio.run(run(options, process, url))
        finally:
            process.terminate()
            code = process.wait(timeout=60)
        if code:
            result["problems"].append(f"the server exited with code {code}")
    show(result, Console())
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())

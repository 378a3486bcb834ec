"""Times the configurations of tunable kernels, and keeps the best in files that kernels read."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.spec import Candidate, Device, Tunable

if TYPE_CHECKING:
    from inferplane.planning.plan import Plan

FORMAT = 1
_ROUNDS = 5
_ROUND_SECONDS = 0.01


@dataclass(frozen=True)
class Subject:
    """One kernel of a model, in one of its cases."""

    candidate: Candidate
    tunable: Tunable
    request: Any
    case: str


@dataclass
class Measured:
    """times: microseconds by configuration, in the order tried; those that the device cannot run
    are in `refused`, with the reason. The first configuration is the default."""

    subject: Subject
    times: list[tuple[dict[str, int], float]]
    refused: list[tuple[dict[str, int], str]]
    default: float | None

    @property
    def best(self) -> tuple[dict[str, int], float]:
        return min(self.times, key=lambda pair: pair[1])

    def entry(self) -> dict[str, Any]:
        configuration, microseconds = self.best
        return {
            "request": self.subject.request.describe(),
            "case": self.subject.case,
            "configuration": configuration,
            "microseconds": round(microseconds, 3),
            "default_microseconds": None if self.default is None else round(self.default, 3),
        }


def subjects(plan: Plan, op: str = "") -> list[Subject]:
    """The tunable kernels among those that were chosen for the model, each request once."""
    found: dict[tuple[str, str], list[Subject]] = {}
    for choice in plan.resolution.choices.values():
        for tokens, candidate in choice.ranges:
            if not candidate.tunable or op not in ("", candidate.op):
                continue
            request = choice.request.over(tokens)
            key = candidate.name, f"{request.op} {request.describe()}"
            if key not in found:
                tunable = load(candidate)
                found[key] = [
                    Subject(candidate, tunable, request, case) for case in tunable.cases(request)
                ]
    return [subject for group in found.values() for subject in group]


def load(candidate: Candidate) -> Tunable:
    module, _, attribute = candidate.tunable.partition(":")
    try:
        made: Tunable = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{candidate.name} says that {candidate.tunable} can tune it, which cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    return made


def measure(subject: Subject, device: Device) -> Iterator[Measured]:
    """Gives the same object after every configuration, until all were tried.

    Raises UserError where the device runs none of them.
    """
    tunable, request, case = subject.tunable, subject.request, subject.case
    result = Measured(subject, [], [], None)
    for at, given in enumerate(tunable.configurations(request, case)):
        configuration = dict(given)
        try:
            call = tunable.call(request, case, configuration, device.torch_device)
            seconds = timed(call, device.synchronize)
        except Exception as error:
            result.refused.append((configuration, f"{type(error).__name__}: {error}"))
        else:
            result.times.append((configuration, seconds * 1e6))
            if at == 0:
                result.default = seconds * 1e6
        yield result
    if not result.times:
        why = result.refused[0][1] if result.refused else "it names none"
        raise UserError(
            f"{subject.candidate.name} runs in no configuration here, {request.op} "
            f"{request.describe()} {case}: {why}"
        )


def timed(
    call: Callable[[], object],
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one call: the least mean of a few rounds of many calls each."""
    call()  # kernels compile when they are first called
    synchronize()
    begin = clock()
    call()
    synchronize()
    count = max(1, min(1000, int(_ROUND_SECONDS / max(clock() - begin, 1e-7))))
    means = []
    for _ in range(_ROUNDS):
        begin = clock()
        for _ in range(count):
            call()
        synchronize()
        means.append((clock() - begin) / count)
    return min(means)


def write(results: Sequence[Measured], path: Path, versions: dict[str, str]) -> None:
    """Entries of other requests that the file has are kept. All results are of one op."""
    first = results[0].subject
    key = {"format": FORMAT, "device": first.request.device.name, "op": first.candidate.op}
    new = [result.entry() for result in results]
    named = {(entry["request"], entry["case"]) for entry in new}
    entries = [e for e in _entries(path, key) if (e["request"], e["case"]) not in named] + new
    today = datetime.now(UTC).date().isoformat()
    save(key | {"made": {"date": today, **versions}, "entries": entries}, path)


def save(document: dict[str, Any], path: Path) -> None:
    """As JSON, whole or not at all. Raises UserError where it cannot be written."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); name another file: --out") from error


def _entries(path: Path, key: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if any(document[name] != value for name, value in key.items()):
            raise ValueError("it is of another device, op or format")
        return [e for e in document["entries"] if e["request"] and isinstance(e["case"], str)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is there, and is no file of this device and op ({error}); remove it, or name "
            "another: --out"
        ) from error

"""Asks `supports` with many requests: is it pure, does it answer, does it give reasons?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from inferplane.spec import Candidate, DeviceProps, Request, Support

from .findings import Finding
from .isolation import Blocked, Blocker, Recorder
from .samples import samples

_MIN_WORDS = 3


def ask_all(
    candidate: Candidate, props: DeviceProps, blocker: Blocker, recorder: Recorder
) -> tuple[list[Finding], list[str]]:
    """(findings, the answers as text for a comparison with those of another process).

    Requests with features that the candidate does not claim are never asked by the core, so
    neither here. Each is asked twice, the second time in reverse order.
    """
    asked = [r for r in samples(candidate.op, props) if not r.requires - candidate.features]
    found: list[Finding] = []
    first = [_ask(candidate, request, blocker, recorder, found) for request in asked]
    again = [_ask(candidate, request, blocker, recorder, found) for request in reversed(asked)]
    for request, one, two in zip(asked, first, reversed(again), strict=True):
        if one != two:
            found.append(differs(candidate.name, request, one, two))
        elif isinstance(one, Support) and not one.ok:
            found += _reason(candidate, request, one)
    return found, [f"{_words(r)}: {answer}" for r, answer in zip(asked, first, strict=True)]


def differs(name: str, request: Request | str, one: Any, two: Any) -> Finding:
    words = request if isinstance(request, str) else _words(request)
    text = f"for {words} it answered {_short(one)}, then {_short(two)}"
    return Finding("IP304", name, f"{text}; answer from the request alone")


def _ask(
    candidate: Candidate,
    request: Request,
    blocker: Blocker,
    recorder: Recorder,
    found: list[Finding],
) -> Any:
    blocker.refused.clear()
    error: Exception | None = None
    answer: Any = None
    with recorder.watch() as seen:
        try:
            answer = candidate.supports(request)
        except Exception as raised:
            error = raised
    name = candidate.name
    for module in dict.fromkeys(blocker.refused):
        text = f"it imports {module}; answer from data, and import in what `load` names"
        found.append(Finding("IP305", name, text))
    blocker.refused.clear()
    for what in seen:
        found.append(Finding("IP306", name, f"it {what}; answer from the request alone"))
    if error is not None:
        if not isinstance(error, Blocked):
            text = f"it raised {type(error).__name__}: {error}, for {_words(request)}"
            found.append(Finding("IP301", name, text))
        return type(error).__name__
    if not isinstance(answer, Support):
        text = f"it gave {type(answer).__name__}; return Support.yes() or Support.no(reason)"
        found.append(Finding("IP302", name, text))
    return answer


def _words(request: Request) -> str:
    return f"{request.op} {request.describe()}".strip()


def _short(answer: Any) -> str:
    if not isinstance(answer, Support):
        return str(answer)
    return "yes" if answer.ok else f"no ({answer.reason})"


def _reason(candidate: Candidate, request: Request, answer: Support) -> Iterator[Finding]:
    text = answer.reason.strip()
    if len(text.split()) < _MIN_WORDS:
        message = f"it refused {_words(request)} with {text!r}: say what was asked, and what it has"
        yield Finding("IP303", candidate.name, message)
        return
    lowered = text.lower()
    if "installed" in lowered:  # a library that is missing says nothing of the request
        return
    if not any(value in lowered for value in _values(request)):
        message = (
            f"it refused {_words(request)} with {text!r}, which names nothing of the request: "
            "say the value that was asked for, and those that it has"
        )
        yield Finding("IP303", candidate.name, message)


def _values(value: Any) -> Iterator[str]:
    """Words that a reason about this request may hold: names of fields, and their values."""
    for field in fields(value):
        inner = getattr(value, field.name)
        yield field.name.replace("_", " ").lower()
        yield field.name.lower()
        if is_dataclass(inner) and not isinstance(inner, type):
            yield from _values(inner)
        elif isinstance(inner, Enum):
            yield str(inner.value).lower()
        elif isinstance(inner, tuple | frozenset):
            for item in inner:
                words = item if isinstance(item, tuple) else (item,)  # details are pairs
                yield from _values(item) if is_dataclass(item) else map(str.lower, map(str, words))
        elif isinstance(inner, int) and not isinstance(inner, bool):
            yield from (str(inner), f"{inner:,}")
        elif str(inner):
            yield str(inner).lower()
    if isinstance(value, Request):
        yield from value.requires

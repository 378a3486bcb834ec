"""A candidate's answer to one request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Support:
    """Supported, or unsupported because of `reason`. Make one with `Support.yes` or `Support.no`.

    ok: whether the candidate can serve the request exactly as asked.
    reason: why not, for a person: the value asked for, and the values there are. Empty when ok.
    instead: (optional) the name of a candidate or setting that would work.
    priority: (optional) replaces `Candidate.priority` for this request, for example by token range.
    """

    ok: bool
    reason: str = ""
    instead: str = ""
    priority: int | None = None

    @classmethod
    def yes(cls, *, priority: int | None = None) -> Support:
        return cls(True, priority=priority)

    @classmethod
    def no(cls, reason: str, *, instead: str = "") -> Support:
        if not reason.strip():
            raise ValueError("Support.no needs a reason: what was asked, and what there is")
        return cls(False, reason, instead)

    def __bool__(self) -> bool:
        return self.ok

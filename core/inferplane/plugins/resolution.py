"""Negotiation with reasons: binds every site of a model graph to a candidate, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf

from inferplane.errors import UserError, nearest
from inferplane.spec import OPS, Candidate, Request, Support, TokenRange

from .errors import ResolutionError
from .site import Site
from .tuning import NO_TUNING, Tuning

LEVELS = {"op": 0, "block": 1, "layer": 2, "model": 3}
REFERENCE = "reference."


def is_reference(candidate: Candidate) -> bool:
    return candidate.name.startswith(REFERENCE)


@dataclass(frozen=True)
class Pins:
    """What the user said about kernels: op -> the one to use, and (op, name) never to use."""

    use: tuple[tuple[str, str], ...] = ()
    never: frozenset[tuple[str, str]] = frozenset()

    @cached_property
    def by_op(self) -> dict[str, str]:
        return dict(self.use)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Pins:
        """From "OP=NAME" and "OP!=NAME"."""
        use: dict[str, str] = {}
        never = set()
        for text in texts:
            op, sign, name = text.partition("=")
            banned = op.endswith("!")
            op, name = op.rstrip("!").strip(), name.strip()
            if not sign or not op or not name:
                raise UserError(f"--kernel {text!r}: write OP=NAME to use, OP!=NAME to forbid")
            if op not in OPS:
                raise UserError(
                    f"--kernel {text!r}: no op {op!r}{nearest(op, OPS)}; ops: {', '.join(OPS)}"
                )
            if banned:
                never.add((op, name))
            elif use.setdefault(op, name) != name:
                raise UserError(f"--kernel: {op} is pinned twice, to {use[op]} and to {name}")
        return cls(tuple(use.items()), frozenset(never))


@dataclass(frozen=True)
class Rejected:
    """A candidate that was not chosen, and why."""

    candidate: Candidate
    reason: str
    instead: str = ""


@dataclass(frozen=True)
class Choice:
    """A request and what serves it: one candidate a token range, in order.

    rejected: every other candidate of the op, with its reason in the first range it was refused.
    """

    request: Request
    ranges: tuple[tuple[TokenRange, Candidate], ...]
    rejected: tuple[Rejected, ...] = ()

    @property
    def found(self) -> bool:
        return bool(self.ranges)

    @property
    def candidate(self) -> Candidate:
        """The candidate of the smallest token range."""
        return self.ranges[0][1]

    @property
    def names(self) -> str:
        if len(self.ranges) == 1:
            return self.candidate.name
        return ", ".join(f"{c.name} (M {tokens})" for tokens, c in self.ranges)

    @property
    def falls_back(self) -> bool:
        return any(is_reference(c) for _, c in self.ranges)


@dataclass
class Resolution:
    """Every site's choice, by path.

    composed: composites that stay as their reference composition, with why no larger candidate
    took them. inner: rotary embeddings inside of composites that were taken.
    """

    root: Site
    choices: dict[str, Choice] = field(default_factory=dict)
    inner: dict[str, Choice] = field(default_factory=dict)
    composed: dict[str, Choice] = field(default_factory=dict)
    problems: list[tuple[str, Choice]] = field(default_factory=list)
    pins: Pins = field(default_factory=Pins)

    @property
    def fallbacks(self) -> list[str]:
        return [path for path, choice in self.choices.items() if choice.falls_back]

    def check(self, model: str, device: str, advice: str = "") -> None:
        """Raises ResolutionError that lists every problem at once. advice: what would work."""
        if not self.problems:
            return
        grouped: dict[tuple[str, tuple[str, ...]], Counter[str]] = {}
        for _, choice in self.problems:
            pin = self.pins.by_op.get(choice.request.op)
            asked = [r for r in choice.rejected if pin in (None, r.candidate.name)]
            reasons = tuple(_reason(r) for r in asked) or ("no candidate is installed",)
            requests = grouped.setdefault((choice.request.op, reasons), Counter())
            requests[choice.request.describe()] += 1
        lines = [
            f"{n}. {op} {_count(requests)}:{_listed(reasons)}"
            for n, ((op, reasons), requests) in enumerate(grouped.items(), 1)
        ]
        head = f"{len(lines)} problems stop" if len(lines) > 1 else "1 problem stops"
        head += f" {model} on {device}"
        told = [head, *lines, *filter(None, [advice])]
        raise ResolutionError("\n  ".join(told), tuple(lines))


def _count(requests: Counter[str]) -> str:
    first, *others = requests
    more = f" and {len(others)} more" * bool(others)
    sites = requests.total()
    return f"{first}{more} ({sites} site{'s' * (sites > 1)})"


def _listed(reasons: Sequence[str]) -> str:
    """One reason behind its problem, several below it."""
    return f" {reasons[0]}" if len(reasons) == 1 else "".join(f"\n     {r}" for r in reasons)


def _reason(rejected: Rejected) -> str:
    instead = f" ({rejected.instead} would work)" if rejected.instead else ""
    return f"{rejected.candidate.name}: {rejected.reason}{instead}"


_Key = tuple[int, float, int, bool, str]


class Resolver:
    """Chooses candidates. The order: pins and bans, level, tuning data, priority, the platform's
    own before those of features, name.

    platform: its candidates' names begin with this and a dot.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        pins: Pins | None = None,
        strict: bool = False,
        tuning: Tuning = NO_TUNING,
        platform: str = "",
    ) -> None:
        self.pins, self.own = pins or Pins(), f"{platform}."
        self.strict = strict
        self.tuning = tuning
        self.by_op: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            self.by_op.setdefault(candidate.op, []).append(candidate)
        self._cache: dict[Request, Choice] = {}
        self._check_pins()

    def _check_pins(self) -> None:
        for op, name in [*self.pins.use, *self.pins.never]:
            known = [c.name for c in self.by_op.get(op, ())]
            if name not in known:
                raise UserError(
                    f"--kernel {op}: no candidate {name!r}{nearest(name, known)}; "
                    f"candidates: {', '.join(known) or 'none'}"
                )

    def choose(self, request: Request, contains: frozenset[str] = frozenset()) -> Choice:
        """The choice for one request. contains: ops that a composite candidate would replace."""
        if not contains and request in self._cache:
            return self._cache[request]
        rejected: dict[str, Rejected] = {}
        ranges: list[tuple[TokenRange, Candidate]] = []
        for tokens in self._ranges(request):
            best = self._best(request.over(tokens), contains, rejected)
            if best is None:
                ranges = []
                break
            if ranges and ranges[-1][1] is best:
                tokens = TokenRange(ranges.pop()[0].first, tokens.last)
            ranges.append((tokens, best))
        chosen = {candidate.name for _, candidate in ranges}
        losers = tuple(r for name, r in rejected.items() if name not in chosen)
        choice = Choice(request, tuple(ranges), losers)
        if not contains:
            self._cache[request] = choice
        return choice

    def _ranges(self, request: Request) -> list[TokenRange]:
        first, last = request.tokens.first, request.tokens.last
        breaks = {b for c in self.by_op.get(request.op, ()) for b in c.token_breaks}
        edges = [b for b in sorted(breaks) if first <= b < last]
        starts = [first, *(b + 1 for b in edges)]
        return [TokenRange(a, b) for a, b in zip(starts, [*edges, last], strict=True)]

    def _best(
        self, request: Request, contains: frozenset[str], rejected: dict[str, Rejected]
    ) -> Candidate | None:
        asked = [(c, self._ask(c, request, contains)) for c in self.by_op.get(request.op, ())]
        measured = [c.name for c, support in asked if support.ok and not is_reference(c)]
        ranks = self.tuning.ranks(request, measured)
        able: list[tuple[_Key, Candidate]] = []
        for candidate, support in asked:
            if not support.ok:
                rejected.setdefault(
                    candidate.name, Rejected(candidate, support.reason, support.instead)
                )
                continue
            priority = candidate.priority if support.priority is None else support.priority
            if is_reference(candidate):
                priority = -(1 << 30)
            name = candidate.name
            rank = ranks.get(name, inf if ranks else 0.0)
            foreign = not name.startswith(self.own)
            able.append(((-LEVELS[candidate.level], rank, -priority, foreign, name), candidate))
        able.sort(key=lambda item: item[0])
        for key, candidate in able[1:]:
            rejected.setdefault(
                candidate.name, Rejected(candidate, _behind(key, candidate, able[0]))
            )
        return able[0][1] if able else None

    def _ask(self, candidate: Candidate, request: Request, contains: frozenset[str]) -> Support:
        """Pins, bans and features first: a candidate is asked only what it claims to handle."""
        pin = self.pins.by_op.get(request.op)
        if pin and candidate.name != pin:
            return Support.no(f"{request.op} is pinned to {pin}")
        if (request.op, candidate.name) in self.pins.never:
            return Support.no("forbidden by --kernel")
        pinned_inside = sorted(contains & self.pins.by_op.keys())
        if pinned_inside and not pin:
            return Support.no(f"it contains {', '.join(pinned_inside)}, which is pinned")
        if self.strict and is_reference(candidate):
            return Support.no("a reference kernel, refused by --strict")
        missing = request.requires - candidate.features
        if missing and not is_reference(candidate):
            return Support.no(f"it does not handle {', '.join(sorted(missing))}")
        return ask(candidate, request)

    def resolve(self, root: Site) -> Resolution:
        """Binds every site below `root`; larger candidates are asked before smaller ones."""
        resolution = Resolution(root, pins=self.pins)
        self._resolve(root, resolution)
        return resolution

    def _resolve(self, site: Site, resolution: Resolution) -> None:
        if site.request is not None:
            if not site.children:
                self._bind(site, site.request, resolution)
                return
            contains = frozenset(s.request.op for s in site.walk() if s.request and s is not site)
            choice = self.choose(site.request, contains)
            if choice.found:
                resolution.choices[site.path] = choice
                self._resolve_inside(site, resolution)
                return
            resolution.composed[site.path] = choice
            if site.request.op in self.pins.by_op:
                resolution.problems.append((site.path, choice))
                return
        for child in site.children:
            self._resolve(child, resolution)

    def _resolve_inside(self, site: Site, resolution: Resolution) -> None:
        """A larger kernel still reads the cache through the layer's attention kernel."""
        for inner in site.walk():
            if inner.request is not None and inner.request.op == "attention":
                self._bind(inner, inner.request, resolution)
            elif inner.request is not None and inner.request.op == "rotary":
                resolution.inner[inner.path] = self.choose(inner.request)

    def _bind(self, site: Site, request: Request, resolution: Resolution) -> None:
        choice = self.choose(request)
        if choice.found:
            resolution.choices[site.path] = choice
        else:
            resolution.problems.append((site.path, choice))


def ask(candidate: Candidate, request: Request) -> Support:
    """The candidate's own answer; one that raises or returns no Support is a refusal."""
    try:
        support = candidate.supports(request)
    except Exception as error:
        return Support.no(f"its supports() raised {type(error).__name__}: {error}")
    if not isinstance(support, Support):
        return Support.no(f"its supports() returned {type(support).__name__}, not Support")
    if not support.ok and not support.reason.strip():
        return Support.no("its supports() refused without a reason")
    return support


def _behind(key: _Key, candidate: Candidate, best: tuple[_Key, Candidate]) -> str:
    winner = best[1].name
    if key[0] != best[0][0]:
        return f"lower level than {winner}"
    if key[1] != best[0][1] and not is_reference(candidate):
        return f"tuning data prefers {winner}"
    if key[2] != best[0][2]:
        return f"lower priority than {winner}"
    if key[3] != best[0][3]:
        return f"same priority, {winner} is the platform's own"
    return f"same priority, name after {winner}"

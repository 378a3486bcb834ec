"""How KV groups share memory. Pure arithmetic; lengths in tokens.

A full group needs pages for all tokens of the running requests. A window group needs them for a
window of each request, for the tokens of steps that are not committed, and for ends of prefixes
that may be resumed: so its pool follows the window, and full groups get the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from inferplane.spec import GroupKind, KVGroup

_WINDOWS = 4  # where memory is scarce, requests are taken to be so many windows long
_APART = 1024  # tokens from one end of a kept prefix to the next, if that is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """requests: that run at once. length: most tokens of one. uncommitted: tokens of launched steps
    and of the one that is being made. prefixes: whether ended requests stay of use."""

    requests: int
    length: int
    uncommitted: int
    prefixes: bool

    @property
    def tokens(self) -> int:
        """More than every request at full length is of no use, or twice that with a prefix tree."""
        return self.requests * self.length * (1 + self.prefixes)

    def window_pages(self, group: KVGroup, requests: int) -> int:
        """A window each, a page to move on, and what steps add to them."""
        window = min(window_pages(group), ceil(self.length / group.page_size)) + 1
        return requests * window + ceil(self.uncommitted / group.page_size)


def window_pages(group: KVGroup) -> int:
    """Pages that a token's window reaches into at most, with the token's own."""
    return (group.window + group.page_size - 2) // group.page_size + 1


def share(groups: Sequence[KVGroup], demand: Demand, room: int) -> tuple[int, ...]:
    """Pages of each group that fit into `room` bytes together."""

    def needed(tokens: int, scarce: bool = True) -> int:
        pages = _pages(groups, demand, tokens, scarce)
        return sum(count * group.page_bytes for count, group in zip(pages, groups, strict=True))

    tokens = max(0, bisect_right(range(demand.tokens + 1), room, key=needed) - 1)
    scarce = tokens < demand.tokens or needed(tokens, scarce=False) > room
    return _pages(groups, demand, tokens, scarce)


def given(groups: Sequence[KVGroup], demand: Demand, count: int) -> tuple[int, ...]:
    """`count` pages for each full group, and for window groups what those tokens can make use of.
    Where every group has a window, `count` pages for each."""
    full = [group.page_size for group in groups if group.kind is not GroupKind.WINDOW]
    if not full:
        return (count,) * len(groups)
    found = _pages(groups, demand, count * min(full), scarce=False)
    return tuple(
        pages if group.kind is GroupKind.WINDOW else count
        for pages, group in zip(found, groups, strict=True)
    )


def held(groups: Sequence[KVGroup], pages: Sequence[int]) -> list[int]:
    """Tokens of each group."""
    return [count * group.page_size for count, group in zip(pages, groups, strict=True)]


def capacity(groups: Sequence[KVGroup], pages: Sequence[int]) -> int | None:
    """Most tokens of a request, None where only windows are kept. A window that has too few pages
    to move on is a bound as well."""
    bounds = [
        tokens
        for tokens, count, group in zip(held(groups, pages), pages, groups, strict=True)
        if group.kind is not GroupKind.WINDOW or count < window_pages(group)
    ]
    return min(bounds, default=None)


def _pages(groups: Sequence[KVGroup], demand: Demand, tokens: int, scarce: bool) -> tuple[int, ...]:
    """Pages of each group, where full ones have `tokens`; no group has more than those."""
    mixed = any(group.kind is not GroupKind.WINDOW for group in groups)
    found = []
    for group in groups:
        pages = tokens // group.page_size
        if group.kind is GroupKind.WINDOW:
            ends = max(demand.requests, tokens // max(_APART, _WINDOWS * group.window))
            wanted = demand.window_pages(group, demand.requests + ends * demand.prefixes)
            if scarce and mixed:
                length = max(1, min(demand.length, _WINDOWS * group.window))
                part = ceil(pages * min(1.0, group.window / length))
                wanted = min(wanted, max(part, demand.window_pages(group, 1)))
            pages = min(pages, wanted)
        found.append(pages)
    return tuple(found)

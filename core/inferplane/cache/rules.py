"""When the pages of a group can be reused, by the kind of group."""

from __future__ import annotations

from inferplane.spec import GroupKind

from .node import Node


class Rule:
    """Full attention (and latent): every page of the prefix is needed.

    sparse: whether a prefix can be of use although some of its pages are gone.
    """

    sparse = False

    def __init__(self, group: int, page: int, window: int = 0) -> None:
        self.group, self.page, self.window = group, page, window

    def usable(self, path: list[Node]) -> list[Node]:
        """The longest part of a matched path, from the start, that a request can resume behind."""
        for at, node in enumerate(path):
            if node.pages[self.group] is None:
                return path[:at]
        return path

    def first_needed(self, length: int) -> int:
        """The first token whose page a request that resumes at `length` reads."""
        return 0

    def needed(self, depth: int) -> int:
        """Nodes at the end of a path of `depth` whose pages a request that resumes there reads."""
        return depth - self.first_needed(depth * self.page) // self.page


class WindowRule(Rule):
    """Only the pages that the next token's window reaches into are needed."""

    sparse = True

    def usable(self, path: list[Node]) -> list[Node]:
        present = 0
        best = 0
        for at, node in enumerate(path, 1):
            present = present + 1 if node.pages[self.group] is not None else 0
            if present >= self.needed(at):
                best = at
        return path[:best]

    def first_needed(self, length: int) -> int:
        return max(0, length - self.window + 1)


class StateRule(Rule):
    """A running state can be resumed only where it was saved."""

    sparse = True

    def usable(self, path: list[Node]) -> list[Node]:
        while path and path[-1].pages[self.group] is None:
            path = path[:-1]
        return path

    def first_needed(self, length: int) -> int:
        return length

    def needed(self, depth: int) -> int:
        return 1


def rule_for(kind: GroupKind, group: int, page: int, window: int) -> Rule:
    if kind is GroupKind.WINDOW:
        return WindowRule(group, page, window)
    if kind is GroupKind.STATE:
        return StateRule(group, page)
    return Rule(group, page)

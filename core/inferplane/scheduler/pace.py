"""How much a step may hold now: less for a while after one did not fit into memory."""

from __future__ import annotations

_FIRST_HOLD, _LONGEST_HOLD = 8, 4096  # committed steps before the first growth
_BETWEEN = 4  # committed steps between two growths
_FACTOR = 4


class Pace:
    """tokens: most tokens of a step now, and so most running requests. most: when all is well.
    tried: a step has not fitted before, so `passed` must be told of all that are committed.

    Half of what did not fit is tried next. Growth begins after a hold. It doubles whenever a step
    fails that is larger than all that passed since the last failure, so that a limit that stays is
    met ever more rarely; otherwise size was not the reason, and it is short again.
    """

    def __init__(self, most: int) -> None:
        self.most = self.tokens = most
        self.tried = False
        self._hold = _FIRST_HOLD
        self._wait = 0
        self._largest = 0  # step that passed since the last failure

    def shrink(self, failed: int) -> None:
        """A step of `failed` tokens did not fit."""
        if failed <= self._largest:
            self._hold = _FIRST_HOLD
        elif self._largest:
            self._hold = min(2 * self._hold, _LONGEST_HOLD)
        self.tokens = max(1, min(self.tokens, failed) // 2)
        self._wait, self._largest, self.tried = self._hold, 0, True

    def passed(self, tokens: int) -> None:
        """A step of so many tokens was committed."""
        self._largest = max(self._largest, tokens)
        if self.tokens == self.most:
            return
        self._wait -= 1
        if self._wait <= 0:
            self.tokens = min(self.most, _FACTOR * self.tokens)
            self._wait = _BETWEEN

"""Whether, and after how long, an engine that ended is started again."""

from __future__ import annotations

from collections import deque


class Restarts:
    """limit: restarts within window_s; 0: none at all. first_s: the first wait; every further one
    is twice as long, up to most_s. An engine that was ready for longer than most_s starts the row
    of waits anew."""

    def __init__(self, limit: int, window_s: float, first_s: float, most_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self.first_s, self.most_s = first_s, most_s
        self.count = 0
        self._row = 0
        self._times: deque[float] = deque()

    def wait(self, now: float, ready_s: float) -> float | None:
        """Seconds until the next start; None when there were too many. now: a monotonic time.
        ready_s: how long the engine had been ready."""
        while self._times and now - self._times[0] > self.window_s:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return None
        if ready_s > self.most_s:
            self._row = 0
        seconds = min(self.most_s, self.first_s * 2.0 ** min(self._row, 30))
        self._row += 1
        self.count += 1
        self._times.append(now)
        return seconds

    @property
    def refusal(self) -> str:
        """Why `wait` gave None."""
        if not self.limit:
            return "it is not restarted (restart-limit is 0)"
        return f"it was restarted {self.limit} times within {self.window_s:g} s (restart-limit)"

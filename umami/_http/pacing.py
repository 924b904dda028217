"""The rate of requests that Umami Cloud allows: 50 in 15 seconds an API key.

No header of its answers tells how many are left.
"""

from collections import deque
from typing import Final

from umami import _threads
from umami._clock import monotonic

MOST_CALLS: Final = 50
SECONDS: Final = 15.0


class Pace:
    """Spreads calls such that no more than so many begin in so many seconds. Threads may share it.

    Args:
        calls: How many.
        seconds: In how many seconds.
    """

    def __init__(self, calls: int = MOST_CALLS, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._starts: deque[float] = deque(maxlen=calls)
        self._lock = _threads.RLock()

    def wait(self) -> float:
        """Take a place, and return the seconds until it comes."""
        with self._lock:
            now = start = monotonic()
            if len(self._starts) == self._starts.maxlen:
                start = max(now, self._starts[0] + self._seconds)
            self._starts.append(start)
        return start - now

"""Waiting under a lock for something to become so."""

import time
from collections.abc import Callable
from typing import Any

from umami import threads


class Waiting:
    """The threads that wait, each for something of its own.

    Args:
        lock: The reentrant lock around what they wait for.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._changed = threads.Condition(lock)
        self._awaited: list[Callable[[], bool]] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._awaited)

    def until(self, wanted: Callable[[], bool], give_up: float | None) -> bool:
        """Wait until `wanted` holds, or a monotonic time has come; tell whether it holds."""
        with self._lock:
            try:
                self._awaited.append(wanted)
                return self._wait(wanted, give_up)
            finally:
                if wanted in self._awaited:  # unless something interrupted before it was
                    self._awaited.remove(wanted)

    def _wait(self, wanted: Callable[[], bool], give_up: float | None) -> bool:
        # A call, because since Python 3.12 a Ctrl-C at a loop's end passes by a `with` around it.
        while not wanted():
            remaining = None if give_up is None else give_up - time.monotonic()
            if remaining is not None and remaining <= 0:
                return False
            self._changed.wait(remaining)
        return True

    def tell(self) -> None:
        """Wake them if one of them waits no longer in vain; the lock is held."""
        # To wake a thread for nothing costs more than to look whether it is for nothing.
        if any(wanted() for wanted in self._awaited):
            self._changed.notify_all()

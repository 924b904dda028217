"""Takes over what other processes left in the store, in a thread of its own.

Reading files may take long: a disk may hang, and a folder may contain many files that this process cannot
use. So callers do not read them. A flush requests a look at the folder and waits for it, within its own
timeout.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from umami import _threads
from umami._clock import monotonic
from umami._waiting import Steps, Work

from .queue import EventQueue

_LOOK_SECONDS: Final = 5.0


class Orphans:
    """Looks every few seconds for what other processes left, and at once when asked.

    Args:
        queue: The queue with the store.
        adopt: Takes over what there is, as much as this process may at a time; tells if there was any.
    """

    def __init__(self, queue: EventQueue, adopt: Callable[[], bool]) -> None:
        self._queue = queue
        self._adopt = adopt
        self.reset()

    def reset(self) -> None:
        """Start clean, as a fork's child does: the thread is the parent's."""
        self._lock = _threads.RLock()
        self._thread: _threads.Thread | None = None
        self._asked = 0
        self._looked = 0
        self._found = 0

    def watch(self) -> bool:
        """Make sure that the thread runs, if there is a store; tell whether it does."""
        if self._thread is not None:
            return True
        if not self._queue.has_store:
            return False
        thread = _threads.Thread("umami-spool")
        try:
            self._thread = thread
            thread.start(self._run, thread)
        except BaseException as error:
            if thread.call_off():
                self._thread = None
                if isinstance(error, RuntimeError):  # too many threads, or the interpreter is shutting down
                    return False
            raise
        return True

    def look(self, give_up: float) -> Steps[bool]:
        """Look now, and wait for that.

        Args:
            give_up: The monotonic time to stop waiting at.

        Returns:
            Whether anything was taken over by then.
        """
        if not self._queue.has_store:
            return False
        with self._lock:
            self._asked += 1
            asked, found = self._asked, self._found
        if not self.watch():
            return bool((yield Work(self._try, give_up)))
        self._queue.notify()
        yield self._queue.wait_for(lambda: self._looked >= asked, give_up)
        return self._found > found

    def _try(self) -> bool:
        with suppress(Exception):  # of one file; the next look tries again
            return self._adopt()
        return False

    def _run(self, thread: _threads.Thread) -> None:
        try:
            while self._thread is thread:
                asked = self._asked
                self._found += self._try()
                self._looked = asked
                self._queue.notify()
                self._queue.wait_for(self._is_due, monotonic() + _LOOK_SECONDS).run()
                with self._lock:
                    if (self._queue.stopped or self._queue.is_over) and self._asked == self._looked:
                        self._thread = None  # under the lock: who asks now is to start another
        finally:
            if self._thread is thread:
                self._thread = None
            if self._queue.is_over:
                self._queue.close_store()

    def _is_due(self) -> bool:
        return (
            self._asked > self._looked
            or self._queue.stopped
            or self._queue.is_over
            or self._queue.wants_orphans
        )

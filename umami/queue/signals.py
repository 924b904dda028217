"""SIGTERM, for those who ask: what is queued is delivered before the signal has its ordinary effect.

The handler takes no lock, because the code that it interrupts may hold it. It hands the signal to a
thread, which flushes and then raises it again; the second time round the handler lets it have its effect.
"""

import logging
import signal
import threading
from _queue import Empty, SimpleQueue  # reentrant, and never gevent's
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from umami import threads

logger: Final = logging.getLogger("umami")

_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 2.0


class SigtermFlush:
    """Flushes at SIGTERM, once installed.

    Args:
        flush: Flushes, within a time of its own choosing.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush: Final = flush
        self._installed = False
        self._former: Any = None
        self._thread: threads.Thread | None = None
        self._arrived: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._taken: SimpleQueue[None] = SimpleQueue()
        self._flushed = False
        self._held = threading.local()

    def install(self) -> None:
        """Handle SIGTERM from now on, for as long as nobody else takes it.

        Raises:
            ValueError: This is not the main thread, or the former handler is not Python's.
        """
        if not hasattr(signal, "pthread_kill") or self._is_ours():
            return  # Windows, where nobody sends it; or done already
        former = signal.getsignal(signal.SIGTERM)
        if former is None:
            raise ValueError("SIGTERM has a handler that was not installed by Python code")
        signal.signal(signal.SIGTERM, self._handle)
        self._former = former
        self._installed = True
        self.attend()

    def uninstall(self) -> None:
        """Give SIGTERM back.

        Raises:
            ValueError: This is not the main thread.
        """
        if self._installed and self._is_ours():
            signal.signal(signal.SIGTERM, self._former)
        self._installed = False

    def _is_ours(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._handle

    def attend(self) -> None:
        """See to it that a thread of this process is there to flush, if that is wanted."""
        if self._installed and self._thread is None:
            thread = threads.Thread("umami-sigterm")
            with suppress(RuntimeError):  # the process is ending, and flushes anyway
                thread.start(self._flush_and_raise_again)
                self._thread = thread

    def before_fork(self) -> None:
        """Hold SIGTERM back: a child forgets a signal that comes before its interpreter is set up."""
        if self._installed:
            self._held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def after_fork_in_parent(self) -> None:
        """Let SIGTERM come again."""
        mask = getattr(self._held, "mask", None)
        if mask is not None:
            self._held.mask = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def after_fork(self) -> None:
        """Start clean in a fork's child: it has the handler, but not the thread."""
        self._thread = None
        self._arrived, self._taken = SimpleQueue(), SimpleQueue()
        self._flushed = False
        self.after_fork_in_parent()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._thread is None:
            self._take_effect(number, frame)
        elif self._flushed:
            self._flushed = False
            self._taken.put(None)
            self._take_effect(number, frame)
        else:
            self._arrived.put((number, threads.get_ident()))

    def _take_effect(self, number: int, frame: FrameType | None) -> None:
        if callable(self._former):
            self._former(number, frame)
        elif self._former == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _flush_and_raise_again(self) -> None:
        while True:
            number, main_thread = self._arrived.get()
            try:
                self._flush()
            except Exception:
                logger.exception("Flushing at SIGTERM failed unexpectedly: a bug in umami, please report it.")
            self._flushed = True
            # To the main thread, where handlers run. If that was just about to begin a system call, it sleeps
            # on the signal, as Python does not look between; so it is woken until it has taken it.
            wait = _FIRST_WAIT
            while self._flushed:
                signal.pthread_kill(main_thread, number)
                with suppress(Empty):
                    self._taken.get(timeout=wait)
                wait = min(2 * wait, _LONGEST_WAIT)

"""The threads: senders take batches, export and settle them; one takes over what other processes left."""

import logging
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from umami import _process, _threads
from umami._clock import monotonic
from umami._waiting import Steps, Work

from .batches import Batch
from .destination_queue import DestinationQueue
from .exporter import Exported, Exporter, Failure, checked
from .queue import EventQueue
from .reporter import Report

_EXTRA_SENDER_SECONDS: Final = 5.0
_SLOW_ANSWER: Final = 0.01
_SLOW_ITEM: Final = 0.002
_LEAST_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 5.0
_RESTART_SECONDS: Final = 0.5
_NO_THREAD: Final = (
    "No thread can be started, so events wait in the queue. A later send tries again; flush() and the end of "
    "the process send them without a thread. Raise the limit of threads (RLIMIT_NPROC, a container's pids)."
)

logger: Final = logging.getLogger("umami")


def call_safely(call: Callable[[], None]) -> None:
    """Make a call of an exporter's whose failure must do no harm."""
    try:
        call()
    except Exception:
        with suppress(Exception):  # of a log handler
            logger.exception("%s of an exporter raised.", getattr(call, "__name__", "A method"))


def _note_server(destination: DestinationQueue) -> None:
    """Say so if a server, such as uvicorn, is to end this process without a flush."""
    if not destination.settings.flush_on_sigterm:
        _process.note_server()


class Senders:
    """Starts and stops the threads that send.

    Args:
        queue: The queue.
        after_end: Called in such a thread when it has ended.
    """

    def __init__(self, queue: EventQueue, after_end: Callable[[], None]) -> None:
        self._queue = queue
        self._after_end = after_end
        self._threads: set[_threads.Thread] = set()

    def ensure(self, destination: DestinationQueue, most: int = 1) -> bool:
        """Start one more thread for a destination, if it has fewer senders than `most`.

        Returns:
            Whether it has a sender: False if no thread can be started.
        """
        thread = _threads.Thread("umami-sender")
        try:
            if not self._queue.add_sender(destination, thread, most):
                return True
            self._threads.add(thread)
            thread.start(self._run, destination, thread)
        except BaseException as error:  # Ctrl-C, say, even while the thread starts
            if thread.call_off():
                self._threads.discard(thread)
                self._queue.remove_sender(destination, thread)
                if isinstance(error, RuntimeError):
                    if "interpreter shutdown" not in str(error):  # as at every exit, since Python 3.12
                        self._queue.report(Report("warning", "no_thread", _NO_THREAD))
                    return False
            raise
        return True

    def _run(self, destination: DestinationQueue, thread: _threads.Thread) -> None:
        """Take a batch, export it, settle it, again and again."""
        try:
            with suppress(Exception):  # the first batch will fail for it
                destination.exporter.prepare()  # while its events gather
            _note_server(destination)
            while batch := self._queue.take(destination, thread, spare=_EXTRA_SENDER_SECONDS):
                seconds = self._export(destination, batch)
                _note_server(destination)
                # Another connection helps against a server's latency only, not against our own.
                slow = seconds > _SLOW_ANSWER + _SLOW_ITEM * len(batch.events)
                if slow and self._queue.is_behind(destination):
                    self.ensure(destination, destination.settings.senders or destination.limits.threads)
        except BaseException as error:
            self._queue.remove_sender(destination, thread)
            message = f"A sender ended with {type(error).__name__}, and another takes its place."
            self._queue.report(Report("warning", "sender", message))
            # What ended it may end the next one at once too.
            self._queue.wait_for(lambda: self._queue.stopped, monotonic() + _RESTART_SECONDS).run()
            if destination in self._queue.unsettled() and not self._queue.stopped:
                self.ensure(destination)
            raise
        finally:
            call_safely(destination.exporter.leave)
            self._threads.discard(thread)
            self._queue.notify()  # a shutdown may wait for its end
            self._after_end()

    def _export(self, destination: DestinationQueue, batch: Batch, within: float | None = None) -> float:
        """Export a batch and settle it; return the seconds that this took once the exporter was ready."""
        exporter = destination.exporter
        started = math.inf
        try:
            exporter.prepare()
            started = monotonic()
            deadline = None if within is None else started + within
            exported = checked(exporter.export(batch.events, deadline), len(batch.events))
            self._queue.settle(destination, batch, exported)
        except KeyboardInterrupt:
            # Ctrl-C while this thread sends: the events stay queued, and may have been stored.
            failure = Failure("The export was interrupted.", range(len(batch.events)), stored_perhaps=True)
            self._queue.settle(destination, batch, Exported(failure=failure))
            raise
        except BaseException as error:
            # Whatever it is, it must cost no more than this batch, and leave a sender at work.
            dropped = self._queue.settle(destination, batch, f"{type(error).__name__}: {error}")
            with suppress(Exception):  # of a log handler
                logger.exception(
                    "The exporter %s failed with %s, and its batch of %d event%s was %s. To have events sent "
                    "again, return a Failure from export(). If it is umami's own, please report it.",
                    exporter.name,
                    type(error).__name__,
                    len(batch.events),
                    "s" * (len(batch.events) != 1),
                    "dropped" if dropped else "settled before",
                )
            if not isinstance(error, Exception):
                raise
        return monotonic() - started

    def work(self, destination: DestinationQueue, give_up: float) -> bool:
        """Send in this thread what a destination has, or gets until a monotonic time, and return True.

        Requests are to end by then too.
        """
        # Again after the last batch, because another thread may have relied on this one.
        while destination in self._queue.unsettled():
            sender = object()
            try:
                self._queue.add_sender(destination, sender, sys.maxsize)
                if not self._work_as(sender, destination, give_up):
                    return True
            finally:
                destination.senders.discard(
                    sender
                )  # in one step: the next could be interrupted before it does
                self._queue.remove_sender(destination, sender)
                call_safely(destination.exporter.leave)
        return True

    def _work_as(self, sender: object, destination: DestinationQueue, give_up: float) -> bool:
        """Send until nothing is left, and tell whether that was in time.

        A call, because since Python 3.12 a Ctrl-C at a loop's end passes by a `finally` around it.
        """
        while destination in self._queue.unsettled():
            remaining = give_up - monotonic()
            batch = self._queue.take(destination, sender, remaining)
            if batch is None:
                return False
            within = None if remaining == math.inf else max(_LEAST_SECONDS, remaining)
            self._export(destination, batch, within)
        return True

    def is_current(self) -> bool:
        """Tell whether this thread is one of them."""
        return any(thread.is_current() for thread in self._threads.copy())

    def stop(self, give_up: float) -> Steps[None]:
        """Have every thread end, and wait for that until `give_up`. Events stay queued."""
        self._queue.stop()
        others = {thread for thread in self._threads.copy() if not thread.is_current()}
        yield self._queue.wait_for(lambda: others.isdisjoint(self._threads), give_up)

    def after_fork(self) -> None:
        """Forget the parent's threads in a fork's child."""
        self._threads = set()


class Orphans:
    """Takes over what other processes left in the store: looks every few seconds, and at once when asked.

    Reading files may take long: a disk may hang, and a folder may contain many files that this process cannot
    use. So callers do not read them. A flush requests a look at the folder and waits for it, within its own
    timeout.

    Args:
        queue: The queue with the store.
        senders: What sends the events.
        exporter_of: Returns the exporter of a name that events have; None if this process has none.
    """

    def __init__(
        self, queue: EventQueue, senders: Senders, exporter_of: Callable[[str], Exporter | None]
    ) -> None:
        self._queue = queue
        self._senders = senders
        self._exporter_of = exporter_of
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
        if self._queue.store is None:
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
        if self._queue.store is None:
            return False
        with self._lock:
            self._asked += 1
            asked, found = self._asked, self._found
        if not self.watch():
            return bool((yield Work(self._adopt, give_up)))
        self._queue.notify()
        yield self._queue.wait_for(lambda: self._looked >= asked, give_up)
        return self._found > found

    def _adopt(self) -> bool:
        """Take over what there is, as much as this process may at a time; tell if there was any."""
        destinations: list[DestinationQueue] = []
        with suppress(Exception):  # of one file; the next look tries again
            destinations = self._queue.adopt(self._exporter_of)
            for destination in destinations:
                _process.watch()
                self._senders.ensure(destination)
        return bool(destinations)

    def _run(self, thread: _threads.Thread) -> None:
        try:
            while self._thread is thread:
                asked = self._asked
                self._found += self._adopt()
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
            or (self._queue.store is not None and self._queue.store.wants_orphans)
        )

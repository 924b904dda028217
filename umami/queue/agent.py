"""One client's agent: queues events, has them sent in the background, flushes, and ends with the process."""

import logging
import math
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from umami import _process, _threads
from umami._clock import monotonic
from umami._models import QueueStats
from umami._waiting import Steps, Work, run, run_async
from umami.settings import Settings

from .destination_queue import DestinationQueue
from .exporter import Exporter
from .queue import EventQueue
from .reasons import SHUTDOWN, end_message, flush_message
from .reporter import Report, Reporter
from .store import Store
from .workers import Orphans, Senders, call_safely

_REPORT_SECONDS: Final = 1.0
_LAST_REPORT_SECONDS: Final = 0.2
_FIRST_LOOK_SECONDS: Final = 0.5
_NO_THREAD_SECONDS: Final = 1.0

logger: Final = logging.getLogger("umami")


class Agent:
    """Ships events in the background.

    Args:
        settings: How.
        exporter_of: Returns the exporter of a name that stored events have; None if there is none.

    Attributes:
        reporter: Takes reports of what goes wrong.
        queue: Holds the events.
    """

    def __init__(self, settings: Settings, exporter_of: Callable[[str], Exporter | None]) -> None:
        self.reporter = Reporter(settings.on_error)
        self.queue = EventQueue(settings, self._resume, self.reporter.add)
        self._settings = settings
        self._senders = Senders(self.queue, self._note_end)
        self._orphans = Orphans(self.queue, self._senders, exporter_of)
        self._no_thread_until = 0.0
        self._waited_in_vain = 0.0
        self._exit_by: float | None = None
        self._has_said_what_is_left = False
        _process.register(self)

    def configure(self, settings: Settings) -> None:
        """Apply other settings from now on. Nothing that is queued is lost, whatever the bounds."""
        self._settings = settings
        self.reporter.on_error = settings.on_error
        self.queue.configure(settings)

    def report_trouble(self, reason: str, message: str) -> None:
        """Take a report of what goes wrong with a folder of events."""
        self.reporter.add(Report("trouble", reason, message))

    def use_store(self, store: Store) -> None:
        """Keep a copy of each event in a store from now on, and send what other processes left there."""
        self.queue.use_store(store)
        self._orphans.watch()

    def look_for_orphans(self) -> None:
        """Take over what other processes left in the store. It is not waited for long."""
        if self.queue.is_held():
            return  # in a retry strategy: to wait would give the lock away in the middle of a settlement
        _threads.off_hub(run, self._orphans.look(monotonic() + _FIRST_LOOK_SECONDS))

    # Events in.

    def put_late(self, destination: DestinationQueue, event: bytes, patience: float) -> str | None:
        """Queue an event that `put` did not take, waiting for room; without any, count it as dropped.

        Returns:
            None if it was taken, else the reason that it is counted under.
        """
        steps = self._put_late(destination, event, patience)
        return _threads.off_hub(run, steps) if patience > 0 and self._exit_by is None else run(steps)

    async def put_late_async(
        self, destination: DestinationQueue, event: bytes, patience: float
    ) -> str | None:
        """Do as `put_late` does, without blocking the event loop."""
        return await run_async(self._put_late(destination, event, patience))

    def _put_late(self, destination: DestinationQueue, event: bytes, patience: float) -> Steps[str | None]:
        if self._exit_by is not None:
            return self._put_at_exit(destination, event, self._exit_by)
        if self.queue.stopped or not destination.senders:
            # The queue is full of what a shutdown left, or of what no thread could be started for.
            self._resume(destination)
        return (yield from self.queue.put_late(destination, event, patience))

    # Senders.

    def _resume(self, destination: DestinationQueue) -> None:
        """Have a destination's events sent, for the first time or after a shutdown.

        If no thread can be started they wait for a later send, a flush or the end of the process: sent from
        here, they would make this caller wait for the server.
        """
        self._waited_in_vain = 0.0
        if self.queue.closing or monotonic() < self._no_thread_until:
            return
        _process.watch()
        destinations = {destination}
        if self.queue.stopped:
            self.queue.stopped = False
            destinations.update(self.queue.unsettled())
        for each in destinations:
            if not self._ensure_sender(each):
                self._no_thread_until = monotonic() + _NO_THREAD_SECONDS

    def _ensure_sender(self, destination: DestinationQueue) -> bool:
        self._orphans.watch()
        return self._senders.ensure(destination)

    def _note_end(self) -> None:
        """Do what `abandon` left to the senders, if a shutdown has ended them."""
        if self.queue.abandoned and self._exit_by is None:
            self.abandon()

    # Flushing and stopping.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event accepted so far is settled; see `Client.flush`."""
        return _threads.off_hub(run, self._flush(timeout))

    async def flush_async(self, timeout: float | None = None) -> bool:
        """Do as `flush` does, without blocking the event loop."""
        return await run_async(self._flush(timeout))

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept nothing more, flush, and stop the threads; see `Client.shutdown`."""
        return _threads.off_hub(run, self._shutdown(timeout))

    async def shutdown_async(self, timeout: float | None = None) -> bool:
        """Do as `shutdown` does, without blocking the event loop."""
        return await run_async(self._shutdown(timeout))

    def _flush(self, timeout: float | None) -> Steps[bool]:
        if self.queue.is_held() or self.reporter.is_held() or self._senders.is_current():
            return False  # a signal's or a log's handler, in a thread that it needs: it would wait for itself
        began = monotonic()
        settled = yield from self._flush_all(math.inf if timeout is None else began + timeout)
        return settled or self._warn_of_unsettled("flush()", began)

    def _shutdown(self, timeout: float | None) -> Steps[bool]:
        if self.queue.is_held():
            return False  # as a flush would
        began = monotonic()
        give_up = began + (self._settings.shutdown_timeout if timeout is None else timeout)
        call = object()
        try:
            self.queue.close(call)
            settled = yield from self._flush_all(give_up)
            if self.queue.is_last(call):  # or else another shutdown goes on, and stops them
                yield from self._senders.stop(give_up)
        finally:
            self.queue.closing.pop(call, None)  # in one step, which nothing can interrupt
        if not settled:
            self._waited_in_vain += monotonic() - began
            self._warn_of_unsettled("shutdown()", began)
        yield from self.reporter.finish(monotonic() + _LAST_REPORT_SECONDS)
        return settled

    def _warn_of_unsettled(self, what: str, began: float) -> bool:
        """Log, once a minute at most, why a call that began at a time returns False; return that."""
        stats, trouble = self.queue.stats(), self.queue.trouble()
        message = flush_message(what, monotonic() - began, stats, trouble)
        self.reporter.add(Report("warning", "unsettled", message))
        return False

    def _flush_all(self, give_up: float) -> Steps[bool]:
        """Flush, and send what other processes left."""
        yield from self._orphans.look(give_up)
        settled = yield from self._flush_own(give_up)
        while settled and self.queue.store is not None and self.queue.store.has_orphans:
            if not ((yield from self._orphans.look(give_up)) or self.queue.unsettled()):
                break
            settled = yield from self._flush_own(give_up)
        return settled

    def _flush_own(self, give_up: float) -> Steps[bool]:
        """Flush, but take nothing over: a process that ends need not wait for what others left."""
        settled = yield from self._settle(give_up)
        yield from self.reporter.flush(min(give_up, monotonic() + _REPORT_SECONDS))
        return settled

    def _settle(self, give_up: float) -> Steps[bool]:
        """Wait until what is there is settled."""
        destinations = self.queue.unsettled()
        if destinations:
            self.queue.stopped = False
        unattended = [each for each in destinations if not self._ensure_sender(each)]
        if unattended:
            self.queue.hurry(give_up)
        worked = True
        for index, destination in enumerate(unattended):
            now = monotonic()
            share = now + (give_up - now) / (len(unattended) - index)
            worked = bool((yield Work(partial(self._senders.work, destination, share), share))) and worked
        if not worked:  # there is no thread for an event loop to wait for
            return False
        return (yield from self.queue.wait_settled(give_up))

    def abandon(self) -> None:
        """Have what is queued delivered, and let the threads go then: the client is gone.

        A sender's thread keeps the agent in being until then. Without one, the store hands the events on, or
        the end of the process flushes them.
        """
        if self.queue.abandon():
            return
        store = self.queue.store
        if store is not None and store.left >= self.queue.stats().pending:
            self.queue.close_store(forget=True)  # another client or process sends all of it
        else:
            _process.keep(self)

    def stats(self) -> QueueStats:
        """Return the ledger at this instant."""
        return self.queue.stats().model_copy(update={"repaired": dict(self.reporter.repaired)})

    # The end of the process, and forks: see `_process.Hooks`.

    def begin_exit(self) -> None:
        """Take no more events, and have everything sent as soon as possible. `exit` must follow."""
        if self._exit_by is None:
            self._exit_by = monotonic() + self.patience()
        self.queue.close(self)
        self.queue.hurry(self._exit_by)

    def patience(self) -> float:
        """Return the seconds that the end of the process may wait: those that a shutdown in vain has left."""
        return max(0.0, self._settings.shutdown_timeout - self._waited_in_vain)

    def exit(self) -> None:
        """Flush before the process ends, and log what is left. Later sends deliver by themselves."""
        give_up = self._exit_by or 0.0
        try:
            run(self._flush_own(give_up))
        except KeyboardInterrupt:
            give_up = self._exit_by = 0.0  # the user does not want to wait
        run(self._senders.stop(give_up))
        run(self.reporter.finish(monotonic()))
        self._log_what_is_left_at_exit()

    def _put_at_exit(self, destination: DestinationQueue, event: bytes, give_up: float) -> str | None:
        """Deliver an event now or leave it to the next process: no one will wait for it."""
        # Once modules are being taken apart nothing can be sent, and a daemon thread is not waited for.
        if sys.is_finalizing() or threading.current_thread().daemon or monotonic() >= give_up:
            if self.queue.keep(destination, event):
                return None
            self.queue.drop(SHUTDOWN, "Sent when the process was ending; more are not logged.", [event])
            run(self.reporter.flush(min(give_up, monotonic()) + _LAST_REPORT_SECONDS))
            return SHUTDOWN
        self.queue.put_locked(destination, event, anyway=True)
        run(self._flush_own(give_up))
        self._log_what_is_left_at_exit()
        return None

    def _log_what_is_left_at_exit(self) -> None:
        stats = self.queue.stats()
        kept = self.queue.close_store()
        if not self._has_said_what_is_left:
            self._has_said_what_is_left = self._log_what_is_left("The process ends", stats, kept)

    def _log_what_is_left(self, what: str, stats: QueueStats, kept: int = 0) -> bool:
        """Log how many events are pending, if any are."""
        if stats.pending:
            seconds, trouble = self._settings.shutdown_timeout, self.queue.trouble()
            logger.error("%s", end_message(what, seconds, stats, trouble, kept))
        return stats.pending > 0

    @property
    def flushes_on_sigterm(self) -> bool:
        """Whether a SIGTERM waits for deliveries."""
        return self._settings.flush_on_sigterm

    def begin_flush(self) -> float:
        """Have everything sent as soon as possible, and return until when to wait for it."""
        give_up = monotonic() + self.patience()
        self.queue.hurry(give_up)
        return give_up

    def end_flush(self, give_up: float) -> None:
        """Wait for deliveries, and log what is left then."""
        began = monotonic()
        settled = run(self._flush_own(give_up))
        run(self.reporter.finish(monotonic()))
        if not settled:
            self._waited_in_vain += monotonic() - began
            self._log_what_is_left("SIGTERM takes effect", self.queue.stats())

    def after_fork(self) -> None:
        """Start clean in a fork's child: the parent's events, threads and connections are the parent's."""
        self._senders.after_fork()
        self._exit_by = None
        self._no_thread_until = self._waited_in_vain = 0.0
        self._has_said_what_is_left = False
        self.reporter.reset()
        self.queue.reset()
        self._orphans.reset()
        if self.queue.rejected is not None:
            self.queue.rejected.after_fork()
        for exporter in self.queue.exporters():
            call_safely(exporter.after_fork)

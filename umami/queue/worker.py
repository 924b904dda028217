"""The agent: sender threads over the buffer; flush, shutdown, and what it does when the process ends.

Senders are plain daemon threads with a sync client, because at exit an event loop can no longer resolve
a host name. Where no thread can be started, as at exit since Python 3.12, whoever needs the events sent
sends them.
"""

import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from umami import threads
from umami.models import QueueStats

from . import lifecycle
from .bounds import Bounds
from .buffer import SHUTDOWN, Buffer
from .destination import Destination
from .exporter import Exporter
from .lane import Batch, Lane
from .report import OnError, Reporter, logger
from .spool import SpoolPlan
from .spooling import Spooling

_EXTRA_SENDER_SECONDS: Final = 5.0
_SLOW_ANSWER: Final = 0.01
_SLOW_ITEM: Final = 0.002
_REPORT_SECONDS: Final = 1.0
_LAST_REPORT_SECONDS: Final = 0.2
_LEAST_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Plan:
    """How an agent works.

    Attributes:
        bounds: What the buffer holds, and how batches are cut and tried again.
        senders: The most sender threads of a destination; None for as many as are of use.
        shutdown_timeout: The most seconds that the exit of the process may wait for deliveries.
        flush_on_sigterm: Whether a SIGTERM waits for deliveries as well.
        on_error: The user's callback.
        spool: Where events wait on disk; None for nowhere.
    """

    bounds: Bounds
    senders: int | None
    shutdown_timeout: float
    flush_on_sigterm: bool
    on_error: OnError | None
    spool: SpoolPlan | None = None


class Agent:
    """Ships events in the background.

    Args:
        plan: How.
        new_exporter: Makes what delivers to a destination.
    """

    def __init__(self, plan: Plan, new_exporter: Callable[[Destination], Exporter]) -> None:
        self._reporter = Reporter(plan.on_error)
        self._buffer = Buffer(plan.bounds, new_exporter, self._resume, self._reporter.add)
        self.put = self._buffer.put
        self._threads: set[threads.Thread] = set()
        self._exit_by: float | None = None
        self._said_what_is_left = False
        self._spooling = Spooling(self._buffer, self._take_on, self._reporter.add)
        self.configure(plan)
        lifecycle.know(self)

    def configure(self, plan: Plan) -> None:
        """Work as `plan` says from now on. Nothing that is queued is lost, whatever the bounds.

        Raises:
            ValidationError: The spool cannot be used, or there is another one already.
        """
        opened = self._spooling.open(plan.spool)
        if plan.spool is not None and plan.spool.home is not None:
            self._buffer.lane(plan.spool.home)  # what others left for it is to have its credential
        self._plan = plan
        self._reporter.on_error = plan.on_error
        self._buffer.rebound(plan.bounds)
        if opened:
            self._spooling.adopt()

    # Events in.

    def lane(self, destination: Destination) -> Lane:
        """Return the lane for events to a destination."""
        return self._buffer.lane(destination)

    def put_late(self, lane: Lane, event: bytes, patience: float) -> str | None:
        """Queue an event that `put` did not take, waiting for room; without any, count it as dropped.

        Returns:
            None if it was taken, else why it was not.
        """
        if self._exit_by is not None:
            return self._put_at_exit(lane, event, self._exit_by)
        if self._buffer.stopped:
            self._resume(lane)  # the queue is full of what a shutdown left
        if patience <= 0:
            return self._buffer.put_late(lane, event, 0.0)
        return threads.off_hub(self._buffer.put_late, lane, event, patience)

    def drop(self, reason: str, message: str, event: bytes) -> None:
        """Count an event that is given up before it was queued."""
        self._buffer.drop(reason, message, [event])

    def report(self, kind: str, reason: str, message: str, event: bytes) -> None:
        """Tell of something that happened to an event that was not queued."""
        self._reporter.add(kind, reason, message, [event])

    def note_repair(self, kind: str) -> None:
        """Count a field that was made to fit."""
        self._reporter.note_repair(kind)

    # Senders.

    def _resume(self, lane: Lane) -> None:
        """Have the events of a lane sent, for the first time or after a shutdown."""
        lifecycle.watch_the_end()
        if self._buffer.closing:
            return
        lanes = {lane}
        if self._buffer.stopped:
            self._buffer.stopped = False
            lanes.update(self._buffer.unsettled_lanes())
        for each in lanes:
            if not self._staff(each):
                # No thread can be started, and may never be: then whoever fills a batch sends it.
                self._work(each, time.monotonic())

    def _staff(self, lane: Lane, most: int = 1) -> bool:
        """See to it that a thread sends the events of a lane, by one more if they are fewer than `most`.

        Returns:
            Whether one does: whether none had to be started, or it could be.
        """
        thread = threads.Thread("umami-sender")
        try:
            if not self._buffer.enlist(lane, thread, most):
                return True
            self._spooling.watch()
            self._threads.add(thread)
            thread.start(self._send, lane, thread)
        except BaseException as error:  # Ctrl-C, say, even while the thread starts
            if thread.call_off():
                self._threads.discard(thread)
                self._buffer.dismiss(lane, thread)
                if isinstance(error, RuntimeError):
                    return False
            raise
        return True

    def _send(self, lane: Lane, thread: threads.Thread) -> None:
        """A sender's life: take a batch, deliver it, settle it."""
        try:
            with suppress(Exception):  # the first batch will say so
                lane.exporter.prepare()  # while its events gather
            while batch := self._buffer.take(lane, thread, spare=_EXTRA_SENDER_SECONDS):
                seconds = self._ship(lane, batch)
                # A second connection helps against a server's latency only, not against our own.
                if seconds > _SLOW_ANSWER + _SLOW_ITEM * len(batch.events) and lane.is_behind():
                    self._staff(lane, self._most_senders(lane))
        except BaseException:
            self._buffer.dismiss(lane, thread)
            if lane.unsettled() and not self._buffer.stopped:
                self._staff(lane)  # another takes its place
            raise
        finally:
            lane.exporter.leave()
            self._threads.discard(thread)

    def _most_senders(self, lane: Lane) -> int:
        return self._plan.senders or lane.exporter.limits.threads

    def _ship(self, lane: Lane, batch: Batch, within: float | None = None) -> float:
        """Deliver a batch and settle it, and return the seconds that this took once all was ready."""
        started = math.inf
        try:
            lane.exporter.prepare()
            started = time.monotonic()
            deadline = None if within is None else started + within
            self._buffer.settle(lane, batch, lane.exporter.export(batch.events, deadline))
        except BaseException as error:
            # Whatever it is, it must cost no more than this batch, and leave a sender at work.
            self._buffer.give_up(lane, batch, "internal_error", f"{type(error).__name__}: {error}")
            with suppress(Exception):  # a log handler's fault is no more to cost than this
                logger.exception("Delivering a batch failed unexpectedly: a bug in umami, please report it.")
            if not isinstance(error, Exception):
                raise
        return time.monotonic() - started

    def _work(self, lane: Lane, give_up: float) -> None:
        """Deliver in this thread, in place of a sender, what a lane has or gets until `give_up`."""
        while lane.unsettled():  # the next time round, because another thread counted on this one
            sender = object()
            try:
                self._buffer.enlist(lane, sender, sys.maxsize)
                while lane.unsettled():
                    remaining = give_up - time.monotonic()
                    batch = self._buffer.take(lane, sender, remaining)
                    if batch is None:
                        return
                    self._ship(lane, batch, within=max(_LEAST_SECONDS, remaining) if self._exit_by else None)
            finally:
                self._buffer.dismiss(lane, sender)

    def _take_on(self, lane: Lane) -> None:
        """Have events sent that another process left."""
        lifecycle.watch_the_end()
        self._staff(lane)

    # Flushing and stopping.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event accepted so far is settled; see `Client.flush`."""
        if self._buffer.is_held() or any(thread.is_current() for thread in self._threads.copy()):
            return False  # a signal's or a log's handler, in a thread that it needs: it would wait for itself
        give_up = math.inf if timeout is None else time.monotonic() + timeout
        return threads.off_hub(self._flush, give_up)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept nothing more, flush, and stop the threads; see `Client.shutdown`."""
        if self._buffer.is_held():
            return False  # as a flush would
        give_up = time.monotonic() + (self._plan.shutdown_timeout if timeout is None else timeout)
        return threads.off_hub(self._shutdown, give_up)

    def _flush(self, give_up: float) -> bool:
        self._spooling.adopt()
        settled = self._flush_own(give_up)
        while settled and self._spooling.has_more():
            settled = self._flush_own(give_up)
        return settled

    def _flush_own(self, give_up: float) -> bool:
        """Flush, and take over nothing more: a process that ends is not to pay for what others left."""
        settled = self._settle(give_up)
        self._reporter.tell(max(0.0, min(_REPORT_SECONDS, give_up - time.monotonic())))
        return settled

    def _settle(self, give_up: float) -> bool:
        """Wait until what is there is settled."""
        lanes = self._buffer.unsettled_lanes()
        if lanes:
            self._buffer.stopped = False
        unattended = [lane for lane in lanes if not self._staff(lane)]
        if unattended:
            self._buffer.hurry()
        for index, lane in enumerate(unattended):
            now = time.monotonic()
            self._work(lane, now + (give_up - now) / (len(unattended) - index))
        return self._buffer.wait_settled(None if give_up == math.inf else give_up)

    def _shutdown(self, give_up: float) -> bool:
        self._buffer.close()
        try:
            settled = self._flush(give_up)
            if self._buffer.closing == 1:  # or else another shutdown goes on, and stops them
                self._stop(give_up)
        finally:
            self._buffer.reopen()
        return settled

    def _stop(self, give_up: float) -> None:
        self._buffer.stop()
        for thread in self._threads.copy():
            if not thread.is_current():
                thread.join(max(0.0, give_up - time.monotonic()))
        for exporter in self._buffer.exporters():
            exporter.leave()

    def stats(self) -> QueueStats:
        """Return the ledger at this instant."""
        return self._buffer.stats().model_copy(update={"repaired": dict(self._reporter.repaired)})

    # The end of the process, and forks.

    def begin_exit(self) -> None:
        """Close the door, and have everything sent as soon as possible. `exit` must follow."""
        if self._exit_by is None:
            self._exit_by = time.monotonic() + self._plan.shutdown_timeout
        self._buffer.close()
        self._buffer.hurry()

    def exit(self) -> None:
        """Flush before the process ends, and say what is left. Later sends deliver by themselves."""
        give_up = self._exit_by or 0.0
        try:
            self._flush_own(give_up)
        except KeyboardInterrupt:
            give_up = self._exit_by = 0.0  # somebody has no time for this
        self._stop(give_up)
        self._say_at_exit_what_is_left()

    def _put_at_exit(self, lane: Lane, event: bytes, give_up: float) -> str | None:
        """Deliver an event now or leave it to the next process: no one will wait for it."""
        # Once modules are being taken apart nothing can be sent, and a daemon thread is not waited for.
        if sys.is_finalizing() or threading.current_thread().daemon or time.monotonic() >= give_up:
            if self._buffer.keep(lane, event):
                return None
            self._buffer.drop(SHUTDOWN, "Sent when the process was ending.", [event])
            left = give_up + _LAST_REPORT_SECONDS - time.monotonic()
            self._reporter.tell(max(0.0, min(_LAST_REPORT_SECONDS, left)))
            return SHUTDOWN
        self._buffer.put_counted(lane, event, anyway=True)
        self._flush_own(give_up)
        self._say_at_exit_what_is_left()
        return None

    def _say_at_exit_what_is_left(self) -> None:
        kept = self._buffer.close_spool()
        if not self._said_what_is_left:
            self._said_what_is_left = self._say_what_is_left("The process ends", kept)

    def _say_what_is_left(self, what: str, kept: int = 0) -> bool:
        """Log how many events are pending, if any are."""
        stats = self._buffer.stats()
        if stats.pending:
            logger.error(
                "%s with %d event%s not delivered%s. Last error: %s",
                what,
                stats.pending,
                "" if stats.pending == 1 else "s",
                f", {kept} of them kept in the spool" if kept else "",
                stats.last_error or "none",
            )
        return stats.pending > 0

    @property
    def flushes_on_sigterm(self) -> bool:
        """Whether a SIGTERM waits for deliveries."""
        return self._plan.flush_on_sigterm

    def begin_flush(self) -> float:
        """Have everything sent as soon as possible, and return until when to wait for it."""
        self._buffer.hurry()
        return time.monotonic() + self._plan.shutdown_timeout

    def end_flush(self, give_up: float) -> None:
        """Wait for deliveries, and say what is left then."""
        if not self._flush_own(give_up):
            self._say_what_is_left("SIGTERM takes effect")

    def after_fork(self) -> None:
        """Start clean in a fork's child: the parent's events, threads and connections are the parent's."""
        for exporter in self._buffer.exporters():
            exporter.after_fork()
        self._threads = set()
        self._exit_by = None
        self._spooling.after_fork()
        self._said_what_is_left = False
        self._reporter.reset()
        self._buffer.reset()
        self.configure(self._plan)

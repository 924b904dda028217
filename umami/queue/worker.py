"""The agent: sender threads over the buffer; flush, shutdown, the exit of the process, and forks.

Senders are plain daemon threads with a sync client, because at exit an event loop can no longer resolve
a host name; and no thread can be started by then on Python 3.12, so the exiting thread drains the
buffer itself where no sender runs.
"""

import atexit
import math
import os
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Final

from umami.models import QueueStats
from umami.transport import Poster

from .buffer import Bounds, Buffer
from .delivery import Courier, Destination
from .lane import Batch, Lane
from .report import OnError, Reporter, logger

_EXTRA_SENDER_SECONDS: Final = 5.0
_SLOW_ANSWER: Final = 0.02
_REPORT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """How an agent works.

    Attributes:
        bounds: What the buffer holds, and how batches are cut and tried again.
        timeout: See `Courier`.
        item_timeout: See `Courier`.
        senders: The most sender threads of a destination; None for 2 with batches and 8 without.
        shutdown_timeout: The most seconds that the exit of the process may wait for deliveries.
        on_error: The user's callback.
    """

    bounds: Bounds
    timeout: float
    item_timeout: float
    senders: int | None
    shutdown_timeout: float
    on_error: OnError | None


class Agent:
    """Ships events in the background.

    Args:
        plan: How.
    """

    def __init__(self, plan: Plan) -> None:
        self._reporter = Reporter(plan.on_error)
        self._buffer = Buffer(plan.bounds, self._staff, self._reporter.add)
        self.put = self._buffer.put
        self._poster = Poster()
        self._threads: set[threading.Thread] = set()
        self._exit_by: float | None = None
        self.configure(plan)
        _agents.add(self)

    def configure(self, plan: Plan) -> None:
        """Work as `plan` says from now on. Nothing that is queued is lost, whatever the bounds."""
        self._plan = plan
        self._reporter.on_error = plan.on_error
        self._courier = Courier(self._poster, plan.bounds.policy, plan.timeout, plan.item_timeout)
        self._buffer.rebound(plan.bounds)

    # Events in.

    def lane(self, destination: Destination) -> Lane:
        """Return the lane for events to a destination."""
        return self._buffer.lane(destination)

    def put_late(self, lane: Lane, event: bytes, patience: float) -> str | None:
        """Queue an event that `put` did not take, waiting for room; without any, count it as dropped.

        Returns:
            None if it was taken, else why it was not.
        """
        return self._buffer.put_late(lane, event, patience)

    def drop(self, reason: str, message: str, event: bytes) -> None:
        """Count an event that is given up before it was queued."""
        self._buffer.drop(reason, message, [event])

    def note_repair(self, kind: str) -> None:
        """Count a field that was made to fit."""
        self._reporter.note_repair(kind)

    # Senders.

    def _staff(self, lane: Lane) -> None:
        """See to it that a lane with events has someone to send them."""
        self._buffer.stopped = False
        if _exiting:
            # A thread started now would not be waited for.
            self._drain_here()
        elif self._buffer.enlist(lane, 1):
            self._start_sender(lane)

    def _start_sender(self, lane: Lane) -> None:
        _watch_child_exit()
        thread = threading.Thread(target=self._send, args=(lane,), name="umami-sender", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads.
            self._threads.discard(thread)
            self._buffer.dismiss(lane)
            self._drain_here()

    def _send(self, lane: Lane) -> None:
        """A sender's life: take a batch, deliver it, settle it."""
        try:
            while batch := self._buffer.take(lane, math.inf if lane.senders == 1 else _EXTRA_SENDER_SECONDS):
                started = time.monotonic()
                self._ship(lane, batch)
                # A second connection helps against a server's latency only, not against our own.
                if (
                    time.monotonic() - started > _SLOW_ANSWER
                    and lane.is_behind()
                    and self._buffer.enlist(lane, self._most_senders(lane))
                ):
                    self._start_sender(lane)
        finally:
            self._threads.discard(threading.current_thread())

    def _most_senders(self, lane: Lane) -> int:
        return self._plan.senders or (2 if lane.batched else 8)

    def _ship(self, lane: Lane, batch: Batch, within: float | None = None) -> None:
        try:
            outcome = self._courier.deliver(
                batch.events, lane.destination, batched=lane.batched, within=within
            )
            self._buffer.settle(lane, batch, outcome)
        except BaseException as error:
            # Whatever it is, it must cost no more than this batch, and leave a sender at work.
            logger.exception("Delivering a batch failed unexpectedly: a bug in umami, please report it.")
            self._buffer.give_up(lane, batch, "internal_error", f"{type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                self._buffer.dismiss(lane)
                raise

    def _drain_here(self) -> None:
        """Deliver, in this thread and within the time that the exit may take, what no sender works for."""
        give_up = self.exit_by()
        self._buffer.hurry()
        for lane in self._buffer.unsettled_lanes():
            if not self._buffer.enlist(lane, 1):
                continue
            while lane.unsettled():
                remaining = give_up - time.monotonic()
                batch = self._buffer.take(lane, remaining)
                if batch is None:
                    break
                self._ship(lane, batch, within=max(0.1, remaining))
            else:
                self._buffer.dismiss(lane)

    # Flushing and stopping.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event accepted so far is settled; see `Client.flush`."""
        if threading.current_thread() in self._threads:
            return False  # a log handler or the like, on a sender's thread: it would wait for itself
        give_up = None if timeout is None else time.monotonic() + timeout
        for lane in self._buffer.unsettled_lanes():
            self._staff(lane)
        settled = self._buffer.wait_settled(give_up)
        left = _REPORT_SECONDS if give_up is None else give_up - time.monotonic()
        self._reporter.tell(max(0.0, min(_REPORT_SECONDS, left)))
        return settled

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept nothing more, flush, and stop the threads; see `Client.shutdown`."""
        give_up = time.monotonic() + (self._plan.shutdown_timeout if timeout is None else timeout)
        self._buffer.closing = True
        try:
            settled = self.flush(max(0.0, give_up - time.monotonic()))
            self._buffer.stop()
            for thread in tuple(self._threads):
                if thread is not threading.current_thread():
                    thread.join(max(0.0, give_up - time.monotonic()))
            if not self._threads:
                self._poster.close()
        finally:
            self._buffer.closing = False
        return settled

    def stats(self) -> QueueStats:
        """Return the ledger at this instant."""
        return self._buffer.stats().model_copy(update={"repaired": dict(self._reporter.repaired)})

    # The end of the process, and forks.

    def exit_by(self) -> float:
        """Return the monotonic time by which the exit, once begun, must be over."""
        if self._exit_by is None:
            self._exit_by = time.monotonic() + self._plan.shutdown_timeout
        return self._exit_by

    def hurry(self) -> None:
        """Have everything sent as soon as possible."""
        self._buffer.hurry()

    def exit(self) -> None:
        """Flush before the process ends, and say what is left. Later sends deliver by themselves."""
        if not self.shutdown(max(0.0, self.exit_by() - time.monotonic())):
            stats = self._buffer.stats()
            logger.error(
                "The process ends with %d events not delivered. Last error: %s",
                stats.pending,
                stats.last_error or "none",
            )

    def after_fork(self) -> None:
        """Start clean in a fork's child: the parent's events, threads and connections are the parent's."""
        # Kept, not closed: to let go of the connections would close them noisily here.
        self._inherited = self._poster
        self._poster = Poster()
        self._threads = set()
        self._exit_by = None
        self._reporter.reset()
        self._buffer.reset()
        self.configure(self._plan)


_agents: weakref.WeakSet[Agent] = weakref.WeakSet()
_exiting = False
_watched_child: int | None = None


def _watch_child_exit() -> None:
    """Have a `multiprocessing` child flush: it ends without atexit, but runs its own finalizers."""
    global _watched_child  # noqa: PLW0603
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _watched_child == os.getpid():
        return
    _watched_child = os.getpid()
    from multiprocessing.util import Finalize

    Finalize(None, _exit, exitpriority=0)


def _exit() -> None:
    global _exiting  # noqa: PLW0603
    _exiting = True
    agents = tuple(_agents)
    for agent in agents:
        agent.exit_by()
        agent.hurry()
    for agent in agents:
        agent.exit()


def _after_fork() -> None:
    global _exiting  # noqa: PLW0603
    _exiting = False
    for agent in tuple(_agents):
        agent.after_fork()


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

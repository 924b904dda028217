"""The senders' side of the queue: batches out, what became of them, and flushing."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress

from umami import _threads
from umami._clock import monotonic
from umami._models import QueueStats
from umami._waiting import Steps, Wait

from .batches import Batch
from .bounded_queue import BoundedQueue
from .destination_queue import DestinationQueue
from .exporter import Exported, Exporter
from .inbox import locked
from .ledger import Settlement
from .reasons import QUEUE_FULL, SHUTDOWN, TOO_LARGE, full_message
from .reporter import Report
from .store import Orphan, RejectedEvents


class EventQueue(BoundedQueue):
    """A bounded queue from which senders take batches; they settle each by what became of it.

    Between `put` and `settle` every event is counted exactly once.

    Attributes:
        rejected: What keeps events that a server refused; None if nothing does.
    """

    rejected: RejectedEvents | None = None

    # The senders' side.

    @locked
    def add_sender(self, destination: DestinationQueue, sender: object, most: int) -> bool:
        """Register one more sender of a destination, unless it has `most`; tell whether it was registered."""
        if len(destination.senders) >= most:
            return False
        self._included(destination)  # a shutdown has to find its sender
        destination.senders.add(sender)
        return True

    @locked
    def remove_sender(self, destination: DestinationQueue, sender: object) -> None:
        """Unregister a sender, if `take` has not."""
        destination.senders.discard(sender)
        destination.put_back(sender)  # what it was about to send
        destination.wake.notify()  # another looks in its place
        self._destinations.leave_out(destination)

    @locked
    def take(
        self,
        destination: DestinationQueue,
        sender: object,
        patience: float = math.inf,
        spare: float = math.inf,
    ) -> Batch | None:
        """Wait for the next batch of a destination.

        Args:
            destination: The destination.
            sender: Who asks, and was added.
            patience: The most seconds to wait.
            spare: The same, if this sender can be spared. The last one of a destination with events cannot,
                nor that of the current destination: it would soon be started again.

        Returns:
            The batch; None if there was none in time, or all senders are to end. Then the sender is removed.
        """
        called = monotonic()
        destination.put_back(None)
        while not self.stopped:
            now = monotonic()
            if destination.stored and len(destination.fresh) < self._settings.batch_size:
                self._load(destination)
            if discarded := destination.cut_discarded():
                self._drop_pending(destination, *discarded)
                self._sleep(destination, 0.0)  # lets sends have the lock
                continue
            wait = destination.wait(now)
            if wait <= 0:
                batch = destination.cut(now, sender)
                if self._settings.at_most_once and destination.partition is not None:
                    destination.partition.mark(batch.numbers, settled=True)
                self._wake_idle(destination, now)  # what is left is not to wait for this batch's answer
                self._ledger.retries += batch.items is not None
                return batch
            is_last = len(destination.senders) == 1
            needed = is_last and (destination is self._destinations.current or destination.unsettled() > 0)
            if self.abandoned:
                spare = 0.0
            wait = min(wait, called + (patience if needed else min(patience, spare)) - now)
            is_left_empty = patience < math.inf and not destination.unsettled()
            if wait <= 0 or is_left_empty:
                destination.wake.notify()  # it may have been this one that was woken for an event
                break
            self._sleep(destination, None if wait == math.inf else wait)
        destination.senders.discard(sender)
        self._destinations.leave_out(destination)
        return None

    def _sleep(self, destination: DestinationQueue, seconds: float | None) -> None:
        """Wait for the next event. The inboxes are open meanwhile, as suits one whose sender sleeps."""
        waiter = _threads.waiter()
        try:
            destination.wake.register(waiter)
            self._open_inboxes()
            destination.wake.wait(seconds, waiter)
        finally:
            destination.wake.withdraw(waiter)
            self._close_inboxes()

    def _wake_idle(self, destination: DestinationQueue, now: float) -> None:
        """Have an idle sender, if there is one, see for itself when the next batch is due."""
        if destination.wake.waiting and destination.wait(now) < math.inf:
            destination.wake.notify()

    def settle(self, destination: DestinationQueue, batch: Batch, exported: Exported | str) -> bool:
        """Count what became of a batch, and keep what is to be sent again.

        Args:
            destination: The destination.
            batch: The batch.
            exported: What the exporter returned; or its error in words, for which the batch is dropped.

        Returns:
            False if it was settled before.
        """
        reports: list[Report] = []
        try:
            return self._settle(destination, batch, exported, reports)
        finally:
            if batch not in destination.in_flight:
                self._report_all(reports)  # if something broke that off

    @locked
    def _settle(
        self, destination: DestinationQueue, batch: Batch, exported: Exported | str, reports: list[Report]
    ) -> bool:
        if batch not in destination.in_flight:
            return False  # it was settled, and what came after that has failed
        now = monotonic()
        settlement = Settlement(destination, batch, self._policy, self._ledger)
        if isinstance(exported, str):
            settlement.fail(exported)
        else:
            settlement.settle(exported, now)
        if self.rejected is not None:  # before a flush returns, and before the store forgets them
            settlement.keep_rejected(self.rejected)
        reports += settlement.reports
        self._commit(settlement)
        self._report_all(reports)  # under the lock: a flush that sees the counts waits for the reports too
        self._wake_idle(destination, now)
        return True

    def _report_all(self, reports: list[Report]) -> None:
        while reports:
            self.report(reports.pop(0))

    # Waiting, and stopping.

    def put_late(self, destination: DestinationQueue, event: bytes, patience: float) -> Steps[str | None]:
        """Wait for room for an event that `put` did not take; return None, or why it is dropped."""
        give_up, size = monotonic() + patience, len(event)
        while not destination.put(event):
            with self._lock:
                closing, full = bool(self.closing), self._is_full(size)
            if closing:
                self.drop(SHUTDOWN, "The client was shutting down.", [event])
                return SHUTDOWN
            if len(event) > self._settings.queue_bytes:
                self.drop(TOO_LARGE, f"An event of {len(event)} bytes is larger than queue_bytes.", [event])
                return TOO_LARGE
            if full and monotonic() >= give_up:
                self.drop(QUEUE_FULL, full_message(self._settings), [event])
                return QUEUE_FULL
            if full:  # else there is room by now, or it was closed for a moment
                try:
                    yield Wait(self._waiting, lambda: bool(self.closing) or not self._is_full(size), give_up)
                except GeneratorExit:
                    self.drop(QUEUE_FULL, "The send was cancelled while it waited for room.", [event])
                    raise
        return None

    @locked
    def close(self, call: object) -> None:
        """Take no more events, not even those that wait for room, until `closing` has no call any more."""
        self.closing[call] = True
        self._waiting.notify()

    @locked
    def is_last(self, call: object) -> bool:
        """Tell whether no other call that closed the queue still waits; this one does no more."""
        self.closing[call] = False
        return not any(self.closing.values())

    def wait_settled(self, give_up: float) -> Steps[bool]:
        """Hurry every event accepted so far, and wait until each is settled.

        Args:
            give_up: The monotonic time to stop waiting at.

        Returns:
            Whether they all are. False too if the senders are stopped meanwhile.
        """
        ends = self._ends(give_up)

        def settled() -> bool:
            return all(destination.settled(end + destination.overtaken) for destination, end in ends)

        yield Wait(self._waiting, lambda: self.stopped or settled(), give_up)
        with self._lock:
            return settled()

    @locked
    def _ends(self, give_up: float) -> list[tuple[DestinationQueue, int]]:
        """Hurry every event accepted so far, and return where each destination ends."""
        self.hurry(give_up)
        return [(each, each.end() - each.overtaken) for each in self._destinations]

    @locked
    def hurry(self, give_up: float = 0.0) -> None:
        """Have every event accepted so far sent as soon as possible, for a flush that gives up then."""
        now = monotonic()
        for destination in self._destinations:
            destination.hurry(now, give_up)
            destination.wake.notify_all()

    @locked
    def abandon(self) -> bool:
        """Have the senders end once every event is settled: no other is to come.

        Returns:
            Whether nothing is left to do: every event is settled, or senders are still at work.
        """
        self.abandoned = True
        self._destinations.current = None
        self._wake_all()
        return self.is_over or any(destination.senders for destination in self._destinations)

    @property
    def is_over(self) -> bool:
        """Whether it is abandoned, and every event is settled."""
        return self.abandoned and not any(destination.unsettled() for destination in self._destinations)

    @locked
    def stop(self) -> None:
        """Stop every sender; events stay."""
        self.stopped = True
        self._wake_all()

    def wait_for(self, wanted: Callable[[], bool], give_up: float) -> Wait:
        """Return the step that waits for a condition; `notify` tells when it may hold."""
        return Wait(self._waiting, wanted, give_up)

    @locked
    def notify(self) -> None:
        """Look whether a condition holds that a thread or a task waits for."""
        self._waiting.notify()

    @locked
    def is_behind(self, destination: DestinationQueue) -> bool:
        """Tell whether more events wait than a destination's senders take in their next round."""
        return destination.is_behind()

    @locked
    def unsettled(self) -> list[DestinationQueue]:
        """Return the queues that have events."""
        return [destination for destination in self._destinations if destination.unsettled()]

    def trouble(self) -> str | None:
        """Return why events are not delivered now, in words; None if nothing fails."""
        troubles = (destination.backoff.trouble for destination in self.unsettled())
        return next((trouble for trouble in troubles if trouble is not None), None)

    def exporters(self) -> list[Exporter]:
        """Return the exporters."""
        return [destination.exporter for destination in self._destinations]

    @locked
    def stats(self) -> QueueStats:
        """Return the ledger at this instant."""
        current = self._destinations.current or next(iter(self._destinations), None)
        server = None
        if current is not None:
            with suppress(Exception):  # of an exporter of the user's
                server = current.exporter.describe()
        return self._ledger.stats(self._pending(), self._bytes, server)

    # The store.

    @locked
    def keep(self, destination: DestinationQueue, event: bytes) -> bool:
        """Leave an event in the store alone, for another process; tell whether that could be done."""
        if destination.partition is None or not destination.partition.append(event, None):
            return False
        self._ledger.submitted += 1
        return True

    def adopt(self, exporter_of: Callable[[str], Exporter | None]) -> list[DestinationQueue]:
        """Take over events that other processes left in the store.

        Args:
            exporter_of: Returns the exporter of a name, if this process has one.

        Returns:
            The queues that they are in now.
        """
        if self.store is None or self.abandoned:
            return []
        found: Iterator[DestinationQueue | None] = (
            self._adopt(orphan, exporter_of(orphan.name))
            for orphan in self.store.orphans(lambda name: exporter_of(name) is not None)
        )
        return [destination for destination in found if destination is not None]

    @locked
    def _adopt(self, orphan: Orphan, exporter: Exporter | None) -> DestinationQueue | None:
        if self.abandoned or (orphan.events and exporter is None):
            return None  # the client has been dropped meanwhile, or its settings have changed
        orphan.adopt()
        self._ledger.submitted += orphan.events + sum(loss.count for loss in orphan.losses)
        self._drop_lost(orphan.losses)
        if not orphan.events or exporter is None:
            return None
        destination = self._included(self._destinations.of(exporter))
        destination.wake.notify()
        return destination

    @locked
    def close_store(self, *, forget: bool = False) -> int:
        """Leave what is stored to another process, with `forget` for good; return how many events it is."""
        if self.store is None:
            return 0
        left = self.store.close()
        for destination in self._destinations:
            if forget:
                destination.clear(self._lock)
            destination.partition = self.store.partition(destination.exporter.name)
        return left

"""The callers' side of the queue: bounds, overflow, and the one lock around the whole queue.

`put` counts an event, applies the overflow policy, and wakes a sender only where that can matter.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from umami._clock import monotonic
from umami._waiting import Waiting
from umami.settings import Settings

from .batches import Batch
from .destination_queue import DestinationQueue, Destinations
from .exporter import Exporter
from .inbox import LARGEST, Guarded, Inbox, locked
from .ledger import Ledger, Settlement
from .reasons import OVERFLOW, QUEUE_FULL, SHUTDOWN, Why
from .reporter import Report
from .retry import RetryPolicy
from .store import Loss, Store

_LOAD_EVENTS: Final = 1_000
# How many events are dropped at once to make room: a small part of the queue, and few.
_EVICTED_PART: Final = 100
_MOST_EVICTED: Final = 16
# Inboxes are closed so many events before the queue is full: as many threads may have found room at one time.
_MARGIN: Final = 256


class BoundedQueue(Guarded):
    """Holds the events of one client, destination by destination, within bounds.

    Args:
        settings: How much it holds, and how.
        start_sender: Called, outside the lock, with a destination that has events and no sender.
        report: Called with each thing that went wrong. Must not wait for anything.

    Attributes:
        report: See above.
        store: What keeps a copy of each event; None if nothing does.
        stopped: Whether the senders are to end.
        abandoned: Whether they are to end once every event is settled: no other is to come.
        closing: The calls that want no more events to be taken, and whether each still waits for a flush.
    """

    def __init__(
        self,
        settings: Settings,
        start_sender: Callable[[DestinationQueue], None],
        report: Callable[[Report], None],
    ) -> None:
        self.store: Store | None = None
        self._start_sender = start_sender
        self.report = report
        self._destinations = Destinations(
            lambda exporter: DestinationQueue(exporter, self._settings, self._new_inbox, self._lock)
        )
        self._settings = settings
        self._policy = RetryPolicy(settings, report)
        self.reset()

    def reset(self) -> None:
        """Start empty, with a lock of its own: a fork's child must not touch its parent's."""
        self.new_lock()
        self._waiting = Waiting(self._lock)
        self._count = 0
        self._bytes = 0
        self._ledger = Ledger()
        self._decided: Settlement | None = None
        self.stopped = self.abandoned = False
        self.closing: dict[object, bool] = {}
        for destination in self._destinations:
            destination.clear(self._lock)
        self._destinations.forget_idle()
        if self.store is not None:
            self.store.after_fork()
            self.use_store(self.store)

    @locked
    def configure(self, settings: Settings) -> None:
        """Apply other settings from now on. What is held stays, even if it is more than they allow."""
        self._settings, self._policy = settings, RetryPolicy(settings, self.report)
        for destination in self._destinations:
            destination.settings = settings
        self._wake_all()

    def _wake_all(self) -> None:
        """Have whatever waits look again: senders, and calls."""
        for destination in self._destinations:
            destination.wake.notify_all()
        self._waiting.notify()

    @locked
    def use_store(self, store: Store) -> None:
        """Keep a copy of each event in a store from now on."""
        self.store = store
        for destination in self._destinations:
            destination.partition = store.partition(destination.exporter.name)

    @locked
    def destination(self, exporter: Exporter) -> DestinationQueue:
        """Return the queue of an exporter, made at the first use. It is the current one from now on."""
        former, current = self._destinations.current, self._included(self._destinations.of(exporter))
        self._destinations.current = current
        self._destinations.leave_out(former)
        return current

    def _included(self, destination: DestinationQueue) -> DestinationQueue:
        if destination not in self._destinations.active:
            destination.settings = self._settings
            if self.store is not None:
                destination.partition = self.store.partition(destination.exporter.name)
            self._destinations.active[destination] = None
        return destination

    def _new_inbox(self, destination: DestinationQueue) -> Inbox:
        return Inbox(partial(self.put_locked, destination), partial(self._recall, destination))

    # The lock and the inboxes.

    def _count_inboxes(self) -> None:
        """Close the inboxes, and count what is in them.

        Once the queue is closing or stopped they were closed long ago. What is in them then came too late:
        its thread is about to see that, and to take it back.
        """
        if self.store is not None:
            return  # they stay closed
        now = monotonic()
        for destination in tuple(self._destinations.active):
            inbox = destination.inbox
            inbox.room = 0
            count = len(inbox.events)
            if count and not self.closing and not self.stopped:
                self._bytes += destination.admit(count)
                self._count += count
                self._ledger.submitted += count
            destination.inbox_checked_at = now

    def _set_rooms(self) -> None:
        """Open the inboxes, as far as the bounds allow without waking a sender."""
        if self.stopped or self.closing or self.store is not None:
            return  # they stay closed
        free = min(
            self._settings.queue_size - self._count,
            (self._settings.queue_bytes - self._bytes) // LARGEST,
        )
        if free <= _MARGIN:
            return  # the queue is nearly full
        room = free // max(1, len(self._destinations)) - _MARGIN
        for destination in self._destinations:
            destination.inbox.room = int(max(0, min(room, destination.room_unwatched())))

    def _put_deferred(self) -> None:
        destination, event, why = self._deferred[0]
        if destination is not None and destination.fresh.last is not event:  # else this was broken off once
            if self._put(destination, event, anyway=False):
                self._attend(destination)
            else:
                reason = SHUTDOWN if self.closing else QUEUE_FULL
                why = Why(reason, "Sent by a signal handler or a finalizer.")
        if why is not None:
            self._drop(why, [event])
        self._deferred.popleft()

    def _recount(self) -> None:
        self._apply_decided()
        self._count = self._bytes = 0
        for destination in self._destinations:
            destination.repair()
            for event in destination.held():
                self._count += 1
                self._bytes += len(event)
        self._ledger.balance(self._pending())
        self._waiting.notify()

    def _pending(self) -> int:
        return sum(destination.unsettled() for destination in self._destinations)

    # The callers' side. `Inbox.put` comes first, and calls these where it cannot take an event itself.

    def _recall(self, destination: DestinationQueue, event: bytes, events: deque[bytes]) -> bool:
        """Put an event in that was left in an inbox's deque just as the inbox was closed; see `Inbox`."""
        with self._lock:
            try:
                events.remove(event)
            except ValueError:
                is_in = True
            else:
                is_in = False
        if not is_in:
            return self.put_locked(destination, event)
        self._attend(destination)
        return True

    def put_locked(self, destination: DestinationQueue, event: bytes, *, anyway: bool = False) -> bool:
        """Put an event in, and count it at once; tell whether it was taken.

        Without room, or while the queue is closing, it is taken only if `anyway` is set.
        """
        if self._interrupts():
            self._deferred.append((destination, event, None))
            return True
        with self._lock:  # as `locked` does, with fewer calls
            try:
                self._close_inboxes()
                taken = self._put(destination, event, anyway=anyway)
            except BaseException:
                self._repair()
                self._open_inboxes()
                raise
            self._open_inboxes()
        if taken:
            self._attend(destination)
        return taken

    def _put(self, destination: DestinationQueue, event: bytes, *, anyway: bool) -> bool:
        if destination not in self._destinations.active:
            self._included(destination)
        size = len(event)
        # The first event starts a sender's clock, and the one that fills a batch is worth waking one.
        wake = destination.wake.waiting and destination.room_unwatched(size) < 1
        in_store = self.store is not None and self._put_into_store(destination, event, anyway=anyway)
        taken = in_store or anyway or self._make_room(destination, size)
        if taken and not in_store:
            destination.overtaken += destination.stored > 0
            if not destination.fresh:
                destination.interval_start = monotonic()
            destination.fresh.append(event)
            self._count += 1
            self._bytes += size
        self._ledger.submitted += taken
        if self._is_full(size):
            for each in self._destinations:
                if each.rush():
                    each.wake.notify()
        if taken and wake:
            destination.wake.notify()
        return taken

    def _attend(self, destination: DestinationQueue) -> None:
        """Make sure that a destination that was given an event has a sender."""
        if not destination.senders or self.stopped:
            self._start_sender(destination)

    def _is_full(self, size: int) -> bool:
        settings = self._settings
        return self._count >= settings.queue_size or self._bytes + size > settings.queue_bytes

    def _make_room(self, destination: DestinationQueue, size: int) -> bool:
        """Tell whether there is room for `size` bytes, after dropping the oldest if that is the policy."""
        if self.closing:
            return False
        while self._is_full(size):
            if self._settings.overflow != "drop_oldest" or size > self._settings.queue_bytes:
                return False
            if not self._evict(destination):
                return False
        return True

    def _evict(self, first: DestinationQueue) -> bool:
        """Drop a few events at once: dropped one by one, they would cost a send twice as much."""
        most = max(1, min(self._count // _EVICTED_PART, _MOST_EVICTED))
        for destination in (first, *self._destinations):
            oldest = destination.cut_oldest(most)
            if oldest is not None:
                self._drop_pending(destination, oldest, OVERFLOW)
                return True
        return False

    def _drop_pending(self, destination: DestinationQueue, batch: Batch, why: Why) -> None:
        """Drop events that were cut from a destination, and report them."""
        settlement = Settlement(destination, batch, self._policy, self._ledger)
        settlement.drop(*why)
        self._commit(settlement)
        for report in settlement.reports:
            self.report(report)

    def _commit(self, settlement: Settlement) -> None:
        """Put the counts of a settlement in force, and let go of the events that are settled."""
        self._decided = settlement
        self._apply_decided()
        destination = settlement.destination
        for ended in settlement.ended:
            self._count -= len(ended.events)
            self._bytes -= ended.size
            if destination.partition is not None and ended.events:
                destination.partition.settle(ended.numbers)
        self._waiting.notify()

    def _apply_decided(self) -> None:
        """Apply the last settlement, also if something broke that off. Doing it again changes nothing."""
        if (settlement := self._decided) is not None:
            self._ledger = settlement.ledger
            settlement.destination.release(settlement.batch, settlement.ended)
            self._decided = None

    def drop(self, reason: str, message: str, events: list[bytes]) -> None:
        """Count events that were never taken as submitted and dropped, and report them."""
        why = Why(reason, message)
        if self._interrupts():
            self._deferred.extend((None, event, why) for event in events)
        else:
            self._drop(why, events)

    @locked
    def _drop(self, why: Why, events: list[bytes]) -> None:
        self._ledger.submitted += len(events)
        self._ledger.drop(why.reason, len(events))
        self.report(Report("dropped", *why, events))

    # The store.

    def _put_into_store(self, destination: DestinationQueue, event: bytes, *, anyway: bool) -> bool:
        """Write an event to the store; tell whether it stays there alone, since memory has no room for it."""
        partition = destination.partition
        if partition is None or (self.closing and not anyway):
            return False
        alone = partition.waiting > 0 or self._is_full(len(event))
        if partition.append(event, None if alone else destination.end()):
            return alone
        # The store is full or has failed. Load what it alone holds, as far as there is room; what is left
        # comes after this event.
        while destination.stored and not self._is_full(0):
            self._load(destination)
        return False

    def _load(self, destination: DestinationQueue) -> None:
        """Bring events into memory that are in the store alone: a batch, or as many as there is room for."""
        room = min(self._settings.queue_size - self._count, _LOAD_EVENTS)
        if self._bytes >= self._settings.queue_bytes:
            room = 0
        loaded, losses = destination.load(max(room, self._settings.batch_size))
        self._count += len(loaded)
        self._bytes += sum(map(len, loaded))
        self._drop_lost(losses)

    def _drop_lost(self, losses: Iterable[Loss]) -> None:
        """Drop events that cannot be read from the store."""
        for loss in losses:
            self._ledger.drop(loss.reason, loss.count)
            self.report(Report("dropped", loss.reason, loss.message, unread=loss.count))

"""The events on their way to one exporter, how they are cut into batches, and all such queues of a client.

They take no lock and start no thread: the queue that they are part of guards them, and tells them the time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final
from weakref import WeakValueDictionary

from umami import _threads
from umami.settings import Settings

from .backoff import Backoff
from .batches import Batch, Fresh, Item, Returned
from .exporter import Exporter, Limits
from .inbox import LARGEST, Inbox
from .reasons import Why, discard_rule
from .store import Loss, Partition

BATCH_FRAME: Final = 2  # the brackets; each event adds itself and a comma


class DestinationQueue:
    """One exporter's events: fresh ones in order, and those that are to be sent again.

    Events are numbered in the order that they came. A number in the comments below is such a number.

    Args:
        exporter: What delivers them.
        settings: The settings.
        new_inbox: Makes the inbox of this queue.
        lock: The lock of the queue that this is part of.

    Attributes:
        exporter: What delivers them.
        settings: Replaced when they change.
        put: Puts an encoded event in, if there is room, and returns whether there was.
        inbox: Events that came without the lock: they follow the fresh ones, and are not counted yet.
        fresh: Events that have not been sent, oldest first.
        partition: Its events in the store; None without one.
        returned: Events to send again, oldest first.
        in_flight: Batches out for delivery, and the sender that has each; None for what is being dropped.
        senders: What sends its events: threads, mostly.
        wake: What its idle senders wait on.
        backoff: What is known of the destination.
        limits: What the exporter takes at a time, as it said last.
        interval_start: The monotonic time from which `flush_interval` counts for the oldest fresh event.
        inbox_checked_at: The monotonic time at which the inbox was last emptied.
        overtaken: How many events took the number of one that is in the store alone, and moved those on.
    """

    def __init__(
        self,
        exporter: Exporter,
        settings: Settings,
        new_inbox: Callable[["DestinationQueue"], Inbox],
        lock: Any,
    ) -> None:
        self.exporter = exporter
        self.settings = settings
        self.inbox = new_inbox(self)
        self.put = self.inbox.put
        self.clear(lock)

    def clear(self, lock: Any) -> None:
        """Forget everything but the exporter, as a fork's child does."""
        self.wake = _threads.Condition(lock)
        self.inbox.clear()  # the same one: routes hold its `put`
        self.fresh = Fresh()
        self.partition: Partition | None = None
        self.returned = Returned()
        self.in_flight: dict[Batch, object] = {}
        self.senders: set[object] = set()
        self.backoff = Backoff(self.settings.batch_size)
        self.overtaken = self._urgent_below = 0
        self.interval_start = self.inbox_checked_at = 0.0
        self.limits = Limits()

    # Events in, and senders that wait for them.

    def room_unwatched(self, size: int = LARGEST) -> float:
        """Return how many events of a size may come before a sender must be woken for them."""
        if not self.senders:
            return 0
        if not self.wake.waiting or self._is_probing:
            return math.inf  # one looks again by itself
        if not self.fresh:
            return 0  # all may sleep until they are woken
        # One sleeps until these are due: in an outage until the pause ends, else until a batch is full.
        if self.backoff.outage is not None:
            return math.inf
        bytes_left = self._most_bytes - self.fresh.body_bytes
        return max(0, min(self.settings.batch_size - 1 - len(self.fresh), (bytes_left - 1) // (size + 1)))

    def admit(self, count: int) -> int:
        """Take in the first `count` events of the inbox, and return how many bytes they have."""
        if self.room_unwatched() < count:
            self.wake.notify()
        if not self.fresh:
            self.interval_start = self.inbox_checked_at  # the earliest that the first of them can have come
        return self.fresh.take_from(self.inbox.events, count)

    def cut_oldest(self, most: int) -> Batch | None:
        """Cut the oldest events that are not in flight, to be dropped; None if all are."""
        if self.returned:
            return self._take_out([*islice(self.returned, most)], None)
        return self._cut_first(min(most, len(self.fresh)), None) if self.fresh else None

    def load(self, most: int) -> tuple[list[bytes], list[Loss]]:
        """Bring events into memory that are in the store alone; return them, and what cannot be read."""
        if self.partition is None:
            return [], []
        events, losses = self.partition.load(self.fresh.end, most)
        if not self.fresh:
            self.interval_start = -math.inf  # they have waited long enough
        self.fresh.extend(events)
        return events, losses

    # Batches out.

    @property
    def _is_probing(self) -> bool:
        """Whether a request is out to find out if the server is well. Nothing else is sent meanwhile."""
        return bool(self.in_flight) and (self.backoff.outage is not None or not self.backoff.proven)

    @property
    def waiting(self) -> int:
        """How many events wait, those in flight left out."""
        return len(self.fresh) + self.stored + len(self.returned)

    @property
    def stored(self) -> int:
        """How many events are in the store alone."""
        return 0 if self.partition is None else self.partition.waiting

    def wait(self, now: float) -> float:
        """Return the seconds until a batch may be cut: 0 for now, infinity if nothing waits."""
        if self._is_probing:
            return math.inf
        self._ask_limits()
        soonest = min((self.backoff.due(item) - now for item in self.returned), default=math.inf)
        if self.fresh:
            is_full = len(self.fresh) >= self._size() or self.fresh.body_bytes >= self._most_bytes
            due = self.interval_start + self.settings.flush_interval
            soonest = min(soonest, 0.0 if is_full or self._is_urgent else due - now)
        return self.backoff.delay(soonest, now)

    @property
    def _is_urgent(self) -> bool:
        """Whether the oldest fresh event is to be sent at once."""
        return self.fresh.first < self._urgent_below

    @property
    def _most_bytes(self) -> int:
        """The most bytes of a batch's events, with one byte between two."""
        return min(self.settings.batch_bytes, self.limits.bytes) - BATCH_FRAME

    def cut(self, now: float, sender: object) -> Batch:
        """Have a sender take the next batch out for delivery; only after `wait` returned 0."""
        most, room = self._size(), self._most_bytes
        items = self.backoff.next(self.returned, now, most, room, others=bool(self.fresh))
        if items:
            batch = self._take_out(items, sender)
        else:
            self.interval_start = now  # what is left waits at most one more interval
            count = self.fresh.fitting(most, room)
            if (rule := discard_rule(self.settings)) is not None:
                count = min(count, self.fresh.streak(rule)[1])
            batch = self._cut_first(count, sender)
        self.backoff.sent(now)
        return batch

    def _ask_limits(self) -> None:
        """Ask the exporter what it takes at a time. The last answer of a faulty one counts."""
        try:
            limits = self.exporter.limits
        except Exception:  # noqa: BLE001 - it must not end the senders
            return
        if isinstance(limits, Limits) and all(type(limit) is int for limit in limits) and limits.events > 0:
            self.limits = limits

    def _size(self) -> int:
        """Return how many events the next batch may have.

        Several senders share one batch's worth: what is in flight when a server falls silent is never more
        than `batch_size`.
        """
        most = min(self.settings.batch_size, self.limits.events)
        return max(1, min(self.backoff.window, most // max(1, len(self.senders))))

    # An event is put where it goes before it is taken from where it was. So none is lost if something
    # interrupts that, and `repair` finds those that are in both places.

    def _take_out(self, items: list[Item], sender: object) -> Batch:
        batch = Batch.of(items)
        self.in_flight[batch] = sender
        self.returned.remove(batch.numbers)
        return batch

    def cut_discarded(self) -> tuple[Batch, Why] | None:
        """Cut events to be dropped for one reason, and return it: of the fresh ones those that come first."""
        rule = discard_rule(self.settings)
        if rule is None:
            return None
        why, items = self.returned.discarded(rule)
        if why is not None:
            return self._take_out(items, None), why
        why, count = self.fresh.streak(rule)
        return None if why is None else (self._cut_first(count, None), why)

    def _cut_first(self, count: int, sender: object) -> Batch:
        batch = Batch([], range(self.fresh.first, self.fresh.first + count))
        self.in_flight[batch] = sender
        self.fresh.move_to(batch)
        return batch

    def repair(self) -> None:
        """Have each event in one place only, after a call was broken off."""
        for batch in tuple(self.in_flight):
            if batch.events:
                self.returned.remove(batch.numbers)
            else:
                del self.in_flight[batch]  # they are all fresh still
        self.fresh.repair(self.in_flight)
        if self.partition is not None:
            self.partition.repair(self.fresh.end)
        self.put_back(None)
        # The call may have been about to wake a sender, and later events would rely on that.
        self.wake.notify_all()

    # What came of them.

    def put_back(self, sender: object) -> None:
        """Undo `cut` for what a sender has, or had as its removal was broken off."""
        senders = self.senders - {sender}
        for batch in [batch for batch, owner in self.in_flight.items() if owner not in senders]:
            self.returned.add(batch.as_items())
            del self.in_flight[batch]

    def release(self, batch: Batch, ended: Sequence[Batch]) -> None:
        """Let go of a batch that came back, and of events that are settled."""
        self.in_flight.pop(batch, None)
        if self.returned:
            self.returned.remove(number for part in ended for number in part.numbers)

    def is_behind(self) -> bool:
        """Tell whether more events wait than its senders take in their next round."""
        return self.backoff.outage is None and self.waiting > self._size() * len(self.senders)

    # Flushing.

    def end(self) -> int:
        """Return the number that the next event will get: all earlier events have smaller ones."""
        return self.fresh.end + self.stored

    def hurry(self, now: float, give_up: float) -> None:
        """Send the events that are there as soon as possible, and cut a pause short."""
        self._urgent_below = self.end()
        self.backoff.hurry(now, give_up)
        for item in self.returned:
            item.due = min(item.due, now)

    def rush(self) -> bool:
        """Have the fresh events sent without waiting for more; tell whether that is new.

        A pause after a failure stays.
        """
        if not self.fresh or self._is_urgent:
            return False
        self._urgent_below = self.end()
        return True

    def settled(self, end: int) -> bool:
        """Tell whether every event numbered below `end` is settled."""
        return all(number >= end for number in self._oldest_numbers())

    def _oldest_numbers(self) -> Iterator[int]:
        if self.fresh or self.stored:
            yield self.fresh.first
        if self.returned:
            yield next(iter(self.returned)).number
        for batch in self.in_flight:
            yield batch.numbers[0]

    def unsettled(self) -> int:
        """Return how many events wait or are in flight, those in the inbox left out."""
        return self.waiting + sum(len(batch.events) for batch in self.in_flight)

    def held(self) -> Iterator[bytes]:
        """Yield the events that are in memory."""
        yield from self.fresh
        yield from (item.event for item in self.returned)
        for batch in self.in_flight:
            yield from batch.events


class Destinations:
    """Finds the queue of an exporter.

    A queue that has nothing to do is left out when it is gone through them, until its next event. It is known
    for as long as something holds it, a send under way for example: an exporter never has two queues. Guarded
    by the lock of the queue that it is part of.

    Args:
        new: Makes the queue of an exporter.

    Attributes:
        active: Those that are not left out, in the order that they came: a set that keeps it.
        current: Where the client sends now. It is never left out.
    """

    def __init__(self, new: Callable[[Exporter], DestinationQueue]) -> None:
        self._new = new
        self.active: dict[DestinationQueue, None] = {}
        self.current: DestinationQueue | None = None
        self.forget_idle()

    def forget_idle(self) -> None:
        """Forget those that are left out, as a fork's child does: they have the parent's lock."""
        self._known = WeakValueDictionary({each.exporter.name: each for each in self.active})

    def of(self, exporter: Exporter) -> DestinationQueue:
        """Return the queue of an exporter, made at the first use."""
        name = exporter.name
        # A send that interrupts this may make it too.
        destination = self._known.get(name) or self._known.setdefault(name, self._new(exporter))
        destination.exporter = exporter
        return destination

    def __iter__(self) -> Iterator[DestinationQueue]:
        return iter(tuple(self.active))  # a copy, because a send that interrupts this may add one

    def __len__(self) -> int:
        return len(self.active)

    def leave_out(self, destination: DestinationQueue | None) -> None:
        """Leave a destination out, if it has nothing to do."""
        if destination is None or destination is self.current or destination.senders:
            return
        if not destination.unsettled() and not destination.inbox.room and not destination.inbox.events:
            self.active.pop(destination, None)

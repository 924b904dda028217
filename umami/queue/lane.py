"""The events on their way to one destination: where batches are cut, and where a lane waits out trouble.

A lane takes no lock and starts no thread: its buffer guards it, and tells it the time.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from umami import threads

from .delivery import Destination, Failed
from .retry import Policy
from .shelf import Shelf

BATCH_FRAME: Final = 2  # the brackets; each event adds itself and a comma


class Limits(NamedTuple):
    """How batches are cut.

    Attributes:
        batch_size: The most events of a batch.
        batch_bytes: The most bytes of its body.
        interval: The most seconds that an event waits for a batch to fill.
    """

    batch_size: int
    batch_bytes: int
    interval: float


@dataclass(eq=False, slots=True)
class Batch:
    """Some events of a lane, out for delivery or waiting to be sent again.

    Attributes:
        events: Their encoded bodies.
        numbers: Each one's number in its lane, ascending.
        failures: How many requests have failed while they waited to be sent again.
        tries: How often the server answered them one by one and did not take them.
        doubts: How many of these answers gave no clear reason.
        due: The monotonic time before which they are not sent again.
        repeated: Whether they have been on the wire before.
    """

    events: list[bytes]
    numbers: Sequence[int]
    failures: int = 0
    tries: int = 0
    doubts: int = 0
    due: float = 0.0
    repeated: bool = False

    def part(self, indexes: Sequence[int]) -> "Batch":
        """Return a batch of some of the events, with the same history."""
        events = [self.events[index] for index in indexes]
        numbers = [self.numbers[index] for index in indexes]
        return replace(self, events=events, numbers=numbers)

    def split(self, count: int) -> tuple["Batch", "Batch"]:
        """Return the first `count` events, and the rest."""
        size = len(self.events)
        return self.part(range(min(count, size))), self.part(range(min(count, size), size))


class Lane:
    """One destination's events: the fresh ones in order, and the batches that came back.

    Attributes:
        destination: Where they go.
        wake: What its idle senders wait on.
        door: Events that came without the lock, after the fresh ones and not yet counted.
        room: How many may stand there.
        fresh: Events not yet on the wire, oldest first.
        shelf: Its events on disk; None without a spool.
        returned: Batches to send again, oldest first.
        in_flight: Batches that a sender is delivering.
        senders: Who sends its events: threads, mostly.
        since: When the oldest fresh event came, in monotonic time.
        looked_at: When somebody last looked at the door.
        batched: Whether the batch route is used.
        proven: Whether the server has ever answered as Umami does.
        attempts: How many requests in a row have failed.
        overtaken: How many events have taken the number of one that is on disk alone, and moved those on.
    """

    def __init__(self, destination: Destination, limits: Limits, lock: Any) -> None:
        self.destination = destination
        self.limits = limits
        self.clear(lock)

    def clear(self, lock: Any) -> None:
        """Forget everything but the destination, as a fork's child does."""
        self.wake = threads.Condition(lock)
        self.door: deque[bytes] = deque()
        self.room = 0
        self.fresh: deque[bytes] = deque()
        self.shelf: Shelf | None = None
        self.returned: list[Batch] = []
        self.in_flight: set[Batch] = set()
        self.senders: set[object] = set()
        self.batched = self.destination.batch_url is not None
        self.proven = False
        self.attempts = 0
        self.overtaken = 0
        self.since = 0.0
        self.looked_at = 0.0
        self._first_number = 0
        self._resume_at = 0.0
        self._window = self.limits.batch_size
        self._urgent_below = 0

    # Events in, and senders that wait for them.

    @property
    def idle(self) -> int:
        """How many of its senders wait for events, and have not been called."""
        return self.wake.waiting

    def unwatched(self) -> float:
        """Return how many events may come before a sender has to be called for them."""
        if not self.senders:
            return 0
        if not self.idle or self._asks_alone:
            return math.inf  # one looks again by itself
        if not self.fresh:
            return 0  # all may sleep until they are called
        # One sleeps until these are due: in trouble until the pause ends, and else until a batch is full.
        return math.inf if self.attempts else max(0, self.limits.batch_size - 1 - len(self.fresh))

    def admit(self, count: int) -> None:
        """Take in the first `count` events that stand at the door."""
        if self.unwatched() < count:
            self.wake.notify()
        if not self.fresh:
            self.since = self.looked_at  # the earliest that the first of them can have come
        # All in one call that nothing can interrupt: none is lost, or taken in twice.
        self.fresh.extend(islice(iter(self.door.popleft, None), count))

    def evict(self) -> Batch | None:
        """Take out the oldest event that is not on the wire; None if all are."""
        if self.returned:
            first, rest = self.returned.pop(0).split(1)
            if rest.events:
                self._give_back(rest)
            return first
        return self._cut_first(1) if self.fresh else None

    def load(self, most: int) -> tuple[list[bytes], int]:
        """Load events that are on disk alone; return them, and how many more are lost."""
        if self.shelf is None:
            return [], 0
        events, lost = self.shelf.load(self._first_number + len(self.fresh), most)
        if not self.fresh:
            self.since = -math.inf  # they have waited long enough
        self.fresh.extend(events)
        return events, lost

    # Batches out.

    @property
    def _asks_alone(self) -> bool:
        """Whether a request is out to ask whether the server is well, and no other may be meanwhile."""
        return bool(self.in_flight) and (self.attempts > 0 or not self.proven)

    @property
    def backlog(self) -> int:
        """How many events wait, those on the wire left out."""
        return len(self.fresh) + self.stored + sum(len(batch.events) for batch in self.returned)

    @property
    def stored(self) -> int:
        """How many events are on disk alone."""
        return 0 if self.shelf is None else self.shelf.count

    def wait(self, now: float) -> float:
        """Return the seconds until a batch may be cut, 0 for now, infinity if nothing waits."""
        if self._asks_alone:
            return math.inf
        soonest = min((batch.due - now for batch in self.returned), default=math.inf)
        if self.fresh:
            full = len(self.fresh) >= self._size() or self._first_number < self._urgent_below
            soonest = min(soonest, 0.0 if full else self.since + self.limits.interval - now)
        if self.attempts:
            soonest = max(soonest, self._resume_at - now)
        return max(0.0, soonest)

    def cut(self, now: float) -> Batch:
        """Take the next batch out for delivery; only after `wait` returned 0."""
        batch = self._cut_returned(now) or self._cut_fresh(now)
        self.in_flight.add(batch)
        return batch

    def _size(self) -> int:
        """How many events the next batch may have.

        After a failure it is one, and doubles with each success: a server that stores but does not
        answer then costs one duplicate a try. Several senders share one batch's worth for the same
        reason: what is on the wire when a server falls silent is never more than `batch_size`.
        """
        if not self.batched:
            return 1
        return max(1, min(self._window, self.limits.batch_size // max(1, len(self.senders))))

    def _cut_returned(self, now: float) -> Batch | None:
        for index, batch in enumerate(self.returned):
            if batch.due <= now:
                count = self._fitting(batch.events)
                if count < len(batch.events):
                    batch, self.returned[index] = batch.split(count)  # noqa: PLW2901
                else:
                    del self.returned[index]
                return batch
        return None

    def _cut_fresh(self, now: float) -> Batch:
        # What is left came after what was cut, and waits one more interval at the most.
        self.since = now
        return self._cut_first(self._fitting(self.fresh))

    def _cut_first(self, count: int) -> Batch:
        first = self._first_number
        self._first_number += count
        pop = self.fresh.popleft
        return Batch([pop() for _ in range(count)], range(first, first + count))

    def _fitting(self, events: Sequence[bytes] | deque[bytes]) -> int:
        """Return how many of the first events make one batch, at least one."""
        count = min(self._size(), len(events))
        room = self.limits.batch_bytes - BATCH_FRAME
        if sum(map(len, islice(events, count))) + count - 1 <= room:
            return count  # as nearly always, and told in a tenth of the time
        fit = 0
        for event in islice(events, count):
            room -= len(event) + 1
            if room < -1 and fit:
                break
            fit += 1
        return fit

    # What came of them.

    def finish(self, batch: Batch) -> None:
        """A batch is no longer on the wire."""
        self.in_flight.discard(batch)

    def succeed(self) -> None:
        """The server answered as it should."""
        self.proven = True
        self.attempts = 0
        self._window = min(self.limits.batch_size, self._window * 2)

    def fail(self, failed: Failed, policy: Policy, now: float) -> list[Batch]:
        """The server did not: pause the lane, and make its next request a small one.

        Returns:
            The batches that have had all the attempts that the policy allows; they are no longer kept.
        """
        self.attempts += 1
        self._resume_at = now + policy.wait(self.attempts, failed.answer)
        self._window = 1
        for batch in self.returned:
            batch.failures += 1
        over = [batch for batch in self.returned if policy.over(batch.failures)]
        self.returned = [batch for batch in self.returned if batch not in over]
        return over

    def send_again(self, batch: Batch, due: float = 0.0) -> None:
        """Keep a batch to send again, not before `due`."""
        batch.repeated = True
        batch.due = due
        self._give_back(batch)

    def _give_back(self, batch: Batch) -> None:
        self.returned.append(batch)
        self.returned.sort(key=lambda other: other.numbers[0])

    def is_behind(self) -> bool:
        """Tell whether more events wait than its senders take in their next round."""
        return not self.attempts and self.backlog > self._size() * len(self.senders)

    # Flushing.

    def end(self) -> int:
        """Return the number that the next event will get: all events of before have smaller ones."""
        return self._first_number + len(self.fresh) + self.stored

    def hurry(self, end: int, now: float) -> None:
        """Send the events numbered below `end` as soon as possible, and cut a pause short."""
        self._urgent_below = max(self._urgent_below, end)
        self._resume_at = min(self._resume_at, now)
        self.attempts = min(self.attempts, 1)  # someone is waiting: back off from the start
        for batch in self.returned:
            batch.due = min(batch.due, now)

    def settled(self, end: int) -> bool:
        """Tell whether every event numbered below `end` is settled."""
        return all(number >= end for number in self._oldest_numbers())

    def unsettled(self) -> int:
        """Return how many events wait or are on the wire, those at the door left out."""
        return self.backlog + sum(len(batch.events) for batch in self.in_flight)

    def held(self) -> Iterator[bytes]:
        """Yield the events that are in memory."""
        yield from self.fresh
        for batch in (*self.returned, *self.in_flight):
            yield from batch.events

    def _oldest_numbers(self) -> Iterator[int]:
        if self.fresh or self.stored:
            yield self._first_number
        for batch in (*self.returned, *self.in_flight):
            yield batch.numbers[0]

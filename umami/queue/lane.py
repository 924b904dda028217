"""The events on their way to one destination: where batches are cut, and where a lane waits out trouble.

A lane takes no lock and starts no thread: its buffer guards it, and tells it the time.
"""

import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from umami import threads

from .destination import Destination
from .exporter import Exporter, Failure, Trouble
from .retry import Policy
from .shelf import Shelf

BATCH_FRAME: Final = 2  # the brackets; each event adds itself and a comma

# How many requests must succeed between two tries of an event before the second counts against the event. One
# does where something refuses the request. More are needed where the server seems to be away: of two servers
# behind a proxy one may be.
_PROOF_REFUSED: Final = 1
_PROOF_AWAY: Final = 3
# What is learnt of a rate limit: the first pause between two requests, the longest, and its decay.
_FIRST_PACE: Final = 0.05
_MOST_PACE: Final = 60.0
_PACE_DECAY: Final = 0.98


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
class Item:
    """An event that has been on the wire, and is to be sent again.

    Attributes:
        event: Its encoded body.
        number: Its number in its lane.
        due: The monotonic time before which it is not sent again.
        failures: How many requests in a row have failed while it waited.
        tries: How many of these carried it.
        answers: How often the server answered for it by itself and did not take it.
        doubts: How often it failed for a reason that may be its own.
        most: The most events of a batch with it: half of the last that failed.
        suspect: Whether it failed alone.
        refused: Whether something refused it then, rather than that no answer came.
        failed_at: How many requests had been accepted when one with it failed last; None if none has. Where a
            suspect fails again before enough were, it stays.
    """

    event: bytes
    number: int
    due: float = 0.0
    failures: int = 0
    tries: int = 0
    answers: int = 0
    doubts: int = 0
    most: int = sys.maxsize
    suspect: bool = False
    refused: bool = False
    failed_at: int | None = None


@dataclass(eq=False, slots=True)
class Batch:
    """Some events of a lane, out for delivery.

    Attributes:
        events: Their encoded bodies.
        numbers: Each one's number in its lane, ascending.
        items: What is known of each, if they have been on the wire before.
    """

    events: list[bytes]
    numbers: Sequence[int]
    items: list[Item] | None = None

    def part(self, indexes: Sequence[int]) -> "Batch":
        """Return a batch of some of the events."""
        return Batch([self.events[index] for index in indexes], [self.numbers[index] for index in indexes])

    def as_items(self) -> list[Item]:
        """Return what is known of each event."""
        if self.items is None:
            self.items = [
                Item(event, number) for event, number in zip(self.events, self.numbers, strict=True)
            ]
        return self.items


def _batch_of(items: list[Item]) -> Batch:
    return Batch([item.event for item in items], [item.number for item in items], items)


class Lane:
    """One destination's events: the fresh ones in order, and the batches that came back.

    Attributes:
        destination: Where they go.
        exporter: What delivers them.
        wake: What its idle senders wait on.
        door: Events that came without the lock, after the fresh ones and not yet counted.
        room: How many may stand there.
        fresh: Events not yet on the wire, oldest first.
        shelf: Its events on disk; None without a spool.
        returned: Events to send again, oldest first.
        in_flight: Batches that a sender is delivering.
        senders: Who sends its events: threads, mostly.
        since: When the oldest fresh event came, in monotonic time.
        looked_at: When somebody last looked at the door.
        proven: Whether a request was ever accepted.
        accepted: How many requests were accepted.
        attempts: How many requests in a row have failed.
        overtaken: How many events have taken the number of one that is on disk alone, and moved those on.
    """

    def __init__(self, destination: Destination, exporter: Exporter, limits: Limits, lock: Any) -> None:
        self.destination = destination
        self.exporter = exporter
        self.limits = limits
        self.clear(lock)

    def clear(self, lock: Any) -> None:
        """Forget everything but the destination, as a fork's child does."""
        self.wake = threads.Condition(lock)
        self.door: deque[bytes] = deque()
        self.room = 0
        self.fresh: deque[bytes] = deque()
        self.shelf: Shelf | None = None
        self.returned: list[Item] = []
        self.in_flight: set[Batch] = set()
        self.senders: set[object] = set()
        self.proven = False
        self.accepted = 0
        self.attempts = 0
        self.overtaken = 0
        self.since = 0.0
        self.looked_at = 0.0
        self._first_number = 0
        self._resume_at = 0.0
        self._window = self.limits.batch_size
        self._suspects_at = 0.0
        self._eased = 0
        self._failed_at = dict.fromkeys(Trouble, 0)
        self._pace = 0.0
        self._paced_until = 0.0
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
            return _batch_of([self.returned.pop(0)])
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
        return len(self.fresh) + self.stored + len(self.returned)

    @property
    def stored(self) -> int:
        """How many events are on disk alone."""
        return 0 if self.shelf is None else self.shelf.count

    def wait(self, now: float) -> float:
        """Return the seconds until a batch may be cut, 0 for now, infinity if nothing waits."""
        if self._asks_alone:
            return math.inf
        soonest = min((self._due(item) - now for item in self.returned), default=math.inf)
        if self.fresh:
            full = len(self.fresh) >= self._size() or self._first_number < self._urgent_below
            soonest = min(soonest, 0.0 if full else self.since + self.limits.interval - now)
        if self.attempts:
            soonest = max(soonest, self._resume_at - now)
        return max(0.0, soonest, self._paced_until - now if soonest < math.inf else 0.0)

    def _due(self, item: Item) -> float:
        """Return when an event may be sent again."""
        if not item.suspect:
            return item.due
        if self._is_proof(item):
            return 0.0 if item.refused else item.due
        return max(item.due, self._suspects_at)

    def cut(self, now: float) -> Batch:
        """Take the next batch out for delivery; only after `wait` returned 0."""
        batch = self._cut_returned(now) or self._cut_fresh(now)
        self.in_flight.add(batch)
        if self._pace:
            self._paced_until = now + self._pace
        return batch

    def _size(self) -> int:
        """How many events the next batch may have.

        After a failure it is one, and doubles with each success: a server that stores but does not
        answer then costs one duplicate a try. Several senders share one batch's worth for the same
        reason: what is on the wire when a server falls silent is never more than `batch_size`.
        """
        most = min(self.limits.batch_size, self.exporter.limits.events)
        return max(1, min(self._window, most // max(1, len(self.senders))))

    def _cut_returned(self, now: float) -> Batch | None:
        """Take out events that are to be sent again.

        An event that is suspected goes alone, each time that others have been accepted since, and else only
        if there is nothing else to send. While the server is away, the next request carries the event that
        has failed least often, so that one that always fails holds up no other. The events of a batch that
        failed go in batches of half its size, so that such a one is soon alone.
        """
        if not self.returned:
            return None
        items = self.returned
        suspects = [item for item in items if item.suspect]
        for item in suspects:
            if self._due(item) <= now and self._is_proof(item):
                return self._take_out([item])
        due = (
            [item for item in items if item.due <= now and not item.suspect]
            if suspects
            else [item for item in items if item.due <= now]
        )
        if due:
            if self.attempts:
                due.sort(key=lambda item: (item.tries, item.number))
                if due[0].tries and self.fresh:
                    return None
            count = self._fitting([item.event for item in due])
            while count > min(item.most for item in due[:count]):
                count -= 1
            return self._take_out(sorted(due[:count], key=_number))
        if self.fresh or not suspects:
            return None
        return self._take_out([min(suspects, key=lambda item: (item.due, item.number))])

    def _take_out(self, items: list[Item]) -> Batch:
        taken = set(map(id, items))
        self.returned = [item for item in self.returned if id(item) not in taken]
        return _batch_of(items)

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
        room = min(self.limits.batch_bytes, self.exporter.limits.bytes) - BATCH_FRAME
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
        """A request was accepted."""
        self.proven = True
        if self.attempts:
            for item in self.returned:
                item.failures = item.tries = 0
            self.attempts = self._eased = 0
        self._window = min(self.limits.batch_size, self._window * 2)
        self._pace = self._pace * _PACE_DECAY if self._pace > _FIRST_PACE / 2 else 0.0

    def fail(self, failure: Failure, items: list[Item], policy: Policy, now: float) -> list[Item]:
        """A request failed as a whole: pause, unless half of it may do better at once.

        Args:
            failure: What it failed of.
            items: Those of its events that are kept.
            policy: When to try again.
            now: The monotonic time.

        Returns:
            The events that have had all the attempts that the policy allows; they are no longer kept.
        """
        count = len(failure.events)
        throttled = failure.trouble is Trouble.THROTTLED
        # That one fails which is suspected says nothing of the others: they wait no longer for it.
        expected = not throttled and count == 1 and any(item.suspect for item in items)
        if not throttled:
            self._accuse(failure, items, expected=expected)
        if failure.trouble is Trouble.REFUSED and count > 1:
            self._window = max(1, min(self._window, count // 2))
            return []
        self.attempts += 1
        asked = failure.retry_after
        if asked == 0 and self.attempts > 1:
            asked = None  # at once was no better
        self._suspects_at = now + policy.wait(self.attempts - self._eased, asked)
        if not expected:
            self._resume_at = self._suspects_at
        if not throttled:
            self._window = 1
        else:
            self._paced_until = self._resume_at  # though another request, made before, may yet be accepted
            if self.attempts == 1:  # else its pause was too short, not the pace too fast
                self._pace = min(_MOST_PACE, max(_FIRST_PACE, 2 * self._pace))
        waiting = [item for item in self.returned if item.suspect or not expected]
        for item in waiting:
            item.failures += 1
        over = {id(item) for item in waiting if policy.over(item.failures)}
        gone = [item for item in self.returned if id(item) in over]
        if over:
            self.returned = [item for item in self.returned if id(item) not in over]
        return gone

    def _accuse(self, failure: Failure, items: list[Item], *, expected: bool) -> None:
        """Note of the events of a request that it failed."""
        count = len(failure.events)
        if not expected:
            self._failed_at[failure.trouble] = self.accepted
        elif failure.trouble is Trouble.AWAY:
            # Suspects that fail in turn prove nothing: of two servers behind a proxy one may be away.
            for other in self.returned:
                if other.suspect and not other.refused and other not in items:
                    other.failed_at = self.accepted
        for item in items:
            item.tries += 1
            item.most = max(1, count // 2)
            if not item.suspect:
                item.failed_at = self.accepted
                item.suspect = count == 1

    def blames(self, item: Item, failure: Failure) -> bool:
        """Tell whether a request of one event failed because of the event: others were accepted meanwhile.

        If so, that is noted: before the next event is blamed, others must be accepted again.
        """
        if failure.trouble is Trouble.THROTTLED:
            return False
        item.refused = failure.trouble is Trouble.REFUSED
        if item.failed_at is None:
            return False
        needed = self._needed(item) if item.suspect else 1
        if self._accepted_since(item) < needed:
            return False
        item.suspect = True
        item.most = 1
        item.failed_at = self._failed_at[failure.trouble] = self.accepted
        return True

    def _is_proof(self, item: Item) -> bool:
        """Tell whether so many requests were accepted since an event failed that the server must be well."""
        return self._accepted_since(item) >= self._needed(item)

    def _needed(self, item: Item) -> int:
        return _PROOF_REFUSED if item.refused else _PROOF_AWAY

    def _accepted_since(self, item: Item) -> int:
        """Return how many requests were accepted since an event, or another, failed in such a way."""
        trouble = Trouble.REFUSED if item.refused else Trouble.AWAY
        return self.accepted - max(item.failed_at or 0, self._failed_at[trouble])

    def give_back(self, items: list[Item]) -> None:
        """Keep events to send again."""
        self.returned += items
        self.returned.sort(key=_number)

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
        self._suspects_at = min(self._suspects_at, now)
        self._paced_until = min(self._paced_until, now + self._pace)
        self._eased = max(0, self.attempts - 1)  # someone is waiting: back off from the start
        for item in self.returned:
            item.due = min(item.due, now)

    def settled(self, end: int) -> bool:
        """Tell whether every event numbered below `end` is settled."""
        return all(number >= end for number in self._oldest_numbers())

    def unsettled(self) -> int:
        """Return how many events wait or are on the wire, those at the door left out."""
        return self.backlog + sum(len(batch.events) for batch in self.in_flight)

    def held(self) -> Iterator[bytes]:
        """Yield the events that are in memory."""
        yield from self.fresh
        yield from (item.event for item in self.returned)
        for batch in self.in_flight:
            yield from batch.events

    def _oldest_numbers(self) -> Iterator[int]:
        if self.fresh or self.stored:
            yield self._first_number
        if self.returned:
            yield self.returned[0].number
        for batch in self.in_flight:
            yield batch.numbers[0]


def _number(item: Item) -> int:
    return item.number

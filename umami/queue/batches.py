"""Events on their way to one destination: those never sent, those to send again, and batches of them."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Final

from .reasons import Rule, Why
from .retry import Attempts

_MOST_LOOKED_AT: Final = 1_000


@dataclass(eq=False, slots=True)
class Item:
    """An event that was in a batch, and is to be sent again.

    Attributes:
        event: Its encoded body.
        number: Its number in its queue.
        due: The monotonic time before which it is not sent again.
        failed_while_waiting: The requests in a row that have failed while it waited, whether they carried it
            or not. They are counted only if `retry_limit` is set.
        failures_in_a_row: How many of the requests that failed in a row carried it. It counts those too whose
            batch is halved at once.
        own_failures: The times that the destination answered for it by itself and did not take it.
        doubts: How often it failed for a reason that may lie in it.
        most: The most events of a batch with it: half of the last that failed.
        suspect: Whether it failed alone.
        refused: Whether something refused it then, rather than that no answer came.
        accepted_when_failed: How many requests had been accepted when one with it failed last; None if none
            has. If a suspect fails again before enough were, this stays.
    """

    event: bytes
    number: int
    due: float = 0.0
    failed_while_waiting: Attempts | None = None
    failures_in_a_row: int = 0
    own_failures: Attempts | None = None
    doubts: int = 0
    most: int = sys.maxsize
    suspect: bool = False
    refused: bool = False
    accepted_when_failed: int | None = None


@dataclass(eq=False, slots=True)
class Batch:
    """Some events of a queue, out for delivery.

    Attributes:
        events: Their encoded bodies.
        numbers: Each one's number in its queue, ascending.
        items: What is known of each, if they have been sent before.
    """

    events: list[bytes]
    numbers: Sequence[int]
    items: list[Item] | None = None
    _size: int | None = None

    @property
    def size(self) -> int:
        """How many bytes the events have. They must all be in it."""
        if self._size is None:
            self._size = sum(map(len, self.events))
        return self._size

    @classmethod
    def of(cls, items: list[Item]) -> "Batch":
        """Return a batch of events that have been sent before."""
        return cls([item.event for item in items], [item.number for item in items], items)

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


def fitting(events: Iterable[bytes], most: int, room: int) -> int:
    """Return how many of the first events make one batch, at least one.

    Args:
        events: The events.
        most: The most events of a batch.
        room: The most bytes of a batch, with one byte between two events.
    """
    fit = 0
    for event in islice(events, most):
        room -= len(event) + 1
        if room < -1 and fit:
            break
        fit += 1
    return fit


def _move(source: deque[bytes], target: deque[bytes] | list[bytes], count: int) -> None:
    """Move the first events, in one call that nothing can interrupt: none is lost or doubled."""
    target.extend(islice(iter(source.popleft, None), count))


class Fresh:
    """Events that have not been sent, oldest first, numbered in the order that they came.

    No number is kept beside an event: the first one's is known.

    Attributes:
        first: The number of the oldest; of the next one to come, if there is none.
        bytes: How many bytes they have.
    """

    def __init__(self) -> None:
        self._events: deque[bytes] = deque()
        self.first = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._events)

    @property
    def last(self) -> bytes | None:
        """The youngest; None if there is none."""
        return self._events[-1] if self._events else None

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first + len(self._events)

    @property
    def body_bytes(self) -> int:
        """How many bytes they have in one request, with one byte between two."""
        return self.bytes + len(self._events) - 1

    def fitting(self, most: int, room: int) -> int:
        """Return how many of the first make one batch, at least one; see `fitting`."""
        count = min(most, len(self._events))
        if self.body_bytes <= room or sum(map(len, islice(self._events, count))) + count - 1 <= room:
            return count  # nearly always, and found much faster
        return fitting(self._events, most, room)

    def streak(self, rule: Rule) -> tuple[Why | None, int]:
        """Return why the oldest event must be dropped, if it must, and how many in a row are like it.

        No more than a thousand are looked at.
        """
        why, events = next(groupby(islice(self._events, _MOST_LOOKED_AT), rule), (None, ()))
        return why, sum(1 for _ in events)

    def append(self, event: bytes) -> None:
        """Take in one event."""
        self._events.append(event)
        self.bytes += len(event)

    def extend(self, events: Sequence[bytes]) -> None:
        """Take in events."""
        self._events.extend(events)
        self.bytes += sum(map(len, events))

    def take_from(self, inbox: deque[bytes], count: int) -> int:
        """Take in the first `count` events of an inbox, and return how many bytes they have."""
        _move(inbox, self._events, count)
        size = sum(map(len, islice(reversed(self._events), count)))
        self.bytes += size
        return size

    def move_to(self, batch: Batch) -> None:
        """Move the first events to a batch that has their numbers, and does not hold any event yet."""
        _move(self._events, batch.events, len(batch.numbers))
        self.first += len(batch.numbers)
        self.bytes -= batch.size

    def repair(self, batches: Iterable[Batch]) -> None:
        """Set `first` and `bytes` by what is there, after a call was broken off.

        Args:
            batches: What was moved to them is not here any more.
        """
        self.first = max([self.first, *(batch.numbers[-1] + 1 for batch in batches)])
        self.bytes = sum(map(len, self._events))


class Returned:
    """Events to send again, oldest first."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def add(self, items: Iterable[Item]) -> None:
        """Take in events."""
        self._items += items
        self._items.sort(key=lambda item: item.number)

    def remove(self, numbers: Iterable[int]) -> None:
        """Take events out."""
        removed = set(numbers)
        self._items = [item for item in self._items if item.number not in removed]

    def discarded(self, rule: Rule) -> tuple[Why | None, list[Item]]:
        """Return why events must be dropped, if some must, and those that must for this reason."""
        found = [(why, item) for item in self._items if (why := rule(item.event)) is not None]
        if not found:
            return None, []
        first = found[0][0]
        return first, [item for why, item in found if why == first]

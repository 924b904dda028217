"""The events of one destination that are not in a request: those never sent, and those to send again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from .backoff import Backoff
from .batch import Batch, Item
from .inbox import Inbox
from .reasons import Rule, Why

_MOST_LOOKED_AT: Final = 1_000


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

    def take_from(self, inbox: Inbox, count: int) -> int:
        """Take in the first `count` events of an inbox, and return how many bytes they have."""
        inbox.move_to(self._events, count)
        size = sum(map(len, islice(reversed(self._events), count)))
        self.bytes += size
        return size

    def move_to(self, batch: Batch) -> None:
        """Move the first events to a batch that has their numbers, and does not hold any event yet."""
        # In one call that nothing can interrupt: none is lost or doubled.
        batch.events.extend(islice(iter(self._events.popleft, None), len(batch.numbers)))
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
        self._items.sort(key=_number)

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

    def next(
        self, now: float, backoff: Backoff, fits: Callable[[list[bytes]], int], *, others: bool
    ) -> list[Item]:
        """Return the events that make the next batch, if it is to be of these.

        A suspect goes alone, each time that others have been accepted since, and else only if there is
        nothing else to send. While the server is away, the next request carries the event that has failed
        least often, so that one that always fails holds up no other. The events of a batch that failed go
        in batches of half its size, so that such a one is soon alone.

        Args:
            now: The monotonic time.
            backoff: What is known of the destination.
            fits: Returns how many of some events make one batch.
            others: Whether there are events that were never sent.
        """
        suspects = [item for item in self._items if item.suspect]
        for item in suspects:
            if backoff.due(item) <= now and backoff.is_proof(item):
                return [item]
        due = [item for item in self._items if item.due <= now and not item.suspect]
        if due:
            if backoff.failures:
                due.sort(key=lambda item: (item.failures_in_a_row, item.number))
                if due[0].failures_in_a_row and others:
                    return []
            count = fits([item.event for item in due])
            while count > min(item.most for item in due[:count]):
                count -= 1
            return sorted(due[:count], key=_number)
        if others or not suspects:
            return []
        return [min(suspects, key=lambda item: (item.due, item.number))]


def _number(item: Item) -> int:
    return item.number

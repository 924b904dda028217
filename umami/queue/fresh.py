"""The events of one destination that have not been sent, and the number of each."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from .batch import Batch
from .inbox import Inbox


class Fresh:
    """Events, oldest first, numbered in the order that they came.

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
        self.bytes -= sum(map(len, batch.events))

    def repair(self, batches: Iterable[Batch]) -> None:
        """Set `first` and `bytes` by what is there, after a call was broken off.

        Args:
            batches: What was moved to them is not here any more.
        """
        self.first = max([self.first, *(batch.numbers[-1] + 1 for batch in batches)])
        self.bytes = sum(map(len, self._events))

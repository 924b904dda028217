"""Events on their way out: a batch, and what is known of an event that is to be sent again."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .retry import Attempts


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

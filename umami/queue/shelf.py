"""A lane's events on disk: where each one lies, and those that are on disk alone.

Events of a lane are numbered in the order they came. Those in memory that have a copy in the spool are
known here by their numbers, so that they can be settled there too; those for which memory had no room
follow after the last one in memory, and are loaded as it empties.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .records import DamagedError
from .segment import Segment
from .spool import Place, Spool


@dataclass(slots=True)
class _Run:
    """Consecutive numbers that lie one after another in one file."""

    first: int
    count: int
    segment: Segment
    index: int
    unsettled: int


@dataclass(slots=True)
class _Stock:
    """A file's events that are on disk alone."""

    segment: Segment
    count: int
    events: Iterator[tuple[int, bytes]] | None = None


class Shelf:
    """The events of one lane in a spool.

    Args:
        spool: The spool.

    Attributes:
        count: How many events are on disk alone.
    """

    def __init__(self, spool: Spool) -> None:
        self.count = 0
        self._spool = spool
        self._runs: list[_Run] = []
        self._stock: deque[_Stock] = deque()

    def note(self, number: int, place: Place) -> None:
        """Remember where the event of a number lies; numbers ascend."""
        segment, index = place
        if self._runs:
            last = self._runs[-1]
            if (
                last.segment is segment
                and last.index + last.count == index
                and last.first + last.count == number
            ):
                last.count += 1
                last.unsettled += 1
                return
        self._runs.append(_Run(number, 1, segment, index, 1))

    def store(self, segment: Segment, count: int = 1) -> None:
        """Count events that are on disk alone, and come after all others."""
        self.count += count
        if self._stock and self._stock[-1].segment is segment:
            self._stock[-1].count += count
        else:
            self._stock.append(_Stock(segment, count))

    def load(self, number: int, most: int) -> tuple[list[bytes], int]:
        """Take events off the disk into memory.

        Args:
            number: The number that the first of them has.
            most: How many to take at the most.

        Returns:
            The events, and how many more are lost because their file is damaged.
        """
        loaded: list[bytes] = []
        lost = 0
        while self._stock and len(loaded) < most:
            stock = self._stock[0]
            try:
                if stock.events is None:
                    self._spool.seal(stock.segment)
                    stock.events = stock.segment.events()
                    self._skip_what_is_known(stock)
                while stock.count and len(loaded) < most:
                    index, event = next(stock.events)
                    self.note(number + len(loaded), (stock.segment, index))
                    loaded.append(event)
                    stock.count -= 1
                    self.count -= 1
            except (DamagedError, OSError, StopIteration) as error:
                lost += stock.count
                self.count -= stock.count
                stock.count = 0
                self._spool.give_up(stock.segment, error)
            if not stock.count:
                self._stock.popleft()
        return loaded, lost

    def _skip_what_is_known(self, stock: _Stock) -> None:
        """Pass over a file's earlier events, which are in memory: the ones on disk alone are its last.

        Raises:
            StopIteration: There are fewer than that.
        """
        for _ in range(stock.segment.unsettled - stock.count):
            next(stock.events or iter(()))

    def settle(self, numbers: Sequence[int]) -> None:
        """Note on disk that the events of these ascending numbers are settled."""
        for run, indexes in self._places(numbers):
            run.unsettled -= len(indexes)
            self._spool.settle(run.segment, indexes)
        self._runs = [run for run in self._runs if run.unsettled]

    def mark(self, numbers: Sequence[int], *, settled: bool) -> None:
        """Note on disk what another process is to think of these events if this one dies now."""
        for run, indexes in self._places(numbers):
            self._spool.mark(run.segment, indexes, settled=settled)

    def _places(self, numbers: Iterable[int]) -> list[tuple[_Run, list[int]]]:
        places: list[tuple[_Run, list[int]]] = []
        firsts = [run.first for run in self._runs]
        for number in numbers:
            position = bisect_right(firsts, number) - 1
            if position < 0 or number >= firsts[position] + self._runs[position].count:
                continue  # it is in memory alone
            run = self._runs[position]
            if not places or places[-1][0] is not run:
                places.append((run, []))
            places[-1][1].append(run.index + number - run.first)
        return places

"""One exporter's events in a spool: where each one is, and which are only on disk."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from umami.queue.reasons import SPOOL_DAMAGED
from umami.queue.store import Loss

from .folder import Folder
from .records import ForeignError, printable
from .segment import Segment


@dataclass(slots=True)
class _Run:
    """Consecutive numbers that lie one after another in one file."""

    first: int
    count: int
    segment: Segment
    index: int
    unsettled: int


@dataclass(slots=True)
class _Waiting:
    """A file's last events, which are on disk alone: those with indexes from `first` on."""

    segment: Segment
    first: int
    count: int
    events: Iterator[tuple[int, bytes]] | None = None


class SpoolPartition:
    """The events of one exporter in a spool; see `umami.queue.store.Partition`.

    Args:
        folder: The spool's folder.
        name: The exporter's name.

    Attributes:
        waiting: How many events are on disk alone.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._runs: list[_Run] = []
        self._waiting: deque[_Waiting] = deque()
        self.waiting = 0

    def append(self, event: bytes, number: int | None) -> bool:
        """Write an event."""
        place = self._folder.write(self._name, event)
        if place is None:
            return False
        segment, index = place
        if number is None:
            self._add(segment, index, 1)
        else:
            self._note(number, segment, index)
        return True

    def _note(self, number: int, segment: Segment, index: int) -> None:
        """Remember where the event of a number lies. Numbers ascend."""
        if self._runs:
            last = self._runs[-1]
            if (
                last.segment is segment
                and last.index + last.count == index
                and last.first + last.count == number
            ):
                last.count, last.unsettled = last.count + 1, last.unsettled + 1
                return
        self._runs.append(_Run(number, 1, segment, index, 1))

    def adopt(self, segment: Segment) -> None:
        """Count the events of a file of another process, which come after all others."""
        self._add(segment, 0, segment.unsettled)

    def _add(self, segment: Segment, first: int, count: int) -> None:
        self.waiting += count
        if self._waiting and self._waiting[-1].segment is segment:
            self._waiting[-1].count += count
        else:
            self._waiting.append(_Waiting(segment, first, count))

    def load(self, number: int, most: int) -> tuple[list[bytes], list[Loss]]:
        """Bring events into memory that are on disk alone."""
        loaded: list[bytes] = []
        losses: list[Loss] = []
        while self._waiting and len(loaded) < most:
            waiting = self._waiting[0]
            segment = waiting.segment
            why: str | None = None
            try:
                if waiting.events is None:
                    self._folder.seal(segment)
                    waiting.events = segment.events(waiting.first)
                while waiting.count and len(loaded) < most:
                    index, event = next(waiting.events)
                    losses += self._lost(waiting, index)
                    self._note(number + len(loaded), segment, index)
                    loaded.append(event)
                    waiting.first = index + 1
                    waiting.count -= 1
                    self.waiting -= 1
            except (OSError, StopIteration) as error:
                why = str(error)
            except ForeignError:
                why = "its beginning is damaged"
            if why is not None:
                losses += self._lost(waiting, segment.count, why)
                # What is counted beyond that is not there: a broken-off call may have counted it twice.
                self.waiting -= waiting.count
                waiting.count = 0
            if not waiting.count:
                self._waiting.popleft()
        return loaded, losses

    def repair(self, end: int) -> None:
        """Have each event in one place, after a call was broken off.

        Args:
            end: The number after the last event in memory: what has it or a later one is on disk alone.
        """
        for run in reversed(self._runs):
            kept = max(0, min(run.count, end - run.first))
            if kept == run.count:
                continue
            first = run.index + kept
            if self._waiting and self._waiting[0].segment is run.segment:
                self._waiting[0].first = min(self._waiting[0].first, first)
            else:
                self._waiting.appendleft(_Waiting(run.segment, first, 0))
            run.count, run.unsettled = kept, run.unsettled - run.count + kept
        self._runs = [run for run in self._runs if run.unsettled > 0]
        for waiting in self._waiting:
            waiting.events = None  # may have been read further than was taken
            waiting.count = waiting.segment.unsettled_within(waiting.first, waiting.segment.count)
        self._waiting = deque(waiting for waiting in self._waiting if waiting.count)
        self.waiting = sum(waiting.count for waiting in self._waiting)

    def _lost(self, waiting: _Waiting, end: int, why: str = "") -> list[Loss]:
        """Give up the events of a file that come before index `end` and could not be read."""
        segment = waiting.segment
        count = segment.unsettled_within(waiting.first, end)
        if not count:
            return []
        message = f"A part of {printable(segment.path)} cannot be read{': ' * bool(why)}{printable(why)}."
        self._folder.lose(segment, waiting.first, end)
        waiting.first = end
        waiting.count -= count
        self.waiting -= count
        return [Loss(count, SPOOL_DAMAGED, message)]

    def settle(self, numbers: Sequence[int]) -> None:
        """Note on disk that events are settled."""
        for run, indexes in self._places(numbers):
            run.unsettled -= len(indexes)
            self._folder.settle(run.segment, indexes)
        self._runs = [run for run in self._runs if run.unsettled]

    def mark(self, numbers: Sequence[int], *, settled: bool) -> None:
        """Note on disk whether the next process is to count events as settled."""
        for run, indexes in self._places(numbers):
            self._folder.mark(run.segment, indexes, settled=settled)

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

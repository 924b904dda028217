"""A set of whole numbers that takes little memory if most of them are consecutive."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of whole numbers, kept as runs of consecutive ones. Its `len` is how many numbers it has."""

    __slots__ = ("_count", "_ends", "_firsts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[range]:
        return map(range, self._firsts, self._ends)

    def __contains__(self, number: int) -> bool:
        position = bisect_right(self._firsts, number) - 1
        return position >= 0 and number < self._ends[position]

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return len(self._firsts)

    def add(self, first: int, end: int) -> None:
        """Add the numbers from `first` on that are below `end`."""
        if first >= end:
            return
        left, right = bisect_left(self._ends, first), bisect_right(self._firsts, end)
        if left < right:
            first, end = min(first, self._firsts[left]), max(end, self._ends[right - 1])
        self._replace(left, right, [(first, end)])

    def remove(self, first: int, end: int) -> None:
        """Remove the numbers from `first` on that are below `end`."""
        left, right = bisect_right(self._ends, first), bisect_left(self._firsts, end)
        if first < end and left < right:
            before, after = (self._firsts[left], first), (end, self._ends[right - 1])
            self._replace(left, right, [part for part in (before, after) if part[0] < part[1]])

    def _replace(self, left: int, right: int, runs: list[tuple[int, int]]) -> None:
        count = self._count - sum(self._ends[left:right]) + sum(self._firsts[left:right])
        count += sum(end - first for first, end in runs)
        firsts = [*self._firsts[:left], *(first for first, _ in runs), *self._firsts[right:]]
        ends = [*self._ends[:left], *(end for _, end in runs), *self._ends[right:]]
        self._count, self._firsts, self._ends = count, firsts, ends  # all or none, whatever interrupts this

    def without(self, others: "Ranges") -> "Ranges":
        """Return those of its numbers that another set has not."""
        rest = Ranges()
        rest._firsts, rest._ends, rest._count = self._firsts.copy(), self._ends.copy(), self._count
        for run in others:
            rest.remove(run.start, run.stop)
        return rest

    def within(self, first: int, end: int) -> int:
        """Return how many of its numbers are from `first` on and below `end`."""
        left, right = bisect_right(self._ends, first), bisect_left(self._firsts, end)
        return sum(
            min(last, end) - max(start, first)
            for start, last in zip(self._firsts[left:right], self._ends[left:right], strict=True)
        )


def runs_of(numbers: Iterable[int]) -> Iterator[range]:
    """Yield ascending numbers as runs of consecutive ones."""
    first = end = 0
    for number in numbers:
        if number != end:
            if first < end:
                yield range(first, end)
            first = number
        end = number + 1
    if first < end:
        yield range(first, end)

"""The interface between the queue and a disk. `umami._spool` implements it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Loss:
    """Events that a store has lost: how many, the reason to count them under, and what happened."""

    count: int
    reason: str
    message: str


class Partition(Protocol):
    """The events of one exporter in a store. Guarded by the queue's lock.

    Events are numbered in the order that they came. Those in memory have a copy here, known by its number.
    Those that memory had no room for are in the store alone; they come after those in memory.
    """

    @property
    def waiting(self) -> int:
        """How many events are in the store alone."""

    def append(self, event: bytes, number: int | None) -> bool:
        """Write an event.

        Args:
            event: The event.
            number: Its number; None if the store alone is to hold it.

        Returns:
            Whether it was written; if not, the store is full or has failed, and has reported it.
        """

    def load(self, number: int, most: int) -> tuple[list[bytes], list[Loss]]:
        """Bring events into memory that are in the store alone.

        Args:
            number: The number that the first of them gets.
            most: How many to load at the most.

        Returns:
            The events, and what could not be read.
        """

    def repair(self, end: int) -> None:
        """After a call was broken off, count as in the store alone what is numbered from `end` on."""

    def settle(self, numbers: Sequence[int]) -> None:
        """Note that the events of these ascending numbers are settled. Numbers that it lacks are skipped."""

    def mark(self, numbers: Sequence[int], *, settled: bool) -> None:
        """Note whether the next process is to count these events as settled if this one dies now."""


class Orphan(Protocol):
    """Events that a process left in a store as it ended."""

    @property
    def name(self) -> str:
        """The name of their exporter."""

    @property
    def events(self) -> int:
        """How many they are."""

    @property
    def losses(self) -> Sequence[Loss]:
        """What else was there, and cannot be read."""

    def adopt(self) -> None:
        """Make the events this process's own, in the partition of `name`. The queue's lock is held."""


class Store(Protocol):
    """Keeps events beyond the life of a process. Guarded by the queue's lock, but for `orphans`."""

    def partition(self, name: str) -> Partition:
        """Return the partition of an exporter's name."""

    def orphans(self, accepts: Callable[[str], bool]) -> Iterable[Orphan]:
        """Find events that other processes left. Reads files: called without the queue's lock.

        Args:
            accepts: Tells whether this process has an exporter of a name.
        """

    @property
    def has_orphans(self) -> bool:
        """Whether some are being sent, or left for later."""

    @property
    def wants_orphans(self) -> bool:
        """Whether `orphans` left some for later, and could take them now."""

    @property
    def left(self) -> int:
        """How many events `close` would leave to another process."""

    def close(self) -> int:
        """Leave what is not settled to another process, and return how many events that are."""

    def after_fork(self) -> None:
        """Let go of the parent's files in a fork's child."""


class RejectedEvents(Protocol):
    """Keeps events that a server refused. Any thread may call it."""

    @property
    def folder(self) -> Path:
        """Where they are kept."""

    max_bytes: int

    def write(self, exporter: str, reason: str, message: str, events: Sequence[bytes]) -> None:
        """Keep some events, with the name of their exporter and why they were refused."""

    def after_fork(self) -> None:
        """Let go of the parent's files in a fork's child."""

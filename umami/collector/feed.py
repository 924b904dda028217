"""What arrived, in order, with what became of it: for the page, and for tests in other languages."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from umami.collector.records import Request

Verdict = Literal["stored", "rejected", "bot", "fault"]

VERDICTS: Final[tuple[Verdict, ...]] = ("stored", "rejected", "bot", "fault")
KEPT: Final = 10_000
KEPT_BYTES: Final = 64 * 1024 * 1024
CHART_STEP: Final = 5
"""The seconds of one bar of the chart."""

_CHART_BARS: Final = 60


@dataclass(eq=False)
class Reception:
    """A request for events, on its way through the collector.

    Attributes:
        request: The request.
        client: The client's address.
        items: How many events of it were looked at.
    """

    request: Request
    client: str
    items: int = 0


@dataclass(eq=False)
class Entry:
    """One event that arrived; or a whole request that was refused, or that met a fault.

    Attributes:
        reception: The request that it came in.
        index: Its position in a batch; None if it came alone.
        verdict: What became of it.
        reason: Why, in words; empty if it was stored whole.
        status: The status of the answer to it; None if there was none yet.
        is_event: Whether it is an event, and not a whole request.
        session: The id of the visitor's session, if it was stored.
        ip: The visitor's address, if it was stored.
        at: When it arrived, in epoch seconds.
        id: Its number. A later entry has a greater one.
    """

    reception: Reception
    index: int | None
    verdict: Verdict
    reason: str = ""
    status: int | None = None
    is_event: bool = True
    session: str = ""
    ip: str = ""
    at: float = field(default_factory=time.time)
    id: int = 0

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds: its share of its request's body."""
        return len(self.reception.request.body) // max(self.reception.items, 1)


class Feed:
    """The latest entries: at most 10,000, with at most 64 MiB of bodies. Thread-safe.

    Attributes:
        run: A name for the time since the start, or since the last `clear`.
        version: A number that changes with each entry, and with what `changed` is called for.
        counts: How many entries of each verdict there were since then, kept or not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._bars: dict[int, dict[Verdict, int]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.version = 0
        self._begin()

    def _begin(self) -> None:
        self.run = secrets.token_hex(6)
        self.counts: dict[Verdict, int] = dict.fromkeys(VERDICTS, 0)

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds entries, and gives them their numbers."""
        if not entries:
            return
        with self._lock:
            for entry in entries:
                entry.id = next(self._numbers)
                self._entries.append(entry)
                self._bytes += entry.size
                self.counts[entry.verdict] += 1
                bar = self._bars.setdefault(int(entry.at) // CHART_STEP, dict.fromkeys(VERDICTS, 0))
                bar[entry.verdict] += 1
            while len(self._entries) > KEPT or (self._bytes > KEPT_BYTES and len(self._entries) > 1):
                self._bytes -= self._entries.popleft().size
            while len(self._bars) > _CHART_BARS:
                del self._bars[min(self._bars)]
            self._wake()

    def clear(self) -> None:
        """Deletes the entries and resets the counts."""
        with self._lock:
            self._entries.clear()
            self._bars.clear()
            self._bytes = 0
            self._begin()
            self._wake()

    def changed(self) -> None:
        """Wakes those who wait: something else that they show has changed."""
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            with suppress(RuntimeError):  # its server has stopped
                future.get_loop().call_soon_threadsafe(_release, future)

    def after(self, number: int, limit: int = KEPT) -> list[Entry]:
        """Returns the entries with a greater number, oldest first, at most `limit`."""
        with self._lock:
            if not self._entries or self._entries[-1].id <= number:
                return []
            first = max(0, number + 1 - self._entries[0].id)
            return list(itertools.islice(self._entries, first, first + limit))

    def find(self, number: int) -> Entry | None:
        """Returns the entry with a number, or None if it is not kept."""
        found = self.after(number - 1, 1)
        return found[0] if found and found[0].id == number else None

    def chart(self) -> list[tuple[int, dict[Verdict, int]]]:
        """Returns the last minutes: for each five seconds with entries, their start and the counts."""
        oldest = int(time.time()) // CHART_STEP - _CHART_BARS
        with self._lock:
            return [(bar * CHART_STEP, dict(counts)) for bar, counts in self._bars.items() if bar > oldest]

    async def wait(self, version: int, timeout: float) -> None:
        """Waits until `version` is another one, for so many seconds at most."""
        released = asyncio.get_running_loop().create_future()
        with self._lock:
            if self.version != version:
                return
            self._waiting.append(released)
        try:
            await asyncio.wait({released}, timeout=timeout)
        finally:
            with self._lock:
                if released in self._waiting:
                    self._waiting.remove(released)


def _release(released: asyncio.Future[None]) -> None:
    if not released.done():
        released.set_result(None)

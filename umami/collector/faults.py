"""Scripted faults: which requests fail, and how."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Literal

from umami.collector import replies
from umami.collector.forms import told
from umami.collector.generations import Generation
from umami.collector.replies import Json

ItemFaults = Callable[[int, Json], "Json | None"] | Mapping[int, Json]
"""The items of a request that fail: an ``errorObject`` for each index, or a function of index and item."""

INGESTION = ("/api/send", "/api/batch")


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(eq=False)
class Fault:
    """A fault that `Collector.fail` added: which requests it applies to, and what happens to them.

    Attributes:
        status: The status of the answer; None for the normal answer.
        times: How many requests it applies to in total; None for all, until it is cancelled.
        path: The path it applies to, in which ``*`` matches anything; None for both routes for events.
        headers: Headers to add to the answer.
        body: The answer's body; None for a body as Umami's.
        delay: Seconds to wait before the answer.
        freeze: Do not answer until `Collector.thaw`.
        cut: Close the connection ``before`` or ``after`` storing, or in the middle of the ``body``.
        store: Store the events, although the request fails, and do so before `delay` and `freeze`.
        items: The events of a batch that fail.
        hits: How many requests it has applied to.
    """

    status: int | None = 503
    times: int | None = 1
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    freeze: bool = False
    cut: Literal["before", "after", "body"] | None = None
    store: bool = False
    items: ItemFaults | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        if self.items is not None and self.status is not None:
            raise ValueError(f"items needs status=None: the answer is the normal one, not {self.status}.")

    @property
    def stores_first(self) -> bool:
        """Whether the events are stored before the request fails."""
        return self.store or self.cut == "after"

    @property
    def is_spent(self) -> bool:
        """Whether it applies to no further request."""
        return self.times is not None and self.hits >= self.times

    def matches(self, path: str) -> bool:
        """Whether it applies to requests to `path`."""
        return path in INGESTION if self.path is None else fnmatchcase(path, self.path)

    def cancel(self) -> None:
        """Ends the fault: it applies to no further request."""
        self.times = self.hits

    def describe(self) -> str:
        """Returns what it does, in words."""
        parts = [] if self.status is None else [f"answers {self.status}"]
        if self.delay:
            parts.append(f"{self.delay:g} s late")
        if self.freeze:
            parts.append("frozen until the thaw")
        if self.cut == "body":
            parts.append("cuts the connection within the answer")
        elif self.cut:
            parts.append(f"cuts the connection {self.cut} storing")
        if self.store:
            parts.append("stores the events first")
        if self.items is not None:
            parts.append("some events fail")
        return ", ".join(parts) or "the normal answer"

    def item_error(self, index: int, item: Json) -> Json | None:
        """Returns the ``errorObject`` of the item with this index, or None if it does not fail."""
        if self.items is None:
            return None
        if isinstance(self.items, Mapping):
            return self.items.get(index)
        return self.items(index, item)

    def answer(self, normal: Answer | None, generation: Generation) -> Answer:
        """Returns the answer. `normal`, the answer without the fault, is only needed if `status` is None."""
        added = tuple((name.lower(), value) for name, value in self.headers.items())
        if self.status is None and normal is not None:
            body = normal.body if self.body is None else _encode(self.body)
            names = {name for name, _ in added}
            kept = tuple(header for header in normal.headers if header[0] not in {*names, "content-length"})
            return Answer(normal.status, (*kept, *added), body)
        status = self.status or HTTPStatus.OK
        body = _default_body(status, generation) if self.body is None else _encode(self.body)
        if not any(name == "content-type" for name, _ in added):
            kind = (
                "application/json"
                if self.body is None or not isinstance(self.body, (str, bytes))
                else "text/html"
            )
            added = (("content-type", kind), *added)
        return Answer(status, added, body)


def _encode(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _default_body(status: int, generation: Generation) -> bytes:
    if status < HTTPStatus.BAD_REQUEST:
        return b""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    reply = replies.error(status, phrase.lower().replace(" ", "-"), phrase)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        reply = replies.server_error(replies.database_away())
    return _encode(told(reply, generation))


class FaultPlan:
    """The faults, in order, and the requests that are frozen. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._freezing: list[Fault] = []
        self._held: list[asyncio.Future[None]] = []

    def add(self, fault: Fault) -> None:
        """Adds a fault at the end."""
        with self._lock:
            self._faults.append(fault)
            if fault.freeze:
                self._freezing.append(fault)

    @property
    def active(self) -> list[Fault]:
        """The faults that are left, in order."""
        with self._lock:
            return [fault for fault in self._faults if not fault.is_spent]

    def take(self, path: str) -> Fault | None:
        """Uses up the first fault for `path` once, and returns it; None if there is none."""
        with self._lock:
            self._faults = [fault for fault in self._faults if not fault.is_spent]
            for fault in self._faults:
                if fault.matches(path):
                    fault.hits += 1
                    return fault
        return None

    def clear(self) -> None:
        """Removes all faults. Frozen requests stay frozen."""
        with self._lock:
            for fault in self._faults:
                fault.cancel()
            self._faults.clear()

    async def hold(self, fault: Fault) -> None:
        """Waits for `thaw`, unless it was called after the fault was added.

        Runs on the server's event loop.
        """
        released = asyncio.get_running_loop().create_future()
        with self._lock:
            if fault not in self._freezing:
                return
            self._held.append(released)
        try:
            await released
        finally:
            with self._lock:
                if released in self._held:
                    self._held.remove(released)

    def thaw(self) -> None:
        """Continues all frozen requests, and cancels the faults that freeze."""
        with self._lock:
            for fault in self._freezing:
                fault.cancel()
            self._freezing.clear()
            for released in self._held:
                released.get_loop().call_soon_threadsafe(_release, released)


def _release(released: asyncio.Future[None]) -> None:
    if not released.done():
        released.set_result(None)

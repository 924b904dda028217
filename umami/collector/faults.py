"""Faults that a test scripts: which requests go wrong, and how."""

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
"""Which items of a request fail: the item's ``errorObject`` by index, or a function of index and item."""

INGESTION = ("/api/send", "/api/batch")


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(eq=False)
class Fault:
    """What happens to the next requests to a path, as scripted by `Collector.fail`.

    Attributes:
        status: The status to answer with; None for the normal answer.
        times: How many requests it is for in all; None for every one until it is cancelled.
        path: The path, in which ``*`` stands for anything; None for both ingestion routes.
        headers: Headers to add to the answer.
        body: The answer's body in place of the usual one.
        delay: Seconds to wait before answering.
        freeze: Give no answer until `Collector.thaw`.
        cut: Close the connection ``before`` or ``after`` storing, or in the middle of the ``body``.
        store: Store the events although the request fails, and before any delay or freeze.
        items: Which items fail, each for itself.
        hits: How many requests it has hit.
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
            raise ValueError(f"items fail within the normal answer: give status=None, not {self.status}")

    @property
    def stores_first(self) -> bool:
        """Whether the events are stored before anything goes wrong."""
        return self.store or self.cut == "after"

    @property
    def is_spent(self) -> bool:
        """Whether it hits no further request."""
        return self.times is not None and self.hits >= self.times

    def matches(self, path: str) -> bool:
        """Whether a request to `path` is one of those it is for."""
        return path in INGESTION if self.path is None else fnmatchcase(path, self.path)

    def cancel(self) -> None:
        """Hits no further request."""
        self.times = self.hits

    def item_error(self, index: int, item: Json) -> Json | None:
        """The ``errorObject`` that the item of this index fails with, or None."""
        if self.items is None:
            return None
        if isinstance(self.items, Mapping):
            return self.items.get(index)
        return self.items(index, item)

    def answer(self, normal: Answer | None, generation: Generation) -> Answer:
        """What to answer with, given the normal answer (which a fault with a status does not need)."""
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
    """The scripted faults, in order, and the requests they hold. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._freezing: list[Fault] = []
        self._held: list[asyncio.Future[None]] = []

    def add(self, fault: Fault) -> None:
        """Puts a fault at the end of the plan."""
        with self._lock:
            self._faults.append(fault)
            if fault.freeze:
                self._freezing.append(fault)

    def take(self, path: str) -> Fault | None:
        """Takes one use of the first fault that is for `path`."""
        with self._lock:
            self._faults = [fault for fault in self._faults if not fault.is_spent]
            for fault in self._faults:
                if fault.matches(path):
                    fault.hits += 1
                    return fault
        return None

    def clear(self) -> None:
        """Forgets every fault. Requests that are held stay so."""
        with self._lock:
            for fault in self._faults:
                fault.cancel()
            self._faults.clear()

    async def hold(self, fault: Fault) -> None:
        """Waits for a `thaw`, unless there has been one since the fault was scripted.

        To be called on the server's event loop.
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
        """Lets every held request go on, and cancels the faults that would freeze further ones."""
        with self._lock:
            for fault in self._freezing:
                fault.cancel()
            self._freezing.clear()
            for released in self._held:
                released.get_loop().call_soon_threadsafe(_release, released)


def _release(released: asyncio.Future[None]) -> None:
    if not released.done():
        released.set_result(None)

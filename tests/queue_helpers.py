"""Helpers for tests of the queue: read what a collector received, wait for events, interrupt code."""

import gc
import inspect
import linecache
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import DEADLINE, until_read

import umami
from umami.collector import Collector, Request
from umami.errors import ValidationError
from umami.models import ErrorReport

NEVER = 10 * DEADLINE
"""Seconds: longer than any test runs."""

SENDS: dict[str, dict[str, Any]] = {
    "new_event": {"event_name": "signup"},
    "new_revenue_event": {"revenue": 19.99},
    "new_page_view": {"page_title": "Home", "url": "/"},
    "identify": {"distinct_id": "user-1", "data": {"plan": "pro"}},
}
"""The send functions, each with valid arguments."""


EVERY = int(os.environ.get("EVERY_MOMENT", "3"))


def moments() -> Iterator[int]:
    """Yield the moments that a test breaks a call off at: every third one; `make reliability` takes each."""
    return count(step=EVERY)


def refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return the message of the ValidationError that a call raises."""
    with pytest.raises(ValidationError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def sent(requests: Iterable[Request]) -> list[list[dict[str, Any]]]:
    """Return the payloads of the events in each request, single or batch."""
    bodies = [request.json for request in requests if request.path in ("/api/send", "/api/batch")]
    return [[item["payload"] for item in (body if isinstance(body, list) else [body])] for body in bodies]


def sizes(collector: Collector) -> list[int]:
    """Return how many events each request carried."""
    return [len(payloads) for payloads in sent(collector.requests)]


def stored(collector: Collector) -> Counter[str]:
    """Return how often each event is stored, by its name, or by its title if it is a page view."""
    return Counter(event.name or event.title for event in collector.events)


def connections(collector: Collector) -> set[int]:
    """Return the client ports of the connections that events arrived on."""
    return {request.client_port for request in collector.requests if request.path.startswith("/api/")}


def send_many(client: umami.Client, count: int, prefix: str = "e") -> list[str]:
    """Send `count` events and return their names."""
    names = [f"{prefix}{number}" for number in range(count)]
    for name in names:
        assert client.new_event(name) == {"queued": True}
    return names


def hold(collector: Collector, client: umami.Client, name: str = "xx") -> None:
    """Have all events wait until a flush, even in a full queue: one was answered 503, and comes first."""
    client.configure(retry_wait=NEVER, retry_wait_max=NEVER, flush_interval=0)
    collector.fail(503)
    assert client.new_event(name) == {"queued": True}
    until(lambda: client.queue_stats().last_error is not None)
    client.configure(flush_interval=NEVER)


def drain(folder: Path, **settings: Any) -> umami.models.QueueStats:
    """Open a spool as the next process would, and send the events in it."""
    with umami.Client(**{"spool": str(folder), "retry_wait": 0.02, **settings}) as client:
        assert client.flush(DEADLINE)
        return client.queue_stats()


def until(condition: Callable[[], bool]) -> None:
    """Block until a condition holds. It is polled; so this is for what cannot be waited for otherwise."""
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, "the condition did not become true in time"
        threading.Event().wait(0.001)


def recover(collector: Collector) -> None:
    """Have a collector work again, but fail the last requests of processes that were killed."""
    until_read(collector)
    until(lambda: all(request.status for request in collector.requests))
    collector.clear_faults()


def until_waiting(thread: threading.Thread) -> None:
    """Block until a thread waits for a condition or an event."""

    def waits() -> bool:
        gc.disable()  # CPython 3.11 deadlocks if it collects garbage in `_current_frames` (gh-106883)
        try:
            return sys._current_frames()[thread.ident].f_code.co_name == "wait"
        finally:
            gc.enable()

    until(waits)


class Listener(logging.Handler):
    """A log handler that keeps the records, and lets a test wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition(threading.RLock())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def matching(self, text: str) -> list[logging.LogRecord]:
        """Return the records whose message contains `text`."""
        with self._changed:
            return [record for record in self.records if text in record.getMessage()]

    def wait_for(self, text: str, times: int = 1) -> None:
        """Block until that many messages that contain `text` have been logged."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.matching(text)) >= times, DEADLINE), text


class Reports:
    """An `on_error` callback that keeps its reports."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.all: list[ErrorReport] = []

    def __call__(self, report: ErrorReport) -> None:
        with self._changed:
            self.all.append(report)
            self._changed.notify_all()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the number of events reported, by kind and reason."""
        counts: Counter[tuple[str, str]] = Counter()
        with self._changed:
            for report in self.all:
                counts[report.kind, report.reason] += report.count
        return counts

    def wait_for(self, count: int) -> None:
        """Block until that many events have been reported."""
        with self._changed:
            told = self._changed.wait_for(lambda: sum(report.count for report in self.all) >= count, DEADLINE)
        assert told, self.all


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work` with each number below `count`, each in its own thread, and raise the first exception."""
    faults: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as fault:  # noqa: BLE001 - raised by the caller below
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a thread is stuck"
    if faults:
        raise faults[0]


@contextmanager
def _at(function: Any, act: Callable[[], object], is_due: Callable[[FrameType, str], bool]) -> Iterator[None]:
    """Call `act` in this thread the first time that a function reaches a point; fail if it never does.

    A tracer that was running, such as a debugger's or coverage's, is restored at the end.
    """
    before = sys.gettrace()
    reached = False

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal reached
        if frame.f_code is not function.__code__ or reached:
            return None
        if is_due(frame, event):
            reached = True
            sys.settrace(None)  # what is done now is not to be traced
            act()
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert reached, f"{function.__qualname__} was not interrupted: it never reached the point"


def at_return(function: Any, act: Callable[[], object]) -> AbstractContextManager[None]:
    """Call `act` in this thread when a function is about to return for the first time."""
    return _at(function, act, lambda frame, event: event == "return")


def at_call(function: Any, act: Callable[[], object]) -> AbstractContextManager[None]:
    """Call `act` in this thread when a function is first called, before its first line."""
    return _at(function, act, lambda frame, event: event == "call")


class Reached:
    """Whether a moment came."""

    def __init__(self) -> None:
        self.yes = False

    def __bool__(self) -> bool:
        return self.yes


def _is_no_moment(frame: FrameType, entered: set[tuple[FrameType, int]]) -> bool:
    """Tell whether no signal handler can run where a line begins: at a `try`, and at the end of a `with`."""
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    if text.startswith("with "):
        place = (frame, frame.f_lineno)
        if place in entered:
            return True
        entered.add(place)
    return text == "try:"


@contextmanager
def at_moment(number: int, act: Callable[[], object], package: str = "umami/queue/") -> Iterator[Reached]:
    """Do something in this thread at a moment of a package's code: a call, a line, or a return.

    Args:
        number: Which moment, from 0 on: `number` others come before it.
        act: What to do.
        package: The package.

    Yields:
        Whether it has been reached.
    """
    reached = Reached()
    left = number
    entered: set[tuple[FrameType, int]] = set()
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if reached or package not in frame.f_code.co_filename:
            return None
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return None  # a finalizer may close it, where Python ignores what is raised
        if event == "line" and _is_no_moment(frame, entered):
            return trace
        if event in ("call", "line", "return"):
            if left == 0:
                reached.yes = True
                sys.settrace(before)
                act()
                return None
            left -= 1
        return trace

    gc.disable()  # a finalizer would run at a moment of chance, where Python ignores what is raised
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(before)
        gc.enable()

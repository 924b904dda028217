"""Exceptions anywhere in a request for events: each is stored or counted as dropped, and nothing is stuck.

The sender works in the thread that is interrupted: no program can have a MemoryError come where it wants.
"""

import contextlib
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from conftest import DEADLINE
from pydantic_core import to_json
from queue_helpers import at_moment, in_threads, moments, stored
from test_model import queue_settings

import umami
from umami._http.access import Access
from umami._http.connections import Connections
from umami._http.exporter import UmamiExporter
from umami._http.poster import Poster
from umami._http.target import Target
from umami.collector import Collector
from umami.queue.queue import EventQueue
from umami.queue.reasons import INTERNAL_ERROR
from umami.queue.workers import Senders
from umami.settings import Settings

SITE = "978435e2-7ba1-4337-9860-ec31ece2db60"
FAULTS: list[type[BaseException]] = [MemoryError, KeyboardInterrupt]
CRAWLER = "Googlebot/2.1"
STRIDE = 31
"""Each such moment: all of them take a minute of CPU."""


def event(name: str, **fields: str) -> bytes:
    payload = {"website": SITE, "hostname": "example.com", "url": "/", "name": name, **fields}
    return to_json({"type": "event", "payload": payload})


# A socket that nobody holds when a call is broken off is closed by its finalizer: within the test, as no log
# record holds the exceptions.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_is_broken_off_anywhere_loses_no_event_unsaid(
    fault: type[BaseException], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch, of a crawler's events, and of one that is sent alone."""
    monkeypatch.setattr(logging.getLogger("umami"), "disabled", True)
    # What a trace function raises within an `except` stays the thread's current exception for ever (3.13).
    with ThreadPoolExecutor(1) as thread:
        thread.submit(break_off_everywhere, fault, collector).result()
    gc.collect()


def break_off_everywhere(fault: type[BaseException], collector: Collector) -> None:
    access = Access(Settings())
    for moment in count(step=STRIDE):
        collector.clear()
        settings = queue_settings(
            batch_size=4, flush_interval=0.0, retry_wait=1e-9, retry_wait_max=1e-9, timeout=DEADLINE
        )
        poster = Poster(lambda: access)
        connections = Connections(lambda poster=poster: poster, lambda settings=settings: settings)  # type: ignore[misc]
        target = Target(f"{collector.url}/api/send", f"{collector.url}/api/batch")
        queue = EventQueue(settings, lambda destination: None, lambda report: None)
        destination = queue.destination(UmamiExporter(target, connections))
        senders = Senders(queue, lambda: None)
        for name in ("one", "two", "three"):
            assert destination.put(event(name))
        assert destination.put(event("crawler", userAgent=CRAWLER))
        assert destination.put(event("later"))

        def break_off() -> None:
            raise fault

        with contextlib.suppress(fault), at_moment(moment, break_off, "umami/_http/") as reached:
            senders.work(destination, time.monotonic() + DEADLINE)
        give_up = time.monotonic() + DEADLINE
        while destination in queue.unsettled():
            assert time.monotonic() < give_up, moment
            queue.hurry()
            senders.work(destination, give_up)
        stats = queue.stats()
        assert stats.submitted == 5 == stats.delivered + stats.rejected + sum(stats.dropped.values())
        assert (stats.pending, destination.in_flight) == (0, {})
        there = set(stored(collector))
        assert len(there) >= stats.delivered, moment
        assert set(stats.dropped) <= {INTERNAL_ERROR}
        if fault is KeyboardInterrupt:
            assert (there, stats.rejected) == ({"one", "two", "three", "later"}, 1), moment
        if not reached:
            break
    assert moment > 500


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError], ids=["Ctrl-C", "handler's own"])
def test_a_query_that_is_broken_off_anywhere_hinders_no_other(
    fault: type[BaseException], own_collector: Collector
) -> None:
    """By what a signal handler raises, also where httpcore takes and gives back its locks."""

    def break_off() -> None:
        raise fault

    def ask(number: int) -> None:
        client = umami.Client(
            url_base=own_collector.url, website_id=SITE, hostname="example.com", timeout=DEADLINE
        )
        for moment in moments():
            with contextlib.suppress(fault), at_moment(moment, break_off, "httpcore/") as reached:
                client.heartbeat()
            assert client.heartbeat(), moment
            if moment % 5 == 0:
                client.__exit__(None, None, None)  # closes the connections, as the end of the process does
            if not reached:
                break
        assert moment > 100
        client.__exit__(None, None, None)

    in_threads(1, ask)  # which fails if it hangs
    assert {request.path for request in own_collector.requests} == {"/api/heartbeat"}

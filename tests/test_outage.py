"""Outages under a steady load of events."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from conftest import DEADLINE, version
from queue_helpers import sizes, stored, until

import umami
from umami.collector import Collector

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "3"))
RATE = 200.0
WAIT, WAIT_MAX = 0.1, 2.0
"""The waits between attempts: half of each is fixed, the other half random."""


class Pacer:
    """Sends events at a steady rate from a thread of its own, and looks at the queue after each.

    Args:
        client: What to send with.
    """

    def __init__(self, client: umami.Client) -> None:
        self.names: list[str] = []
        self.most_bytes = 0
        self.slowest = 0.0
        self._client = client
        self._held = threading.Lock()
        self._ended = threading.Event()
        self._faults: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            for number in count():
                if self._ended.wait(max(0.0, started + number / RATE - time.monotonic())):
                    return
                with self._held:
                    self._send(f"e{number}")
        except BaseException as fault:  # noqa: BLE001 - raised by `end`
            self._faults.append(fault)
            self._ended.set()

    def _send(self, name: str) -> None:
        began = time.monotonic()
        assert self._client.new_event(name) == {"queued": True}
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.names.append(name)
        self.most_bytes = max(self.most_bytes, self._client.queue_stats().pending_bytes)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Send nothing meanwhile."""
        with self._held:
            yield

    def wait_for(self, more: int) -> None:
        """Block until so many more events are sent."""
        wanted = len(self.names) + more
        until(lambda: len(self.names) >= wanted or bool(self._faults))

    def run_for(self, seconds: float) -> None:
        """Let it go on for so long, unless it fails."""
        self._ended.wait(seconds)

    def end(self) -> None:
        """Stop, and raise what was raised."""
        self._ended.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        if self._faults:
            raise self._faults[0]


def most_attempts(seconds: float) -> int:
    """Return how many attempts so many seconds allow if each wait is as short as it may be."""
    attempts, left = 1, seconds
    while left >= 0:
        left -= min(WAIT * 2 ** (attempts - 1), WAIT_MAX) / 2
        attempts += 1
    return attempts


def test_an_outage_under_load_costs_nothing_but_time(
    batch: bool,
    make_client: Callable[..., umami.Client],
    balanced: Callable[[umami.Client], None],
    record_property: Callable[[str, object], None],
) -> None:
    bound = int(500 * RATE * (OUTAGE_SECONDS + DEADLINE))
    with Collector(umami=version(batch)) as server:
        client = make_client(
            url_base=server.url,
            retry_wait=WAIT,
            retry_wait_max=WAIT_MAX,
            queue_bytes=bound,
            at_most_once=True,
        )
        pacer = Pacer(client)
        try:
            pacer.wait_for(100)
            with pacer.held():
                # With nothing on the wire as the server goes, nothing is in doubt.
                assert client.flush(DEADLINE)
                server.stop()
                away_since = time.monotonic()
                requests, before = client.queue_stats().requests, len(sizes(server))
                away_from = len(pacer.names)
            pacer.run_for(OUTAGE_SECONDS)
            attempts = client.queue_stats().requests - requests
            away_for = time.monotonic() - away_since
            meanwhile = len(pacer.names) - away_from
            pending = client.queue_stats().pending
            server.start()
            server.wait_for(events=len(pacer.names), timeout=DEADLINE)  # by itself, with no flush
            back_after = time.monotonic() - away_since - away_for
            pacer.wait_for(100)
        finally:
            pacer.end()
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(pacer.names, 1)
        after = sizes(server)[before:]
    record_property("seconds away", round(away_for, 1))
    record_property("events sent meanwhile", meanwhile)
    record_property("attempts meanwhile", attempts)
    record_property("attempts that the backoff allows", most_attempts(away_for))
    record_property("seconds until all were delivered", round(back_after, 2))
    record_property("most bytes pending", pacer.most_bytes)
    record_property("slowest send, ms", round(1000 * pacer.slowest, 2))
    assert pending >= meanwhile > 0
    senders = 2 if batch else 8  # each may have been on its way to the server as it went
    assert 1 < attempts < most_attempts(away_for) + senders
    assert pacer.most_bytes <= bound
    # It is asked with one event whether it is well, and then with ever more.
    assert after[0] == 1
    assert all(size <= 2**number for number, size in enumerate(after)), after
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (len(pacer.names), 0, {})
    balanced(client)

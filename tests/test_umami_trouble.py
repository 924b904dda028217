"""Trouble in Umami: its database, restarts, timeouts, and events that make it fail."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, SITE, version
from process_helpers import running, settings
from queue_helpers import NEVER, Listener, Reports, send_many, sent, sizes, stored, until

import umami
from umami.collector import Collector
from umami.collector.replies import database_away

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
Record = Callable[[str, object], None]


@pytest.fixture
def background() -> Iterator[Callable[..., "Future[Any]"]]:
    """Run a function on another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def settled(client: umami.Client, balanced: Balanced, delivered: int) -> None:
    """Check that so many events are delivered, and that nothing else became of any."""
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped, stats.pending) == (delivered, 0, {}, 0)
    balanced(client)


def away(index: int, item: Any) -> dict[str, Any]:
    """Fail every item as Umami does while its database is away."""
    return database_away()


def away_from(first: int, last: int) -> Callable[[int, Any], dict[str, Any] | None]:
    """Fail these items, and no others, as Umami does while its database is away."""
    return lambda index, item: database_away() if first <= index <= last else None


# The database.


def test_the_database_is_down_and_comes_back(
    batch: bool, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as server:
        path = "/api/batch" if batch else "/api/send"
        down = server.fail(None, times=None, path=path, items=away)
        client = make_client(url_base=server.url, item_retry_limit=0, at_most_once=True)
        names = send_many(client, 100)
        heard.wait_for("P1001")
        server.wait_for(requests=5, timeout=DEADLINE)
        assert server.events == ()
        assert {request.status for request in server.requests if request.path == path} <= (
            {200, None} if batch else {500, None}
        )
        assert client.queue_stats().pending == 100
        down.cancel()
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    assert heard.matching("P1001")[0].getMessage().startswith("Events are not getting through")
    settled(client, balanced, 100)


def test_an_event_is_kept_while_the_database_is_away_for_it_alone(
    batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as server:
        asked = 0

        def fails(index: int, item: Any) -> dict[str, Any] | None:
            nonlocal asked
            if item["payload"]["name"] != "unlucky":
                return None
            asked += 1
            return database_away()

        away = server.fail(None, times=None, items=fails)
        client = make_client(url_base=server.url, item_retry_limit=0)
        client.new_event("unlucky")
        sent_meanwhile = 0
        while asked < 8:
            assert client.queue_stats().dropped == {}
            sent_meanwhile += 1
            client.new_event("other")
            server.wait_for(events=sent_meanwhile, timeout=DEADLINE)
        away.cancel()
        assert client.flush(DEADLINE)
        assert stored(server) == {"unlucky": 1, "other": sent_meanwhile}
    settled(client, balanced, sent_meanwhile + 1)


@pytest.mark.slow
def test_the_database_stops_in_the_middle_of_a_batch(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(
        batch_size=500, flush_interval=NEVER, item_retry_limit=0, at_most_once=True, senders=1
    )
    collector.fail(None, items=away_from(133, 499))
    collector.fail(None, times=4, items=away)
    names = send_many(client, 500)
    collector.wait_for(events=500, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert [event.name for event in collector.events][:133] == names[:133]
    assert sizes(collector)[:8] == [500, 367, 1, 1, 1, 1, 2, 4]
    settled(client, balanced, 500)


def test_the_database_bounces_in_the_middle_of_a_batch(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(batch_size=500, flush_interval=NEVER, item_retry_limit=0, at_most_once=True)
    collector.fail(None, items=away_from(134, 199))
    names = send_many(client, 500)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert sizes(collector) == [500, 66]
    assert [payload["name"] for payload in sent(collector.requests)[1]] == names[134:200]
    settled(client, balanced, 500)


@pytest.mark.slow
def test_the_database_is_frozen_and_thaws(
    batch: bool,
    make_client: MakeClient,
    heard: Listener,
    balanced: Balanced,
    record_property: Record,
) -> None:
    with Collector(umami="3.1" if batch else "2.16") as server:
        client = make_client(url_base=server.url, batch_size=20, timeout=0.1, item_timeout=0, senders=1)
        route = "/api/batch" if batch else "/api/send"
        frozen = server.fail(None, times=None, path=route, freeze=True)
        names = send_many(client, 100)
        heard.wait_for("not getting through")
        server.wait_for(requests=6, timeout=DEADLINE)
        assert server.events == ()
        client.configure(timeout=DEADLINE)
        assert client.heartbeat()  # it knows nothing of the database
        server.thaw()
        assert client.flush(DEADLINE)
        # What nobody waits for any more is stored at the thaw as well.
        until(lambda: all(request.status for request in server.requests))
        assert set(stored(server)) == set(names)
        duplicates = server.event_count - 100
    record_property("duplicates", duplicates)
    assert 0 < duplicates <= (20 if batch else 1) + frozen.hits - 1
    settled(client, balanced, 100)


# Its patience and ours.


@pytest.mark.slow
def test_the_client_gives_a_batch_up_that_the_server_finishes(
    make_client: MakeClient, heard: Listener, balanced: Balanced, record_property: Record
) -> None:
    with Collector(item_delay=0.05) as server:
        client = make_client(
            url_base=server.url, batch_size=20, timeout=0.2, item_timeout=0, retry_wait=NEVER
        )
        names = send_many(client, 20)
        heard.wait_for("not getting through")
        client.configure(timeout=DEADLINE)
        names += send_many(client, 5, "later")
        assert client.flush(DEADLINE)
        server.wait_for(events=45, timeout=DEADLINE)
        assert stored(server) == {**dict.fromkeys(names[:20], 2), **dict.fromkeys(names[20:], 1)}
    record_property("duplicates", 20)
    settled(client, balanced, 25)


@pytest.mark.slow
def test_a_batch_that_is_given_up_and_finished_all_the_same_is_not_repeated_with_at_most_once(
    make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    with Collector(item_delay=0.05) as server:
        client = make_client(
            url_base=server.url,
            batch_size=20,
            timeout=0.2,
            item_timeout=0,
            retry_wait=NEVER,
            at_most_once=True,
        )
        names = send_many(client, 20)
        heard.wait_for("not getting through")
        client.configure(timeout=DEADLINE)
        names += send_many(client, 5, "later")
        assert client.flush(DEADLINE)
        server.wait_for(events=25, timeout=DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    stats = client.queue_stats()
    assert (stats.delivered, stats.dropped) == (5, {"uncertain": 20})
    balanced(client)


@pytest.mark.slow
def test_a_program_that_ends_in_the_middle_of_a_batch_says_so_though_the_server_finishes_it(
    tmp_path: Path,
) -> None:
    program = """
        import os, sys, time
        import umami
        for number in range(40):
            umami.new_event(f"e{number}")
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.001)
    """
    arrived = tmp_path / "arrived"
    with Collector() as server:
        server.fail(None, freeze=True)
        environment = settings(server, shutdown_timeout=0.5, batch_size=40, flush_interval=NEVER)
        with running("-c", program, str(arrived), **environment) as process:
            server.wait_for(requests=1, timeout=DEADLINE)
            arrived.touch()
            assert process.end() == 0
        assert re.findall(r"(\d+) events not delivered", process.stderr) == ["40"], process.stderr
        server.thaw()
        server.wait_for(events=40, timeout=DEADLINE)
        assert stored(server) == {f"e{number}": 1 for number in range(40)}


# Its restarts.


@pytest.mark.slow
def test_the_server_is_asked_to_end_in_the_middle_of_a_batch(
    make_client: MakeClient,
    background: Callable[..., "Future[Any]"],
    balanced: Balanced,
) -> None:
    with (
        Collector(item_delay=0.01, keep_alive=1) as server,
        socket.create_connection((server.host, server.port), timeout=DEADLINE) as idle,
    ):
        idle.sendall(b"GET /api/heartbeat HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += idle.recv(65536)
        client = make_client(url_base=server.url, at_most_once=True)
        server.fail(None, freeze=True)
        names = send_many(client, 50)
        server.wait_for(requests=2, timeout=DEADLINE)
        stopping = background(server.stop, finish=True)
        assert idle.recv(1) == b""
        names += send_many(client, 50, "meanwhile")
        server.thaw()
        # It ends when the client lets go of the connection that is in use, or leaves it idle.
        stopping.result(DEADLINE)
        assert stored(server).keys() >= set(names[:50])
        assert client.queue_stats().delivered >= 50  # they were answered
        server.start()
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    settled(client, balanced, 100)


def test_the_server_is_killed_in_the_middle_of_a_batch(
    make_client: MakeClient, heard: Listener, balanced: Balanced, record_property: Record
) -> None:
    with Collector(item_delay=0.05) as server:
        client = make_client(url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1)
        names = send_many(client, 100)
        server.wait_for(events=5, timeout=DEADLINE)
        server.stop()
        prefix = stored(server)
        assert prefix == dict.fromkeys(names[: len(prefix)], 1)
        names += send_many(client, 50, "meanwhile")
        heard.wait_for("not getting through")
        with Collector(port=server.port) as restarted:
            assert client.flush(DEADLINE)
            assert stored(restarted) == dict.fromkeys(names, 1)
    record_property("duplicates", len(prefix))
    settled(client, balanced, 150)


def test_with_at_most_once_a_batch_whose_server_is_killed_is_given_up_and_nothing_is_doubled(
    make_client: MakeClient, heard: Listener, balanced: Balanced, record_property: Record
) -> None:
    with Collector(item_delay=0.05) as server:
        client = make_client(
            url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1, at_most_once=True
        )
        send_many(client, 100)
        server.wait_for(events=5, timeout=DEADLINE)
        server.stop()
        prefix = stored(server)
        names = send_many(client, 50, "meanwhile")
        heard.wait_for("not getting through")
        with Collector(port=server.port) as restarted:
            assert client.flush(DEADLINE)
            assert stored(restarted) == dict.fromkeys(names, 1)
    record_property("lost", 100 - len(prefix))
    stats = client.queue_stats()
    assert (stats.delivered, stats.dropped) == (50, {"uncertain": 100})
    balanced(client)


@pytest.mark.slow
def test_the_server_closes_a_connection_that_has_been_idle(
    batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=version(batch), keep_alive=1) as server:
        client = make_client(url_base=server.url, at_most_once=True)
        names = send_many(client, 3, "before")
        assert client.flush(DEADLINE)
        retries = client.queue_stats().retries  # those of the way without a batch route
        with socket.create_connection((server.host, server.port), timeout=DEADLINE) as younger:
            younger.sendall(b"GET /api/heartbeat HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while younger.recv(1024):
                pass  # until it has been idle for too long, and so has the client's
        names += send_many(client, 3, "after")
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    assert client.queue_stats().retries == retries
    settled(client, balanced, 6)


@pytest.mark.slow
def test_the_server_starts_up_and_is_slow_at_first(
    batch: bool, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    with Collector(umami="3.1" if batch else "2.16") as server:
        server.stop()
        client = make_client(url_base=server.url, at_most_once=True)
        names = send_many(client, 100)
        heard.wait_for("not getting through")
        slow = server.fail(None, path="/api/batch" if batch else "/api/send", delay=1.0)
        server.start()
        assert client.flush(DEADLINE)
        assert slow.hits == 1
        assert stored(server) == dict.fromkeys(names, 1)
    settled(client, balanced, 100)


# What it chokes on.

LONG = "x" * 501
POISON: dict[str, dict[str, Any]] = {
    # Nothing is stored.
    "a hostname with a blank": {"hostname": "my site"},
    "a long campaign": {"url": f"/?utm_source={'u' * 256}"},
    "a long click id": {"url": f"/?gclid={'g' * 256}"},
    "a long id": {"id": "i" * 51},
    "microseconds": {"timestamp": 1_700_000_000_000_000},
    "a public address": {"ip": "8.8.8.8"},
    "a long browser": {"browser": "b" * 21},
    "a long os": {"os": "o" * 21},
    "U+0000 in the name": {"name": "U+0000 in the name\0"},
    "U+0000 in the title": {"title": "\0"},
    "U+0000 in the url": {"url": "/%00"},
    # The event's row is stored, and its data is lost.
    "a long text": {"data": {"a": LONG}},
    "a long key": {"data": {LONG: 1}},
    "a long array": {"data": {"a": [LONG]}},
    "a large number": {"data": {"a": 1e15}},
    "a large negative number": {"data": {"a": -(10**15)}},
    "U+0000 in the data": {"data": {"a": "x\0y"}},
    "a long currency": {"data": {"revenue": 1, "currency": "X" * 11}},
    "revenue without a name": {"name": None, "data": {"revenue": 10, "currency": "USD"}},
}
"""Events that a real Umami answers with a 500, by their fault, which is also the event's title."""

SAYS = {
    **dict.fromkeys(POISON, "too long"),
    **dict.fromkeys(("U+0000 in the name", "U+0000 in the title"), "0x00"),
    **dict.fromkeys(("U+0000 in the url", "U+0000 in the data"), "0x00"),
    **dict.fromkeys(("a large number", "a large negative number"), "numeric field overflow"),
    "a hostname with a blank": "Invalid URL",
    "microseconds": "timestamp with time zone",
    "a public address": "GeoLite2-City",
    "revenue without a name": "`eventName` is missing",
}
"""The server's words, as `on_error` is to pass them on."""

UNCLEAR = {"a public address"}
"""Whose 500 does not say whether another attempt would do better."""

STORED = {title for title, fields in POISON.items() if "data" in fields}
UNTOLD = {"U+0000 in the data"}
"""Whose 500 does not say that the row is stored, only that the data are bad."""


def poisoned(title: str) -> bytes:
    """Encode an event that the client itself would have refused or made to fit."""
    fields = {"website": SITE, "hostname": "example.com", "url": "/", "title": title, "name": "poison"}
    payload = {**fields, "referrer": "", "tag": title, "timestamp": 1_700_000_000, **POISON[title]}
    kept = {name: value for name, value in payload.items() if value is not None}
    return json.dumps({"type": "event", "payload": kept}).encode()


def put(client: umami.Client, event: bytes) -> None:
    """Queue an encoded event past the client's checks."""
    route = client._state.new_route()
    assert route.put(event)


@pytest.mark.slow
def test_all_that_umami_chokes_on_among_a_thousand_events(
    batch: bool, make_client: MakeClient, balanced: Balanced, record_property: Record
) -> None:
    limit = 2
    reports = Reports()
    titles = list(POISON)
    with Collector(umami=version(batch), geo_database=False) as server:
        client = make_client(url_base=server.url, item_retry_limit=limit, on_error=reports)
        names: list[str] = []
        for number in range(0, 1000, 50):
            names += send_many(client, 50, f"e{number}.")
            if titles:
                put(client, poisoned(titles.pop()))
        assert client.flush(DEADLINE)
        good = [event.name for event in server.events if event.tag is None]
        assert Counter(good) == dict.fromkeys(names, 1)
        assert Counter(event.tag for event in server.events if event.tag) == dict.fromkeys(STORED, 1)
        route = "/api/batch" if batch else "/api/send"
        tries = Counter(
            payload["tag"]
            for payloads in sent(request for request in server.requests if request.path == route)
            for payload in payloads
            if "tag" in payload
        )
    assert tries == {title: 1 + limit if title in UNCLEAR else 1 for title in POISON}
    reports.wait_for(len(POISON))
    told = {json.loads(event)["payload"]["tag"]: report for report in reports.all for event in report.events}
    assert told.keys() == POISON.keys()
    record_property("poisons", len(POISON))
    record_property("times the most stubborn one was sent", max(tries.values()))
    for title, report in told.items():
        assert SAYS[title] in report.message
        assert report.kind == ("incomplete" if title in STORED - UNTOLD else "rejected")
    stats = client.queue_stats()
    incomplete = len(STORED - UNTOLD)
    assert (stats.delivered, stats.rejected) == (1000 + incomplete, len(POISON) - incomplete)
    balanced(client)


@pytest.mark.slow
def test_what_is_no_event_at_all_among_a_thousand_events(
    batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    alien = (
        b"5",
        b'"text"',
        b"[]",
        b"null",
        poisoned("a large number").replace(b"1000000000000000.0", b"NaN"),
    )
    assert b"NaN" in alien[-1]
    reports = Reports()
    with Collector(umami=version(batch)) as server:
        client = make_client(url_base=server.url, on_error=reports)
        names: list[str] = []
        for number in range(0, 1000, 200):
            names += send_many(client, 200, f"e{number}.")
            put(client, alien[number // 200])
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        most = 2 * 6 + 1  # halved six times, and each half asked for
        if batch:
            assert len(server.requests) <= 1005 / 25 + len(alien) * most
    reports.wait_for(len(alien))
    assert {event for report in reports.all for event in report.events} == set(alien)
    assert reports.counts() == {("rejected", "400"): len(alien)}
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (1000, len(alien))
    balanced(client)

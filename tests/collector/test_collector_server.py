"""The collector as an object: start and stop, waiting, its database, its page and its extra."""

import errno
import gc
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from collector_helpers import SITE, item, send
from conftest import reserved
from queue_helpers import at_call, at_moment, in_threads, moments

from umami.collector import Collector
from umami.collector.server import _Server

ROOT = Path(__file__).parents[2]


def test_it_listens_when_it_has_started(browse):
    collector = Collector()
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:1/")
    collector.start()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", collector.url)
        assert browse(collector).get("/api/heartbeat").json() == {"ok": True}
    finally:
        collector.stop()


def test_starting_and_stopping_twice_does_nothing():
    collector = Collector()
    collector.stop()
    collector.start()
    port = collector.port
    collector.start()
    assert collector.port == port
    collector.stop()
    collector.stop()


def test_two_threads_may_stop_it_at_once_and_one_start_it_again(browse):
    collector = Collector()
    collector.start()
    others = [collector.stop, collector.start]
    with at_call(_Server.request_stop, lambda: in_threads(1, lambda number: [other() for other in others])):
        collector.stop()
    assert browse(collector).get("/api/heartbeat").json() == {"ok": True}
    collector.stop()
    with pytest.raises(httpx.ConnectError):
        browse(collector).get("/api/heartbeat")


# A socket that nobody holds when a start is broken off is closed by its finalizer.
@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["umami/collector/", "/threading.py"], ids=["ours", "threading"])
def test_a_start_that_is_broken_off_leaves_its_port_to_the_next(place):
    def break_off():
        raise KeyboardInterrupt

    with reserved() as holder:
        port = holder.getsockname()[1]
        for moment in moments():
            collector = Collector(port=port)
            with suppress(KeyboardInterrupt, RuntimeError), at_moment(moment, break_off, place) as reached:
                collector.start()
            collector.stop()
            with Collector(port=port):
                pass
            if not reached:
                break
        assert moment > 10
    gc.collect()


def test_it_comes_back_on_the_same_port_with_its_events(collector, http):
    send(http, name="before")
    url = collector.url
    collector.stop()
    with pytest.raises(httpx.ConnectError):
        send(http)
    assert [event.name for event in collector.events] == ["before"]
    collector.start()
    assert collector.url == url
    send(http, name="after")
    assert [event.name for event in collector.events] == ["before", "after"]


def test_it_closes_connections_that_come_as_it_stops():
    dialled = 0
    for _ in range(20):
        with Collector() as collector:
            for _ in range(20):
                with socket.socket() as client:
                    client.setblocking(False)
                    dialled += client.connect_ex((collector.host, collector.port)) in (0, errno.EINPROGRESS)
    assert dialled == 400
    gc.collect()  # with an error, if one was left open


def test_a_taken_port_is_an_error(collector):
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="in use"):
        Collector(port=collector.port).start()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_is_an_async_context_manager(backend):
    async def main() -> None:
        async with Collector() as collector, httpx.AsyncClient() as http:
            assert (await http.get(f"{collector.url}/api/heartbeat")).json() == {"ok": True}
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as http:
                await http.get(collector.url)

    anyio.run(main, backend=backend)


def test_it_listens_on_ipv6(browse):
    with Collector("::1") as collector:
        assert collector.url == f"http://[::1]:{collector.port}"
        assert send(browse(collector)).status_code == 200
        assert collector.events[0].ip == "::1"


@pytest.mark.slow
def test_idle_connections_are_closed_after_a_while():
    with Collector(keep_alive=1) as collector, httpx.Client(limits=httpx.Limits(keepalive_expiry=60)) as http:
        http.get(f"{collector.url}/api/heartbeat")
        [connection] = http._transport._pool.connections
        socket = connection._connection._network_stream.get_extra_info("socket")
        socket.settimeout(10)
        assert socket.recv(1) == b""


# Waiting


def test_waiting_returns_at_once_for_what_is_there(collector, http):
    send(http)
    collector.wait_for(events=1, requests=1, timeout=0)
    collector.wait_for(timeout=0)


def test_waiting_ends_when_it_arrives(collector, http):
    sender = threading.Thread(target=lambda: [send(http) for _ in range(10)])
    sender.start()
    collector.wait_for(events=10)
    sender.join()
    assert collector.event_count == 10


def test_waiting_in_vain_says_what_is_there(collector, http):
    send(http)
    with pytest.raises(TimeoutError, match=r"for 2 events and 3 requests\. There are 1 events and 1 req"):
        collector.wait_for(events=2, requests=3, timeout=0.01)


def test_clear_forgets_all_but_the_websites(collector, http):
    collector.fail(503, path="/api/batch")
    send(http)
    send(http, type="identify", data={"a": 1})
    collector.clear()
    assert (collector.events, collector.identities, collector.requests) == ((), (), ())
    assert (collector.event_count, collector.request_count) == (0, 0)
    assert http.post("/api/batch", json=[item()]).status_code == 200
    with pytest.raises(ValueError, match=SITE):
        collector.add_website("Shop", "example.com", SITE)


def test_only_so_many_requests_are_remembered(browse):
    with Collector(keep_requests=2) as collector:
        http = browse(collector)
        for path in ("/a", "/b", "/c"):
            http.get(path)
        assert [request.path for request in collector.requests] == ["/b", "/c"]
        assert collector.request_count == 3


@pytest.mark.slow
def test_reading_while_it_writes(collector, browse):
    clients = [browse(collector) for _ in range(4)]
    senders = [
        threading.Thread(
            target=lambda http=http: [http.post("/api/batch", json=[item()] * 50) for _ in range(10)]
        )
        for http in clients
    ]
    for sender in senders:
        sender.start()
    seen = 0
    while seen < 2000:
        collector.wait_for(events=seen + 1)
        assert len(collector.events) > seen
        seen = len(collector.events)
    for sender in senders:
        sender.join()
    assert seen == 2000


# The database


def test_a_file_keeps_events_and_websites(tmp_path, browse):
    file = tmp_path / "umami.db"
    with Collector(database=file) as collector:
        session = send(browse(collector), name="first", id="u", data={"a": [1]}).json()["sessionId"]
    with Collector(database=file, auto_register=False) as collector:
        assert collector.event_count == 1
        assert send(browse(collector), name="second", id="u").json()["sessionId"] == session
        collector.wait_for(events=2, timeout=0)
        assert [event.name for event in collector.events] == ["first", "second"]
        assert collector.events[0].data == {"a": [1]}


def test_a_file_can_be_read_by_others_meanwhile(tmp_path, browse):
    file = tmp_path / "umami.db"
    with Collector(database=file) as collector:
        send(browse(collector), name="first")
        other = sqlite3.connect(file)
        assert other.execute("select name from event").fetchall() == [("first",)]
        other.close()


# The extra


@pytest.mark.slow
@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_a_missing_dependency_names_the_extra(module):
    code = f"import sys; sys.modules[{module!r}] = None; import umami.collector"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 1
    # Python 3.15 goes on to suggest a module of a similar name.
    assert f"needs {module}: pip install 'umami-analytics[collector]'" in child.stderr.splitlines()[-1]

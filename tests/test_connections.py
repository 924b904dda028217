"""Trouble below HTTP: name resolution, TLS, and connections that close at the wrong moment."""

import json
import re
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from conftest import DEADLINE
from process_helpers import once, running, settings
from queue_helpers import Listener, Reports, send_many, stored, until
from typing_extensions import Self

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
Call = Callable[..., Any]
Record = Callable[[str, object], None]
Behaviour = Callable[["Wire", socket.socket], None]


class Wire:
    """A server whose behaviour with each connection is a function, and may be changed meanwhile.

    Args:
        behaviour: Is given each connection, and closes it by returning.
        batch: Whether it has a batch route.
        host: The address that it listens on.
    """

    def __init__(self, behaviour: Behaviour, *, batch: bool = True, host: str = "127.0.0.1") -> None:
        self.behaviour = behaviour
        self.accepted: Counter[str] = Counter()
        self.connections = 0
        self.closed = threading.Semaphore(0)
        self._batch = batch
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)
        for handle in tuple(self._open):
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)

    def refuse(self) -> None:
        """Take no new connections; those that are open go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # TLS takes a socket over; with another handle the connection can be ended all the same.
        with connection, connection.dup() as handle, suppress(OSError):
            self._open.add(handle)
            self.behaviour(self, connection)
        self._open.discard(handle)
        self.closed.release()

    def read(self, connection: socket.socket) -> tuple[str, Any] | None:
        """Read the next request: its path, and its body if it has one; None at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length is None:
            return head.split()[1].decode(), None
        while len(body) < int(length[1]):
            body += connection.recv(65536)
        return head.split()[1].decode(), json.loads(body)

    def store(self, path: str, body: Any) -> bytes:
        """Take the events of a request in, and return the answer's body; empty if there is no such route."""
        if path == "/api/batch" and not self._batch:
            return b""
        if body is None:
            return b'{"ok":true}'
        items = body if isinstance(body, list) else [body]
        self.accepted.update(item["payload"]["name"] for item in items)
        if not isinstance(body, list):
            return b'{"cache":"x","sessionId":"s","visitId":"v"}'
        count = len(items)
        return b'{"size":%d,"processed":%d,"errors":0,"details":[],"cache":"x"}' % (count, count)

    def answer(self, connection: socket.socket, path: str, body: Any) -> None:
        """Take the events of a request in and say so, as a server that keeps the connection."""
        reply = self.store(path, body)
        status = b"200 OK" if reply else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (status, len(reply)) + reply)


def well(wire: Wire, connection: socket.socket) -> None:
    """Answer every request."""
    while request := wire.read(connection):
        wire.answer(connection, *request)


# TLS.


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The one certificate authority that is trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return authority


def with_certificate_of(authority: trustme.CA, host: str = "localhost") -> Behaviour:
    """Answer every request, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)

    def secured(wire: Wire, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            well(wire, tls)

    return secured


def in_plain_text(wire: Wire, connection: socket.socket) -> None:
    """Answer as a server that expects HTTP and is spoken to in TLS."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def closing(wire: Wire, connection: socket.socket) -> None:
    """Close the connection in the middle of the handshake."""
    connection.recv(65536)


def resetting(wire: Wire, connection: socket.socket) -> None:
    """Break the connection off in the middle of the handshake."""
    connection.recv(1)
    reset(connection)


def silent(wire: Wire, connection: socket.socket) -> None:
    """Never get on with the handshake."""
    while connection.recv(65536):
        pass


def trickling(wire: Wire, connection: socket.socket) -> None:
    """Get on with the handshake byte by byte, each in time, for longer than a test waits."""
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x40\x00")  # the head of a handshake's record of 16 KB
    for _ in range(round(DEADLINE / 0.02)):
        connection.sendall(b"\x02")
        connection.settimeout(0.02)
        with suppress(TimeoutError):
            if not connection.recv(1):
                return


def untrusted(wire: Wire, connection: socket.socket) -> None:
    """Present a certificate that anybody could have made."""
    with_certificate_of(trustme.CA())(wire, connection)


def reset(connection: socket.socket) -> None:
    """Close a connection as if its process had crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [in_plain_text, closing, resetting, silent, trickling, untrusted])
def test_a_server_whose_tls_fails_gets_every_event_when_it_works(
    refusal: Behaviour,
    batch: bool,
    authority: trustme.CA,
    make_client: MakeClient,
    heard: Listener,
    balanced: Balanced,
) -> None:
    with Wire(refusal, batch=batch) as wire:
        # Nothing can have been stored, so `at_most_once` gives nothing up either.
        client = make_client(url_base=f"https://localhost:{wire.port}", timeout=0.2, at_most_once=True)
        names = send_many(client, 20)
        heard.wait_for("not getting through")
        until(lambda: wire.connections >= 4)
        stats = client.queue_stats()
        assert (stats.pending, stats.rejected, stats.dropped) == (20, 0, {})
        assert re.search(r"/api/(batch|send): Connect(Error|Timeout): \S", stats.last_error)
        wire.behaviour = with_certificate_of(authority)
        client.configure(timeout=DEADLINE)
        assert client.flush(DEADLINE)
        assert wire.accepted == once(*names)
    assert len(heard.matching("not getting through")) == 1
    assert client.queue_stats().delivered == 20
    balanced(client)


def test_a_query_is_given_up_in_time_if_the_handshake_trickles_in(
    make_client: MakeClient, call: Call
) -> None:
    with Wire(trickling) as wire:
        client = make_client(url_base=f"https://localhost:{wire.port}", mode="direct", timeout=0.2)
        with pytest.raises(httpx.ConnectTimeout, match=r"no connection within 0\.2 s"):
            call(client.new_event, "e")


def test_a_request_that_is_read_slowly_is_given_up_in_time_over_tls(
    authority: trustme.CA, make_client: MakeClient, heard: Listener
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ended = threading.Event()
    received = 0

    def reluctant(wire: Wire, connection: socket.socket) -> None:
        nonlocal received
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                while data := tls.recv(16 * 1024):
                    received += len(data)
                    threading.Event().wait(0.02)  # so that each record is written in time, but not all
        finally:
            ended.set()

    with Wire(reluctant) as wire:
        client = make_client(
            url_base=f"https://localhost:{wire.port}",
            timeout=1.0,
            flush_interval=DEADLINE,
            batch_size=500,
            batch_bytes=10_000_000,
            shutdown_timeout=0,
        )
        for _ in range(480):
            client.new_event("large", custom_data={f"k{number}": "x" * 490 for number in range(40)})
        client.flush(0)
        heard.wait_for("WriteTimeout")
        assert ended.wait(DEADLINE)
    assert 0 < received < 8 * 1024 * 1024
    assert client.queue_stats().pending == 480


def test_a_certificate_for_another_name_is_refused_until_it_is_the_right_one(
    authority: trustme.CA, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    with Wire(with_certificate_of(authority, "elsewhere.example")) as wire:
        client = make_client(url_base=f"https://localhost:{wire.port}", at_most_once=True)
        names = send_many(client, 20)
        heard.wait_for("not getting through")
        assert "certificate" in client.queue_stats().last_error.lower()
        wire.behaviour = with_certificate_of(authority)
        assert client.flush(DEADLINE)
        assert wire.accepted == once(*names)
    balanced(client)


# Names.

LATE_NAME = """
    # The resolver is the one of this process's own `socket`, replaced before umami knows it.
    import logging, socket, threading

    real, known, told = socket.getaddrinfo, threading.Event(), threading.Event()
    asked = threading.Semaphore(0)

    def getaddrinfo(host, *rest, **more):
        if host == "umami.test":
            asked.release()
            if not known.is_set():
                raise socket.gaierror(socket.{error}, "it does not resolve")
            host = "127.0.0.1"
        return real(host, *rest, **more)

    socket.getaddrinfo = getaddrinfo

    import umami

    class Listener(logging.Handler):
        def emit(self, record):
            print(record.getMessage(), flush=True)
            told.set()

    logging.getLogger("umami").addHandler(Listener())
    for number in range(100):
        assert umami.new_event(f"e{{number}}") == {{"queued": True}}
    assert told.wait({deadline})
    for _ in range(3):
        assert asked.acquire(timeout={deadline})
    assert umami.queue_stats().pending == 100
"""


@pytest.fixture
def late_name(request: pytest.FixtureRequest) -> str:
    """A program whose 100 events go to a host whose name does not resolve until `known` is set."""
    return LATE_NAME.format(error=getattr(request, "param", "EAI_NONAME"), deadline=DEADLINE)


def with_name(server: Collector | Wire, **more: object) -> dict[str, str]:
    return settings(
        server, url=f"http://umami.test:{server.port}", retry_wait=0.02, retry_wait_max=0.1, **more
    )


@pytest.mark.slow
@pytest.mark.parametrize("late_name", ["EAI_NONAME", "EAI_AGAIN"], indirect=True)
@pytest.mark.parametrize("end", ["assert umami.flush(60)", ""], ids=["flush", "exit"])
def test_a_host_whose_name_does_not_resolve_yet_gets_every_event_once_it_does(
    late_name: str, end: str, collector: Collector
) -> None:
    program = f"{late_name}    known.set()\n    {end}\n"
    with running("-c", program, **with_name(collector, at_most_once=True)) as child:
        lines = child.lines()
        assert (child.end(), child.stderr) == (0, "")
    assert stored(collector) == once(*(f"e{number}" for number in range(100)))
    assert len(lines) == 1
    assert "not getting through" in lines[0]
    assert "it does not resolve" in lines[0]


@pytest.mark.slow
def test_a_program_whose_servers_name_never_resolves_ends_and_says_what_is_lost(
    late_name: str, collector: Collector
) -> None:
    with running("-c", late_name, **with_name(collector, shutdown_timeout=0.5)) as child:
        _, *lines = child.lines()
        assert (child.end(), child.stderr) == (0, "")
    (line,) = lines
    assert "The process ends with 100 events not delivered" in line
    assert "it does not resolve" in line
    assert collector.events == ()


NOWHERE = [f"http://{'a' * 64}.example/", "http://a..example/"]
NO_URLS = ["http://[/", "http://localhost:port/", "http://localhost:99999/"]


@pytest.mark.parametrize("location", NOWHERE)
def test_a_redirect_to_what_can_be_no_host_costs_no_event(
    location: str, collector: Collector, client: umami.Client, heard: Listener, balanced: Balanced
) -> None:
    wrong = collector.fail(302, times=None, headers={"Location": location})
    names = send_many(client, 10)
    heard.wait_for("not getting through")
    assert client.queue_stats().pending == 10
    wrong.cancel()
    assert client.flush(DEADLINE)
    assert stored(collector) == once(*names)
    assert client.queue_stats().dropped == {}
    balanced(client)


@pytest.mark.parametrize("location", NO_URLS)
def test_a_redirect_to_what_is_no_url_is_not_followed(
    location: str,
    collector: Collector,
    make_client: MakeClient,
    call: Callable[..., Any],
    balanced: Balanced,
) -> None:
    client = make_client()
    collector.fail(302, headers={"Location": location})
    client.new_event("kept")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"kept": 1}
    assert "302" in client.queue_stats().last_error
    balanced(client)
    collector.fail(302, path="/api/auth/login", headers={"Location": location})
    with pytest.raises(httpx.HTTPError, match=r"302|Invalid URL in location"):  # some httpx refuses itself
        call(client.login, "admin", "umami")


# A connection that the server closes while it is used again.


class Mischief:
    """Answers first requests, and does something else to so many of those that use a connection again."""

    def __init__(self, times: int, act: Callable[[Wire, socket.socket], None]) -> None:
        self.left = times
        self._act = act

    def __call__(self, wire: Wire, connection: socket.socket) -> None:
        answered = 0
        while True:
            if answered and self.left and wire.accepted:
                connection.recv(1, socket.MSG_PEEK)
                self.left -= 1
                self._act(wire, connection)
                return
            request = wire.read(connection)
            if request is None:
                return
            wire.answer(connection, *request)
            answered += 1


def close_unread(wire: Wire, connection: socket.socket) -> None:
    """Close it with the request in it unread, which breaks it off."""


def close_read(wire: Wire, connection: socket.socket) -> None:
    """Read the request, and close without a byte."""
    wire.read(connection)


def break_off(wire: Wire, connection: socket.socket) -> None:
    """Read the request, and break off without a byte."""
    wire.read(connection)
    reset(connection)


def answer_half(wire: Wire, connection: socket.socket) -> None:
    """Read the request, and close within the first line of the answer."""
    wire.read(connection)
    connection.sendall(b"HTTP/1.")


def close_stored(wire: Wire, connection: socket.socket) -> None:
    """Store what the request carries, and close without a byte."""
    wire.store(*wire.read(connection))


NOT_STORED = [close_unread, close_read, break_off, answer_half]


@pytest.mark.parametrize("act", [*NOT_STORED, close_stored])
def test_a_connection_that_is_closed_while_it_is_used_again_loses_nothing(
    act: Callable[[Wire, socket.socket], None],
    batch: bool,
    make_client: MakeClient,
    balanced: Balanced,
    record_property: Record,
) -> None:
    mischief = Mischief(1, act)
    with Wire(mischief, batch=batch) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", senders=1)
        names = send_many(client, 10)
        assert client.flush(DEADLINE)
        names += send_many(client, 10, "again")
        assert client.flush(DEADLINE)
        assert mischief.left == 0
        assert set(wire.accepted) == set(names)
        duplicates = sum(wire.accepted.values()) - 20
    record_property("duplicates", duplicates)
    assert duplicates == 0 if act in NOT_STORED else 0 < duplicates <= (10 if batch else 1)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped, stats.pending) == (20, 0, {}, 0)
    balanced(client)


@pytest.mark.parametrize("act", [*NOT_STORED, close_stored])
def test_with_at_most_once_what_such_a_connection_carried_is_given_up_and_nothing_is_doubled(
    act: Callable[[Wire, socket.socket], None], batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    with Wire(Mischief(1, act), batch=batch) as wire:
        client = make_client(
            url_base=f"http://127.0.0.1:{wire.port}",
            senders=1,
            at_most_once=True,
            on_error=reports,
            flush_interval=60,  # the ten events are one batch, however long the sends take
        )
        names = send_many(client, 10)
        assert client.flush(DEADLINE)
        names += send_many(client, 10, "again")
        assert client.flush(DEADLINE)
        assert set(wire.accepted) <= set(names)
        assert set(wire.accepted.values()) == {1}
    uncertain = 10 if batch else 1
    stats = client.queue_stats()
    assert (stats.delivered, stats.dropped) == (20 - uncertain, {"uncertain": uncertain})
    reports.wait_for(uncertain)
    balanced(client)


def test_a_connection_that_is_closed_before_it_is_used_again_costs_nothing(
    batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    def once_only(wire: Wire, connection: socket.socket) -> None:
        stored = sum(wire.accepted.values())
        while sum(wire.accepted.values()) == stored and (request := wire.read(connection)):
            wire.answer(connection, *request)

    with Wire(once_only, batch=batch) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", senders=1, at_most_once=True)
        names: list[str] = []
        for round_number in range(5):
            names += send_many(client, 1, f"r{round_number}.")
            assert client.flush(DEADLINE)
            assert wire.closed.acquire(timeout=DEADLINE)
        assert wire.accepted == once(*names)
        assert wire.connections == 5
    stats = client.queue_stats()
    assert (stats.delivered, stats.dropped, stats.last_error) == (5, {}, None)
    balanced(client)


# How long a connection is kept.


def kept_for(seconds: str) -> Behaviour:
    """Answer every request, and say how long the connection is kept."""

    def behaviour(wire: Wire, connection: socket.socket) -> None:
        while request := wire.read(connection):
            reply = wire.store(*request)
            head = b"HTTP/1.1 200 OK\r\nKeep-Alive: %s\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (seconds.encode(), len(reply)) + reply)

    return behaviour


def deliver_one_by_one(client: umami.Client, count: int, prefix: str = "e") -> None:
    for number in range(count):
        client.new_event(f"{prefix}{number}")
        assert client.flush(DEADLINE)


@pytest.mark.parametrize("told", ["timeout=1", "timeout=0", "max=5, timeout=1"])
@pytest.mark.parametrize("mode", ["queued", "direct"])
def test_a_connection_that_the_server_will_soon_close_is_not_reused(
    told: str, mode: str, make_client: MakeClient
) -> None:
    with Wire(kept_for(told)) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", senders=1, mode=mode)
        deliver_one_by_one(client, 3)
        assert wire.connections == 3


@pytest.mark.parametrize("told", ["timeout=60", "max=5", "nonsense"])
def test_one_that_it_keeps_is_reused(told: str, make_client: MakeClient) -> None:
    with Wire(kept_for(told)) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", mode="direct")
        deliver_one_by_one(client, 3)
        assert wire.connections == 1


def test_a_connection_is_not_reused_for_ever(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("umami._http.backends.MOST_AGE", 0.0)
    with Wire(well) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", senders=1)
        deliver_one_by_one(client, 3)
        assert wire.connections == 3


def test_a_server_that_takes_no_new_connections_is_let_go(make_client: MakeClient) -> None:
    """As one does that was told to end: it waits for the connections that are open."""
    began, go_on = threading.Event(), threading.Event()

    def slow(wire: Wire, connection: socket.socket) -> None:
        while request := wire.read(connection):
            if request[1]["payload"]["name"] == "slow":
                began.set()
                go_on.wait(DEADLINE)
            wire.answer(connection, *request)

    with Wire(slow) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}", mode="direct")
        client.new_event("opens the first")
        waiting = threading.Thread(target=client.new_event, args=("slow",))
        waiting.start()
        assert began.wait(DEADLINE)
        wire.refuse()
        with pytest.raises(httpx.ConnectError):  # the one that is open is in use
            client.new_event("refused")
        go_on.set()
        waiting.join(DEADLINE)
        with pytest.raises(httpx.ConnectError):
            client.new_event("not over the kept one either")
        assert wire.closed.acquire(timeout=DEADLINE)
    assert wire.accepted == once("opens the first", "slow")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a server has received")
def test_a_request_whose_end_the_server_did_not_wait_for_is_made_again(make_client: MakeClient) -> None:
    """As with a connection that is closed, being idle, just as it is used again; with `at_most_once` too."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # a packet or two
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = make_client(url_base=url, senders=1, at_most_once=True, flush_interval=DEADLINE)
        for number in range(50):
            client.new_event(f"e{number}", custom_data={"filling": "x" * 400})
        with listener.accept()[0] as first:
            first.recv(100)
            first.shutdown(socket.SHUT_WR)
            with listener.accept()[0] as second:  # it is made again
                assert second.recv(100).startswith(b"POST /api/")
                stats = client.queue_stats()  # before this one is closed too
        assert (stats.pending, stats.dropped) == (50, {})
        assert "disconnected without sending a response" in stats.last_error
        client.configure(shutdown_timeout=0)

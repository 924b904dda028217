"""Endless answers: sent byte by byte, without end, or decompressed to a huge size."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import httpx
import pytest
from conftest import DEADLINE

import umami
from umami.collector import Collector
from umami.errors import ResponseError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: "


class RawServer:
    """Answers its first connections with what a function sends, and closes all later ones at once."""

    def __init__(self, answer: Callable[[socket.socket, threading.Event], None], times: int = 1) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.left_alone = threading.Event()
        self._ended = threading.Event()
        self._answer = answer
        self._times = times
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for number in count():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if number < self._times:
                    connection.recv(65536)
                    with suppress(OSError):
                        self._answer(connection, self._ended)
                    self.left_alone.set()

    def stop(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)


def byte_by_byte(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(HEAD)
    while not ended.wait(0.02):
        connection.sendall(b"a")


def body_byte_by_byte(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(HEAD + b"a\r\nContent-Length: 1000000\r\n\r\n")
    while not ended.wait(0.02):
        connection.sendall(b" ")


def without_end(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(HEAD + b"a\r\nContent-Length: 1000000000\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b" " * 65536)


def interim_without_end(connection: socket.socket, ended: threading.Event) -> None:
    give_up = time.monotonic() + DEADLINE  # a client that waits without end would never end the test
    while not ended.is_set() and time.monotonic() < give_up:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    server = RawServer(request.param)
    yield server
    server.stop()


@pytest.mark.parametrize(
    "server", [byte_by_byte, body_byte_by_byte, without_end, interim_without_end], indirect=True
)
def test_a_sender_gives_such_an_answer_up_and_keeps_the_event(
    server: RawServer, make_client: Callable[..., umami.Client]
) -> None:
    client = make_client(url_base=server.url, timeout=0.2, item_timeout=0, shutdown_timeout=0)
    client.new_event("kept")
    client.flush(0)
    assert server.left_alone.wait(DEADLINE)
    stats = client.queue_stats()
    assert (stats.pending, stats.delivered) == (1, 0)


# Queries and direct sends.


@pytest.fixture
def always(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    """A server that answers every connection so."""
    server = RawServer(request.param, times=1_000_000)
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("always", [byte_by_byte, body_byte_by_byte, interim_without_end], indirect=True)
def test_a_query_and_a_direct_send_end_in_time(
    always: RawServer, make_client: Callable[..., umami.Client], call: Callable[..., Any]
) -> None:
    client = make_client(url_base=always.url, timeout=0.3, mode="direct")
    began = time.monotonic()
    with pytest.raises(
        httpx.ReadTimeout, match=r"POST http://127.*/api/send: no complete answer within 0.3 s"
    ):
        call(client.new_event, "e")
    assert not call(client.heartbeat)
    assert time.monotonic() - began < DEADLINE


@pytest.mark.parametrize("always", [without_end], indirect=True)
def test_an_answer_to_a_query_is_read_up_to_a_bound(
    always: RawServer, make_client: Callable[..., umami.Client], call: Callable[..., Any]
) -> None:
    client = make_client(url_base=always.url, timeout=DEADLINE)
    with pytest.raises(ResponseError, match="more than 32 MiB"):
        call(client.login, "admin", "umami")


LOGIN = json.dumps(
    {"token": "t0ken-of-nobody", "user": {"id": "1", "username": "packed", "role": "admin"}}
).encode()
PACKED = {
    "gzip": gzip.compress(LOGIN),
    "x-gzip": gzip.compress(LOGIN),
    "deflate": zlib.compress(LOGIN),
    "raw": zlib.compress(LOGIN)[2:-4],  # without its header and checksum
}


@pytest.mark.parametrize("encoding", PACKED)
def test_an_answer_that_is_compressed_all_the_same_is_read(
    encoding: str, make_client: Callable[..., umami.Client], call: Callable[..., Any]
) -> None:
    name = "deflate" if encoding == "raw" else encoding

    def packed(connection: socket.socket, ended: threading.Event) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {len(PACKED[encoding])}\r\n\r\n"
        )
        connection.sendall(head.encode() + PACKED[encoding])

    server = RawServer(packed)
    try:
        client = make_client(url_base=server.url)
        assert call(client.login, "admin", "umami").user.username == "packed"
    finally:
        server.stop()


def test_a_compressed_answer_settles_a_batch(collector: Collector, client: umami.Client) -> None:
    body = gzip.compress(b'{"size":1,"processed":1,"errors":0,"details":[],"cache":"x"}')
    server = RawServer(
        lambda connection, _: connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
    )
    try:
        client.configure(url_base=server.url)
        client.new_event("packed")
        assert client.flush(DEADLINE)
        assert client.queue_stats().delivered == 1
    finally:
        server.stop()


def bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    part = bytes(1024 * 1024)
    return b"".join([*(packer.compress(part) for _ in range(300)), packer.flush()])


@pytest.mark.slow
def test_a_small_answer_that_unpacks_to_a_lot_takes_little_memory(python: Callable[..., Any]) -> None:
    body = bomb()
    server = RawServer(
        lambda connection, _: connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
    )
    program = """
        import resource, sys, umami

        umami.configure(url_base=sys.argv[1], timeout=60, mode="direct")
        umami.configure(website_id=sys.argv[2], hostname="example.com")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            umami.new_event("e")
        except umami.errors.ResponseError as error:
            print("more than 32 MiB" in str(error))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000)
    """
    try:
        ended = python(program, server.url, "978435e2-7ba1-4337-9860-ec31ece2db60")
    finally:
        server.stop()
    assert (ended.stderr, ended.stdout.split()) == ("", ["True", "True"])


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 500 Very \x1b[2J bad\r\n", b"HTTP/1.1 500 Bad\r\nContent-Type: \x1b[31mtext\r\n"],
    ids=["reason", "header"],
)
def test_control_characters_of_an_answer_are_not_shown(
    head: bytes, make_client: Callable[..., umami.Client], call: Callable[..., Any]
) -> None:
    server = RawServer(lambda connection, _: connection.sendall(head + b"Content-Length: 0\r\n\r\n"))
    try:
        client = make_client(url_base=server.url)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            call(client.login, "admin", "umami")
    finally:
        server.stop()
    text = f"{caught.value} {caught.value.response.reason_phrase} {caught.value.response.headers}"
    assert "\x1b" not in text

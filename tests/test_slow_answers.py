"""Answers that never end: of a server that sends byte by byte, and of one that sends without end."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

import pytest
from conftest import DEADLINE

import umami

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


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    server = RawServer(request.param)
    yield server
    server.stop()


@pytest.mark.parametrize("server", [byte_by_byte, body_byte_by_byte, without_end], indirect=True)
def test_a_sender_gives_such_an_answer_up_and_keeps_the_event(
    server: RawServer, make_client: Callable[..., umami.Client]
) -> None:
    client = make_client(url_base=server.url, timeout=0.2, item_timeout=0, shutdown_timeout=0)
    client.new_event("kept")
    client.flush(0)
    assert server.left_alone.wait(DEADLINE)
    stats = client.queue_stats()
    assert (stats.pending, stats.delivered) == (1, 0)

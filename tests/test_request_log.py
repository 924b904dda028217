"""What the logger `umami` says about each request at DEBUG."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import DEADLINE
from queue_helpers import Listener
from reverse_proxy import ReverseProxy
from test_connections import Wire

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]


@pytest.fixture
def log(heard: Listener, caplog: pytest.LogCaptureFixture) -> Iterator[Listener]:
    """What is logged, from DEBUG on."""
    with caplog.at_level(logging.DEBUG, "umami"):
        yield heard


@pytest.fixture
def proxy(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReverseProxy]:
    """A proxy that the environment names, with a password."""
    with ReverseProxy(collector.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:pa55-of-a-proxy@"))
        monkeypatch.delenv("no_proxy", raising=False)
        yield proxy


def line(log: Listener, text: str) -> str:
    """Return the only line with a text in it."""
    (record,) = log.matching(text)
    return record.getMessage()


def test_a_batch_is_logged_with_its_events_its_bytes_its_status_and_its_time(
    log: Listener, client: umami.Client, collector: Collector
) -> None:
    for number in range(3):
        client.new_event(f"e{number}")
    assert client.flush(DEADLINE)
    requests = r"POST http://127\.0\.0\.1:\d+/api/batch: [1-3] events?, \d+ bytes, \d+\.\d{3} s: answered 200"
    assert all(re.fullmatch(requests, record.getMessage()) for record in log.matching(" bytes, "))
    assert log.matching(" bytes, ")
    assert line(log, "Requests to") == f"Requests to {collector.url} use no proxy."


def test_the_proxy_is_logged_and_not_its_password(
    log: Listener, proxy: ReverseProxy, make_client: MakeClient
) -> None:
    client = make_client(url_base="http://umami.invalid")
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert line(log, "Requests to") == f"Requests to http://umami.invalid go through the proxy {proxy.url}."
    assert line(log, " bytes, ").endswith(f"answered 200 (through the proxy {proxy.url})")


def test_a_batch_without_an_answer_is_logged_with_the_cause(log: Listener, make_client: MakeClient) -> None:
    client = make_client(url_base="http://127.0.0.1:9", shutdown_timeout=0)
    client.new_event("e")
    log.wait_for("no answer")
    assert "/api/batch: 1 event, " in log.matching("no answer")[0].getMessage()
    assert "ConnectError" in log.matching("no answer")[0].getMessage()


def test_a_query_is_logged(log: Listener, client: umami.Client, call: Callable[..., Any]) -> None:
    assert call(client.heartbeat)
    assert re.fullmatch(
        r"GET http://127\.0\.0\.1:\d+/api/heartbeat: \d+\.\d{3} s: answered 200", line(log, "heartbeat")
    )


def test_a_query_without_an_answer_is_logged(log: Listener, make_client: MakeClient) -> None:
    client = make_client(url_base="http://127.0.0.1:9", mode="direct")
    with pytest.raises(httpx.ConnectError):
        client.new_event("e")
    assert re.search(
        r"POST http://127\.0\.0\.1:9/api/send: \d+\.\d{3} s: no answer: \S", line(log, "no answer")
    )


def test_no_line_is_put_together_without_debug(
    client: umami.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def describe(*_: object) -> str:
        raise AssertionError("it is described")

    monkeypatch.setattr("umami._http.routes.Routes.describe", describe)
    with caplog.at_level(logging.INFO, "umami"):
        assert client.heartbeat()
        client.new_event("e")
        assert client.flush(DEADLINE)
    assert client.queue_stats().delivered == 1


def test_no_cookie_is_sent_back(make_client: MakeClient, call: Callable[..., Any]) -> None:
    heads: list[bytes] = []

    def answer(wire: Wire, connection: Any) -> None:
        while data := connection.recv(65536):
            heads.append(data)
            connection.sendall(
                b'HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 11\r\n\r\n{"ok":true}'
            )

    with Wire(answer) as wire:
        client = make_client(url_base=f"http://127.0.0.1:{wire.port}")
        assert call(client.heartbeat)
        assert call(client.heartbeat)
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)

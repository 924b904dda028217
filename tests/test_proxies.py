"""Proxies, from the setting and from the environment: what goes through them and what does not."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from conftest import DEADLINE, reserved, with_each
from queue_helpers import Listener, stored, until
from reverse_proxy import ReverseProxy
from test_connections import Wire, well, with_certificate_of

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]


@pytest.fixture
def proxy(other: Collector) -> Iterator[ReverseProxy]:
    """A proxy that passes every request on to the other collector, whatever its URL."""
    with ReverseProxy(other.url) as proxy:
        yield proxy


def urls(proxy: ReverseProxy) -> list[str]:
    """Return the URLs that were requested of the proxy."""
    return [request.path for request in proxy.requests]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("scheme", ["http://", ""], ids=["a url", "a host"])
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_events_go_through_the_proxy(
    name: str,
    scheme: str,
    proxy: ReverseProxy,
    other: Collector,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, proxy.url.replace("http://", scheme))
    client = make_client(url_base="http://umami.invalid")
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert stored(other) == {"e": 1}
    assert urls(proxy) == ["http://umami.invalid/api/batch"]


@pytest.mark.parametrize("hosts", ["127.0.0.1", "example.com, 127.0.0.1", "*"])
def test_events_go_past_the_proxy_to_a_host_that_wants_none(
    hosts: str,
    proxy: ReverseProxy,
    collector: Collector,
    client: umami.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", hosts)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e": 1}
    assert not proxy.requests


def test_a_proxy_for_https_has_nothing_to_do_with_http(
    proxy: ReverseProxy, collector: Collector, client: umami.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e": 1}
    assert not proxy.requests


# The same choice for direct sends and queries.


@pytest.mark.parametrize("kind", ["http_proxy", "ALL_PROXY", "setting", "UMAMI_PROXY"])
def test_a_direct_send_goes_through_the_proxy_too(
    kind: str,
    proxy: ReverseProxy,
    make_client: MakeClient,
    call: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind != "setting":
        monkeypatch.setenv(kind, proxy.url)
    settings = {"proxy": proxy.url} if kind == "setting" else {}
    client = make_client(url_base="http://umami.invalid", mode="direct", **settings)
    assert "sessionId" in call(client.new_event, "e")
    assert urls(proxy) == ["http://umami.invalid/api/send"]


def test_the_setting_goes_before_the_environment(
    proxy: ReverseProxy, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "umami.invalid")
    client = make_client(url_base="http://umami.invalid", proxy=proxy.url)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert urls(proxy) == ["http://umami.invalid/api/batch"]


def test_a_change_of_the_proxy_reaches_the_senders(
    proxy: ReverseProxy, other: Collector, collector: Collector, make_client: MakeClient
) -> None:
    client = make_client()
    client.new_event("straight")
    assert client.flush(DEADLINE)
    client.configure(proxy=proxy.url)
    client.new_event("by the proxy")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"straight": 1}
    assert stored(other) == {"by the proxy": 1}


# NO_PROXY. The servers are behind the proxy only, or on loopback: what is asked of whom tells.

EXCEPTED = {
    "http://127.0.0.1:{port}": [
        "*",
        "127.0.0.1",
        "127.0.0.1:{port}",
        "127.0.0.0/8",
        "other.example,127.0.0.1",
        "other.example 127.0.0.1",
        "::1, 127.0.0.1/32",
        "http://127.0.0.1",
    ],
    "http://localhost:{port}": ["localhost", ".localhost", "LOCALHOST", "*localhost", "localhost:{port}"],
    "http://[::1]:{port}": ["::1", "[::1]", "[::1]:{port}", "::/64", "[::]/64"],
}
NOT_EXCEPTED = {
    "http://127.0.0.1:{port}": ["127.0.0.2", "127.0.0.1:1", "10.0.0.0/8", "::1", "7.0.0.1", "[::1", "1"],
    "http://localhost:{port}": ["host", "xlocalhost", "localhost:1", "ocalhost"],
    "http://[::1]:{port}": ["::2", "[::1]:1", "127.0.0.1", "fe80::/10"],
}


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A server on loopback, of the family that the test's URL names."""
    url = request.getfixturevalue("url")
    try:
        with Wire(well, host="::1" if "::1" in url else "127.0.0.1") as wire:
            yield wire
    except OSError:
        pytest.skip("there is no IPv6 on this machine")


@pytest.mark.parametrize("way", ["queued", "direct"])
@pytest.mark.parametrize("url", EXCEPTED)
def test_no_proxy_covers(
    way: str,
    url: str,
    wire: Wire,
    proxy: ReverseProxy,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    for number, entry in enumerate(EXCEPTED[url], 1):
        monkeypatch.setenv("no_proxy", entry.format(port=wire.port))
        client = make_client(url_base=url.format(port=wire.port), mode=way)
        client.new_event("e")
        assert client.flush(DEADLINE)
        assert (wire.accepted, proxy.requests) == ({"e": number}, []), entry


@with_each(("url", "entry"), [(url, entry) for url, entries in NOT_EXCEPTED.items() for entry in entries])
def test_no_proxy_does_not_cover(
    url: str,
    entry: str,
    proxy: ReverseProxy,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", entry.format(port=12345))
    proxy.requests.clear()
    client = make_client(url_base=url.format(port=12345), mode="direct")
    client.new_event("e")
    assert urls(proxy) == [f"{url.format(port=12345)}/api/send"]


# SOCKS.


class SocksProxy:
    """A SOCKS5 proxy without a password."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(connection,), daemon=True).start()

    def _relay(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, IndexError):
            connection.recv(3)
            connection.sendall(b"\x05\x00")
            request = connection.recv(300)
            length = request[4]
            host = request[5 : 5 + length].decode() if request[3] == 3 else socket.inet_ntoa(request[4:8])
            (port,) = struct.unpack("!H", request[-2:])
            self.asked.append((host, port))
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            with socket.create_connection(("127.0.0.1", port)) as server:
                threading.Thread(target=self._copy, args=(server, connection), daemon=True).start()
                self._copy(connection, server)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)


@pytest.fixture
def socks() -> Iterator[SocksProxy]:
    socks = SocksProxy()
    yield socks
    socks.stop()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
@pytest.mark.parametrize("way", ["queued", "direct", "query"])
def test_a_socks_proxy_is_used(
    way: str,
    scheme: str,
    socks: SocksProxy,
    collector: Collector,
    make_client: MakeClient,
    call: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", socks.url.replace("socks5", scheme))
    client = make_client(mode="direct" if way == "direct" else "queued")
    if way == "query":
        assert call(client.heartbeat)
    else:
        call(client.new_event, "e")
        assert client.flush(DEADLINE)
        assert stored(collector) == {"e": 1}
    assert socks.asked == [("127.0.0.1", collector.port)]


WITHOUT_SOCKSIO = """
    import logging, sys
    sys.modules["socksio"] = None  # as where it is not installed

    import umami

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    umami.configure(url_base=sys.argv[1], website_id=sys.argv[2], hostname="example.com")
    umami.new_event("queued")
    assert umami.flush(60)
    assert umami.heartbeat()
    umami.configure(mode="direct")
    assert "sessionId" in umami.new_event("direct")
    try:
        umami.configure(proxy="socks5://localhost:1080")
    except umami.errors.ValidationError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["socks5", "socks", "socks4", "carrier-pigeon"])
def test_a_proxy_of_the_environment_that_cannot_be_used_breaks_no_call_and_is_named_once(
    scheme: str, collector: Collector, python: Callable[..., Any]
) -> None:
    ended = python(
        WITHOUT_SOCKSIO, collector.url, "978435e2-7ba1-4337-9860-ec31ece2db60",
        ALL_PROXY=f"{scheme}://me:pa55-of-a-proxy@127.0.0.1:9",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    warning, refusal = ended.stdout.splitlines()
    assert warning.startswith("The environment's ALL_PROXY is ignored")
    assert "pa55" not in warning
    assert "pip install 'umami-analytics[socks]'" in refusal
    assert stored(collector) == {"queued": 1, "direct": 1}


# Passwords, and what proxies refuse.


@pytest.mark.parametrize(
    "password", ["pa55#word-1", "pa55/word-1", "pa55?word-1", "pa55@word-1", "pa55%23word-1"]
)
@pytest.mark.parametrize("kind", ["environment", "setting"])
def test_a_proxys_password_may_have_any_character_and_shows_nowhere(
    kind: str, password: str, make_client: MakeClient, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reserved() as unused:
        url = f"http://me:{password}@127.0.0.1:{unused.getsockname()[1]}"
        if kind == "environment":
            monkeypatch.setenv("http_proxy", url)
        settings = {"proxy": url} if kind == "setting" else {}
        client = make_client(url_base="http://umami.invalid", shutdown_timeout=0, **settings)
        client.new_event("e")
        until(lambda: client.queue_stats().last_error)
        with pytest.raises(httpx.ConnectError, match="through the proxy http://127") as caught:
            client.login("admin", "umami")
    shown = f"{caught.value} {client.queue_stats().last_error} {client._state.settings}"
    shown += " ".join(record.getMessage() for record in heard.records)
    assert "pa55" not in shown
    assert "word-1" not in shown


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"503 Away\x1b[2J", b""])
def test_a_proxy_that_makes_no_tunnel_costs_no_event(status: bytes, make_client: MakeClient) -> None:
    def refuse(wire: Wire, connection: socket.socket) -> None:
        connection.recv(65536)
        if status:
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)

    with Wire(refuse) as wire:
        client = make_client(
            url_base="https://umami.invalid", proxy=f"http://127.0.0.1:{wire.port}", at_most_once=True
        )
        client.new_event("e")
        until(lambda: wire.connections >= 3 and client.queue_stats().last_error)
        stats = client.queue_stats()
        assert (stats.pending, stats.dropped) == (1, {})
        assert stats.last_error.isprintable()
        assert f"through the proxy http://127.0.0.1:{wire.port}" in stats.last_error
        with pytest.raises(httpx.TransportError) as caught:
            client.login("admin", "umami")
        assert str(caught.value).isprintable()
        assert str(caught.value).startswith("POST https://umami.invalid/api/auth/login: ")
    client.configure(shutdown_timeout=0)


def test_an_ipv6_address_is_asked_of_a_proxy_in_brackets(make_client: MakeClient) -> None:
    asked: list[bytes] = []

    def refuse(wire: Wire, connection: socket.socket) -> None:
        asked.append(connection.recv(65536).partition(b"\r\n")[0])

    with Wire(refuse) as wire:
        client = make_client(url_base="https://[::1]:8443", proxy=f"http://127.0.0.1:{wire.port}")
        assert not client.heartbeat()
    assert asked == [b"CONNECT [::1]:8443 HTTP/1.1"]


# A proxy that speaks TLS, and passes TLS on.


class TlsProxy:
    """A proxy that is spoken to in TLS, and makes tunnels to localhost."""

    def __init__(self, authority: trustme.CA) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self.asked: list[str] = []

    def __call__(self, wire: Wire, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as client:
            head = client.recv(65536).decode()
            self.asked.append(head.split()[1])
            with socket.create_connection(("127.0.0.1", int(head.split()[1].rpartition(":")[2]))) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                client.settimeout(0.01)
                server.settimeout(0.01)
                ends: list[Any] = [(client, server), (server, client)]
                while True:
                    for source, target in ends:
                        with suppress(TimeoutError):
                            data = source.recv(65536)
                            if not data:
                                return
                            target.sendall(data)


@pytest.mark.parametrize("way", ["queued", "direct"])
def test_a_proxy_may_speak_tls(
    way: str, make_client: MakeClient, call: Callable[..., Any], tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls_proxy = TlsProxy(authority)
    with Wire(with_certificate_of(authority)) as wire, Wire(tls_proxy) as proxy:
        client = make_client(
            url_base=f"https://localhost:{wire.port}",
            proxy=f"https://localhost:{proxy.port}",
            verify=str(tmp_path / "authority.pem"),
            mode=way,
        )
        call(client.new_event, "e")
        assert client.flush(DEADLINE)
        assert wire.accepted == {"e": 1}
        assert tls_proxy.asked == [f"localhost:{wire.port}"]

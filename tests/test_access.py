"""Access to the server: extra headers and certificates, for queued events, direct sends and queries."""

import json
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from conftest import DEADLINE, PASSWORD, SITE, with_each
from queue_helpers import Listener, until
from test_connections import Behaviour, Wire, well

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Call = Callable[..., Any]
SECRET = "s3cret-of-the-gate"
WAYS = ["queued", "direct", "query"]


@pytest.fixture(params=WAYS)
def go(request: pytest.FixtureRequest, call: Call) -> Callable[[umami.Client], bool]:
    """Make a request in one of the three ways, and tell whether it was answered."""

    def queued(client: umami.Client) -> bool:
        call(client.new_event, "e")
        return client.flush(DEADLINE)

    def direct(client: umami.Client) -> bool:
        client.configure(mode="direct")
        return "sessionId" in call(client.new_event, "e")

    def query(client: umami.Client) -> bool:
        return call(client.heartbeat)

    return {"queued": queued, "direct": direct, "query": query}[request.param]


# Extra headers.


def test_headers_go_with_every_request(
    make_client: MakeClient, collector: Collector, go: Callable[[umami.Client], bool]
) -> None:
    assert go(make_client(headers={"CF-Access-Client-Id": "me", "CF-Access-Client-Secret": SECRET}))
    headers = collector.requests[-1].headers
    assert (headers["cf-access-client-id"], headers["cf-access-client-secret"]) == ("me", SECRET)


def test_headers_come_from_the_environment(
    make_client: MakeClient, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMAMI_HEADERS", json.dumps({"X-Gate": SECRET}))
    client = make_client()
    assert client.heartbeat()
    assert collector.requests[-1].headers["x-gate"] == SECRET
    client.configure(headers=None)
    assert client.heartbeat()
    assert "x-gate" not in collector.requests[-1].headers


def test_a_change_of_headers_reaches_the_senders(
    make_client: MakeClient, collector: Collector, go: Callable[[umami.Client], bool]
) -> None:
    client = make_client(headers={"X-Gate": "first"})
    assert go(client)
    client.configure(headers={"X-Gate": "second"})
    assert go(client)
    assert [request.headers["x-gate"] for request in collector.requests] == ["first", "second"]


def test_headers_go_to_no_other_server(
    make_client: MakeClient, collector: Collector, other: Collector, go: Callable[[umami.Client], bool]
) -> None:
    for route in ("/api/batch", "/api/send", "/api/heartbeat"):
        collector.fail(307, path=route, times=None, headers={"Location": f"{other.url}{route}"})
    assert go(make_client(headers={"X-Gate": SECRET}))
    assert collector.requests[0].headers["x-gate"] == SECRET
    assert [request.headers.get("x-gate") for request in other.requests] == [None]


def test_no_value_of_headers_shows(make_client: MakeClient, collector: Collector, call: Call) -> None:
    client = make_client(headers={"X-Gate": SECRET})
    assert SECRET not in repr(client._state.settings)
    collector.fail(500, path="/api/websites", body="oops")
    client.login("admin", PASSWORD)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(client.websites)
    assert SECRET not in repr(vars(caught.value)) + repr(caught.value.request.headers)
    with pytest.raises(umami.errors.ValidationError) as refused:
        client.configure(headers={"X-Gate": f"{SECRET}\n"})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["X-Gate", "X-Api-Key"])
def test_a_message_hides_what_may_be_a_secret_and_stays_readable(
    name: str, make_client: MakeClient, collector: Collector, heard: Listener
) -> None:
    secret = "k3y9" if "Key" in name else SECRET
    collector.fail(503, body=f"no entry with {secret}")
    harmless = {"X-Tenant": "1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "answered", "X-Env": "not"}
    client = make_client(headers={**harmless, name: secret})
    client.new_event("e")
    heard.wait_for("not getting through")
    (line,) = heard.matching("not getting through")
    said = f"{collector.url}/api/batch answered 503, not as Umami does. It said: no entry with "
    assert line.getMessage().endswith(f"{said}***")


# Certificates.


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Wire]:
    """A server with a certificate of the authority."""
    with Wire(over_tls(server_context(authority))) as wire:
        yield wire


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def over_tls(context: ssl.SSLContext) -> Behaviour:
    def behaviour(wire: Wire, connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            well(wire, tls)

    return behaviour


def url_of(wire: Wire) -> str:
    return f"https://localhost:{wire.port}"


@with_each("kind", ["file", "path object", "context", "environment", "SSL_CERT_FILE"])
def test_a_certificate_authority_can_be_named(
    kind: str,
    secure: Wire,
    authority_file: str,
    make_client: MakeClient,
    go: Callable[[umami.Client], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {}
    if kind == "file":
        settings = {"verify": authority_file}
    elif kind == "path object":
        settings = {"verify": Path(authority_file)}
    elif kind == "context":
        settings = {"verify": ssl.create_default_context(cafile=authority_file)}
    with monkeypatch.context() as patched:
        if not settings:
            patched.setenv("UMAMI_VERIFY" if kind == "environment" else kind, authority_file)
        assert go(make_client(url_base=url_of(secure), **settings))


def test_without_it_the_server_is_not_trusted(
    secure: Wire, make_client: MakeClient, call: Call, authority_file: str
) -> None:
    client = make_client(url_base=url_of(secure), mode="direct")
    with pytest.raises(httpx.ConnectError, match=r"POST https://localhost:\d+/api/send: .*certificate"):
        call(client.new_event, "e")
    client.configure(verify=authority_file)
    assert "sessionId" in call(client.new_event, "e")


def test_a_change_of_verify_reaches_the_queue(
    secure: Wire, make_client: MakeClient, authority_file: str
) -> None:
    client = make_client(url_base=url_of(secure), at_most_once=True)
    client.new_event("e")
    until(lambda: "certificate" in (client.queue_stats().last_error or ""))
    client.configure(verify=authority_file)
    assert client.flush(DEADLINE)
    assert secure.accepted == {"e": 1}


@pytest.mark.parametrize("kind", ["code", "environment"])
def test_verify_false_trusts_any_server_and_warns_once(
    kind: str, secure: Wire, make_client: MakeClient, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "environment":
        monkeypatch.setenv("UMAMI_VERIFY", "0")
    settings = {"verify": False} if kind == "code" else {}
    client = make_client(url_base=url_of(secure), **settings)
    client.new_event("e")
    assert client.flush(DEADLINE)
    client.configure(mode="direct")
    client.new_event("f")
    assert secure.accepted == {"e": 1, "f": 1}
    (line,) = heard.matching("verify=False")
    assert line.levelno == logging.WARNING


@pytest.fixture
def demanding(authority: trustme.CA) -> Iterator[Wire]:
    """A server that wants a certificate of its clients."""
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with Wire(over_tls(context)) as wire:
        yield wire


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> tuple[str, str]:
    """The client's certificate, and its key."""
    issued = authority.issue_cert("client.example")
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    return str(cert), str(key)


@with_each("kind", ["two files", "one file", "environment"])  # the last sets a variable
def test_a_client_certificate_is_shown(
    kind: str,
    demanding: Wire,
    authority_file: str,
    certificate: tuple[str, str],
    make_client: MakeClient,
    go: Callable[[umami.Client], bool],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {}
    if kind == "two files":
        settings = {"cert": certificate}
    elif kind == "one file":
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(part).read_text() for part in certificate))
        settings = {"cert": str(both)}
    else:
        monkeypatch.setenv("UMAMI_CERT", json.dumps(certificate))
    assert go(make_client(url_base=url_of(demanding), verify=authority_file, **settings))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_missing_client_certificate_costs_no_event(
    version: ssl.TLSVersion,
    authority: trustme.CA,
    authority_file: str,
    certificate: tuple[str, str],
    make_client: MakeClient,
) -> None:
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    authority.configure_trust(context)

    def read_then_refuse(wire: Wire, connection: Any) -> None:
        # What the client sends after its part of the handshake is read, or else a reset overtakes the alert.
        try:
            tls = context.wrap_socket(connection, server_side=True)
        except ssl.SSLError:
            connection.settimeout(0.2)
            while connection.recv(65536):
                pass
            raise
        with tls:
            well(wire, tls)

    with Wire(read_then_refuse) as wire:
        client = make_client(url_base=url_of(wire), verify=authority_file, at_most_once=True)
        client.new_event("e")
        until(lambda: re.search("certificate|handshake", (client.queue_stats().last_error or "").lower()))
        assert client.queue_stats().dropped == {}
        client.configure(cert=certificate)
        assert client.flush(DEADLINE)
        assert wire.accepted == {"e": 1}


def test_a_certificate_that_cannot_be_loaded_is_refused_without_its_password(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for cert in [
        (str(wrong), certificate[1], "pa55-of-a-key"),
        (certificate[0], str(wrong), "pa55-of-a-key"),
    ]:
        with pytest.raises(umami.errors.ValidationError, match="cannot be loaded") as caught:
            umami.Client(cert=cert)
        assert "pa55" not in str(caught.value)


# A password in front of Umami, and a token for it.


def test_a_send_keeps_the_password_of_the_url_and_a_query_says_why_it_cannot(
    make_client: MakeClient, collector: Collector, call: Call
) -> None:
    client = make_client(url_base=collector.url.replace("://", "://me:pa55-of-a-proxy@"))
    client.login("admin", PASSWORD)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert collector.requests[-1].headers["authorization"].startswith("Basic ")
    client.configure(mode="direct")
    call(client.new_event, "f")
    assert collector.requests[-1].headers["authorization"].startswith("Basic ")
    collector.fail(401, path=f"/api/websites/{SITE}/active", body="<html>Authorization Required")
    with pytest.raises(httpx.HTTPStatusError, match="one Authorization header cannot carry both"):
        call(client.active_users)
    assert collector.requests[-1].headers["authorization"].startswith("Bearer ")


def test_a_page_is_no_heartbeat(client: umami.Client, collector: Collector, call: Call) -> None:
    assert call(client.heartbeat)
    collector.fail(
        200, path="/api/heartbeat", body="<html>Welcome</html>", headers={"Content-Type": "text/html"}
    )
    assert not call(client.heartbeat)

"""Proxies that the environment names: events go through them, and past them where it says so."""

from collections.abc import Callable, Iterator

import pytest
from conftest import DEADLINE
from queue_helpers import Proxy, stored

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]


@pytest.fixture
def asked() -> list[str]:
    """The URLs that the proxy was asked for."""
    return []


@pytest.fixture
def proxy(asked: list[str]) -> Iterator[Proxy]:
    def answer(path: str, body: bytes) -> tuple[int, None]:
        asked.append(path)
        return 200, None

    with Proxy(answer) as proxy:
        yield proxy


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
    proxy: Proxy,
    asked: list[str],
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, proxy.url.replace("http://", scheme))
    client = make_client(url_base="http://umami.invalid")
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert proxy.accepted == {"e": 1}
    assert asked == ["http://umami.invalid/api/batch"]


@pytest.mark.parametrize("hosts", ["127.0.0.1", "example.com, 127.0.0.1", "*"])
def test_events_go_past_the_proxy_to_a_host_that_wants_none(
    hosts: str,
    proxy: Proxy,
    collector: Collector,
    client: umami.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", hosts)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e": 1}
    assert not proxy.bodies


def test_a_proxy_for_https_has_nothing_to_do_with_http(
    proxy: Proxy, collector: Collector, client: umami.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url)
    client.new_event("e")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e": 1}
    assert not proxy.bodies

"""Permanent redirects: remembered, logged once, and forgotten when they fail."""

from collections.abc import Callable

import pytest
from conftest import DEADLINE, PASSWORD
from queue_helpers import Listener, stored

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]


def send(client: umami.Client, name: str) -> None:
    """Send an event, and wait until it was delivered."""
    client.new_event(name)
    if client._state.settings.mode == "queued":
        assert client.flush(DEADLINE)


@pytest.mark.parametrize("mode", ["queued", "direct"])
@pytest.mark.parametrize("status", [301, 308])
def test_a_permanent_redirect_is_remembered_and_named_once(
    status: int, mode: str, collector: Collector, other: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(mode=mode, headers={"X-Gate": "s3cret-of-the-gate"})
    client.login("admin", PASSWORD)
    for route in ("/api/send", "/api/batch"):
        location = f"{other.url}{route}"
        collector.fail(status, path=route, times=None, headers={"Location": location})
    before = len(collector.requests)
    for name in ("one", "two", "three"):
        send(client, name)
    assert stored(other) == {"one": 1, "two": 1, "three": 1}
    assert len(collector.requests) == before + 1
    (line,) = heard.matching("redirects to")
    assert line.getMessage() == f"{collector.url} redirects to {other.url}: set url_base to {other.url}."
    for request in other.requests:
        assert "authorization" not in request.headers
        assert "x-gate" not in request.headers
    assert collector.requests[-1].headers["x-gate"] == "s3cret-of-the-gate"


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_temporary_redirect_is_asked_for_each_time(
    status: int, collector: Collector, other: Collector, client: umami.Client, heard: Listener
) -> None:
    collector.fail(status, path="/api/batch", times=None, headers={"Location": f"{other.url}/api/batch"})
    for name in ("one", "two"):
        send(client, name)
    assert len(collector.requests) == 2
    assert heard.matching("redirects to") == []


def test_it_is_forgotten_when_its_target_fails(
    collector: Collector, client: umami.Client, balanced: Callable[[umami.Client], None]
) -> None:
    with Collector() as target:
        moved = collector.fail(
            308, path="/api/batch", times=None, headers={"Location": f"{target.url}/api/batch"}
        )
        send(client, "there")
        assert stored(target) == {"there": 1}
        moved.cancel()
    send(client, "back")
    assert stored(collector) == {"back": 1}
    balanced(client)


def test_a_redirect_to_another_path_is_not_remembered(
    collector: Collector, other: Collector, client: umami.Client, heard: Listener
) -> None:
    """It may be to a login page, which is not the server's new place."""
    collector.fail(308, path="/api/batch", times=2, headers={"Location": f"{other.url}/api/batch?moved"})
    for name in ("one", "two", "three"):
        send(client, name)
    assert len(collector.requests) == 3
    assert stored(collector) == {"three": 1}
    assert heard.matching("redirects to") == []


def test_neither_password_nor_control_characters_of_a_redirect_show(
    collector: Collector, other: Collector, client: umami.Client, heard: Listener
) -> None:
    with_account = other.url.replace("://", "://me:pa55-of-a-redirect@")
    location = f"{with_account}/api/batch"
    collector.fail(308, path="/api/batch", headers={"Location": location})
    send(client, "one")
    assert stored(other) == {"one": 1}
    assert "pa55" not in heard.matching("redirects to")[0].getMessage()
    assert "authorization" not in other.requests[0].headers

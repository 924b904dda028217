"""From events to requests: batches by count, size and age; connections and headers."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, version
from queue_helpers import NEVER, connections, send_many, sent, sizes, stored

import umami
from umami._user_agents import BROWSER_USER_AGENT
from umami.collector import Collector
from umami.settings import SERVER_BODY_LIMIT

MakeClient = Callable[..., umami.Client]
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def padded(make_client: MakeClient) -> Callable[[int], dict[str, Any]]:
    """Make the custom_data with which an event's encoded body has exactly so many bytes."""
    with Collector() as scale:
        make_client(url_base=scale.url, mode="direct").new_event("padded")
        frame = len(scale.requests[0].body)

    def pad(size: int) -> dict[str, Any]:
        room = size - frame
        data: dict[str, Any] = {}
        while room > 0:
            # A key of six letters, its quotes and colon, and the comma before it.
            overhead = 11 + bool(data)
            length = (500 if room > 1000 else (room + 1) // 2 if room > 500 else room) - overhead
            data[f"k{len(data):05}"] = "x" * length
            room -= overhead + length
        return data

    return pad


# Cut by count.


def test_a_full_batch_goes_out_without_waiting(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(batch_size=10, flush_interval=NEVER, senders=1)
    send_many(client, 30)
    collector.wait_for(events=30, timeout=DEADLINE)
    assert sizes(collector) == [10, 10, 10]


def test_an_incomplete_batch_waits_for_more(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(batch_size=10, flush_interval=NEVER, senders=1)
    send_many(client, 9, "early")
    send_many(client, 1, "late")
    collector.wait_for(events=10, timeout=DEADLINE)
    assert sizes(collector) == [10]


def test_a_flush_sends_an_incomplete_batch(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(batch_size=10, flush_interval=NEVER, senders=1)
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert sizes(collector) == [3]


def test_events_keep_their_order(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(batch_size=7, senders=1)
    names = send_many(client, 100)
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == names


def test_a_batch_of_one_is_still_a_batch(collector: Collector, client: umami.Client) -> None:
    client.new_event("lonely")
    assert client.flush(DEADLINE)
    (request,) = collector.requests
    assert request.path == "/api/batch"
    assert request.body.startswith(b"[{")


# Cut by bytes.


@pytest.mark.parametrize("spare", [0, 1])
def test_a_batch_is_filled_to_the_last_byte_and_not_beyond(
    spare: int, collector: Collector, make_client: MakeClient, padded: Callable[[int], dict[str, Any]]
) -> None:
    limit = 4096
    client = make_client(batch_bytes=limit, flush_interval=NEVER, senders=1)
    # Two brackets and two commas leave this for three events; with a byte more the third does not fit.
    first = (limit - 4) // 3
    for size in (first, first, limit - 4 - 2 * first + spare):
        client.new_event("padded", custom_data=padded(size))
    assert client.flush(DEADLINE)
    assert sizes(collector) == ([3] if spare == 0 else [2, 1])
    assert max(len(request.body) for request in collector.requests) <= limit
    if spare == 0:
        assert len(collector.requests[0].body) == limit


def test_an_event_of_exactly_the_limit_travels_alone(
    collector: Collector, make_client: MakeClient, padded: Callable[[int], dict[str, Any]]
) -> None:
    client = make_client(batch_bytes=2048, flush_interval=NEVER, senders=1)
    client.new_event("before")
    client.new_event("padded", custom_data=padded(2046))
    client.new_event("after")
    assert client.flush(DEADLINE)
    assert sizes(collector) == [1, 1, 1]
    assert len(collector.requests[1].body) == 2048
    assert client.queue_stats().delivered == 3


def test_an_event_over_the_limit_is_refused_at_the_call(
    make_client: MakeClient, padded: Callable[[int], dict[str, Any]]
) -> None:
    client = make_client(batch_bytes=2048)
    with pytest.raises(umami.errors.ValidationError, match="2047 bytes encoded, and batch_bytes allows 2046"):
        client.new_event("padded", custom_data=padded(2047))
    assert client.queue_stats().submitted == 0


@pytest.mark.slow
def test_no_body_is_over_the_servers_limit_however_large_the_events(
    collector: Collector, make_client: MakeClient, padded: Callable[[int], dict[str, Any]]
) -> None:
    client = make_client(batch_bytes=SERVER_BODY_LIMIT - 1024, flush_interval=NEVER)
    data = padded(3 * 1024 * 1024)
    for _ in range(4):
        client.new_event("padded", custom_data=data)
    assert client.flush(DEADLINE)
    assert [len(request.body) < SERVER_BODY_LIMIT for request in collector.requests] == [True, True]
    assert client.queue_stats().delivered == 4


def test_events_queued_before_batch_bytes_shrank_are_sent_alone(
    collector: Collector, make_client: MakeClient, padded: Callable[[int], dict[str, Any]]
) -> None:
    client = make_client(flush_interval=NEVER)
    for _ in range(3):
        client.new_event("padded", custom_data=padded(3000))
    client.configure(batch_bytes=1024)
    assert client.flush(DEADLINE)
    assert sizes(collector) == [1, 1, 1]
    assert client.queue_stats().delivered == 3


# Cut by age.


def test_an_event_goes_out_by_itself_after_the_interval_and_not_before(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(flush_interval=0.2)
    started = time.monotonic()
    client.new_event("aged")
    collector.wait_for(events=1, timeout=DEADLINE)
    assert collector.requests[0].at - started >= 0.2


def test_without_an_interval_each_event_goes_out_at_once(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(flush_interval=0)
    for number in range(1, 4):
        client.new_event("prompt")
        collector.wait_for(events=number, timeout=DEADLINE)
    assert sizes(collector) == [1, 1, 1]


@pytest.mark.parametrize("change", [{"flush_interval": 0}, {"batch_size": 3}], ids=["interval", "batch_size"])
def test_a_change_of_what_makes_a_batch_applies_to_events_that_wait(
    change: dict[str, Any], collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(flush_interval=0, senders=1)
    send_many(client, 1, "first")
    collector.wait_for(events=1, timeout=DEADLINE)
    client.configure(flush_interval=NEVER)
    send_many(client, 3)
    with pytest.raises(TimeoutError):
        collector.wait_for(events=4, timeout=0.2)
    client.configure(**change)
    collector.wait_for(events=4, timeout=DEADLINE)


# Connections.


@pytest.mark.slow
def test_one_connection_only_until_the_server_has_answered(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(batch_size=5, flush_interval=0, senders=4)
    collector.fail(None, freeze=True)
    send_many(client, 100)
    assert not client.flush(0.2)
    assert len(collector.requests) == 1
    collector.thaw()
    assert client.flush(DEADLINE)
    assert client.queue_stats().delivered == 100


def test_one_connection_serves_one_request_after_another(collector: Collector, client: umami.Client) -> None:
    for _ in range(5):
        client.new_event("again")
        assert client.flush(DEADLINE)
    assert sizes(collector) == [1] * 5
    assert len(connections(collector)) == 1


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """A collector that takes its time with each event, as Umami does."""
    with Collector(item_delay=0.03, **getattr(request, "param", {})) as collector:
        yield collector


@pytest.mark.slow
def test_a_backlog_brings_a_second_connection_and_never_a_third(
    slow: Collector, make_client: MakeClient
) -> None:
    client = make_client(url_base=slow.url, batch_size=4)
    names = send_many(client, 120)
    assert client.flush(DEADLINE)
    assert len(connections(slow)) == 2
    assert stored(slow) == dict.fromkeys(names, 1)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [{"umami": "cloud"}], indirect=True)
def test_single_sends_get_more_connections_up_to_eight(slow: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=slow.url)
    names = send_many(client, 200)
    assert client.flush(DEADLINE)
    ports = {request.client_port for request in slow.requests if request.path == "/api/send"}
    assert 2 < len(ports) <= 8
    assert stored(slow) == dict.fromkeys(names, 1)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [{"umami": "cloud"}], indirect=True)
@pytest.mark.parametrize("senders", [1, 3])
def test_the_setting_bounds_the_connections(senders: int, slow: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=slow.url, senders=senders)
    send_many(client, 60)
    assert client.flush(DEADLINE)
    assert len({request.client_port for request in slow.requests}) == senders


@pytest.mark.slow
def test_two_senders_share_one_batch_between_them(slow: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=slow.url, batch_size=10, flush_interval=NEVER)
    send_many(client, 100)
    assert client.flush(DEADLINE)
    assert set(sizes(slow)[:-4]) <= {10, 5}
    assert sizes(slow).count(5) > sizes(slow).count(10)


@pytest.mark.slow
def test_the_patience_for_an_answer_grows_with_the_events_of_the_request(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(timeout=0.2, item_timeout=1.0, batch_size=20, flush_interval=60)
    collector.fail(None, path="/api/batch", delay=1.0)
    send_many(client, 20)
    assert client.flush(DEADLINE)
    assert (client.queue_stats().requests, client.queue_stats().retries) == (1, 0)


def test_an_answer_that_takes_longer_than_that_is_not_waited_for(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(timeout=0.1, item_timeout=0.0)
    collector.fail(None, path="/api/batch", freeze=True)
    client.new_event("impatient")
    collector.wait_for(requests=2, timeout=DEADLINE)
    assert "ReadTimeout" in client.queue_stats().last_error


# What a request says.


def test_a_page_views_user_agent_travels_in_its_payload(collector: Collector, client: umami.Client) -> None:
    client.new_page_view("Home", "/", ua=SAFARI)
    client.new_page_view("Home", "/")
    client.new_event("click", ua=SAFARI)
    assert client.flush(DEADLINE)
    assert [payload.get("userAgent") for payload in sent(collector.requests)[0]] == [SAFARI, None, SAFARI]
    assert {request.headers["user-agent"] for request in collector.requests} == {BROWSER_USER_AGENT}
    assert [event.user_agent for event in collector.events] == [SAFARI, BROWSER_USER_AGENT, SAFARI]


def test_the_timestamp_is_the_moment_of_the_call_in_whole_seconds(
    batch: bool, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, flush_interval=NEVER)
        with monkeypatch.context() as past:
            past.setattr("umami._events.encoder.time", lambda: 1_600_000_000.9)
            client.new_event("early")
        assert client.flush(DEADLINE)
        timestamp = sent(collector.requests)[-1][0]["timestamp"]
    assert type(timestamp) is int
    assert timestamp == 1_600_000_000


def test_a_credential_goes_along_only_after_a_login(collector: Collector, client: umami.Client) -> None:
    def header() -> str | None:
        client.new_event("who")
        assert client.flush(DEADLINE)
        return collector.requests[-1].headers.get("authorization")

    assert header() is None
    token = client.login("admin", PASSWORD).token
    assert header() == f"Bearer {token}"
    client.logout()
    assert header() is None


def test_a_body_is_plain_json(collector: Collector, client: umami.Client) -> None:
    client.new_event("plain")
    assert client.flush(DEADLINE)
    headers = collector.requests[0].headers
    assert headers["content-type"] == "application/json"
    assert "content-encoding" not in headers
    assert "x-umami-cache" not in headers

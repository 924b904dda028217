"""Umami Cloud: its routes, headers and limits, over real TLS and through a proxy."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cloud_proxy import API_KEY, Internet
from conftest import DEADLINE, PASSWORD, SITE, with_each
from queue_helpers import SENDS

import umami
from umami.collector import Collector

Call = Callable[..., Any]
SELF_HOSTED = "umami.example.com"


@pytest.fixture
def internet(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "https_proxy", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with Internet(collector, tmp_path, SELF_HOSTED) as internet:
        for name, value in internet.environment.items():
            monkeypatch.setenv(name, value)
        yield internet


@pytest.fixture
def cloud(internet: Internet, make_client: Callable[..., umami.Client]) -> umami.Client:
    return make_client(url_base=None, api_key=API_KEY)


# Queries.

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
MS = 1_767_312_000_000
PAGE = "page=1&pageSize=100"
QUERIES: dict[str, tuple[Any, ...]] = {
    "websites": ({}, f"/websites?{PAGE}", f"/teams?{PAGE}"),
    "active_users": ({}, f"/websites/{SITE}/active"),
    "website_stats": (
        {"start_at": NOW, "end_at": NOW, "url": "/a", "host": "b"},
        f"/websites/{SITE}/stats?startAt={MS}&endAt={MS}&url=%2Fa&path=%2Fa&host=b&hostname=b",
    ),
    "verify_token": ({}, "/me"),
    "heartbeat": ({}, "/me"),
}


@with_each("region", [None, "eu", "us"])
@with_each("function", QUERIES)
def test_a_query_goes_to_the_data_host_with_the_key(
    cloud: umami.Client, internet: Internet, call: Call, function: str, region: str | None
) -> None:
    internet.seen.clear()
    cloud.set_cloud_api_key(f"  {API_KEY} ", region)
    arguments, *paths = QUERIES[function]
    call(getattr(cloud, function), **arguments)
    prefix = "https://api.umami.is/v1" + (f"/{region}" if region else "")
    asked = [(request.method, request.url) for request in internet.seen]
    assert asked == [("GET", prefix + path) for path in paths]
    for request in internet.seen:
        assert request.headers["x-umami-api-key"] == API_KEY
        assert request.headers["user-agent"] == umami.user_agent
        assert "authorization" not in request.headers


@with_each(("value", "sent"), [("t.co", "eq.t.co"), ("a,b", "re.(?-i)^a,b$"), ("!a", "!a")])
def test_a_filters_value_is_literal_without_asking(
    cloud: umami.Client, internet: Internet, call: Call, value: str, sent: str
) -> None:
    internet.seen.clear()
    call(cloud.website_stats, NOW, NOW, referrer=value)
    (request,) = internet.seen
    assert parse_qs(urlsplit(request.url).query)["referrer"] == [sent]


@pytest.mark.usefixtures("no_websites")
def test_queries_are_answered(cloud: umami.Client, collector: Collector, call: Call) -> None:
    website_id = collector.add_website("My site", "my.example")
    assert [website.id for website in call(cloud.websites)] == [website_id]
    assert call(cloud.active_users) == 0
    assert call(cloud.website_stats, NOW, NOW).pageviews == 0
    assert call(cloud.verify_token) is True
    assert call(cloud.heartbeat) is True


def test_a_session_comes_once_with_whatever_host_name(cloud: umami.Client, collector: Collector) -> None:
    times = {"a": "03", "b": "02", "c": "01"}
    # The second page begins with a session of the first: the list has changed, and is read on from there.
    for ids, host, count in (("ab", "x.example", 3), ("bc", "x.example", 3), ("bc", "y.example", 2)):
        rows = [{"id": id_, "hostname": host, "lastAt": f"2026-01-01T00:{times[id_]}:00Z"} for id_ in ids]
        collector.fail(200, path="/api/websites/*/sessions", body={"data": rows, "count": count}, times=1)
    day = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert [row.id for row in cloud.sessions(day, day + timedelta(days=1), page_size=2)] == ["a", "b", "c"]


def test_a_wrong_key_raises_401_and_is_not_valid(cloud: umami.Client, call: Call) -> None:
    cloud.set_cloud_api_key("wrong")
    with pytest.raises(httpx.HTTPStatusError, match="401") as caught:
        call(cloud.websites)
    assert "wrong" not in str(caught.value)
    assert call(cloud.verify_token) is False
    assert call(cloud.heartbeat) is False
    assert call(cloud.verify_token, check_server=False) is True


def test_the_last_region_counts_none_included(cloud: umami.Client, internet: Internet) -> None:
    for region in ("eu", "us", None):
        cloud.set_cloud_api_key(API_KEY, region)
        cloud.heartbeat()
    assert [request.url for request in internet.seen] == [
        "https://api.umami.is/v1/eu/me",
        "https://api.umami.is/v1/us/me",
        "https://api.umami.is/v1/me",
    ]


def test_logout_has_nobody_to_tell(cloud: umami.Client, internet: Internet, call: Call) -> None:
    call(cloud.logout)
    assert internet.seen == []
    assert cloud.is_logged_in()


# Events.


@with_each("region", [None, "eu", "us"])
@with_each("mode", ["queued", "direct"])
@with_each("send", SENDS)
def test_an_event_goes_to_the_event_host_without_a_credential(
    cloud: umami.Client, internet: Internet, call: Call, send: str, mode: str, region: str | None
) -> None:
    internet.seen.clear()
    cloud.configure(mode=mode, region=region)
    answer = call(getattr(cloud, send), **SENDS[send])
    assert answer == {"queued": True} if mode == "queued" else "sessionId" in answer
    assert cloud.flush(DEADLINE)
    (request,) = internet.seen
    assert (request.method, request.url) == ("POST", "https://cloud.umami.is/api/send")
    assert request.headers["user-agent"].startswith("Mozilla/5.0 (")
    assert request.headers.keys().isdisjoint({"authorization", "x-umami-api-key", "x-umami-cache", "cookie"})
    assert API_KEY not in repr(request)


def test_events_go_one_by_one_and_never_in_a_batch(
    cloud: umami.Client, internet: Internet, collector: Collector
) -> None:
    for number in range(30):
        cloud.new_event(f"event {number}")
    assert cloud.flush(DEADLINE)
    assert {request.url for request in internet.seen} == {"https://cloud.umami.is/api/send"}
    bodies = [json.loads(request.body) for request in internet.seen]
    assert sorted(body["payload"]["name"] for body in bodies) == sorted(f"event {n}" for n in range(30))
    stats = cloud.queue_stats()
    assert (stats.delivered, stats.rejected, stats.retries, stats.requests) == (30, 0, 0, 30)
    assert len(collector.events) == 30


def test_a_limit_of_calls_is_waited_out(cloud: umami.Client, collector: Collector) -> None:
    collector.fail(429, times=3, headers={"Retry-After": "0"})
    for number in range(5):
        cloud.new_event(f"event {number}")
    assert cloud.flush(DEADLINE)
    assert sorted(str(event.name) for event in collector.events) == [f"event {n}" for n in range(5)]
    stats = cloud.queue_stats()
    assert (stats.delivered, stats.rejected, stats.retries) == (5, 0, 3)


def test_no_login_of_a_self_hosted_server_reaches_the_cloud(
    make_client: Callable[..., umami.Client], collector: Collector, internet: Internet, call: Call
) -> None:
    client = make_client()
    token = client.login("admin", PASSWORD).token
    client.set_cloud_api_key(API_KEY)
    client.active_users()
    call(client.new_event, "signup")
    assert client.flush(DEADLINE)
    assert len(internet.seen) == 2
    assert token not in repr(internet.seen)


def test_events_go_where_the_client_pointed_when_they_were_sent(
    make_client: Callable[..., umami.Client], collector: Collector, internet: Internet
) -> None:
    client = make_client(flush_interval=3600)
    client.new_event("self-hosted")
    client.set_cloud_api_key(API_KEY)
    client.new_event("cloud")
    client.clear_cloud_api_key()
    client.new_event("self-hosted again")
    assert client.flush(DEADLINE)
    (request,) = internet.seen
    assert json.loads(request.body)["payload"]["name"] == "cloud"
    assert len(collector.events) == 3


@pytest.mark.slow
def test_a_script_that_ends_at_once_has_delivered(
    python: Callable[..., Any], internet: Internet, collector: Collector
) -> None:
    program = """
        import umami
        umami.new_event("from a script")
    """
    result = python(
        program, UMAMI_API_KEY=API_KEY, UMAMI_REGION="eu", UMAMI_WEBSITE_ID=SITE, UMAMI_HOSTNAME="example.com"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [event.name for event in collector.events] == ["from a script"]
    assert [request.url for request in internet.seen] == ["https://cloud.umami.is/api/send"]


# TLS.


@pytest.mark.slow
def test_a_server_that_is_not_trusted_gets_nothing(
    cloud: umami.Client, internet: Internet, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(httpx.ConnectError):
        call(cloud.websites)
    assert call(cloud.heartbeat) is False
    call(cloud.new_event, "signup")
    assert not cloud.flush(0.5)
    assert cloud.queue_stats().pending == 1
    assert "certificate" in str(cloud.queue_stats().last_error).lower()
    assert internet.seen == []
    # Given up, so that nothing is left to go to the real Cloud when the test's own is gone.
    cloud.configure(retry_limit=0)
    assert cloud.flush(DEADLINE)
    assert cloud.queue_stats().dropped == {"retry_limit": 1}


def test_a_certificate_for_another_host_is_not_trusted(
    internet: Internet, make_client: Callable[..., umami.Client], call: Call
) -> None:
    client = make_client(url_base="https://other.example")
    with pytest.raises(httpx.ConnectError):
        call(client.login, "admin", PASSWORD)
    assert internet.seen == []


def test_a_self_hosted_server_may_speak_tls_too(
    internet: Internet, make_client: Callable[..., umami.Client], collector: Collector, call: Call
) -> None:
    client = make_client(url_base=f"https://{SELF_HOSTED}/")
    call(client.login, "admin", PASSWORD)
    call(client.new_event, "signup")
    assert client.flush(DEADLINE)
    assert [request.url for request in internet.seen] == [
        f"https://{SELF_HOSTED}/api/auth/login",
        f"https://{SELF_HOSTED}/api/batch",
    ]
    assert [event.name for event in collector.events] == ["signup"]


def test_no_token_follows_a_redirect_from_https_to_http(
    internet: Internet, make_client: Callable[..., umami.Client], collector: Collector, call: Call
) -> None:
    client = make_client(url_base=f"https://{SELF_HOSTED}")
    client.login("admin", PASSWORD)
    collector.fail(307, path="/api/websites", headers={"Location": f"{collector.url}/api/websites"})
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        call(client.websites)
    assert "authorization" not in collector.requests[-1].headers

"""Direct mode: one POST for each send, which returns the server's answer."""

import inspect
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import anyio
import httpx
import pytest
from conftest import DEADLINE, PASSWORD, SITE, with_each
from queue_helpers import SENDS

import umami
from umami.collector import Collector
from umami.errors import ResponseError, ValidationError

Call = Callable[..., Any]
BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def direct(make_client: Callable[..., umami.Client]) -> umami.Client:
    return make_client(mode="direct")


def sent(collector: Collector) -> dict[str, Any]:
    """The payload of the one request, which must be an event's; the moment left out."""
    (request,) = collector.requests
    body = request.json
    assert body.keys() == {"payload", "type"}
    assert body["type"] == "event"
    assert type(body["payload"].pop("timestamp")) is int
    return body["payload"]


# Answers.


@with_each("send", SENDS)
def test_a_send_returns_the_servers_answer(
    direct: umami.Client, collector: Collector, call: Call, send: str
) -> None:
    answer = call(getattr(direct, send), **SENDS[send])
    assert answer.keys() == {"cache", "sessionId", "visitId"}
    (request,) = collector.requests
    assert (request.method, request.path) == ("POST", "/api/send")
    assert len(collector.events) + len(collector.identities) == 1
    assert direct.queue_stats().submitted == 0


@with_each("send", SENDS)
def test_the_bare_token_of_an_old_server_is_an_answer(
    make_client: Callable[..., umami.Client], call: Call, send: str
) -> None:
    with Collector(umami="2.15") as server:
        answer = call(getattr(make_client(url_base=server.url, mode="direct"), send), **SENDS[send])
        assert len(server.events) + len(server.identities) == 1
    assert answer.keys() == {"cache"}
    assert answer["cache"].startswith("eyJ")


@with_each("send", SENDS)
@with_each("status", [400, 401, 403, 404, 408, 429, 500, 503])
def test_a_non_2xx_raises_at_the_call_and_is_not_repeated(
    direct: umami.Client, collector: Collector, call: Call, send: str, status: int
) -> None:
    collector.fail(status, headers={"Retry-After": "0"})
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(getattr(direct, send), **SENDS[send])
    assert caught.value.response.status_code == status
    assert len(collector.requests) == 1


def test_an_unknown_website_raises_with_the_servers_words(call: Call) -> None:
    with (
        Collector(auto_register=False) as collector,
        umami.Client(
            url_base=collector.url, website_id=SITE, hostname="example.com", mode="direct"
        ) as client,
        pytest.raises(httpx.HTTPStatusError) as caught,
    ):
        call(client.new_event, "signup")
    assert caught.value.response.json()["error"]["message"] == "Website not found."


@with_each("body", ["<html>", ""])
def test_a_2xx_without_json_says_what_came(
    direct: umami.Client, collector: Collector, call: Call, body: str
) -> None:
    collector.fail(200, body=body)
    with pytest.raises(ResponseError, match=rf"POST {collector.url}/api/send answered 200 without JSON"):
        call(direct.new_event, "signup")


def test_a_server_that_is_away_raises_httpxs_error(
    direct: umami.Client, collector: Collector, call: Call
) -> None:
    collector.stop()
    with pytest.raises(httpx.ConnectError):
        call(direct.new_event, "signup")


def test_the_setting_timeout_bounds_a_send(
    make_client: Callable[..., umami.Client], collector: Collector, call: Call
) -> None:
    client = make_client(mode="direct", timeout=0.1)
    collector.fail(freeze=True)
    with pytest.raises(httpx.TimeoutException):
        call(client.new_event, "signup")
    collector.thaw()


@pytest.mark.slow
def test_a_bots_event_returns_what_the_server_says_and_the_log_what_it_means(
    direct: umami.Client, collector: Collector, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    direct.configure(on_error=lambda report: told.set())
    assert call(direct.new_page_view, "Home", "/", ua="curl/8.5.0") == {"beep": "boop"}
    assert told.wait(DEADLINE)
    assert "User-Agent is not a browser's" in caplog.text
    assert collector.events == ()


def test_disabled_sends_nothing(direct: umami.Client, collector: Collector, call: Call) -> None:
    direct.disable()
    for send, arguments in SENDS.items():
        assert call(getattr(direct, send), **arguments) == {}
    assert collector.requests == ()


def test_flush_and_shutdown_have_nothing_to_wait_for(direct: umami.Client, call: Call) -> None:
    call(direct.new_event, "signup")
    assert call(direct.flush, 0)
    assert call(direct.shutdown, 0)
    assert "sessionId" in call(direct.new_event, "signup")


# The body.


def test_the_body_of_an_event(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.new_event, "signup")
    assert sent(collector) == {
        "hostname": "example.com",
        "language": "en-US",
        "referrer": "",
        "screen": "1920x1080",
        "title": "signup",
        "url": "/",
        "website": SITE,
        "name": "signup",
        "data": {},
    }


def test_the_body_of_a_page_view(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.new_page_view, "Home", "/home")
    assert sent(collector) == {
        "hostname": "example.com",
        "language": "en-US",
        "referrer": "",
        "screen": "1920x1080",
        "title": "Home",
        "url": "/home",
        "website": SITE,
    }


def test_the_body_of_a_revenue_event(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.new_revenue_event, 19.99, custom_data={"product": "book"})
    payload = sent(collector)
    assert (payload["name"], payload["title"]) == ("revenue", "revenue")
    assert payload["data"] == {"product": "book", "revenue": 19.99, "currency": "USD"}


def test_the_body_of_an_identity(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.identify, 17, {"plan": "pro"}, timestamp=1_767_225_600)
    (request,) = collector.requests
    assert request.json == {
        "type": "identify",
        "payload": {
            "website": SITE,
            "hostname": "example.com",
            "id": "17",
            "data": {"plan": "pro"},
            "timestamp": 1_767_225_600,
        },
    }


def test_positional_arguments_go_where_the_published_client_has_them(
    direct: umami.Client, collector: Collector, call: Call
) -> None:
    call(direct.new_event, "name", "host.example", "/url", SITE, "title", {"a": 1}, "/from", "de", "800x600",
         "203.0.113.9", "user-1")  # fmt: skip
    assert sent(collector) == {
        "name": "name",
        "hostname": "host.example",
        "url": "/url",
        "website": SITE,
        "title": "title",
        "data": {"a": 1},
        "referrer": "/from",
        "language": "de",
        "screen": "800x600",
        "ip": "203.0.113.9",
        "id": "user-1",
    }


def test_a_page_views_positional_arguments_likewise(
    direct: umami.Client, collector: Collector, call: Call
) -> None:
    call(direct.new_page_view, "title", "/url", "host.example", SITE, "/from", "de", "800x600", FIREFOX,
         "203.0.113.9", 17)  # fmt: skip
    payload = sent(collector)
    assert payload.pop("userAgent") == FIREFOX
    assert payload == {
        "title": "title",
        "url": "/url",
        "hostname": "host.example",
        "website": SITE,
        "referrer": "/from",
        "language": "de",
        "screen": "800x600",
        "ip": "203.0.113.9",
        "id": "17",
    }


@with_each(
    ("new", "field", "value"),
    [
        ({"tag": "b"}, "tag", "b"),
        ({"ua": FIREFOX}, "userAgent", FIREFOX),
        ({"timestamp": 1_767_225_600.5}, "timestamp", 1_767_225_600),
        ({"timestamp": datetime(2026, 1, 1, tzinfo=timezone.utc)}, "timestamp", 1_767_225_600),
    ],
)
def test_a_new_parameter_adds_its_field(
    direct: umami.Client, collector: Collector, call: Call, new: dict[str, Any], field: str, value: Any
) -> None:
    call(direct.new_event, "signup", **new)
    assert collector.requests[0].json["payload"][field] == value


ARGUMENTS: dict[str, tuple[Any, str, Any]] = {
    "hostname": ("other.example", "hostname", "other.example"),
    "url": ("/there", "url", "/there"),
    "website_id": ("11111111-2222-4333-8444-555555555555", "website", "11111111-2222-4333-8444-555555555555"),
    "title": ("A title", "title", "A title"),
    "custom_data": ({"plan": "pro"}, "data", {"plan": "pro"}),
    "referrer": ("https://t.co/x", "referrer", "https://t.co/x"),
    "language": ("de-CH", "language", "de-CH"),
    "screen": ("800x600", "screen", "800x600"),
    "ip_address": ("203.0.113.7", "ip", "203.0.113.7"),
    "distinct_id": ("user-17", "id", "user-17"),
    "tag": ("b", "tag", "b"),
    "timestamp": (1_767_225_600, "timestamp", 1_767_225_600),
    "ua": (FIREFOX, "userAgent", FIREFOX),
    "browser": ("firefox", "browser", "firefox"),
    "os": ("Linux", "os", "Linux"),
    "device": ("laptop", "device", "laptop"),
}
"""Each argument that all sends may have: a value, its key in the payload, and what stands there."""
REQUIRED: dict[str, tuple[Any, ...]] = {
    "new_event": ("signup",),
    "new_revenue_event": (19.99, "EUR"),
    "new_page_view": ("Home", "/"),
}


@with_each("send", REQUIRED)
def test_every_argument_reaches_the_server(direct: umami.Client, collector: Collector, send: str) -> None:
    function = getattr(direct, send)
    arguments = inspect.signature(function).parameters.keys() - {
        "event_name",
        "page_title",
        "revenue",
        "currency",
    }
    if send == "new_page_view":
        arguments -= {"url"}
    assert arguments <= ARGUMENTS.keys(), "add the new argument to ARGUMENTS"
    function(*REQUIRED[send], **{name: ARGUMENTS[name][0] for name in arguments})
    payload = collector.requests[0].json["payload"]
    expected = {ARGUMENTS[name][1]: ARGUMENTS[name][2] for name in arguments}
    if send == "new_revenue_event":
        expected["data"] = {"plan": "pro", "revenue": 19.99, "currency": "EUR"}
    assert {key: payload.get(key) for key in expected} == expected


def test_the_moment_is_the_calls(direct: umami.Client, collector: Collector) -> None:
    before = int(time.time())
    direct.new_event("signup")
    assert before <= collector.requests[0].json["payload"]["timestamp"] <= time.time()


@with_each("optional", ["ip_address", "distinct_id", "tag", "title", "custom_data", "ua", "referrer"])
def test_what_is_not_set_is_not_in_the_body(
    direct: umami.Client, collector: Collector, call: Call, optional: str
) -> None:
    call(direct.new_event, "signup", **{optional: None})
    assert b"null" not in collector.requests[0].body


def test_a_refused_event_makes_no_request(direct: umami.Client, collector: Collector, call: Call) -> None:
    with pytest.raises(ValidationError):
        call(direct.new_event, "x" * 51)
    assert collector.requests == ()


# Headers and connections.


def test_a_send_calls_itself_a_browser(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.new_event, "signup")
    headers = collector.requests[0].headers
    assert headers["user-agent"] == BROWSER
    assert headers["content-type"] == "application/json"
    assert "x-umami-cache" not in headers
    assert "content-encoding" not in headers


def test_a_visitors_user_agent_is_the_requests_too(
    direct: umami.Client, collector: Collector, call: Call
) -> None:
    call(direct.new_page_view, "Home", "/", ua=FIREFOX)
    assert collector.requests[0].headers["user-agent"] == FIREFOX
    assert collector.events[0].browser == "firefox"


@with_each("odd", ["é", "\N{ROCKET}", "a\nb", "a\r\nX-Evil: 1", "\x00", "\ud800", " ", "x" * 100_000])
def test_a_user_agent_that_is_no_header_is_stored_all_the_same(
    direct: umami.Client, collector: Collector, call: Call, odd: str
) -> None:
    assert "sessionId" in call(direct.new_page_view, "Home", "/", ua=f"{FIREFOX} {odd}")
    (request,) = collector.requests
    assert "x-evil" not in request.headers
    assert len(request.headers["user-agent"]) <= 8192
    assert collector.events[0].browser == "firefox"


@with_each("blank", ["", " ", "\t\r\n", "\u3000", " " * 10_000])
def test_a_blank_user_agent_is_none(
    direct: umami.Client, collector: Collector, call: Call, blank: str
) -> None:
    assert "sessionId" in call(direct.new_event, "signup", ua=blank)
    assert "sessionId" in call(direct.new_page_view, "Home", "/", ua=blank)
    assert "sessionId" in call(direct.identify, "u-1", {}, ua=blank)
    for request in collector.requests:
        assert request.headers["user-agent"] == BROWSER
        assert "userAgent" not in request.json["payload"]


def test_no_token_is_no_header(direct: umami.Client, collector: Collector, call: Call) -> None:
    call(direct.new_event, "before")
    token = direct.login("admin", PASSWORD).token
    call(direct.new_event, "during")
    direct.logout()
    call(direct.new_event, "after")
    sent_with = [r.headers.get("authorization") for r in collector.requests if r.path == "/api/send"]
    assert sent_with == [None, f"Bearer {token}", None]
    assert "Bearer None" not in repr([list(request.headers.values()) for request in collector.requests])


def test_sends_share_a_connection(direct: umami.Client, collector: Collector) -> None:
    for _ in range(5):
        direct.new_event("signup")
    assert len({request.client_port for request in collector.requests}) == 1


@pytest.mark.anyio
async def test_async_sends_may_go_at_once(direct: umami.Client, collector: Collector) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(direct.new_event_async, f"event {number}")
    assert sorted(event.name for event in collector.events) == sorted(f"event {n}" for n in range(20))
    await direct.__aexit__(None, None, None)


@with_each("status", [301, 302, 303, 307, 308])
def test_a_redirected_send_stays_a_post(
    direct: umami.Client, collector: Collector, call: Call, status: int
) -> None:
    collector.fail(status, headers={"Location": "/api/send?again"})
    assert "sessionId" in call(direct.new_event, "signup")
    first, second = collector.requests
    assert (second.method, second.body) == ("POST", first.body)


@with_each("status", [302, 307])
def test_no_token_follows_a_send_to_another_server(
    direct: umami.Client, collector: Collector, call: Call, status: int
) -> None:
    with Collector() as other:
        direct.login("admin", PASSWORD)
        collector.fail(status, headers={"Location": f"{other.url}/api/send"})
        assert "sessionId" in call(direct.new_event, "signup")
        assert [event.name for event in other.events] == ["signup"]
        assert "authorization" not in other.requests[0].headers


# Between the modes.


def test_a_client_may_change_its_mode(
    make_client: Callable[..., umami.Client], collector: Collector, call: Call
) -> None:
    client = make_client()
    assert call(client.new_event, "queued") == {"queued": True}
    client.configure(mode="direct")
    assert "sessionId" in call(client.new_event, "direct")
    client.configure(mode="queued")
    assert call(client.new_event, "queued") == {"queued": True}
    assert client.flush(60)
    assert sorted(str(event.name) for event in collector.events) == ["direct", "queued", "queued"]
    assert client.queue_stats().delivered == 2


@pytest.mark.parametrize("send", ["new_event", "new_page_view"])
def test_both_modes_send_the_same_event(
    make_client: Callable[..., umami.Client], collector: Collector, send: str
) -> None:
    client = make_client()
    arguments = {
        **SENDS[send],
        "url": "/a?b=c",
        "distinct_id": 5,
        "ip_address": "203.0.113.9",
        "timestamp": 5,
    }
    getattr(client, send)(**arguments)
    assert client.flush(60)
    client.configure(mode="direct")
    getattr(client, send)(**arguments)
    batch, single = collector.requests
    assert json.loads(batch.body) == [json.loads(single.body)]


def test_before_send_has_the_last_word_in_direct_mode_too(
    make_client: Callable[..., umami.Client], collector: Collector, call: Call
) -> None:
    client = make_client(mode="direct", before_send=lambda payload: {**payload, "title": "changed"})
    call(client.new_event, "signup")
    assert sent(collector)["title"] == "changed"
    client.configure(before_send=lambda payload: None)
    assert call(client.new_event, "signup") == {"queued": False, "reason": "before_send"}
    assert len(collector.requests) == 1


def test_an_error_has_the_url_and_the_servers_words_and_no_credential(
    collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    url = collector.url.replace("http://", "http://user:hunter2@")
    client = make_client(mode="direct", url_base=url)
    for body, said in [
        ("payload is too odd", ": payload is too odd"),
        ('{"reason": "the plan"}', ': {"reason": "the plan"}'),
        ("<title>Header too large</title>", ": Header too large"),
        ("dXNlcjpodW50ZXIy is wrong", ": *** is wrong"),
    ]:
        collector.fail(400, body=body)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            client.new_event("signup")
        assert str(caught.value) == f"POST {collector.url}/api/send answered 400 Bad Request{said}"

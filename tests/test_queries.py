"""Logins and queries against the collector: sync, and async with asyncio and trio."""

import base64
import json
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import httpx
import pytest
from conftest import DEADLINE, PASSWORD, SITE, query_of, with_each

import umami
from umami.collector import Collector
from umami.errors import OperationNotAllowedError, ResponseError, ValidationError

Call = Callable[..., Any]
NOW = datetime.now(timezone.utc)
DAY = {"start_at": NOW - timedelta(days=1), "end_at": NOW + timedelta(days=1)}


# Login and logout.


def test_login_returns_the_account_and_keeps_the_token(
    client: umami.Client, collector: Collector, call: Call
) -> None:
    assert not client.is_logged_in()
    answer = call(client.login, "admin", PASSWORD)
    assert isinstance(answer, umami.models.LoginResponse)
    assert (answer.user.username, answer.user.role, answer.user.isAdmin) == ("admin", "admin", True)
    assert client.is_logged_in()
    (request,) = collector.requests
    assert (request.method, request.path) == ("POST", "/api/auth/login")
    assert request.json == {"username": "admin", "password": PASSWORD}
    assert request.headers["user-agent"] == umami.user_agent
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    call(client.websites)
    assert collector.requests[-1].headers["authorization"] == f"Bearer {answer.token}"


def test_a_wrong_password_raises_and_keeps_no_token(client: umami.Client, call: Call) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(client.login, "admin", "wrong")
    assert caught.value.response.status_code == 401
    assert not client.is_logged_in()


def test_a_failed_login_leaves_the_login_before_it(client: umami.Client) -> None:
    client.login("admin", PASSWORD)
    with pytest.raises(httpx.HTTPStatusError):
        client.login("admin", "wrong")
    assert client.verify_token()


def test_a_second_login_sends_no_token(user: umami.Client, collector: Collector, call: Call) -> None:
    call(user.login, "admin", PASSWORD)
    assert "authorization" not in collector.requests[-1].headers


def test_logout_tells_the_server_and_forgets_the_token(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    assert call(user.logout) is None
    assert not user.is_logged_in()
    (request,) = collector.requests
    assert (request.method, request.path) == ("POST", "/api/auth/logout")
    assert request.headers["authorization"].startswith("Bearer ")
    with pytest.raises(OperationNotAllowedError):
        call(user.logout)


def test_logout_forgets_the_token_even_if_the_server_is_away(
    user: umami.Client, collector: Collector
) -> None:
    collector.fail(500, path="/api/auth/logout")
    with pytest.raises(httpx.HTTPStatusError):
        user.logout()
    assert not user.is_logged_in()


def test_a_token_is_used_by_another_client_at_this_server_only(user: umami.Client, call: Call) -> None:
    token = user.login("admin", PASSWORD).token
    with umami.Client(url_base=user._state.settings.url_base) as other:
        other.set_token(token)
        assert other.is_logged_in()
        assert call(other.websites) == user.websites()
        other.set_url_base("http://127.0.0.1:9")
        assert not other.is_logged_in()
        other.set_token(None)
        assert not other.is_logged_in()


@pytest.mark.parametrize("token", ["", 5])
def test_a_token_is_checked(user: umami.Client, token: Any) -> None:
    with pytest.raises(ValidationError, match=r"^token "):
        user.set_token(token)
    assert user.is_logged_in()


def test_any_other_request_can_be_made(user: umami.Client, collector: Collector, call: Call) -> None:
    answer = call(user.request, "POST", "/websites", json={"name": "Shop", "domain": "shop.example"})
    assert answer["name"] == "Shop"
    found = call(user.request, "GET", "/websites", params={"page": 1, "search": "Shop"})
    assert "Shop" in {website["name"] for website in found["data"]}
    assert query_of(collector)["page"] == "1"
    assert call(user.request, "GET", "/me", raw=True).headers["content-type"] == "application/json"
    collector.fail(200, body=b"", path="/api/me")
    assert call(user.request, "GET", "/me") is None
    collector.fail(200, body=b"<p>", path="/api/me")
    with pytest.raises(ResponseError, match="without JSON"):
        call(user.request, "GET", "/me")
    with pytest.raises(httpx.HTTPStatusError, match="answered 404") as caught:
        call(user.request, "GET", "/nothing")
    assert caught.value.response.status_code == 404
    for path in ("websites", "/api/websites"):
        with pytest.raises(ValidationError, match=r"^path must begin with a slash and have no /api"):
            call(user.request, "GET", path)


def test_a_request_needs_no_login(client: umami.Client, collector: Collector, call: Call) -> None:
    assert call(client.request, "GET", "/heartbeat") == {"ok": True}
    assert "authorization" not in collector.requests[-1].headers


def test_events_carry_the_token_from_login_to_logout(client: umami.Client, collector: Collector) -> None:
    token = client.login("admin", PASSWORD).token
    client.new_event("logged in")
    assert client.flush(DEADLINE)
    client.logout()
    client.new_event("logged out")
    assert client.flush(DEADLINE)
    sent = [request.headers.get("authorization") for request in collector.requests if "batch" in request.path]
    assert sent == [f"Bearer {token}", None]


# Verify and heartbeat.


def test_verify_token_asks_the_server(user: umami.Client, collector: Collector, call: Call) -> None:
    assert call(user.verify_token) is True
    (request,) = collector.requests
    assert (request.method, request.path) == ("POST", "/api/auth/verify")
    collector.revoke_tokens()
    assert call(user.verify_token) is False
    assert user.is_logged_in()


def test_verify_token_without_asking_knows_what_is_set(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    assert call(user.verify_token, check_server=False) is True
    assert call(user.verify_token, False) is True
    assert collector.requests == ()
    assert call(umami.Client().verify_token, check_server=False) is False
    assert call(umami.Client(url_base=collector.url).verify_token, check_server=False) is False


@with_each("body", [{"user": None}, {}, [], "username", "<html>", "", None, 5])
def test_verify_token_wants_a_user_name(
    user: umami.Client, collector: Collector, call: Call, body: Any
) -> None:
    collector.fail(200, path="/api/auth/verify", body=json.dumps(body) if body != "<html>" else body)
    assert call(user.verify_token) is False


def test_heartbeat_asks_without_a_credential(user: umami.Client, collector: Collector, call: Call) -> None:
    assert call(user.heartbeat) is True
    (request,) = collector.requests
    assert (request.method, request.path) == ("GET", "/api/heartbeat")
    assert "authorization" not in request.headers
    assert request.headers["user-agent"] == umami.user_agent


TROUBLE: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "500": {"status": 500},
    "cut": {"cut": "before"},
    "half": {"status": None, "cut": "body"},
    "frozen": {"freeze": True},
    "redirected in circles": {"status": 307, "headers": {"Location": "/api/auth/verify"}, "times": None},
    "redirected nowhere": {"status": 307, "headers": {"Location": "ftp://example.com"}},
    "redirected to nonsense": {"status": 307, "headers": {"Location": "http://[::1"}},
}


@with_each("function", ["verify_token", "heartbeat"])
@with_each("trouble", TROUBLE)
def test_verify_token_and_heartbeat_never_raise(
    user: umami.Client, collector: Collector, call: Call, function: str, trouble: str
) -> None:
    user.configure(timeout=0.2)
    collector.fail(path="/api/*", **TROUBLE[trouble])
    assert call(getattr(user, function)) is False
    collector.thaw()


@pytest.mark.parametrize("function", ["verify_token", "heartbeat"])
def test_a_server_that_is_away_is_no_reason_to_raise(
    user: umami.Client, collector: Collector, call: Call, function: str
) -> None:
    collector.stop()
    assert call(getattr(user, function)) is False
    assert call(getattr(umami.Client(), function)) is False
    assert call(getattr(umami.Client(url_base="http://no-such-host.invalid"), function)) is False


# Websites.


@pytest.mark.usefixtures("no_websites")
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_websites_returns_every_page(user: umami.Client, collector: Collector, count: int) -> None:
    ids = [collector.add_website(f"Site {number}", f"{number}.example") for number in range(count)]
    websites = user.websites()
    assert sorted(website.id for website in websites) == sorted(ids)
    asked = [request.path for request in collector.requests]
    assert asked.count("/api/websites") == max(1, -(-count // 100))


@pytest.mark.usefixtures("no_websites")
def test_a_website_is_read_whole(user: umami.Client, collector: Collector, call: Call) -> None:
    website_id = collector.add_website("My site", "my.example")
    (website,) = call(user.websites)
    assert isinstance(website, umami.models.Website)
    assert (website.id, website.name, website.domain) == (website_id, "My site", "my.example")
    assert website.user == umami.models.WebsiteUser(username="admin", id=website.userId)


def test_a_server_that_does_not_page_is_asked_no_more_than_twice(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    page = {"data": [{"id": "one", "domain": None}], "count": 7, "page": 1, "pageSize": 100}
    collector.fail(200, times=None, path="/api/websites", body=page)
    assert [website.id for website in call(user.websites)] == ["one"]
    assert [request.path for request in collector.requests].count("/api/websites") == 2


def test_a_websites_row_with_nulls_is_read(user: umami.Client, collector: Collector) -> None:
    row = {"id": "one", "name": "n", "domain": None, "createdAt": None, "updatedAt": None, "userId": None,
           "createUser": {"id": "u", "username": "admin"}}  # fmt: skip
    collector.fail(200, path="/api/websites", body={"data": [row], "count": 1, "page": 1, "pageSize": 100})
    (website,) = user.websites()
    assert website.domain is None
    assert website.createUser == umami.models.WebsiteUser(username="admin", id="u")


# Active users.


@pytest.mark.parametrize("version", ["3.1", "3.0", "2.19"])
def test_active_users_counts_visitors_on_every_version(version: Any, call: Call) -> None:
    with Collector(umami=version, password=PASSWORD) as collector, visited(collector) as client:
        assert call(client.active_users) == 2


def test_active_users_of_another_website(user: umami.Client, collector: Collector, call: Call) -> None:
    other = collector.add_website("Other", "other.example")
    user.new_event("signup")
    assert user.flush(DEADLINE)
    assert call(user.active_users, other) == 0
    assert call(user.active_users, website_id=other) == 0
    assert call(user.active_users) == 1
    assert collector.requests[-2].path == f"/api/websites/{other}/active"


@with_each(
    ("body", "count"),
    [
        ({"visitors": 3}, 3),
        ({"x": 4}, 4),
        ({"visitors": None}, 0),
        ({"x": None}, 0),
        ({}, 0),
        ({"visitors": 0, "x": 9}, 0),
    ],
)
def test_active_users_reads_every_shape(
    user: umami.Client, collector: Collector, call: Call, body: dict[str, Any], count: int
) -> None:
    collector.fail(200, path="*/active", body=body)
    assert call(user.active_users) == count


@with_each("body", [{"visitors": "many"}, {"visitors": [1]}, {"visitors": {"value": "x"}}, {"x": 1.5}, [], 5])
def test_active_users_that_are_no_number_are_no_answer_of_umami(
    user: umami.Client, collector: Collector, call: Call, body: Any
) -> None:
    collector.fail(200, path="*/active", body=json.dumps(body))
    with pytest.raises(ResponseError, match="did not answer as Umami does"):
        call(user.active_users)


# Stats.


class visited:  # noqa: N801 - reads as what it does
    """A client of a collector that has three page views of two visitors."""

    def __init__(self, collector: Collector) -> None:
        self._client = umami.Client(
            url_base=collector.url, website_id=SITE, hostname="example.com", flush_interval=0.01
        )

    def __enter__(self) -> umami.Client:
        client = self._client
        for visitor, page, hostname in (
            ("one", "/pricing", "example.com"),
            ("one", "/docs?q=x", "docs.example.com"),
            ("two", "/pricing", "example.com"),
        ):
            client.new_page_view(
                f"Title of {page}",
                page,
                hostname=hostname,
                distinct_id=visitor,
                referrer="https://news.example/",
            )
        assert client.flush(DEADLINE)
        client.login("admin", PASSWORD)
        return client

    def __exit__(self, *_: object) -> None:
        self._client.__exit__(None, None, None)


@pytest.mark.parametrize("version", ["3.1", "3.0", "2.19"])
def test_stats_are_read_on_every_version(version: Any, call: Call) -> None:
    with Collector(umami=version, password=PASSWORD) as collector, visited(collector) as client:
        stats = call(client.website_stats, **DAY)
        assert isinstance(stats, umami.models.WebsiteStats)
        assert (stats.pageviews, stats.visitors, stats.visits, stats.bounces) == (3, 2, 2, 1)
        assert stats.comparison == umami.models.WebsiteStatsCmp()


@pytest.mark.parametrize("version", ["3.1", "3.0", "2.19"])
def test_stats_of_an_empty_site_are_zeros(version: Any, call: Call) -> None:
    with Collector(umami=version, password=PASSWORD) as collector, visited(collector) as client:
        stats = call(client.website_stats, **DAY, website_id=collector.add_website("Empty", "empty.example"))
        assert (stats.pageviews, stats.visitors, stats.visits, stats.bounces, stats.totaltime) == (0,) * 5


def test_a_filter_narrows_the_stats() -> None:
    with Collector(password=PASSWORD) as collector, visited(collector) as client:
        for filters, pageviews in (
            ({"url": "/pricing"}, 2),
            ({"url": "/nowhere"}, 0),
            ({"host": "docs.example.com"}, 1),
            ({"referrer": "news.example"}, 3),
            ({"title": "Title of /pricing"}, 2),
            ({"query": "q=x"}, 1),
            ({"browser": "chrome"}, 3),
            ({"browser": "firefox"}, 0),
            ({"os": "Mac OS"}, 3),
            ({"device": "laptop"}, 3),
            ({"url": "/pricing", "host": "docs.example.com"}, 0),
        ):
            assert client.website_stats(**DAY, **filters).pageviews == pageviews, filters


RENAMED = {"url": {"url", "path"}, "host": {"host", "hostname"}}
FILTERS = [
    *RENAMED,
    "referrer",
    "title",
    "query",
    "event",
    "os",
    "browser",
    "device",
    "country",
    "region",
    "city",
]


@with_each("name", FILTERS)
@with_each("value", ["a b&c=d%20", "x", ""])
def test_every_filter_that_is_not_none_is_sent(
    user: umami.Client, collector: Collector, call: Call, name: str, value: str
) -> None:
    call(user.website_stats, **DAY, **{**dict.fromkeys(FILTERS), name: value})
    query = parse_qs(collector.requests[-1].query, keep_blank_values=True)
    names = RENAMED.get(name, {name})
    assert query.keys() == {"startAt", "endAt", *names}
    assert [query[name] for name in names] == [[value]] * len(names)


@with_each(
    ("moment", "milliseconds"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc), 1_767_323_045_678),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), 1_767_315_845_000),
        (datetime(2026, 1, 2, 3, 4, 5), int(datetime(2026, 1, 2, 3, 4, 5).timestamp() * 1000)),  # noqa: DTZ001
        (date(2026, 1, 2), int(datetime(2026, 1, 2).timestamp() * 1000)),  # noqa: DTZ001 - local midnight
        (datetime(1969, 12, 31, tzinfo=timezone.utc), -86_400_000),
    ],
)
def test_dates_are_sent_in_milliseconds(
    user: umami.Client, collector: Collector, call: Call, moment: date, milliseconds: int
) -> None:
    call(user.website_stats, moment, moment)
    assert query_of(collector) == {"startAt": str(milliseconds), "endAt": str(milliseconds)}


def test_a_website_id_cannot_lead_to_another_route(user: umami.Client, collector: Collector) -> None:
    collector.fail(200, path="*", body={"visitors": 1})
    user.active_users("../../me?x=")
    assert collector.requests[-1].path.startswith("/api/websites/")
    assert collector.requests[-1].path.endswith("/active")
    assert collector.requests[-1].query == ""


# Errors.

QUERIES: dict[str, dict[str, Any]] = {"websites": {}, "active_users": {}, "website_stats": DAY}


@with_each("function", QUERIES)
@with_each("status", [400, 401, 403, 404, 500])
def test_a_non_2xx_raises_with_the_response(
    user: umami.Client, collector: Collector, call: Call, function: str, status: int
) -> None:
    collector.fail(status, path="/api/websites*")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(getattr(user, function), **QUERIES[function])
    assert caught.value.response.status_code == status
    assert len(collector.requests) == 1


def test_a_revoked_token_raises_401(user: umami.Client, collector: Collector, call: Call) -> None:
    collector.revoke_tokens()
    with pytest.raises(httpx.HTTPStatusError, match="401 Unauthorized") as caught:
        call(user.websites)
    assert caught.value.response.json()["error"]["code"] == "unauthorized"


@with_each("function", [*QUERIES, "login"])
@with_each(
    ("body", "kind", "said"),
    [
        ("<html>Please sign in</html>", "text/html", "'<html>Please sign in</html>'"),
        ("", "text/html", "'nothing'"),
        ('{"data": [', "application/json", "'{\"data\": ['"),
        (b"\xff\xfe\x00", "application/octet-stream", "3 bytes"),
    ],
)
def test_a_2xx_without_json_says_what_came_and_from_where(
    user: umami.Client, collector: Collector, call: Call, function: str, body: Any, kind: str, said: str
) -> None:
    collector.fail(200, path="/api/*", body=body, headers={"Content-Type": kind})
    arguments = {"username": "admin", "password": PASSWORD} if function == "login" else QUERIES[function]
    with pytest.raises(ResponseError) as caught:
        call(getattr(user, function), **arguments)
    message = str(caught.value)
    assert f"{collector.url}/api/" in message
    assert "answered 200 without JSON" in message
    assert kind in message
    assert said in message
    assert "Does the URL base point at an Umami server?" in message


def test_an_endless_page_is_quoted_by_its_start_only(user: umami.Client, collector: Collector) -> None:
    collector.fail(200, path="/api/websites", body="<html>" + "x" * 100_000)
    with pytest.raises(ResponseError) as caught:
        user.websites()
    assert len(str(caught.value)) < 400


NO_OBJECT = [[], 5, None, "text"]
OTHERS = {
    "websites": [
        *NO_OBJECT[1:],
        {},
        {"data": "no list"},
        {"data": [{}], "count": 1},
        [{"name": "no id"}],
        [5],
    ],
    "active_users": NO_OBJECT,
    "website_stats": [*NO_OBJECT, {}, {"pageviews": "many"}],
    "login": [*NO_OBJECT, {}, {"token": 5, "user": {}}],
}


@with_each(("function", "body"), [(name, body) for name in OTHERS for body in OTHERS[name]])
def test_a_2xx_of_another_json_says_where_it_is_not_umamis(
    user: umami.Client, collector: Collector, call: Call, function: str, body: Any
) -> None:
    collector.fail(200, path="/api/*", body=json.dumps(body), headers={"Content-Type": "application/json"})
    arguments = {"username": "admin", "password": PASSWORD} if function == "login" else QUERIES[function]
    with pytest.raises(ResponseError, match=rf"{collector.url}/api/.* did not answer as Umami does: "):
        call(getattr(user, function), **arguments)


def test_a_server_that_is_away_raises_httpxs_error(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    collector.stop()
    user.configure(query_timeout=0.2)
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):  # the latter if the time is up just then
        call(user.websites)


def test_the_setting_timeout_bounds_a_query(user: umami.Client, collector: Collector, call: Call) -> None:
    user.configure(timeout=0.1)
    collector.fail(path="/api/websites", freeze=True)
    with pytest.raises(httpx.ReadTimeout):
        call(user.websites)
    collector.thaw()


@pytest.mark.usefixtures("no_websites")
def test_a_change_of_timeout_needs_no_new_client(user: umami.Client, collector: Collector) -> None:
    assert user.websites() == []
    user.configure(timeout=0.1)
    collector.fail(path="/api/websites", freeze=True)
    with pytest.raises(httpx.ReadTimeout):
        user.websites()
    collector.thaw()
    user.configure(timeout=DEADLINE)
    assert user.websites() == []


# Redirects.


@with_each("status", [301, 302, 303, 307, 308])
def test_a_redirected_post_stays_a_post(
    client: umami.Client, collector: Collector, call: Call, status: int
) -> None:
    collector.fail(status, path="/api/auth/login", headers={"Location": "/api/auth/login?again"})
    assert call(client.login, "admin", PASSWORD).user.username == "admin"
    first, second = collector.requests
    assert (second.method, second.query, second.body) == ("POST", "again", first.body)
    assert second.headers["content-type"] == "application/json"


@pytest.mark.slow
@pytest.mark.usefixtures("no_websites")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_query_keeps_its_credential_on_the_same_server(
    user: umami.Client, collector: Collector, call: Call, status: int
) -> None:
    collector.fail(status, path="/api/websites", headers={"Location": f"{collector.url}/api/websites?page=1"})
    assert call(user.websites) == []
    first, second, *_ = collector.requests
    assert second.headers["authorization"] == first.headers["authorization"]


@with_each("status", [301, 302, 303, 307, 308])
def test_no_token_follows_a_redirect_to_another_server(
    user: umami.Client, collector: Collector, other: Collector, call: Call, status: int
) -> None:
    collector.fail(status, path="/api/websites", headers={"Location": f"{other.url}/api/websites"})
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(user.websites)
    assert caught.value.response.status_code == 401
    (request,) = other.requests
    assert "authorization" not in request.headers


def test_no_proxys_password_follows_a_redirect_to_another_server(
    make_client: Callable[..., umami.Client], collector: Collector, other: Collector
) -> None:
    client = make_client(url_base=collector.url.replace("http://", "http://user:pa55-of-the-proxy@"))
    collector.fail(307, path="/api/heartbeat", headers={"Location": f"{other.url}/api/heartbeat"})
    assert client.heartbeat()
    basic = base64.b64encode(b"user:pa55-of-the-proxy").decode()
    assert collector.requests[0].headers["authorization"] == f"Basic {basic}"
    assert "authorization" not in other.requests[0].headers


@with_each("status", [301, 302, 303, 307, 308])
def test_no_password_follows_a_redirect_to_another_server(
    client: umami.Client, collector: Collector, other: Collector, call: Call, status: int
) -> None:
    collector.fail(status, path="/api/auth/login", headers={"Location": f"{other.url}/api/auth/login"})
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(client.login, "admin", PASSWORD)
    assert caught.value.response.status_code == status
    assert other.requests == ()
    assert not client.is_logged_in()


def test_a_redirect_in_circles_ends(user: umami.Client, collector: Collector, call: Call) -> None:
    collector.fail(307, times=None, path="/api/websites", headers={"Location": "/api/websites"})
    with pytest.raises(httpx.HTTPStatusError, match="307"):
        call(user.websites)
    assert len(collector.requests) < 20


# Connections, threads and loops.


def test_sync_calls_share_a_connection(user: umami.Client, collector: Collector) -> None:
    for _ in range(5):
        user.websites()
        assert user.heartbeat()
        assert user.verify_token()
    assert len({request.client_port for request in collector.requests}) == 1


@pytest.mark.anyio
async def test_async_calls_of_one_loop_share_a_connection(user: umami.Client, collector: Collector) -> None:
    for _ in range(5):
        await user.websites_async()
        assert await user.heartbeat_async()
    assert len({request.client_port for request in collector.requests}) == 1
    await user.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_many_tasks_may_ask_at_once(user: umami.Client, collector: Collector) -> None:
    answers = []

    async def ask() -> None:
        answers.append(await user.active_users_async())

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    assert answers == [0] * 50
    await user.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_an_async_call_does_not_block_its_loop(user: umami.Client, collector: Collector) -> None:
    frozen = collector.fail(None, path="/api/websites", freeze=True)
    ended = anyio.Event()

    async def ask() -> None:
        await user.websites_async()
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        with anyio.fail_after(DEADLINE):
            while not frozen.hits:
                await anyio.lowlevel.checkpoint()
            assert await user.heartbeat_async()
            assert not ended.is_set()
            collector.thaw()
            await ended.wait()
    await user.__aexit__(None, None, None)


@pytest.mark.usefixtures("no_websites")
@pytest.mark.anyio
async def test_a_cancelled_call_leaves_the_client_usable(user: umami.Client, collector: Collector) -> None:
    collector.fail(None, path="/api/websites", freeze=True)
    with anyio.move_on_after(0.05) as scope:
        await user.websites_async()
    assert scope.cancelled_caught
    collector.thaw()
    assert await user.websites_async() == []
    await user.__aexit__(None, None, None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_outlives_event_loops(user: umami.Client, collector: Collector, backend: str) -> None:
    for _ in range(3):
        assert anyio.run(user.heartbeat_async, backend=backend)
    assert user.heartbeat()


def test_threads_and_loops_may_ask_at_once(user: umami.Client, collector: Collector) -> None:
    answers = []
    ways = [
        user.active_users,
        partial(anyio.run, user.active_users_async, backend="asyncio"),
        partial(anyio.run, user.active_users_async, backend="trio"),
    ]
    threads = [threading.Thread(target=lambda way=way: answers.append(way())) for way in ways * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [0] * 12


def test_a_client_that_was_closed_opens_again(user: umami.Client, call: Call) -> None:
    with user:
        assert call(user.heartbeat)
    assert call(user.heartbeat)


@pytest.mark.anyio
async def test_an_async_with_block_closes_what_it_opened(collector: Collector) -> None:
    async with umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client:
        await client.login_async("admin", PASSWORD)
        assert await client.new_event_async("signup") == {"queued": True}
    assert len(collector.events) == 1


def test_queries_work_beside_the_queue(user: umami.Client, collector: Collector) -> None:
    for _ in range(10):
        user.new_page_view("Home", "/", distinct_id="one")
    assert user.flush(DEADLINE)
    assert user.website_stats(**DAY).pageviews == 10
    assert user.active_users() == 1

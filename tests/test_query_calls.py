"""What all queries share: ranges, filters by version, errors, retries, pacing, and logging in again."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import freezegun
import httpx
import pytest
from conftest import PASSWORD, SITE, query_of, with_each
from old_umami import Answer, OldUmami, Seen, served

import umami
from umami import filters
from umami._http.pacing import Pace
from umami.collector import Collector
from umami.errors import ResponseStatusError, UnsupportedError, ValidationError

Call = Callable[..., Any]
DAY = {
    "start_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "end_at": datetime(2026, 1, 2, tzinfo=timezone.utc),
}


def range_of(collector: Collector) -> tuple[datetime, datetime]:
    query = query_of(collector)
    start, end = (int(query[name]) / 1000 for name in ("startAt", "endAt"))
    return datetime.fromtimestamp(start, timezone.utc), datetime.fromtimestamp(end, timezone.utc)


# Ranges.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("7d", "2026-03-22T22:30", "2026-03-29T22:30"),
        ("24h", "2026-03-28T22:30", "2026-03-29T22:30"),
        ("90m", "2026-03-29T21:00", "2026-03-29T22:30"),
        ("2w", "2026-03-15T22:30", "2026-03-29T22:30"),
        # In Berlin it is already the 30th, a Monday; summer time began a day before.
        ("today", "2026-03-29T22:00", "2026-03-30T22:00"),
        ("yesterday", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("this_week", "2026-03-29T22:00", "2026-04-05T22:00"),
        ("last_week", "2026-03-22T23:00", "2026-03-29T22:00"),
        ("this_month", "2026-02-28T23:00", "2026-03-31T22:00"),
        ("last_month", "2026-01-31T23:00", "2026-02-28T23:00"),
        ("this_year", "2025-12-31T23:00", "2026-12-31T23:00"),
        ("last_year", "2024-12-31T23:00", "2025-12-31T23:00"),
    ],
)
def test_a_period_is_one_of_the_time_zone(
    user: umami.Client, collector: Collector, period: str, start: str, end: str
) -> None:
    with freezegun.freeze_time("2026-03-29T22:30:00"):
        user.website_stats(period=period, timezone="Europe/Berlin")
    first, last = range_of(collector)
    assert first == datetime.fromisoformat(f"{start}+00:00")
    rest = datetime.fromisoformat(f"{end}+00:00") - last
    assert rest in (timedelta(0), timedelta(milliseconds=1))
    assert (rest == timedelta(0)) == period[0].isdecimal()


def test_naive_times_are_of_the_time_zone(user: umami.Client, collector: Collector) -> None:
    user.website_stats(date(2026, 7, 1), datetime(2026, 7, 1, 12), timezone="Asia/Tokyo")  # noqa: DTZ001
    assert range_of(collector) == (
        datetime(2026, 7, 1, tzinfo=ZoneInfo("Asia/Tokyo")),
        datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo")),
    )


def test_the_end_is_now_unless_it_is_given(user: umami.Client, collector: Collector) -> None:
    before = datetime.now(timezone.utc)
    user.website_stats(date(2026, 1, 1))
    assert before - timedelta(seconds=1) <= range_of(collector)[1] <= datetime.now(timezone.utc)


@with_each(
    ("arguments", "message"),
    [
        ({}, r"^Give start_at, and end_at unless it is now; or period"),
        ({"end_at": date(2026, 1, 1)}, r"^Give start_at"),
        ({"start_at": date(2026, 1, 1), "period": "7d"}, r"^Give start_at and end_at, or period, not both"),
        ({"period": "7"}, r"^period must be a number of m, h, d or w, such as '7d', or today, .* got '7'"),
        ({"period": "0d"}, r"^period must be"),
        ({"period": 7}, r"^period must be a string, got int"),
        ({"period": "7d", "timezone": "Mars/Olympus"}, r"^timezone must be the name of a time zone, .*'Mars"),
        ({"period": "7d", "timezone": "/etc/passwd"}, r"^timezone must be"),
        ({"period": "7d", "timezone": ""}, r"^timezone must be"),
        ({"period": "7d", "compare": "yesterday"}, r"^compare must be one of prev, yoy, got 'yesterday'"),
        ({"start_at": "2026-01-01"}, r"^start_at must be a datetime or a date"),
        ({"start_at": date(9999, 1, 1)}, r"^start_at must not be after end_at: 9999-01-01 is after now"),
    ],
)
def test_a_range_is_checked_at_the_call(
    user: umami.Client, collector: Collector, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        user.website_stats(**arguments)
    assert not collector.requests


# Filters.


class Site(umami.Client):
    """A client of a server of one generation."""

    server: OldUmami


@contextmanager
def site_of(version: str, override: Any = None, **settings: Any) -> Iterator[Site]:
    server = OldUmami(version, override)
    with served(server) as url, Site(url_base=url, website_id=SITE, retry_wait=0.02, **settings) as site:
        site.server = server
        site.login("admin", PASSWORD)
        server.seen.clear()
        yield site


PRICINGS = {"title": ["Pricing, plans", "pricing, PLANS"]}


LITERAL: list[tuple[dict[str, Any], int]] = [
    ({"path": ["/pricing", "/docs"]}, 4),
    ({"path": "/pricing", "hostname": filters.ne("docs.example.com")}, 2),
    ({"title": filters.any_of("Pricing, plans", "pricing, PLANS")}, 2),
    ({"title": filters.any_of(["Pricing"])}, 1),
    ({"title": filters.ne("Pricing, plans", "plans")}, 4),
    ({"referrer": filters.ne("t.co", "example")}, 4),
    ({"title": filters.contains("PRICING")}, 3),
    ({"title": filters.contains("pricing, p")}, 2),
    ({"title": filters.contains("_ricing")}, 0),
    ({"path": filters.contains("%")}, 0),
    ({"referrer": filters.contains("c.")}, 1),
    ({"path": filters.excludes("/PRI")}, 3),
    ({"path": filters.excludes("_")}, 6),
    ({"path": filters.matches("^/(docs|a)$")}, 2),
    ({"referrer": filters.eq("c.example")}, 1),
    ({"path": "/a", "title": "t.co\nsecond line"}, 1),
]
TRANSLATED: list[tuple[dict[str, Any], int]] = [
    ({"title": filters.contains("PRICING")}, 3),
    ({"path": filters.excludes("/PRI")}, 3),
    ({"referrer": filters.ne("t.co")}, 5),
    ({"referrer": filters.any_of("t.co")}, 1),
    ({"referrer": filters.contains("c.ex")}, 1),
]


@pytest.mark.parametrize("version", ["3.1", "3.2", "3.4", "3.4-clickhouse"])
def test_filters_are_what_they_say_since_3_1(version: str) -> None:
    with site_of(version) as site:
        for asked, views in LITERAL:
            assert site.website_stats(**DAY, **asked).pageviews == views, asked


@pytest.mark.parametrize("version", ["2.11", "2.15", "2.19", "3.0"])
def test_operators_are_translated_for_older_servers(version: str) -> None:
    with site_of(version, tells(version)) as site:
        for asked, views in TRANSLATED:
            assert site.website_stats(**DAY, **asked).pageviews == views, asked


def tells(version: str) -> Callable[[Seen], Answer | None]:
    """Answer `/api/version`, as some versions do."""
    return lambda seen: Answer(200, {"version": f"{version}.1"}) if seen.path == "/api/version" else None


@with_each(
    ("version", "asked", "message"),
    [
        ("2.6", {"path": filters.contains("x")}, r"^contains\(\), as in path=contains\('x'\), needs Umami 2"),
        ("2.19", {"path": ["/a", "/b"]}, r"^A list of values, as in path=any_of\('/a', '/b'\), needs"),
        ("2.19", {"path": ["/a", "/b"]}, r"3\.1 or later, and the server is Umami 2\.16 or later\.$"),
        ("2.19", {"path": filters.matches("x")}, r"^matches\(\), .* needs Umami 3\.1"),
        ("2.19", {"path": filters.ne("~x")}, r"^path=ne\('~x'\) cannot be used .* Umami 2 reads a leading ~"),
        ("2.19", {"utm_source": "x"}, r"^The filter utm_source needs Umami 3\.1"),
        ("2.19", {"segment": SITE}, r"^The filter segment needs Umami 2\.19 .* server_version='2\.19'\.$"),
        ("2.15", {"language": "de"}, r"^The filter language needs Umami 2\.16 .* server is Umami 2\.15\.$"),
        ("3.0", {"path": ["/a", "/b"]}, r"^A list of values, .* the server is Umami 3\.0\.$"),
        ("3.0", {"distinct_id": "5"}, r"^The filter distinct_id needs Umami 3\.1"),
        ("3.1", {"title": filters.contains("a\nb")}, r"^title=contains\('a\\nb'\) cannot be used"),
        ("3.0", {"compare": "yoy"}, r'^compare="yoy" needs Umami 3\.1'),
    ],
)  # fmt: skip
def test_what_a_server_cannot_filter_by_is_refused_with_the_reason(
    version: str, asked: dict[str, Any], message: str
) -> None:
    with site_of(version, tells(version)) as site:
        with pytest.raises(UnsupportedError, match=message):
            site.website_stats(**DAY, **asked)
        assert not any(seen.path.endswith("/stats") and "startAt" in seen.query for seen in site.server.seen)


def test_the_setting_server_version_is_believed() -> None:
    with site_of("2.19", server_version="2.19") as site:
        site.website_stats(**DAY, segment=SITE, tag="a", path=filters.contains("x_"))
        (seen,) = site.server.seen
        assert (seen.query["segment"], seen.query["tag"], seen.query["url"]) == (SITE, "a", r"~x\_")
        with pytest.raises(UnsupportedError, match=r"event_stats\(\) needs Umami 3\.1 .* is Umami 2\.19\.$"):
            site.event_stats(**DAY)


@with_each("value", ["3", "new", "3.1;"])
def test_a_server_version_is_checked(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"server_version must be a version such as '2\.19'"):
        umami.Client(server_version=value)


def test_every_filter_goes_by_umamis_name() -> None:
    given: dict[str, Any] = {
        name: f"x-{name}"
        for name in (
            *("referrer", "title", "query", "event", "os", "browser", "device", "country", "region", "city"),
            *("path", "hostname", "language", "tag", "distinct_id", "utm_source", "utm_medium"),
            *("utm_campaign", "utm_content", "utm_term", "segment", "cohort"),
        )
    }
    with site_of("3.1") as site:
        site.website_stats(**DAY, **given, event_type=2, exclude_bounce=True, match="any")
        query = site.server.seen[-1].query
    names = {
        "distinct_id": "distinctId",
        **{name: "utm" + name[4:].title() for name in given if "utm_" in name},
    }
    assert {names.get(name, name): value for name, value in given.items()}.items() <= query.items()
    assert (query["url"], query["host"]) == (query["path"], query["hostname"])
    assert (query["eventType"], query["excludeBounce"], query["match"]) == ("2", "true", "any")


def test_two_conditions_for_one_filter_are_numbered() -> None:
    with site_of("3.1") as site:
        site.website_stats(**DAY, title=[filters.contains("a"), filters.excludes("b")])
        query = site.server.seen[-1].query
    assert (query["title"], query["title1"]) == ("c.a", "dnc.b")


@with_each(
    ("asked", "message"),
    [
        ({"pth": "/a"}, r"^pth is not a filter\. The filters are: browser, city, "),
        ({"path": 5}, r"^path must be a string"),
        ({"path": []}, r"^path must have at least one value"),
        ({"url": "/a", "path": "/a"}, r"^Give url or path, not both"),
        ({"event_type": "2"}, r"^event_type must be a positive number, got '2'"),
        ({"exclude_bounce": 1}, r"^exclude_bounce must be True or False"),
        ({"match": "some"}, r"^match must be 'all' or 'any', got 'some'"),
        ({"segment": ["a"]}, r"^segment must be a string"),
    ],
)
def test_a_filter_is_checked_at_the_call(asked: dict[str, Any], message: str) -> None:
    with umami.Client(url_base="http://127.0.0.1:9", website_id=SITE) as client:
        client.set_token("t")
        with pytest.raises(ValidationError, match=message):
            client.website_stats(period="7d", **asked)


@with_each("make", [filters.contains, filters.excludes, filters.matches])
def test_an_operator_wants_a_text(make: Callable[..., Any]) -> None:
    for value in ("", 5):
        with pytest.raises(ValidationError, match=f"^{make.__name__} must "):
            make(value)
    with pytest.raises(ValidationError, match=r"^any_of must have at least one value"):
        filters.any_of([])


# Errors.


def test_an_error_has_the_servers_code_and_words(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    collector.revoke_tokens()
    with pytest.raises(ResponseStatusError) as caught:
        call(user.website_stats, period="7d")
    error = caught.value
    assert isinstance(error, httpx.HTTPStatusError)
    assert (error.code, error.message, error.hint) == ("unauthorized", "Unauthorized", None)
    assert error.response.status_code == 401
    assert type(error).__module__ == "umami.errors"


def test_an_empty_500_says_what_to_check() -> None:
    def crash(seen: Seen) -> Answer | None:
        return Answer(500, b"", "text/plain") if seen.path.endswith("/stats") else None

    with site_of("3.1", crash) as site:
        with pytest.raises(ResponseStatusError) as caught:
            site.website_stats(**DAY, path=filters.matches("("), country=["DE", "AT"])
        assert len([seen for seen in site.server.seen if seen.path.endswith("/stats")]) == 1
    error = caught.value
    assert (error.code, error.message) == (None, None)
    assert error.hint == (
        "Umami could not run the query with the filters country=any_of('DE', 'AT'), path=matches('('): "
        "check their values."
    )


# Retries.


@with_each("status", [429, 502, 503, 504])
def test_a_status_that_passes_is_waited_out(
    user: umami.Client, collector: Collector, call: Call, status: int
) -> None:
    collector.fail(status, path="/api/websites/*", times=2)
    assert call(user.active_users) == 0
    assert len(collector.requests) == 3


def test_a_lost_connection_is_made_anew(user: umami.Client, collector: Collector, call: Call) -> None:
    collector.fail(path="/api/websites/*", times=2, cut="after")
    assert call(user.active_users) == 0
    assert len(collector.requests) == 3


def test_a_request_names_the_website_that_is_set(
    user: umami.Client, collector: Collector, call: Call
) -> None:
    assert call(user.request, "GET", "/websites/{website_id}/active") == {"visitors": 0}
    assert collector.requests[-1].path == f"/api/websites/{SITE}/active"
    user.set_website_id(None)
    with pytest.raises(ValidationError, match="website_id"):
        call(user.request, "GET", "/websites/{website_id}/active")


def test_a_post_is_not_repeated(user: umami.Client, collector: Collector, call: Call) -> None:
    collector.fail(503, path="/api/websites", times=None)
    with pytest.raises(ResponseStatusError, match="503"):
        call(user.request, "POST", "/websites", json={"name": "a", "domain": "a.example"})
    assert len(collector.requests) == 1


def test_retries_end_with_query_timeout(user: umami.Client, collector: Collector, call: Call) -> None:
    user.configure(query_timeout=0.3)
    collector.fail(503, path="/api/websites/*", times=None)
    started = monotonic()
    with pytest.raises(ResponseStatusError, match="503"):
        call(user.active_users)
    assert monotonic() - started < 10
    assert len(collector.requests) > 1


def test_a_retry_that_query_timeout_cuts_short_leaves_the_earlier_error(
    user: umami.Client, collector: Collector
) -> None:
    user.configure(query_timeout=1, retry_wait=0.01)
    collector.fail(503, path="/api/websites/*")
    collector.fail(freeze=True, path="/api/websites/*")
    with pytest.raises(ResponseStatusError, match="503"):
        user.active_users()
    assert len(collector.requests) == 2


def test_a_retry_after_that_is_too_long_is_an_error_at_once(user: umami.Client, collector: Collector) -> None:
    user.configure(query_timeout=5)
    collector.fail(429, path="/api/websites/*", times=None, headers={"Retry-After": "60"})
    with pytest.raises(ResponseStatusError, match="429"):
        user.active_users()
    assert len(collector.requests) == 1


def test_retry_limit_bounds_the_retries_of_a_query(user: umami.Client, collector: Collector) -> None:
    user.configure(retry_limit=2)
    collector.fail(502, path="/api/websites/*", times=None)
    with pytest.raises(ResponseStatusError, match="502"):
        user.active_users()
    assert len(collector.requests) == 3


def test_a_server_that_was_never_reached_is_an_error_at_once(call: Call) -> None:
    with umami.Client(url_base="http://127.0.0.1:9", website_id=SITE, query_timeout=60) as client:
        client.set_token("t")
        started = monotonic()
        with pytest.raises(httpx.ConnectError):
            call(client.active_users)
        assert monotonic() - started < 30


@pytest.mark.parametrize("function", ["heartbeat", "verify_token"])
def test_what_asks_whether_the_server_is_there_asks_once(
    user: umami.Client, collector: Collector, function: str
) -> None:
    collector.fail(503, path="/api/*", times=None)
    assert getattr(user, function)() is False
    assert len(collector.requests) == 1


def test_calls_are_paced() -> None:
    pace = Pace(3, 100)
    assert [pace.wait() for _ in range(3)] == [0, 0, 0]
    assert [round(pace.wait()) for _ in range(4)] == [100, 100, 100, 200]


# Logging in again.


def test_a_remembered_account_logs_in_again_once(
    client: umami.Client, collector: Collector, call: Call
) -> None:
    call(client.login, "admin", PASSWORD, remember=True)
    collector.revoke_tokens()
    collector.clear()
    assert call(client.active_users) == 0
    paths = [request.path.rpartition("/")[2] for request in collector.requests]
    assert paths == ["active", "login", "active"]
    assert call(client.active_users) == 0
    assert len(collector.requests) == 4


def test_a_token_that_is_refused_again_raises(client: umami.Client, collector: Collector) -> None:
    client.login("admin", PASSWORD, remember=True)
    collector.clear()
    collector.fail(401, path="/api/websites/*", times=None)
    with pytest.raises(ResponseStatusError, match="401"):
        client.active_users()
    assert len(collector.requests) == 3


@pytest.mark.parametrize("forget", ["logout", "set_token", "login", "another server"])
def test_an_account_is_forgotten(client: umami.Client, collector: Collector, forget: str) -> None:
    client.login("admin", PASSWORD, remember=True)
    if forget == "logout":
        client.logout()
        client.set_token("an-0ld-token")
    elif forget == "set_token":
        client.set_token("an-0ld-token")
    elif forget == "login":
        client.login("admin", PASSWORD)
        collector.revoke_tokens()
    else:
        client.configure(url_base=collector.url.replace("127.0.0.1", "localhost"))
        client.set_token("an-0ld-token")
    collector.clear()
    with pytest.raises(ResponseStatusError, match="401"):
        client.active_users()
    assert [request.path.rpartition("/")[2] for request in collector.requests] == ["active"]


def test_no_password_is_kept_where_it_could_be_seen(client: umami.Client) -> None:
    client.login("admin", PASSWORD, remember=True)
    assert PASSWORD not in repr(client)
    assert PASSWORD.encode() not in pickle.dumps(umami.Client(**client._state.code))
    assert PASSWORD not in json.dumps(client.queue_stats().model_dump())

"""Reports: asked of the collector where it has them, else read from answers of a real server."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, SITE, slow
from old_umami import NEXT_404, Answer, OldUmami, Seen, served

import umami
from umami import filters
from umami.collector import Collector
from umami.errors import UnsupportedError, ValidationError
from umami.models import Table

Call = Callable[..., Any]
NOW = datetime.now(timezone.utc)
RANGE: dict[str, Any] = {
    "start_at": NOW - timedelta(days=1),
    "end_at": NOW + timedelta(days=1),
    "timezone": "UTC",
}


@pytest.fixture(scope="module", params=["3.1", *slow("3.0", "3.4")])
def visited(request: pytest.FixtureRequest) -> Iterator[umami.Client]:
    """A client of a website with three visitors, of whom two see the prices, and one pays."""
    with (
        Collector(umami=request.param, password=PASSWORD) as collector,
        umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client,
    ):
        start = NOW - timedelta(minutes=30)
        for number in range(3):
            who = {"distinct_id": f"v{number}", "ip_address": f"203.0.113.{number + 1}"}
            client.new_page_view("Home", "/?utm_source=mail", timestamp=start, **who)
            if number < 2:
                client.new_page_view("Prices", "/prices", timestamp=start + timedelta(minutes=1), **who)
            if not number:
                at = start + timedelta(minutes=2)
                client.new_revenue_event(20, "EUR", event_name="pay", url="/prices", timestamp=at, **who)
        assert client.flush(DEADLINE)
        client.login("admin", PASSWORD)
        yield client


def test_a_goal_counts_who_reached_it(
    visited: umami.Client, call: Call, request: pytest.FixtureRequest
) -> None:
    goal = call(visited.goal, filters.event("pay"), **RANGE)
    is_3_0 = request.node.callspec.params["visited"] == "3.0"  # it counts only those who had any event
    assert (goal.num, goal.total) == (1, 1 if is_3_0 else 3)


def test_retention_begins_with_the_day_itself(visited: umami.Client, call: Call) -> None:
    rows = call(visited.retention, **RANGE)
    assert sum(row.visitors for row in rows if row.day == 0) >= 3


def test_campaigns_are_counted(visited: umami.Client, call: Call) -> None:
    assert [(row.utm, row.views) for row in call(visited.utm, **RANGE).utm_source] == [("mail", 3)]


def test_a_breakdown_has_the_fields_that_were_asked_for(visited: umami.Client, call: Call) -> None:
    table = call(visited.breakdown, ["path", "browser"], **RANGE)
    assert {(row.path, row.browser, row.views) for row in table} >= {
        ("/", "chrome", 3),
        ("/prices", "chrome", 2),
    }
    assert {"path", "browser", "views"} <= table.to_dicts()[0].keys()


def test_web_vitals_are_of_3_1(visited: umami.Client, call: Call) -> None:
    try:
        vitals = call(visited.web_vitals, **RANGE)
    except UnsupportedError as error:
        assert str(error).startswith("web_vitals() needs Umami 3.1 or later")  # noqa: PT017
        return
    assert vitals.summary.count == 0
    assert vitals.summary.lcp.p75 == 0


def test_a_filter_narrows_a_report(visited: umami.Client) -> None:
    assert visited.utm(**RANGE, path="/nowhere").utm_source == []


# What a real Umami 3.1.0 answered to the reports that the collector does not imitate.
RECORDED: dict[str, Any] = {
    "funnel": [
        {"type": "path", "value": "/", "visitors": 1018, "previous": 0, "dropped": 0, "dropoff": None,
         "remaining": 1},
        {"type": "event", "value": "buy", "visitors": 0, "previous": 1018, "dropped": 1018, "dropoff": 1,
         "remaining": 0},
    ],
    "journey": [{"items": ["/a", "buy", None, None], "count": 2}, {"items": ["/b", None, None], "count": 1}],
    "attribution": {
        "referrer": [{"name": "r.example", "value": 20}], "paidAds": [],
        "utm_source": [{"name": "mail", "value": 20}], "utm_medium": [], "utm_campaign": [],
        "utm_content": [], "utm_term": [], "total": {"pageviews": 20, "visitors": 20, "visits": 20},
    },
    "revenue": {
        "chart": [{"x": "buy", "t": "2026-11-28 00:00:00", "y": "3", "count": 1},
                  {"x": "pay", "t": "2026-11-28 00:00:00", "y": "5", "count": 1}],
        "total": {
            "sum": "16", "count": 4, "unique_count": 2, "total_sessions": 10545, "average": 4,
            "arpu": 0.0015173067804646753,
            "comparison": {"sum": None, "count": 0, "unique_count": 0, "total_sessions": 0, "average": 0,
                           "arpu": 0},
        },
        "country": [{"name": None, "value": "16"}],
        "region": [{"country": None, "name": None, "value": "16"}],
        "referrer": [{"name": None, "value": "40"}], "channel": [],
    },
    "performance": {
        "chart": [{"t": "2026-11-28 00:00:00", "p50": 1.5, "p75": 1.5, "p95": 1.5}],
        "summary": {"lcp": {"p50": 1.5, "p75": 1.5, "p95": 1.5},
                    **{name: {"p50": 0, "p75": 0, "p95": 0} for name in ("inp", "cls", "fcp", "ttfb")},
                    "count": 4},
        "pages": [{"name": "/w", "p50": 1.5, "p75": 1.5, "p95": 1.5, "count": 4}],
        "pageTitles": [{"name": "t", "p50": 1.5, "p75": 1.5, "p95": 1.5, "count": 4}],
        "devices": [], "browsers": [],
    },
}  # fmt: skip


@pytest.fixture
def recorded() -> Iterator[tuple[umami.Client, list[Seen]]]:
    """A client of a server that gives the recorded answers, and what it was asked."""

    def answer(seen: Seen) -> Answer | None:
        kind = seen.path.removeprefix("/api/reports/")
        return Answer(200, RECORDED[kind]) if kind in RECORDED else None

    server = OldUmami("3.1", answer)
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        yield client, server.seen


Recorded = tuple[umami.Client, list[Seen]]


def test_a_funnel_is_read(recorded: Recorded, call: Call) -> None:
    client, seen = recorded
    steps = [filters.path("/"), filters.event("buy")]
    funnel = call(client.funnel, steps, **RANGE, window=timedelta(minutes=90), country=["DE", "AT"])
    assert isinstance(funnel, Table)
    assert [(row.visitors, row.dropoff) for row in funnel] == [(1018, None), (0, 1)]
    body = seen[-1].body
    assert (body["websiteId"], body["type"], body["filters"]) == (SITE, "funnel", {"country": "eq.DE,AT"})
    parameters = body["parameters"]
    assert parameters["steps"] == [{"type": "path", "value": "/"}, {"type": "event", "value": "buy"}]
    assert parameters["window"] == 90
    assert datetime.fromisoformat(parameters["startDate"].replace("Z", "+00:00")) <= RANGE["start_at"]


def test_journeys_are_read(recorded: Recorded, call: Call) -> None:
    client, seen = recorded
    journeys = call(client.journeys, **RANGE, steps=4, start_step="/a")
    assert [(row.items[1], row.count) for row in journeys] == [("buy", 2), (None, 1)]
    assert seen[-1].body["parameters"].items() >= {"steps": 4, "startStep": "/a"}.items()


def test_an_attribution_is_read(recorded: Recorded, call: Call) -> None:
    client, seen = recorded
    found = call(client.attribution, filters.event("buy"), **RANGE, model="last-click")
    assert (found.utm_source[0].name, found.utm_source[0].value, found.total.visits) == ("mail", 20, 20)
    asked = {"model": "last-click", "type": "event", "step": "buy"}
    assert seen[-1].body["parameters"].items() >= asked.items()
    with pytest.raises(UnsupportedError, match="counts visitors anyway"):
        client.attribution(filters.event("buy"), **RANGE, currency="EUR")
    client.configure(server_version="3.0")
    call(client.attribution, filters.event("buy"), **RANGE, currency="EUR")
    assert seen[-1].body["parameters"]["currency"] == "EUR"


def test_revenue_is_read(recorded: Recorded, call: Call) -> None:
    client, _ = recorded
    revenue = call(client.revenue, **RANGE, currency="EUR")
    assert (revenue.total.sum, revenue.total.average, revenue.total.comparison.sum) == (16, 4, 0)
    assert [(point.x, point.y) for point in revenue.chart] == [("buy", 3), ("pay", 5)]
    assert (revenue.country[0].name, revenue.country[0].value) == ("", 16)


def test_web_vitals_are_read(recorded: Recorded, call: Call) -> None:
    client, seen = recorded
    vitals = call(client.web_vitals, **RANGE, metric="lcp", unit="hour")
    assert (vitals.summary.lcp.p75, vitals.pages[0].name, vitals.chart[0].p95) == (1.5, "/w", 1.5)
    assert seen[-1].body["parameters"].items() >= {"metric": "lcp", "unit": "hour"}.items()


# By Umami's OpenAPI document of 3.3.1: the route of each report, or of its parts.
BY_GET: dict[str, Any] = {
    "/funnels/stats": RECORDED["funnel"],
    "/journeys": RECORDED["journey"],
    "/attribution": RECORDED["attribution"],
    "/retention": [{"date": "2026-11-28", "day": 0, "visitors": 2, "returnVisitors": 2, "percentage": 100}],
    "/goals/stats": {"num": 1, "total": 3},
    "/breakdown": [
        {"views": 1, "visitors": 1, "visits": 1, "bounces": 1, "totaltime": 0, "path": "/a", "country": "DE"}
    ],
    **{f"/utm/metrics utm_{name}": [{"utm": name, "views": 1}]
       for name in ("source", "medium", "campaign", "content", "term")},
    "/revenue/chart": {"chart": RECORDED["revenue"]["chart"]},
    "/revenue/stats": RECORDED["revenue"]["total"],
    **{f"/revenue/metrics {name}": RECORDED["revenue"][name]
       for name in ("country", "region", "referrer", "channel")},
    "/performance/chart": {"chart": RECORDED["performance"]["chart"]},
    "/performance/stats": RECORDED["performance"]["summary"],
    "/performance/metrics path": RECORDED["performance"]["pages"],
    "/performance/metrics title": RECORDED["performance"]["pageTitles"],
    "/performance/metrics device": [], "/performance/metrics browser": [],
}  # fmt: skip


def test_reports_are_asked_for_by_get_where_post_is_gone(recorded: Recorded, call: Call) -> None:
    def answer(seen: Seen) -> Answer | None:
        route = seen.path.removeprefix(f"/api/websites/{SITE}")
        for key in (route, f"{route} {seen.query.get('type')}"):
            if key in BY_GET:
                return Answer(200, BY_GET[key])
        return NEXT_404 if seen.path.startswith("/api/reports/") else None

    server, by_post = OldUmami("3.4", answer), recorded[0]
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        steps = [filters.path("/"), filters.event("buy")]
        for function, args, kwargs in (
            ("funnel", (steps,), {}),
            ("journeys", (), {"steps": 4}),
            ("attribution", (steps[1],), {}),
            ("revenue", (), {"currency": "EUR"}),
            ("web_vitals", (), {}),
        ):
            expected = getattr(by_post, function)(*args, **RANGE, **kwargs)
            assert call(getattr(client, function), *args, **RANGE, **kwargs) == expected
        assert client.retention(**RANGE)[0].percentage == 100
        assert client.goal(steps[1], **RANGE, country="DE").num == 1
        start = str(int(RANGE["start_at"].timestamp() * 1000))
        asked = {"startAt": start, "type": "event", "value": "buy", "country": "DE"}
        assert server.seen[-1].query.items() >= asked.items()
        assert client.breakdown(["path", "country"], **RANGE)[0].model_extra == {
            "path": "/a",
            "country": "DE",
        }
        assert server.seen[-1].query["fields"] == '["path","country"]'
        utm = client.utm(**RANGE)
        assert [utm.utm_medium[0].utm, utm.utm_term[0].utm] == ["medium", "term"]


def test_umami_2_has_no_such_reports(make_client: Callable[..., umami.Client]) -> None:
    with Collector(umami="2.19", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        for ask in (
            lambda: client.goal(filters.event("pay"), **RANGE),
            lambda: client.retention(**RANGE),
            lambda: client.breakdown(["path"], **RANGE),
        ):
            with pytest.raises(UnsupportedError, match=r"^\w+\(\) needs Umami 3\.0 or later"):
                ask()


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("funnel", {"steps": [filters.path("/")]}, r"^steps must be two to eight, got 1"),
        ("funnel", {"steps": ["/", "/a"]}, r"^A step must be umami\.filters\.path"),
        ("funnel", {"steps": [filters.path("/")] * 2, "window": 60}, r"^window must be a timedelta"),
        ("journeys", {"steps": 8}, r"^steps must be a whole number from 2 to 7, got 8"),
        ("funnel", {"steps": 5}, r"^steps must be a list, got 5"),
        ("journeys", {"start_step": 17}, r"^start_step must be a string"),
        ("goal", {"step": "/"}, r"^A step must be"),
        (
            "attribution",
            {"step": filters.event("a"), "model": "linear"},
            r"^model must be one of first-click",
        ),
        ("breakdown", {"fields": "path"}, r"^fields must be a list, got 'path'"),
        ("breakdown", {"fields": []}, r"^fields must have at least one"),
        ("breakdown", {"fields": ["screen"]}, r"^fields must be one of path"),
        ("revenue", {"currency": ""}, r"^Currency must be a non-empty string"),
        ("web_vitals", {"metric": "ttl"}, r"^metric must be one of lcp"),
    ],
)
def test_an_argument_is_checked_at_the_call(function: str, arguments: dict[str, Any], message: str) -> None:
    with umami.Client(url_base="http://127.0.0.1:9", website_id=SITE) as client:
        client.set_token("t")
        with pytest.raises(ValidationError, match=message):
            getattr(client, function)(**arguments, period="7d")

"""The collector's figures and rows, over one small data set. The numbers were compared with real servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from collector_helpers import SITE, item
from conftest import CHROME, with_each

from umami.collector import Collector

DAY = 1_767_312_000 - 1_767_312_000 % 86_400
"""2026-01-02, 00:00 UTC."""

RANGE = {"startAt": DAY * 1000, "endAt": (DAY + 86_400) * 1000}
VERSIONS = ("3.1", "3.0.1", "2.19")
DATA = {"plan": "pro", "seats": 3, "deep": {"ok": True}, "at": "2026-01-05T10:20:30.000Z"}
Ask = Callable[..., httpx.Response]
Report = Callable[..., httpx.Response]


def _event(visitor: str, minute: int, **payload: object) -> dict[str, Any]:
    return item(id=visitor, timestamp=DAY + minute * 60, **payload)


EVENTS = [
    _event("ann", 0, url="/", title="Home", referrer="https://www.google.com/search", language="de-DE"),
    _event("ann", 5, url="/pricing?gclid=1", title="Pricing"),
    _event("ann", 6, url="/pricing", name="signup", data=DATA),
    _event("ann", 7, url="/pricing", name="signup", data={"plan": "free", "seats": 1.5}),
    _event("bob", 1, url="/pricing", title="Pricing", hostname="www.example.com", tag="beta"),
    _event("bob", 2, url="/pricing", name="leave", data={"plan": "pro", "empty": {}}),
    _event("cid", 70, url="/?utm_source=mail&utm_medium=email", language="en-US"),
    _event("ann", 23 * 60 + 30, url="/", referrer="https://t.co/x"),
    item(type="identify", id="ann", timestamp=DAY, data={"plan": "pro", "seats": 2}),
    item(type="identify", id="bob", timestamp=DAY, data={"plan": "free"}),
    item(type="identify", id="bob", timestamp=DAY, data={"plan": "pro"}),
]


@pytest.fixture(scope="module")
def browsers() -> Iterator[dict[str, httpx.Client]]:
    """Browsers in which the admin is logged in, by the version of the server. The servers have the events."""
    with ExitStack() as stack:
        found: dict[str, httpx.Client] = {}
        for version in VERSIONS:
            collector = stack.enter_context(Collector(umami=version))
            http = stack.enter_context(httpx.Client(base_url=collector.url, headers={"User-Agent": CHROME}))
            http.post("/api/batch", json=EVENTS).raise_for_status()
            login = http.post("/api/auth/login", json={"username": "admin", "password": "umami"}).json()
            http.headers["Authorization"] = f"Bearer {login['token']}"
            found[version] = http
        yield found


@pytest.fixture(scope="module")
def asks(browsers: dict[str, httpx.Client]) -> dict[str, Ask]:
    """Asks for a route of the website, by the version of the server."""

    def of(http: httpx.Client) -> Ask:
        def ask(path: str, **query: object) -> httpx.Response:
            params = httpx.QueryParams({**RANGE, **query})
            return http.get(f"/api/websites/{SITE}/{path}", params=params)

        return ask

    return {version: of(http) for version, http in browsers.items()}


@pytest.fixture
def ask(asks: dict[str, Ask]) -> Ask:
    return asks["3.1"]


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_series_follow_the_time_zone(asks: dict[str, Ask], version: str) -> None:
    reply = asks[version](
        "pageviews", unit="day", timezone="Europe/Berlin", endAt=RANGE["endAt"] + 30 * 86_400_000
    )
    assert reply.json() == {
        "pageviews": [{"x": "2026-01-02 00:00:00", "y": 4}, {"x": "2026-01-03 00:00:00", "y": 1}],
        "sessions": [{"x": "2026-01-02 00:00:00", "y": 3}, {"x": "2026-01-03 00:00:00", "y": 1}],
    }


def test_a_series_in_utc_has_the_finest_unit_that_suits(ask: Ask) -> None:
    series = ask("pageviews", unit="minute").json()["pageviews"]
    assert series == [
        {"x": "2026-01-02T00:00:00Z", "y": 3},
        {"x": "2026-01-02T01:00:00Z", "y": 1},
        {"x": "2026-01-02T23:00:00Z", "y": 1},
    ]
    minutes = ask("pageviews", unit="minute", endAt=(DAY + 3600) * 1000).json()["pageviews"]
    assert [point["x"][11:16] for point in minutes] == ["00:00", "00:01", "00:05"]


def test_series_are_compared(ask: Ask) -> None:
    reply = ask(
        "pageviews",
        unit="day",
        compare="prev",
        startAt=(DAY + 86_400) * 1000,
        endAt=(DAY + 2 * 86_400) * 1000,
    )
    assert reply.json()["pageviews"] == []
    assert reply.json()["compare"] == {
        "pageviews": [{"x": "2026-01-02T00:00:00Z", "y": 5}],
        "sessions": [{"x": "2026-01-02T00:00:00Z", "y": 3}],
        "startDate": "2026-01-02T00:00:00.000Z",
        "endDate": "2026-01-03T00:00:00.000Z",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_event_series(asks: dict[str, Ask], version: str) -> None:
    reply = asks[version]("events/series", unit="day", timezone="UTC", endAt=RANGE["endAt"] + 30 * 86_400_000)
    assert reply.json() == [
        {"x": "leave", "t": "2026-01-02 00:00:00", "y": 1},
        {"x": "signup", "t": "2026-01-02 00:00:00", "y": 2},
    ]


def test_what_older_versions_answer_otherwise(asks: dict[str, Ask]) -> None:
    series = {"unit": "day", "timezone": "UTC", "eventType": 1}
    assert len(asks["3.0.1"]("events/series", **series).json()) == 2  # it sets the type itself
    assert asks["3.1"]("events/series", **series).json() == []
    assert asks["2.19"]("values", type="screen").status_code == 500
    assert asks["2.19"](f"sessions/{SITE}").status_code == 500
    reply = asks["2.19"]("events", page=1.5)
    assert (reply.status_code, reply.json()) == (400, {"error": ["page: Expected integer, received float"]})


@pytest.mark.parametrize(("path", "needed"), [("events/series", "timezone"), ("sessions/weekly", "timezone")])
def test_a_needed_parameter_is_named(ask: Ask, path: str, needed: str) -> None:
    reply = ask(path)
    assert reply.status_code == 400
    assert reply.json()["error"]["properties"][needed]["errors"] == [
        "Invalid input: expected string, received undefined"
    ]


def test_weekly_sessions(ask: Ask) -> None:
    days = ask("sessions/weekly", timezone="America/New_York").json()
    assert [len(day) for day in days] == [24] * 7
    assert {
        (day, hour): count for day, row in enumerate(days) for hour, count in enumerate(row) if count
    } == {
        (4, 19): 2,  # Thursday evening
        (4, 20): 1,
        (5, 18): 1,
    }


@with_each(
    ("kind", "rows"),
    [
        ("path", {"/": (3, 2, 3), "/pricing": (2, 2, 2)}),
        ("referrer", {"google.com": (1, 1, 1), "t.co": (1, 1, 1)}),
        ("domain", {"google.com": (1, 1, 1), "twitter.com": (1, 1, 1)}),
        ("entry", {"/": (3, 2, 3), "/pricing": (1, 1, 1)}),
        ("language", {"de": (3, 1, 2), "en": (1, 1, 1)}),
        ("event", {"signup": (2, 1, 1), "leave": (1, 1, 1)}),
        (
            "channel",
            {
                "paidAds": (1, 1, 1),
                "email": (1, 1, 1),
                "organicSearch": (1, 1, 1),
                "organicSocial": (1, 1, 1),
            },
        ),
    ],
)
def test_expanded_metrics(ask: Ask, kind: str, rows: dict[str, tuple[int, int, int]]) -> None:
    found = ask("metrics/expanded", type=kind).json()
    assert {row["name"]: (int(row["pageviews"]), row["visitors"], row["visits"]) for row in found} == rows


def test_metrics_by_channel(asks: dict[str, Ask]) -> None:
    new = {row["x"]: row["y"] for row in asks["3.1"]("metrics", type="channel").json()}
    assert new == {"paidAds": 1, "email": 1, "organicSearch": 1, "organicSocial": 1}
    old = {row["x"]: row["y"] for row in asks["2.19"]("metrics", type="channel").json() if row["y"]}
    assert old == {"paidAds": 1, "email": 1, "organicSearch": 1, "organicSocial": 1, "direct": 2}


def test_metrics_of_older_versions_count_what_is_empty(asks: dict[str, Ask]) -> None:
    assert asks["3.1"]("metrics", type="tag").json() == [{"x": "beta", "y": 1}]
    assert asks["3.0.1"]("metrics", type="tag").json() == [{"x": None, "y": 2}, {"x": "beta", "y": 1}]
    assert asks["2.19"]("metrics", type="tag").json() == [{"x": None, "y": 2}, {"x": "beta", "y": 1}]


def test_values(ask: Ask) -> None:
    assert ask("values", type="event").json() == [
        {"value": None, "count": 5},
        {"value": "signup", "count": 2},
        {"value": "leave", "count": 1},
    ]
    assert ask("values", type="path", search="PRIC").json() == [{"value": "/pricing", "count": 5}]
    assert ask("values", type="screen").status_code == 400
    assert ask("values", type="path", search="%").status_code == 500


def test_events_are_paged(ask: Ask) -> None:
    pages = [ask("events", page=page, pageSize=3).json() for page in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [3, 3, 2, 0]
    assert {key: pages[1][key] for key in ("count", "page", "pageSize")} == {
        "count": 8,
        "page": 2,
        "pageSize": 3,
    }
    events = [event for page in pages for event in page["data"]]
    assert [event["createdAt"][11:16] for event in events] == [
        *("23:30", "01:10", "00:07", "00:06", "00:05", "00:02", "00:01", "00:00"),
    ]
    assert [event["hasData"] for event in events] == [False, False, True, True, False, True, False, False]
    assert list(events[0]) == [
        *("id", "websiteId", "sessionId", "createdAt", "hostname", "urlPath", "urlQuery", "referrerPath"),
        *("referrerQuery", "referrerDomain", "country", "city", "device", "os", "browser", "pageTitle"),
        *("eventType", "eventName", "hasData"),
    ]


def test_events_are_searched(asks: dict[str, Ask]) -> None:
    counts = {
        (version, text): asks[version]("events", search=text).json()["count"]
        for version in VERSIONS
        for text in ("SIGNUP", "sign", "%sign%")
    }
    # Before 3.0, the search finds parts of a name.
    assert counts == {
        **{(version, text): 2 for version in VERSIONS for text in ("SIGNUP", "%sign%")},
        ("3.1", "sign"): 0,
        ("3.0.1", "sign"): 0,
        ("2.19", "sign"): 2,
    }


def test_new_events_are_in_the_next_page(browse: Callable[..., httpx.Client]) -> None:
    with Collector() as collector:
        http = browse(collector)
        login = http.post("/api/auth/login", json={"username": "admin", "password": "umami"}).json()
        headers = {"Authorization": f"Bearer {login['token']}"}
        for count in (1, 2):
            http.post("/api/batch", json=[_event("ann", count, name="signup", data={"n": count})])
            for path in ("events", "event-data"):
                reply = http.get(f"/api/websites/{SITE}/{path}", params=RANGE, headers=headers).json()
                assert (reply["count"], len(reply["data"])) == (count, count)
        collector.clear()
        reply = http.get(f"/api/websites/{SITE}/event-data", params=RANGE, headers=headers).json()
        assert (reply["count"], reply["data"]) == (0, [])


def test_sessions(asks: dict[str, Ask]) -> None:
    reply = asks["3.1"]("sessions", pageSize=2).json()
    assert (reply["count"], len(reply["data"])) == (4, 2)
    first = reply["data"][0]
    assert {name: first[name] for name in ("firstAt", "lastAt", "visits", "views", "events", "language")} == {
        "firstAt": "2026-01-02T00:00:00.000Z",
        "lastAt": "2026-01-02T23:30:00.000Z",
        "visits": 2,
        "views": 3,
        "events": 2,
        "language": "de-DE",
    }
    # Bob was seen on two host names. Umami 2.x has one row for him.
    assert asks["2.19"]("sessions").json()["count"] == 3


def test_a_session(ask: Ask) -> None:
    session_id = ask("sessions").json()["data"][0]["id"]
    session = ask(f"sessions/{session_id}").json()
    assert (session["distinctId"], session["visits"], session["views"], session["totaltime"]) == (
        "ann",
        2,
        "3",
        "420",
    )
    activity = ask(f"sessions/{session_id}/activity").json()
    assert [each["eventName"] for each in activity] == [None, "signup", "signup", None, None]
    properties = ask(f"sessions/{session_id}/properties").json()
    assert [(each["dataKey"], each["stringValue"], each["numberValue"]) for each in properties] == [
        ("plan", "pro", None),
        ("seats", "2", "2"),
    ]
    assert ask(f"sessions/{SITE}").json() == {}
    assert ask("sessions/x").status_code == 500


def test_the_data_of_sessions(ask: Ask) -> None:
    assert ask("session-data/properties").json() == [
        {"propertyName": "plan", "total": 2},
        {"propertyName": "seats", "total": 1},
    ]
    # The second identify of a visitor replaces the first.
    assert ask("session-data/values", propertyName="plan").json() == [{"value": "pro", "total": 2}]


def test_the_data_of_events(ask: Ask) -> None:
    reply = ask("event-data", pageSize=2).json()
    assert (reply["count"], len(reply["data"])) == (3, 2)
    event = reply["data"][1]
    assert [
        (each["dataKey"], each["dataType"], each["stringValue"]) for each in event["eventProperties"]
    ] == [
        ("plan", 1, "pro"),
        ("seats", 2, "3.0000"),
        ("deep.ok", 3, "true"),
        ("at", 4, "2026-01-05T10:20:30.000Z"),
    ]
    of_event = ask(f"event-data/{event['eventId']}").json()
    assert [each["dataKey"] for each in of_event] == ["plan", "seats", "deep.ok", "at"]
    assert ask("event-data/stats").json() == {"events": 3, "properties": 4, "records": "7"}
    assert ask("event-data/properties", event="leave").json() == [
        {"eventName": "leave", "propertyName": "plan", "total": 1}
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("plan", [{"value": "free", "total": 1}, {"value": "pro", "total": 1}]),
        ("seats", [{"value": "1.5000", "total": 1}, {"value": "3", "total": 1}]),
        ("at", [{"value": "2026-01-05T10:00:00Z", "total": 1}]),
    ],
)
def test_the_values_of_a_property(asks: dict[str, Ask], name: str, values: list[dict[str, Any]]) -> None:
    for version in VERSIONS:
        found = asks[version](
            "event-data/values", propertyName=name, event="signup", eventName="signup"
        ).json()
        if version == "2.19" and name == "at":
            assert found == [{"value": "2026-01-05 10:00:00", "total": 1}]
        else:
            assert sorted(found, key=lambda each: each["value"]) == values


@pytest.mark.parametrize(("version", "status"), [("3.1", 500), ("3.0.1", 500), ("2.19", 200)])
def test_the_properties_of_all_events_fail_since_3_0(asks: dict[str, Ask], version: str, status: int) -> None:
    assert asks[version]("event-data/events").status_code == status
    rows = asks[version]("event-data/events", event="leave").json()
    assert rows == [
        {"eventName": "leave", "propertyName": "plan", "dataType": 1, "propertyValue": "pro", "total": 1}
    ]


def test_totals(asks: dict[str, Ask]) -> None:
    figures = ("pageviews", "visitors", "visits", "countries", "events")
    totals = dict(zip(figures, (8, 3, 4, 0, 3), strict=True))
    first, last = "2026-01-02T00:00:00.000Z", "2026-01-02T23:30:00.000Z"
    for version in VERSIONS:
        reply = asks[version]("sessions/stats").json()
        assert {name: each["value"] for name, each in reply.items()} == totals
        assert list(asks[version]("daterange").json().values()) == [first, last]


@with_each(
    ("version", "path"),
    [
        ("2.19", "metrics/expanded"),
        ("2.19", "events/stats"),
        ("3.0.1", "events/stats"),
        ("3.0.1", "event-data"),
    ],
)
def test_a_route_that_came_later_is_not_found(asks: dict[str, Ask], version: str, path: str) -> None:
    assert asks[version](path, type="path").status_code == 404


@pytest.fixture
def report(browsers: dict[str, httpx.Client]) -> Report:
    """Asks for a report."""

    def post(kind: str, filters: dict[str, str] | None = None, **parameters: object) -> httpx.Response:
        period = {"startDate": "2026-01-02", "endDate": "2026-01-03T00:00:00Z"}
        body = {"websiteId": SITE, "type": kind, "filters": filters or {}}
        return browsers["3.1"].post(
            f"/api/reports/{kind}", json={**body, "parameters": {**period, **parameters}}
        )

    return post


@with_each(
    ("goal", "filters", "numbers"),
    [
        ({"type": "path", "value": "/pricing"}, {}, (2, 3)),
        ({"type": "path", "value": "/pri*"}, {}, (2, 3)),
        ({"type": "path", "value": "/PRI*"}, {}, (0, 3)),
        ({"type": "event", "value": "signup"}, {}, (1, 3)),
        ({"type": "path", "value": "/"}, {"language": "en-US"}, (1, 1)),
    ],
)
def test_goal(
    report: Report, goal: dict[str, str], filters: dict[str, str], numbers: tuple[int, int]
) -> None:
    assert report("goal", filters, **goal).json() == dict(zip(("num", "total"), numbers, strict=True))


def test_utm(report: Report) -> None:
    assert report("utm").json() == {
        "utm_source": [{"utm": "mail", "views": 1}],
        "utm_medium": [{"utm": "email", "views": 1}],
        "utm_campaign": [],
        "utm_term": [],
        "utm_content": [],
    }


def test_breakdown(report: Report) -> None:
    rows = report("breakdown", fields=["path", "language"]).json()
    assert rows[0] == {
        "views": "2",
        "visitors": 1,
        "visits": 2,
        "bounces": 2,
        "totaltime": "0",
        "path": "/",
        "language": "de-DE",
    }
    assert len(rows) == 4
    assert report("breakdown", fields=[]).status_code == 500
    assert report("breakdown", fields=["x"]).status_code == 400


def test_retention(report: Report) -> None:
    day = {"visitors": 3, "returnVisitors": 3, "percentage": 100}
    assert report("retention").json() == [{"date": "2026-01-02T00:00:00Z", "day": 0, **day}]
    days = [
        (row["date"], row["day"], row["visitors"], row["returnVisitors"])
        for row in report("retention", timezone="Europe/Berlin").json()
    ]
    assert days == [("2026-01-02 00:00:00", 0, 3, 3), ("2026-01-02 00:00:00", 1, 3, 1)]


def test_realtime(browse: Callable[..., httpx.Client]) -> None:
    with Collector() as collector:
        http = browse(collector)
        http.post("/api/batch", json=[item(id="ann", url="/a"), item(id="ann", url="/a", name="signup")])
        login = http.post("/api/auth/login", json={"username": "admin", "password": "umami"}).json()
        reply = http.get(
            f"/api/realtime/{SITE}", headers={"Authorization": f"Bearer {login['token']}"}
        ).json()
    assert sorted(each["__type"] for each in reply["events"]) == ["event", "pageview", "session"]
    assert reply["urls"] == {"/a": 2}
    assert reply["totals"] == {"views": 1, "visitors": 1, "events": 1, "countries": 0}

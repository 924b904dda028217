"""The collector's queries: figures, filters and errors, as measured on Umami 3.1.0."""

import uuid

import pytest
from collector_helpers import SITE, item
from conftest import PASSWORD, with_each

from umami.collector import Collector

HOUR = 1_767_312_000
"""A whole hour, in epoch seconds, within which the events below happen."""

RANGE = {"startAt": HOUR * 1000, "endAt": (HOUR + 3599) * 1000}


def event(visitor: str, second: int, url: str = "/a", **payload: object) -> dict:
    return item(id=visitor, timestamp=HOUR + second, url=url, **{"hostname": "www.example.com", **payload})


EVENTS = [
    event("ann", 0, referrer="https://google.com/", language="en-US"),
    event("ann", 60, "/b", referrer="https://www.example.com/a", language="en-US"),
    event("ann", 90, "/über", language="en-US"),
    event("bob", 10, referrer="https://t.co/x", language="EN-gb", tag="t.co"),
    event("bob", 20, "/50%25", referrer="/a", language="EN-gb"),
    event("bob", 30, name="signup", language="EN-gb"),
    event("cid", 5, "/b", referrer="https://s.example.org/", language="de-DE", screen="800x600"),
    event("dan", 7, hostname="example.com", referrer="https://example.com/b", language="de-AT"),
    event("eve", 8, "/a?q=1", language="fr"),
    event("eve", 9, name="s.x", tag="c.d", language="fr"),
    event("eve", 11, "/c", type="performance"),
]


@pytest.fixture
def umami():
    """The version that is asked."""
    return "3.1"


@pytest.fixture
def query(umami, browse):
    """Ask a collector that has the events above, and return the status and what it says."""
    with Collector(umami=umami, password=PASSWORD) as collector:
        yield asking(browse(collector), refused=int(umami < "3.1"))


def asking(http, refused):
    credentials = {"username": "admin", "password": PASSWORD}
    http.headers["Authorization"] = f"Bearer {http.post('/api/auth/login', json=credentials).json()['token']}"
    assert http.post("/api/batch", json=EVENTS).json()["errors"] == refused  # no performance before

    def ask(route: str, **parameters: object) -> tuple[int, object]:
        given = {name: value for name, value in {**RANGE, **parameters}.items() if value is not None}
        response = http.get(f"/api/websites/{SITE}/{route}", params=given)
        return response.status_code, response.json() if response.content else ""

    return ask


@with_each(
    ("filters", "figures"),
    [
        ({}, (8, 5, 5, 3, 100)),
        ({"path": "/a"}, (4, 4, 4, 4, 0)),
        ({"path": "neq./a"}, (4, 3, 3, 2, 30)),
        ({"path": "c.Ü"}, (1, 1, 1, 1, 0)),
        ({"path": "c.%"}, (8, 5, 5, 3, 100)),
        ({"path": "c.\\"}, (1, 1, 1, 1, 0)),
        ({"path": "dnc.b"}, (5, 4, 4, 3, 10)),
        ({"path": "re.^/(a|B)$"}, (6, 5, 5, 4, 60)),
        ({"path": "nre.^/a"}, (4, 3, 3, 2, 30)),
        ({"path": "/a,/b"}, (6, 5, 5, 4, 60)),
        ({"path": "eq./a"}, (4, 4, 4, 4, 0)),
        # The site's own host is no referrer, whatever the filter says.
        ({"referrer": "google.com"}, (1, 1, 1, 1, 0)),
        ({"referrer": "neq.google.com"}, (2, 2, 2, 2, 0)),
        ({"referrer": "dnc.google"}, (2, 2, 2, 2, 0)),
        ({"referrer": "example.com"}, (0, 0, 0, 0, 0)),
        ({"referrer": "eq.t.co"}, (1, 1, 1, 1, 0)),
        ({"path": "/b", "referrer": "google.com", "match": "any"}, (2, 2, 2, 2, 0)),
        ({"excludeBounce": "true"}, (5, 2, 2, 0, 100)),
        ({"excludeBounce": "true", "path": "/a"}, (2, 2, 2, 0, 0)),
        ({"excludeBounce": ""}, (8, 5, 5, 3, 100)),
        ({"path": "/b", "path1": "/a"}, (0, 0, 0, 0, 0)),
        ({"path": "/b", "path1": "/a", "match": "any"}, (6, 5, 5, 4, 60)),
        ({"eventType1": "1"}, (8, 5, 5, 3, 100)),
        ({"eventType1": "2", "path": "/a", "match": "any"}, (0, 0, 0, 0, 0)),
        ({"entry": "/a"}, (8, 5, 5, 3, 100)),
        ({"entry1": "/a"}, (4, 4, 4, 4, 0)),
        ({"language": "c.EN"}, (5, 2, 2, 0, 100)),
        ({"limit": "x", "offset": "x"}, (8, 5, 5, 3, 100)),
    ],
)
def test_stats_count_what_the_filters_let_through(query, filters, figures):
    status, stats = query("stats", **filters)
    names = ("pageviews", "visitors", "visits", "bounces", "totaltime")
    assert (status, tuple(stats[name] for name in names)) == (200, figures)


@with_each(
    "filters",
    [
        *(
            {"tag": f"{operator}.co"}
            for operator in ("s", "ns", "t", "f", "gt", "lt", "gte", "lte", "bf", "af")
        ),
        {"referrer": "t.co"},
        {"tag": "t.co", "path": "/a", "match": "any"},
        {"path": "re.["},
        {"path": "/a\0"},
        {"eventType1": "x"},
        {"eventType1": "c.1"},
        {"segment": str(uuid.uuid4())},
        {"cohort": str(uuid.uuid4())},
        {"startAt": "", "endAt": 9e15},
    ],
)
@with_each("route", ["stats", "events/stats", "metrics?type=path"])
def test_some_filters_crash_the_server(query, route, filters):
    kind = {"type": "path"} if "metrics" in route else {}
    assert query(route.partition("?")[0], **kind, **filters) == (500, "")


@with_each(
    ("parameters", "rows"),
    [
        ({"type": "path"}, [("/50%", 1), ("/a", 4), ("/b", 2), ("/über", 1)]),
        (
            {"type": "path", "excludeBounce": "true"},
            [("/50%", 1), ("/a", 2), ("/b", 1), ("/über", 1)],
        ),
        ({"type": "path", "search": "A"}, [("/a", 4)]),
        ({"type": "path", "search": "a", "path": "/b"}, [("/a", 4)]),
        ({"type": "event", "eventType": "1"}, [("s.x", 1), ("signup", 1)]),
        ({"type": "event", "excludeBounce": "true"}, [("s.x", 1), ("signup", 1)]),
        ({"type": "language"}, [("de", 2), ("en", 2), ("fr", 1)]),
        ({"type": "language", "search": "EN"}, [("en", 2)]),
        ({"type": "screen", "search": "1920"}, [("800x600", 1)]),
        ({"type": "entry"}, [("/a", 4), ("/b", 1)]),
        ({"type": "exit"}, [("/50%", 1), ("/a", 2), ("/b", 1), ("/über", 1)]),
        ({"type": "entry", "search": "b"}, [("/a", 1), ("/b", 1)]),
        ({"type": "exit", "path": "/a"}, [("/50%", 1), ("/a", 2), ("/über", 1)]),
        ({"type": "referrer"}, [("google.com", 1), ("s.example.org", 1), ("t.co", 1)]),
        ({"type": "domain"}, [("google.com", 1), ("s.example.org", 1), ("t.co", 1)]),
        ({"type": "referrer", "search": "example"}, [("s.example.org", 1)]),
        ({"type": "path", "limit": "1.5"}, [("/a", 4), ("/b", 2)]),
        ({"type": "path", "limit": "0.4"}, []),
        ({"type": "path", "limit": "-0.4"}, []),
        ({"type": "path", "limit": ""}, []),
    ],
)
def test_metrics_count_by_value(query, parameters, rows):
    status, counted = query("metrics", **parameters)
    assert (status, sorted((row["x"], row["y"]) for row in counted)) == (200, rows)


@pytest.mark.parametrize("umami", ["2.19"])
@with_each(
    ("filters", "pageviews"),
    [
        ({"url": "/a"}, 4),
        ({"url": "!/a"}, 4),
        ({"url": "~B"}, 3),
        ({"url": "!~b"}, 5),
        ({"url": "/a,/b"}, 0),
        ({"url": "eq./a"}, 0),
        ({"referrer": "t.co"}, 1),
    ],
)
def test_operators_were_signs_before_umami_3(query, filters, pageviews):
    status, stats = query("stats", **filters)
    assert (status, stats["pageviews"]["value"]) == (200, pageviews)


@with_each("wrong", [{"limit": -1}, {"offset": -1}, {"limit": "1e30"}, {"limit": -0.5}])
def test_a_limit_that_the_database_refuses_crashes_the_server(query, wrong):
    assert query("metrics", type="path", **wrong) == (500, "")


EITHER = "Either startAt+endAt or startDate+endDate must be provided"


@with_each(
    ("parameters", "errors", "properties"),
    [
        *(({"unit": unit}, [], {"unit": "Invalid unit"}) for unit in ("week", "", "fortnight")),
        *(
            ({"timezone": zone}, [], {"timezone": "Invalid timezone"})
            for zone in ("Mars/X", "", " 02:00", "Factory", "+25:00")
        ),
        ({"startAt": None, "unit": "week"}, [EITHER], {"unit": "Invalid unit"}),
        (
            {"startAt": None, "compare": "x", "timezone": "X"},
            [],
            {"timezone": "Invalid timezone", "compare": 'Invalid option: expected one of "prev"|"yoy"'},
        ),
        (
            {"startAt": None, "eventType": "0"},
            [EITHER],
            {"eventType": "Too small: expected number to be >0"},
        ),
        ({"startAt": None, "limit": "x"}, [EITHER], {}),
    ],
)
def test_wrong_parameters_are_named(query, parameters, errors, properties):
    status, reply = query("stats", **parameters)
    named = {name: found["errors"][0] for name, found in reply["error"].get("properties", {}).items()}
    assert (status, reply["error"]["errors"], list(named.items())) == (400, errors, list(properties.items()))


@with_each(
    "parameters",
    [
        *({"unit": unit} for unit in ("minute", "hour", "day", "month", "year")),
        *({"timezone": zone} for zone in ("utc", "Europe/Berlin", "europe/berlin", "+02:00", "PST")),
    ],
)
def test_units_and_time_zones_that_there_are(query, parameters):
    assert query("stats", **parameters)[0] == 200


def test_a_metrics_wrong_parameters_are_named_in_the_order_of_umamis_schema(query):
    _, reply = query("metrics", match="x", limit="x", unit="week")
    assert list(reply["error"]["properties"]) == ["unit", "type", "limit", "match"]


@with_each(
    ("start", "end", "status"),
    [
        ("1", "2", 500),
        ("2026", "2027", 500),
        ("2026-01-01", "2026-02-01", 500),
        ("2026-01-01T10:00:00.000Z", "2026-02-01", 500),
        ("13", "2", 400),
        ("2026-13-01", "2027", 400),
        ("275760", "275761", 400),
        ("x", "y", 400),
    ],
)
def test_dates_are_taken_and_then_crash_the_server(query, start, end, status):
    assert query("stats", startAt=None, endAt=None, startDate=start, endDate=end)[0] == status


def spelt(site: str) -> list[str]:
    plain = site.replace("-", "")
    fours = "-".join(plain[start : start + 4] for start in range(0, 32, 4))
    return [site.upper(), plain, f"{{{site}}}", f"{{{plain}}}", fours]


@with_each("site", spelt(SITE))
def test_a_website_is_found_under_every_spelling_of_its_id(query, site):
    assert query(f"../{site}/stats")[1]["pageviews"] == 8
    assert query(f"../{site}")[1]["id"] == SITE


@with_each("site", [SITE[:-1], f"{{{SITE}", f"{SITE}}}", f" {SITE}", f"urn:uuid:{SITE}", "None"])
def test_what_is_no_id_crashes_the_server(query, site):
    assert query(f"../{site}/stats") == (500, "")


# Websites


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        ({"shareId": "x" * 51}, {"shareId": "Too big: expected string to have <=50 characters"}),
        ({"teamId": "x"}, {"teamId": "Invalid UUID"}),
        ({"id": "x"}, {"id": "Invalid UUID"}),
    ],
)
def test_a_new_websites_options_are_checked(http, body, properties):
    response = http.post("/api/websites", json={"name": "Shop", "domain": "shop.com", **body})
    named = {name: found["errors"][0] for name, found in response.json()["error"]["properties"].items()}
    assert (response.status_code, named) == (400, properties)


@pytest.mark.parametrize("body", [{"name": "a\0", "domain": "b"}, {"name": "a", "domain": "b\0"}])
def test_a_nul_crashes_the_server(http, body):
    credentials = {"username": "admin", "password": PASSWORD}
    token = http.post("/api/auth/login", json=credentials).json()["token"]
    response = http.post("/api/websites", json=body, headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.content) == (500, b"")
    response = http.post("/api/auth/login", json={"username": "admin\0", "password": PASSWORD})
    assert (response.status_code, response.content) == (500, b"")


def test_a_row_of_the_websites_ends_with_its_user_and_share_id(query):
    [row] = query("../../websites")[1]["data"]
    assert list(row)[-3:] == ["replayConfig", "user", "shareId"]

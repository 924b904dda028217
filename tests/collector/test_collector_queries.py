"""The collector's logins, tokens, websites and queries."""

import uuid

import pytest
from collector_helpers import SITE, item, send
from conftest import PASSWORD, with_each

from umami.collector import Collector

UNAUTHORIZED = {"error": {"message": "Unauthorized", "code": "unauthorized", "status": 401}}
HOUR = 1_767_312_000 - 1_767_312_000 % 3600
"""A whole hour, in epoch seconds, at which the events below happen."""

RANGE = {"startAt": HOUR * 1000, "endAt": (HOUR + 7200) * 1000}
ZEROS = {"pageviews": 0, "visitors": 0, "visits": 0, "bounces": 0, "totaltime": 0}


@pytest.fixture
def admin(collector, browse):
    """A browser in which the admin is logged in."""
    http = browse(collector)
    credentials = {"username": "admin", "password": PASSWORD}
    http.headers["Authorization"] = f"Bearer {http.post('/api/auth/login', json=credentials).json()['token']}"
    return http


@pytest.fixture
def visited(admin):
    """The admin's browser, with a website that three visitors have visited."""

    def event(visitor: str, minute: int, **payload: object) -> dict:
        return item(id=visitor, timestamp=HOUR + minute * 60, **payload)

    admin.post(
        "/api/batch",
        json=[
            event("ann", 0, url="/", title="Home", referrer="https://google.com/", language="de-DE"),
            event("ann", 5, url="/pricing", title="Pricing"),
            event("ann", 6, url="/pricing", name="signup"),
            event("ann", 7, url="/pricing", name="signup"),
            event("bob", 1, url="/pricing", title="Pricing", hostname="www.example.com", tag="beta"),
            event("bob", 2, url="/pricing", name="leave"),
            event("cid", 70, url="/?utm_source=mail", language="en-US"),
            event("ann", 80, url="/"),
            event("ann", -30, url="/before"),
            item(type="identify", id="ann", data={"plan": "pro"}),
        ],
    )
    return admin


# Login


def test_login_gives_a_token_and_the_user(http):
    reply = http.post("/api/auth/login", json={"username": "admin", "password": PASSWORD}).json()
    assert len(reply["token"]) == 380
    user = reply["user"]
    assert list(user) == ["id", "username", "role", "createdAt", "isAdmin", "teams"]
    assert (user["username"], user["role"], user["isAdmin"], user["teams"]) == ("admin", "admin", True, [])


@pytest.mark.parametrize("credentials", [("admin", "wrong"), ("Admin", PASSWORD), ("", "")])
def test_wrong_credentials_are_refused(http, credentials):
    response = http.post(
        "/api/auth/login", json=dict(zip(("username", "password"), credentials, strict=True))
    )
    assert response.status_code == 401
    error = {"message": "Unauthorized", "code": "incorrect-username-password", "status": 401}
    assert response.json() == {"error": error}


def test_missing_credentials_are_named(http):
    response = http.post("/api/auth/login", json={"username": "admin"})
    assert response.status_code == 400
    message = "Invalid input: expected string, received undefined"
    assert response.json()["error"]["properties"] == {"password": {"errors": [message]}}


def test_the_credentials_are_a_choice(browse):
    with Collector(username="me", password="secret") as collector:
        http = browse(collector)
        assert http.post("/api/auth/login", json={"username": "me", "password": "secret"}).status_code == 200
        assert (
            http.post("/api/auth/login", json={"username": "admin", "password": "umami"}).status_code == 401
        )


def test_verify_and_me_tell_who_it_is(admin):
    user = admin.post("/api/auth/verify").json()
    assert user.pop("teams") == []
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    assert admin.get("/api/me").json() == {"token": token, "shareToken": None, "user": user}


def test_logout_answers_ok(admin):
    assert admin.post("/api/auth/logout").json() == {"ok": True}


ROUTES = [
    ("POST", "/api/auth/verify"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/me"),
    ("GET", "/api/websites"),
    ("GET", f"/api/websites/{SITE}"),
    ("GET", f"/api/websites/{SITE}/active"),
    ("GET", f"/api/websites/{SITE}/stats?startAt=0&endAt=1"),
    ("GET", f"/api/websites/{SITE}/events/stats?startAt=0&endAt=1"),
    ("GET", f"/api/websites/{SITE}/metrics?startAt=0&endAt=1&type=path"),
]


@with_each("authorization", [None, "Bearer None", "Bearer", "Bearer garbage", "token"])
@with_each(("method", "path"), ROUTES)
def test_without_a_token_there_is_nothing_to_see(http, method, path, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    response = http.request(method, path, headers=headers)
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


def test_a_token_stays_valid_until_it_is_revoked(collector, admin):
    assert [admin.request(method, path).status_code for method, path in ROUTES] == [200] * len(ROUTES)
    collector.revoke_tokens()
    assert [admin.request(method, path).status_code for method, path in ROUTES] == [401] * len(ROUTES)


def test_the_token_of_another_collector_is_not_valid(admin, browse):
    with Collector() as other:
        headers = {"Authorization": admin.headers["Authorization"]}
        assert browse(other).get("/api/me", headers=headers).status_code == 401


def test_heartbeat_is_for_everyone(http):
    assert http.get("/api/heartbeat").json() == {"ok": True}
    assert http.post("/api/heartbeat").status_code == 405


# Websites


@pytest.mark.usefixtures("no_websites")
def test_a_website_is_created_and_listed(admin):
    website = admin.post("/api/websites", json={"name": "Shop", "domain": "shop.com"}).json()
    assert " ".join(website) == (
        "id name domain resetAt userId teamId createdBy createdAt updatedAt deletedAt "
        "replayEnabled replayConfig shareId"
    )
    assert admin.get(f"/api/websites/{website['id']}").json() == website
    page = admin.get("/api/websites").json()
    owner = {"username": "admin", "id": website["userId"]}
    assert page == {"data": [{**website, "user": owner}], "count": 1, "page": 1, "pageSize": 20}
    assert admin.get("/api/websites?includeTeams=true").json()["data"] == [website]


@pytest.mark.usefixtures("no_websites")
def test_an_id_may_be_chosen_once(collector, admin):
    body = {"name": "Shop", "domain": "shop.com", "id": SITE.upper()}
    assert admin.post("/api/websites", json=body).json()["id"] == SITE
    assert admin.post("/api/websites", json=body).status_code == 500
    with pytest.raises(ValueError, match=SITE):
        collector.add_website("Shop", "shop.com", SITE)


@pytest.mark.usefixtures("no_websites")
def test_websites_come_in_pages(collector, admin):
    ids = [collector.add_website(f"site {i}", f"{i}.com") for i in range(45)]
    pages = [admin.get("/api/websites", params={"page": page}).json() for page in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [20, 20, 5, 0]
    ids.sort()
    assert [website["id"] for page in pages for website in page["data"]] == ids
    assert {page["count"] for page in pages} == {45}
    page = admin.get("/api/websites?page=2&pageSize=10").json()
    assert ([website["id"] for website in page["data"]], page["page"], page["pageSize"]) == (
        ids[10:20],
        2,
        10,
    )


@pytest.mark.usefixtures("no_websites")
def test_websites_are_searched_by_name_and_domain(collector, admin):
    for name, domain in (("Shop", "a.com"), ("Blog", "shop.org"), ("Wiki", "b.com")):
        collector.add_website(name, domain)
    page = admin.get("/api/websites?search=SHOP").json()
    assert {website["name"] for website in page["data"]} == {"Shop", "Blog"}
    assert (page["count"], page["search"]) == (2, "SHOP")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page=0", "Too small: expected number to be >0"),
        ("page=x", "Invalid input: expected number, received NaN"),
        ("page=1.5", "Invalid input: expected int, received number"),
    ],
)
def test_a_page_is_a_positive_integer(http, query, message):
    response = http.get(f"/api/websites?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["properties"] == {"page": {"errors": [message]}}


def test_a_website_needs_name_and_domain(http):
    response = http.post("/api/websites", json={"name": "n" * 101})
    assert response.status_code == 400
    assert response.json()["error"]["properties"] == {
        "name": {"errors": ["Too big: expected string to have <=100 characters"]},
        "domain": {"errors": ["Invalid input: expected string, received undefined"]},
    }


# Figures


def test_stats_count_page_views_and_no_custom_events(visited):
    stats = visited.get(f"/api/websites/{SITE}/stats", params=RANGE).json()
    comparison = stats.pop("comparison")
    assert stats == {"pageviews": 5, "visitors": 3, "visits": 4, "bounces": 3, "totaltime": 300}
    # The two hours before; a range includes both of its ends, so the first event counts here too.
    assert comparison == {"pageviews": 2, "visitors": 1, "visits": 2, "bounces": 2, "totaltime": 0}


@with_each(
    ("filters", "pageviews"),
    [
        ({"path": "/pricing"}, 2),
        ({"path": "/pricing,/"}, 5),
        ({"path": "c.pri"}, 2),
        ({"path": "neq./pricing"}, 3),
        ({"hostname": "www.example.com"}, 1),
        ({"title": "Home"}, 1),
        ({"referrer": "google.com"}, 1),
        ({"query": "utm_source=mail"}, 1),
        ({"utmSource": "mail"}, 1),
        ({"tag": "beta"}, 1),
        ({"event": "signup"}, 0),
        ({"browser": "chrome"}, 5),
        ({"os": "Windows 10"}, 0),
        ({"device": "desktop"}, 5),
        ({"language": "de-DE"}, 3),
        ({"distinctId": "bob"}, 1),
        ({"country": "DE"}, 0),
        ({"tag": "beta", "path": "/"}, 0),
        ({"tag": "beta", "path": "/", "match": "any"}, 4),
    ],
)
def test_stats_can_be_filtered(visited, filters, pageviews):
    stats = visited.get(f"/api/websites/{SITE}/stats", params={**RANGE, **filters}).json()
    assert stats["pageviews"] == pageviews


def test_seconds_in_place_of_milliseconds_find_nothing(visited):
    query = {"startAt": HOUR, "endAt": HOUR + 7200}
    response = visited.get(f"/api/websites/{SITE}/stats", params=query)
    assert (response.status_code, response.json()) == (200, {**ZEROS, "comparison": ZEROS})


@with_each("query", [{}, {"startAt": 1}, {"endAt": 1}])
@with_each("route", ["stats", "events/stats", "metrics?type=path"])
def test_a_range_is_needed(admin, route, query):
    response = admin.get(f"/api/websites/{SITE}/{route}", params={"type": "path", **query})
    assert response.status_code == 400
    message = "Either startAt+endAt or startDate+endDate must be provided"
    assert response.json()["error"]["errors"] == [message]


def test_older_servers_answer_stats_otherwise(browse):
    shapes = {}
    for version in ("3.1", "3.0", "2.19", "2.15"):
        with Collector(umami=version) as collector:
            collector.add_website("Empty", "example.com", SITE)
            http = browse(collector)
            credentials = {"username": "admin", "password": "umami"}
            token = http.post("/api/auth/login", json=credentials).json()["token"]
            headers = {"Authorization": f"Bearer {token}"}
            stats = http.get(f"/api/websites/{SITE}/stats", params=RANGE, headers=headers).json()
            active = http.get(f"/api/websites/{SITE}/active", headers=headers).json()
            shapes[version] = (stats, active)
    assert shapes == {
        "3.1": ({**ZEROS, "comparison": ZEROS}, {"visitors": 0}),
        "3.0": ({**ZEROS, "comparison": ZEROS}, {"visitors": 0}),
        "2.19": ({name: {"value": 0, "prev": 0} for name in ZEROS}, {"visitors": 0}),
        "2.15": ({name: {"value": 0, "prev": 0} for name in ZEROS}, {"x": 0}),
    }


@pytest.mark.slow
def test_active_counts_the_visitors_of_five_minutes(visited):
    assert visited.get(f"/api/websites/{SITE}/active").json() == {"visitors": 0}
    send(visited, id="now")
    send(visited, id="now", name="click")
    assert visited.get(f"/api/websites/{SITE}/active").json() == {"visitors": 1}


def test_event_stats_count_custom_events(visited):
    reply = visited.get(f"/api/websites/{SITE}/events/stats", params=RANGE).json()
    comparison = {"events": 0, "visitors": 0, "visits": 0, "uniqueEvents": 0}
    figures = {"events": 3, "visitors": 2, "visits": 2, "uniqueEvents": 2}
    assert reply == {"data": {**figures, "comparison": comparison}}


@with_each(
    ("query", "rows"),
    [
        ({"type": "event"}, [("signup", 2), ("leave", 1)]),
        ({"type": "event", "limit": 1}, [("signup", 2)]),
        ({"type": "event", "limit": 1, "offset": 1}, [("leave", 1)]),
        ({"type": "event", "search": "ea"}, [("leave", 1)]),
        ({"type": "path"}, [("/", 2), ("/pricing", 2)]),
        ({"type": "title"}, [("Pricing", 2), ("Home", 1)]),
        ({"type": "referrer"}, [("google.com", 1)]),
        ({"type": "hostname"}, [("example.com", 2), ("www.example.com", 1)]),
        ({"type": "utmSource"}, [("mail", 1)]),
        ({"type": "tag"}, [("beta", 1)]),
        ({"type": "browser"}, [("chrome", 3)]),
        ({"type": "language"}, [("de", 1), ("en", 1)]),
        ({"type": "country"}, []),
        ({"type": "exit", "path": "/pricing"}, [("/pricing", 2)]),
        ({"type": "entry", "path": "/pricing"}, [("/", 1), ("/pricing", 1)]),
    ],
)
def test_metrics_count_visitors_or_events_by_value(visited, query, rows):
    reply = visited.get(f"/api/websites/{SITE}/metrics", params={**RANGE, **query}).json()
    assert [(row["x"], row["y"]) for row in reply] == rows


def test_an_unknown_metric_is_refused(admin):
    response = admin.get(f"/api/websites/{SITE}/metrics", params={**RANGE, "type": "url"})
    assert response.status_code == 400
    assert response.json() == {"error": {"message": "Bad request", "code": "bad-request", "status": 400}}


def test_an_unknown_website_has_no_figures(admin):
    website = f"/api/websites/{uuid.uuid4()}"
    assert admin.get(website).json() is None
    assert admin.get(f"{website}/stats", params=RANGE).json() == {**ZEROS, "comparison": ZEROS}
    assert admin.get(f"{website}/active").json() == {"visitors": 0}


@with_each("route", ["", "/active", "/stats?startAt=0&endAt=1", "/metrics?startAt=0&endAt=1&type=path"])
def test_an_id_that_is_no_uuid_crashes(admin, route):
    response = admin.get(f"/api/websites/None{route}")
    assert (response.status_code, response.content) == (500, b"")


def test_a_range_beyond_the_calendar_crashes(admin):
    response = admin.get(f"/api/websites/{SITE}/stats?startAt=0&endAt=99999999999999999")
    assert (response.status_code, response.content) == (500, b"")

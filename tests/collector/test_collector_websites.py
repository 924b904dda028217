"""The collector's routes that change websites, and their segments."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from collector_helpers import SITE, item, send
from conftest import PASSWORD

from umami.collector import Collector

UNKNOWN = "11111111-2222-4333-8444-555555555555"
RANGE = {"startAt": 0, "endAt": 4_000_000_000_000}
SEGMENT = {
    "type": "segment",
    "name": "Blog",
    "parameters": {"filters": [{"name": "path", "operator": "c", "value": "blog"}]},
}


@pytest.fixture
def admin(own_collector: Collector, browse: Callable[..., httpx.Client]) -> httpx.Client:
    """A browser in which the admin is logged in, with a website that has three page views."""
    http = browse(own_collector)
    credentials = {"username": "admin", "password": PASSWORD}
    http.headers["Authorization"] = f"Bearer {http.post('/api/auth/login', json=credentials).json()['token']}"
    for path in ("/blog", "/blog/one", "/pricing"):
        send(http, url=path, id="ann")
    return http


def _stats(http: httpx.Client, **query: Any) -> httpx.Response:
    return http.get(f"/api/websites/{SITE}/stats", params={**RANGE, **query})


def test_a_website_is_changed(admin: httpx.Client) -> None:
    reply = admin.post(f"/api/websites/{SITE}", json={"name": "New", "shareId": "abcdefgh"}).json()
    assert (reply["name"], reply["domain"], reply["shareId"]) == ("New", "example.com", "abcdefgh")
    assert admin.get(f"/api/websites/{SITE}").json() == reply
    assert admin.post(f"/api/websites/{SITE}", json={"shareId": None}).json()["shareId"] is None
    assert admin.post(f"/api/websites/{SITE}", json={"name": 5}).status_code == 400


def test_a_website_is_reset(admin: httpx.Client) -> None:
    send(admin, name="signup", data={"plan": "pro"})
    assert admin.get(f"/api/websites/{SITE}/event-data/stats", params=RANGE).json()["events"] == 1
    assert admin.post(f"/api/websites/{SITE}/reset").json() == {"ok": True}
    assert _stats(admin).json()["pageviews"] == 0
    assert admin.get(f"/api/websites/{SITE}").json()["resetAt"] is not None
    # The rows of new events may have the numbers of deleted ones.
    send(admin, name="signup", data={"plan": "free"})
    values = admin.get(f"/api/websites/{SITE}/event-data/values", params={**RANGE, "propertyName": "plan"})
    assert values.json() == [{"value": "free", "total": 1}]


def test_a_website_is_deleted(admin: httpx.Client) -> None:
    assert admin.delete(f"/api/websites/{SITE}").json() == {"ok": True}
    assert admin.get(f"/api/websites/{SITE}").json() is None
    assert SITE not in [site["id"] for site in admin.get("/api/websites").json()["data"]]
    assert _stats(admin).json()["pageviews"] == 0


def test_an_unknown_website_cannot_be_changed(admin: httpx.Client) -> None:
    changes = (("POST", ""), ("DELETE", ""), ("POST", "/reset"), ("POST", "/segments"))
    for method, path in changes:
        reply = admin.request(method, f"/api/websites/{UNKNOWN}{path}", json=SEGMENT)
        assert reply.status_code == 500, (method, path)
    del admin.headers["Authorization"]
    for method, path in changes:
        reply = admin.request(method, f"/api/websites/{SITE}{path}", json=SEGMENT)
        assert reply.status_code == 401, (method, path)


def test_segments(admin: httpx.Client) -> None:
    route = f"/api/websites/{SITE}/segments"
    segment = admin.post(route, json=SEGMENT).json()
    assert {name: segment[name] for name in SEGMENT} == SEGMENT
    assert admin.get(route, params={"type": "segment"}).json() == {
        "data": [segment],
        "count": 1,
        "page": 1,
        "pageSize": 20,
    }
    assert admin.get(route).status_code == 400
    assert _stats(admin, segment=segment["id"]).json()["pageviews"] == 2
    assert _stats(admin, segment=segment["id"], path="/pricing").json()["pageviews"] == 2
    assert _stats(admin, segment=UNKNOWN).status_code == 500
    changed = admin.post(f"{route}/{segment['id']}", json={**SEGMENT, "name": "New"}).json()
    assert (changed["id"], changed["name"]) == (segment["id"], "New")
    assert admin.delete(f"{route}/{segment['id']}").json() == {"ok": True}
    assert admin.get(f"{route}/{segment['id']}").status_code == 404


def test_a_segment_repeats_a_filter(admin: httpx.Client) -> None:
    filters = [
        {"name": "path", "operator": "c", "value": "blog"},
        {"name": "path", "operator": "neq", "value": "/blog/one"},
    ]
    parameters: dict[str, Any] = {"filters": filters}
    route = f"/api/websites/{SITE}/segments"
    found = {}
    for match in ("all", "any"):
        body = {**SEGMENT, "parameters": {**parameters, "match": match}}
        segment = admin.post(route, json=body).json()
        found[match] = _stats(admin, segment=segment["id"]).json()["pageviews"]
    assert found == {"all": 1, "any": 3}


def test_segments_of_2_x_are_a_list(browse: Callable[..., httpx.Client]) -> None:
    with Collector(umami="2.19") as collector:
        http = browse(collector)
        login = http.post("/api/auth/login", json={"username": "admin", "password": "umami"}).json()
        http.headers["Authorization"] = f"Bearer {login['token']}"
        http.post("/api/batch", json=[item(url="/blog"), item(url="/")])
        body = {"type": "segment", "name": "Blog", "parameters": {"url": "~blog"}}
        segment = http.post(f"/api/websites/{SITE}/segments", json=body).json()
        listed = http.get(f"/api/websites/{SITE}/segments", params={"type": "segment"}).json()
        assert listed == [segment]


def test_a_link_is_kept(admin: httpx.Client) -> None:
    sent = {"name": "Sale", "url": "https://a.example/x", "slug": "abcdefg13"}
    link = admin.post("/api/links", json=sent).json()
    names = "id name url slug userId teamId createdAt updatedAt deletedAt"
    assert list(link) == names.split()
    assert {name: link[name] for name in sent} == sent
    path = f"/api/links/{link['id']}"
    assert admin.get(path).json() == link
    assert admin.get("/api/links").json() == {"data": [link], "count": 1, "page": 1, "pageSize": 20}
    assert admin.post(path, json={"name": "Sale2"}).json()["name"] == "Sale2"
    assert admin.post("/api/links", json=sent).status_code == 500
    assert admin.post(path, json={"slug": "short"}).status_code == 400
    without_slug = admin.post("/api/links", json={"name": "Sale", "url": "https://a.example/x"})
    assert without_slug.json()["error"]["properties"] == {
        "slug": {"errors": ["Invalid input: expected string, received undefined"]}
    }
    pixel = admin.post("/api/pixels", json={"name": "Mail", "slug": "abcdefg13"}).json()
    assert "url" not in pixel
    assert admin.delete(path).json() == {"ok": True}
    assert admin.delete(path).status_code == 500
    assert admin.get(path).json() is None
    assert admin.delete(f"/api/pixels/{pixel['id']}").json() == {"ok": True}


def test_there_are_no_teams(admin: httpx.Client) -> None:
    for path in ("me/teams", "teams"):
        assert admin.get(f"/api/{path}").json() == {"data": [], "count": 0, "page": 1, "pageSize": 20}
    assert SITE in [site["id"] for site in admin.get("/api/me/websites").json()["data"]]

"""The account, its websites, teams and the like, and what deletes: only with the name of what goes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, SITE, with_each
from old_umami import Answer, OldUmami, Seen, served

import umami
from umami import filters
from umami.collector import Collector
from umami.errors import ResponseStatusError, UnsupportedError, ValidationError

Call = Callable[..., Any]
SESSION = "280fcbc0-ce5b-575d-9250-7e00fb65df44"
TEAM, USER, SEGMENT = "t1", "u1", "s1"
LINK: dict[str, Any] = {"id": "l1", "name": "Sale", "slug": "abcdefgh", "url": "https://a.example"}
PIXEL: dict[str, Any] = {"id": "p1", "name": "Mail", "slug": "abcdefgh"}
MEMBER: dict[str, Any] = {"id": "m1", "teamId": TEAM, "userId": USER, "role": "team-member"}
DE: dict[str, Any] = {
    "id": SEGMENT, "name": "DE", "type": "segment",
    "parameters": {"filters": [{"name": "country", "operator": "eq", "value": "DE"}]},
}  # fmt: skip
SHARE: dict[str, Any] = {"id": "h1", "entityId": SITE, "name": "Agency", "slug": "abcdefgh"}
WITHOUT = {"error": {"message": "Not found", "code": "not-found", "status": 404}}
ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/config"): {"privateMode": False, "currentVersion": "3.1.0"},
    ("GET", f"/websites/{SITE}/events/stats"): {},
    ("GET", f"/websites/{SITE}/segments/{SEGMENT}"): DE,
    ("POST", f"/websites/{SITE}/segments"): DE,
    ("POST", f"/websites/{SITE}/segments/{SEGMENT}"): DE,
    ("DELETE", f"/websites/{SITE}/segments/{SEGMENT}"): {"ok": True},
    ("POST", f"/websites/{SITE}/transfer"): {"id": SITE, "name": "Shop", "teamId": TEAM},
    ("GET", f"/websites/{SITE}/shares"): {"data": [SHARE], "count": 1},
    ("POST", f"/websites/{SITE}/shares"): SHARE,
    ("DELETE", "/share/id/h1"): {"ok": True},
    ("POST", "/links"): LINK,
    ("GET", "/links/l1"): LINK,
    ("GET", "/links/l2"): None,
    ("GET", "/links/l3"): {"id": "l3", "name": None},
    ("DELETE", "/links/l3"): {"ok": True},
    ("POST", "/links/l1"): LINK,
    ("DELETE", "/links/l1"): {"ok": True},
    ("POST", "/pixels"): PIXEL,
    ("GET", "/pixels/p1"): PIXEL,
    ("POST", "/pixels/p1"): PIXEL,
    ("DELETE", "/pixels/p1"): {"ok": True},
    ("POST", "/teams"): [{"id": TEAM, "name": "Team"}, MEMBER],
    ("GET", f"/teams/{TEAM}"): {"id": TEAM, "name": "Team"},
    ("POST", f"/teams/{TEAM}"): {"id": TEAM, "name": "New"},
    ("DELETE", f"/teams/{TEAM}"): {"ok": True},
    ("GET", f"/teams/{TEAM}/users"): {
        "data": [{**MEMBER, "user": {"id": USER, "username": "anna"}}],
        "count": 1,
    },
    ("POST", f"/teams/{TEAM}/users"): MEMBER,
    ("POST", f"/teams/{TEAM}/users/{USER}"): MEMBER,
    ("DELETE", f"/teams/{TEAM}/users/{USER}"): {"ok": True},
    ("POST", "/teams/join"): MEMBER,
    ("GET", f"/websites/{SITE}"): {"id": SITE, "name": "Shop", "domain": "shop.example"},
    ("GET", "/websites/unknown"): None,
    ("POST", f"/websites/{SITE}"): {"id": SITE, "name": "New", "domain": "shop.example"},
    ("POST", f"/websites/{SITE}/reset"): {"ok": True},
    ("DELETE", f"/websites/{SITE}"): {"ok": True},
    ("DELETE", f"/websites/{SITE}/sessions/{SESSION}"): {"ok": True},
    ("GET", "/teams"): {"data": [{"id": "t1", "name": "Team", "accessCode": "team_x"}], "count": 1},
    ("GET", "/links"): {"data": [LINK], "count": 1},
    ("GET", "/pixels"): {"data": [PIXEL], "count": 1},
    ("GET", f"/websites/{SITE}/segments"): {"data": [DE], "count": 1},
}
MISSING = {
    *(("GET", f"/websites/{SITE}/segments/s2"), ("GET", "/teams/t2")),
    *(("GET", "/teams/t2/users"), ("GET", "/websites/unknown/shares")),
}


@pytest.fixture
def asked() -> Iterator[tuple[umami.Client, list[Seen]]]:
    """A client of a server that answers as a real 3.1.0 does, and what it was asked."""

    def answer(seen: Seen) -> Answer | None:
        key = (seen.method, seen.path.removeprefix("/api"))
        if key in MISSING:
            return Answer(404, WITHOUT)
        if key == ("GET", "/teams/t3"):  # as before 2.16
            return Answer(404, b"Not found", "text/plain")
        return Answer(200, ANSWERS[key]) if key in ANSWERS else Answer(404, b"<html>", "text/html")

    server = OldUmami("3.4", answer)
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        yield client, server.seen


Asked = tuple[umami.Client, list[Seen]]


def test_the_account_is_known(client: umami.Client, call: Call) -> None:
    client.login("admin", PASSWORD)
    assert (call(client.me).username, call(client.me).role) == ("admin", "admin")


def test_a_website_is_created_and_read(client: umami.Client, call: Call) -> None:
    client.login("admin", PASSWORD)
    created = call(client.create_website, "Shop", "shop.example")
    assert (created.name, created.domain) == ("Shop", "shop.example")
    assert call(client.website, created.id) == created


def test_a_website_is_changed(asked: Asked, call: Call) -> None:
    client, seen = asked
    assert call(client.update_website, name="New").name == "New"
    assert seen[-1].body == {"name": "New", "domain": "shop.example"}
    client.update_website(share_id="abcdefgh")
    assert seen[-1].body == {"name": "Shop", "domain": "shop.example", "shareId": "abcdefgh"}
    client.update_website(share_id="")
    assert seen[-1].body["shareId"] is None
    with pytest.raises(ValidationError, match="Give what to change: name or domain or share_id"):
        client.update_website()
    with pytest.raises(ValidationError, match="there is no website 'unknown'"):
        client.website("unknown")


@pytest.mark.parametrize(("function", "request_"), [("reset_website", "POST"), ("delete_website", "DELETE")])
def test_what_destroys_wants_the_name(asked: Asked, call: Call, function: str, request_: str) -> None:
    client, seen = asked
    with pytest.raises(ValidationError, match=r"^confirm must be the name, 'Shop', got 'Blog'"):
        call(getattr(client, function), SITE, confirm="Blog")
    assert {each.method for each in seen} == {"GET"}
    assert call(getattr(client, function), SITE, confirm="Shop") is None
    assert seen[-1].method == request_


def test_a_session_is_deleted(asked: Asked, call: Call) -> None:
    client, seen = asked
    assert call(client.delete_session, SESSION) is None
    assert (seen[-1].method, seen[-1].path) == ("DELETE", f"/api/websites/{SITE}/sessions/{SESSION}")
    with pytest.raises(UnsupportedError, match=r"^delete_session\(\) needs Umami 3\.3 or later"):
        client.delete_session(SESSION.replace("2", "3"))
    with pytest.raises(ValidationError, match="session_id must be a UUID"):
        client.delete_session("../../x")


CHANGES: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str, Any]] = [
    ("transfer_website", (SITE,), {"team_id": TEAM}, "POST", f"/websites/{SITE}/transfer", {"teamId": TEAM}),
    ("create_share", ("Agency",), {}, "POST", f"/websites/{SITE}/shares",
     {"name": "Agency", "parameters": {"overview": True, "events": True}}),
    ("delete_share", ("h1",), {}, "DELETE", "/share/id/h1", None),
    ("create_link", ("Sale", "https://a.example"), {"slug": "abcdefgh", "team_id": TEAM}, "POST", "/links",
     {"name": "Sale", "url": "https://a.example", "slug": "abcdefgh", "teamId": TEAM}),
    ("update_link", ("l1",), {"url": "https://b.example"}, "POST", "/links/l1",
     {"url": "https://b.example"}),
    ("delete_link", ("l1",), {"confirm": "Sale"}, "DELETE", "/links/l1", None),
    ("create_pixel", ("Mail",), {"slug": "abcdefgh"}, "POST", "/pixels",
     {"name": "Mail", "slug": "abcdefgh"}),
    ("update_pixel", ("p1",), {"name": "Mail", "slug": "abcdefgh"}, "POST", "/pixels/p1",
     {"name": "Mail", "slug": "abcdefgh"}),
    ("delete_pixel", ("p1",), {"confirm": "Mail"}, "DELETE", "/pixels/p1", None),
    ("create_team", ("Team",), {}, "POST", "/teams", {"name": "Team"}),
    ("update_team", (TEAM,), {"name": "New"}, "POST", f"/teams/{TEAM}", {"name": "New"}),
    ("delete_team", (TEAM,), {"confirm": "Team"}, "DELETE", f"/teams/{TEAM}", None),
    ("add_member", (TEAM, USER), {}, "POST", f"/teams/{TEAM}/users",
     {"userId": USER, "role": "team-member"}),
    ("update_member", (TEAM, USER), {"role": "team-manager"}, "POST", f"/teams/{TEAM}/users/{USER}",
     {"role": "team-manager"}),
    ("remove_member", (TEAM, USER), {}, "DELETE", f"/teams/{TEAM}/users/{USER}", None),
    ("join_team", ("team_x",), {}, "POST", "/teams/join", {"accessCode": "team_x"}),
    ("create_segment", ("DE",), {"country": "DE"}, "POST", f"/websites/{SITE}/segments",
     {"name": "DE", "type": "segment", "parameters": DE["parameters"]}),
    ("create_segment", ("Any",), {"url": filters.contains("/b"), "host": ["t.co", "a.example"],
     "title": "a,b", "match": "any"}, "POST", f"/websites/{SITE}/segments",
     {"name": "Any", "type": "segment", "parameters": {"match": "any", "filters": [
         {"name": "path", "operator": "c", "value": "/b"},
         {"name": "hostname", "operator": "eq", "value": "t.co,a.example"},
         {"name": "title", "operator": "re", "value": "(?c)^a,b$"}]}}),
    ("update_segment", (SEGMENT,), {"name": "D"}, "POST", f"/websites/{SITE}/segments/{SEGMENT}",
     {"name": "D", "type": "segment", "parameters": DE["parameters"]}),
    ("update_segment", (SEGMENT,), {"country": filters.ne("AT")}, "POST",
     f"/websites/{SITE}/segments/{SEGMENT}", {"name": "DE", "type": "segment",
     "parameters": {"filters": [{"name": "country", "operator": "neq", "value": "AT"}]}}),
    ("delete_segment", (SEGMENT,), {"confirm": "DE"}, "DELETE", f"/websites/{SITE}/segments/{SEGMENT}", None),
]  # fmt: skip


def test_changes_are_asked_for_as_umami_wants_them(asked: Asked, call: Call) -> None:
    client, seen = asked
    for function, args, kwargs, method, path, body in CHANGES:
        result = call(getattr(client, function), *args, **kwargs)
        assert (seen[-1].method, seen[-1].path, seen[-1].body) == (method, f"/api{path}", body), function
        assert (result is None) == (method == "DELETE")
        if function.startswith("create_"):
            kind = function.removeprefix("create_").title()
            assert isinstance(result, getattr(umami.models, kind))


def test_a_new_link_has_a_slug(asked: Asked) -> None:
    client, seen = asked
    client.create_link("Sale", "https://a.example")
    client.create_pixel("Mail")
    slugs = [each.body["slug"] for each in seen]
    assert all(len(slug) == 9 and slug.isalnum() for slug in slugs)
    assert slugs[0] != slugs[1]


def test_a_taken_slug_is_named(client: umami.Client) -> None:
    client.login("admin", PASSWORD)
    link = client.create_link("Sale", "https://a.example")
    with pytest.raises(ResponseStatusError, match="an id may be unknown, or a slug taken"):
        client.create_link("Sale", "https://a.example", slug=link.slug)
    client.delete_link(link.id, confirm="Sale")


@with_each(
    ("function", "args", "kwargs", "why"),
    [
        ("transfer_website", (SITE,), {}, "Give user_id or team_id"),
        ("transfer_website", (SITE,), {"user_id": 17}, "^user_id must be a string"),
        ("create_link", ("Sale", "https://a.example"), {"slug": "short"}, "slug must have at least 8"),
        ("create_link", ("x" * 101, "https://a.example"), {}, "name must have at most 100"),
        ("update_link", ("l1",), {}, "Give what to change: name or url or slug"),
        ("link", ("",), {}, "link_id cannot be ''"),
        ("link", ("..",), {}, "link_id cannot be '..'"),
        ("link", ("l2",), {}, "there is no link 'l2'"),
        ("segment", ("s2",), {}, "there is no segment 's2'"),
        ("team", ("t2",), {}, "there is no team 't2'"),
        ("team", ("t3",), {}, "there is no team 't3'"),
        (
            "delete_link",
            ("l3",),
            {"confirm": ""},
            "confirm must be the id, as the link has no name, 'l3', got",
        ),
        ("delete_link", ("l3",), {"confirm": None}, "^confirm must be a string"),
        ("delete_team", (TEAM,), {"confirm": "team"}, "confirm must be the name, 'Team'"),
        ("add_member", (TEAM, USER), {"role": "owner"}, "role must be one of"),
        ("create_segment", ("S",), {}, r"create_segment\(\) needs a filter"),
        ("create_segment", ("S",), {"segment": SITE}, "A segment cannot have the filter segment"),
        ("create_segment", ("S",), {"path": "a\nb"}, "Umami finds no operator in a value of several lines"),
        ("update_segment", (SEGMENT,), {}, "Give what to change: name or filters"),
    ],
)
def test_a_wrong_change_is_refused(
    asked: Asked, function: str, args: tuple[Any, ...], kwargs: dict[str, Any], why: str
) -> None:
    client, seen = asked
    with pytest.raises(ValidationError, match=why):
        getattr(client, function)(*args, **kwargs)
    assert {each.method for each in seen} <= {"GET"}


def test_a_thing_without_a_name_is_confirmed_by_its_id(asked: Asked, call: Call) -> None:
    client, seen = asked
    call(client.delete_link, "l3", confirm="l3")
    assert (seen[-1].method, seen[-1].path) == ("DELETE", "/api/links/l3")


def test_what_a_list_belongs_to_may_be_unknown(asked: Asked, call: Call) -> None:
    client, _ = asked
    for function, id_ in ((client.members, "t2"), (client.shares, "unknown")):
        with pytest.raises(ResponseStatusError, match="answered 404 Not Found"):
            call(function, id_)


def test_lists_are_tables(asked: Asked, call: Call) -> None:
    client, seen = asked
    assert [team.name for team in call(client.teams)] == ["Team"]
    assert "team_x" not in repr(client.teams())
    assert [link.url for link in call(client.links)] == ["https://a.example"]
    assert [pixel.name for pixel in call(client.pixels)] == ["Mail"]
    assert [segment.id for segment in call(client.segments, "segment")] == ["s1"]
    assert seen[-1].query["type"] == "segment"
    assert [(each.user and each.user.username, each.role) for each in call(client.members, TEAM)] == [
        ("anna", "team-member")
    ]
    assert [share.slug for share in call(client.shares)] == ["abcdefgh"]
    assert call(client.pixel, "p1").name == "Mail"
    with pytest.raises(ValidationError, match="type must be one of segment, cohort"):
        client.segments("all")  # type: ignore[arg-type]


def test_an_older_server_has_no_links(make_client: Callable[..., umami.Client]) -> None:
    with Collector(umami="2.19", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        for function, args, since in (
            ("links", (), "3.0"),
            ("link", ("l1",), "3.0"),
            ("create_pixel", ("Mail",), "3.0"),
            ("shares", (), "3.1"),
            ("create_share", ("Agency",), "3.1"),
            ("members", (TEAM,), "2.10"),
            ("remove_member", (TEAM, USER), "2.10"),
        ):
            with pytest.raises(UnsupportedError, match=rf"^{function}\(\) needs Umami {since} or later"):
                getattr(client, function)(*args)
        with pytest.raises(UnsupportedError, match=r"^create_segment\(\) needs Umami 3\.0 or later"):
            client.create_segment("DE", country="DE")


def test_a_visitor_is_forgotten(make_client: Callable[..., umami.Client], call: Call) -> None:
    with Collector(umami="3.4", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        for number in range(4):
            client.new_event("buy", custom_data={"price": 5 + number * number}, distinct_id=f"v{number % 2}")
        assert client.flush(DEADLINE)
        stats = call(client.event_value_stats, "price", period="7d", event="buy")
        assert stats.model_dump() == {"total": 34, "average": 8.5, "median": 7.5, "min": 5, "max": 14}
        assert client.event_value_stats("price", period="7d", event="sell").total == 0
        gone = next(iter(client.sessions(period="7d")))
        call(client.delete_session, gone.id)
        assert [each.id for each in client.sessions(period="7d")] != [gone.id]
        assert len(client.events(period="7d").to_table()) == 2

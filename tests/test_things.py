"""The account, its websites, teams and the like, and what deletes: only with the name of what goes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PASSWORD, SITE
from old_umami import Answer, OldUmami, Seen, served

import umami
from umami.collector import Collector
from umami.errors import UnsupportedError, ValidationError

Call = Callable[..., Any]
SESSION = "280fcbc0-ce5b-575d-9250-7e00fb65df44"
ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", f"/websites/{SITE}"): {"id": SITE, "name": "Shop", "domain": "shop.example"},
    ("GET", "/websites/unknown"): None,
    ("POST", f"/websites/{SITE}"): {"id": SITE, "name": "New", "domain": "shop.example"},
    ("POST", f"/websites/{SITE}/reset"): {"ok": True},
    ("DELETE", f"/websites/{SITE}"): {"ok": True},
    ("DELETE", f"/websites/{SITE}/sessions/{SESSION}"): {"ok": True},
    ("GET", "/teams"): {"data": [{"id": "t1", "name": "Team", "accessCode": "team_x"}], "count": 1},
    ("GET", "/links"): {"data": [{"id": "l1", "slug": "abcdefgh", "url": "https://a.example"}], "count": 1},
    ("GET", "/pixels"): {"data": [{"id": "p1", "slug": "abcdefgh", "name": "Mail"}], "count": 1},
    ("GET", f"/websites/{SITE}/segments"): {
        "data": [{"id": "s1", "name": "DE", "type": "segment", "parameters": {"filters": []}}],
        "count": 1,
    },
}


@pytest.fixture
def asked() -> Iterator[tuple[umami.Client, list[Seen]]]:
    """A client of a server that answers as a real 3.1.0 does, and what it was asked."""

    def answer(seen: Seen) -> Answer | None:
        key = (seen.method, seen.path.removeprefix("/api"))
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
    with pytest.raises(ValidationError, match="Give a name or a domain"):
        client.update_website()
    with pytest.raises(ValidationError, match="there is no website 'unknown'"):
        client.website("unknown")


@pytest.mark.parametrize(("function", "request_"), [("reset_website", "POST"), ("delete_website", "DELETE")])
def test_what_destroys_wants_the_name(asked: Asked, call: Call, function: str, request_: str) -> None:
    client, seen = asked
    with pytest.raises(ValidationError, match=r"^confirm must be the website's name, 'Shop', got 'Blog'"):
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


def test_lists_are_tables(asked: Asked, call: Call) -> None:
    client, seen = asked
    assert [team.name for team in call(client.teams)] == ["Team"]
    assert "team_x" not in repr(client.teams())
    assert [link.url for link in call(client.links)] == ["https://a.example"]
    assert [pixel.name for pixel in call(client.pixels)] == ["Mail"]
    assert [segment.id for segment in call(client.segments, "segment")] == ["s1"]
    assert seen[-1].query["type"] == "segment"
    with pytest.raises(ValidationError, match="type must be one of segment, cohort"):
        client.segments("all")  # type: ignore[arg-type]


def test_an_older_server_has_no_links(make_client: Callable[..., umami.Client]) -> None:
    with Collector(umami="2.19", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        with pytest.raises(UnsupportedError, match=r"^links\(\) needs Umami 3\.0 or later"):
            client.links()

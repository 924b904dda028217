"""The Litestar plugin under uvicorn: page views, visitors, users, the flush at the end."""

import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from conftest import DEADLINE
from process_helpers import running
from process_helpers import settings as environment

import umami
import umami.testing
from integrations.web_servers import Sent, request, until, uvicorn_serving
from umami.collector import Collector
from umami.errors import ValidationError

pytest.importorskip("litestar")
pytest.importorskip("uvicorn")

from litestar import Controller, Litestar, MediaType, Request, WebSocket, asgi, get, post, websocket
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.testing import TestClient

from umami.integrations.litestar import UmamiPlugin

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@get(["/", "/items/{number:int}"], media_type=MediaType.HTML)
async def page(request: Request[Any, Any, Any]) -> str:
    return f"<h1>{request.path_params.get('number')}</h1>"


@get("/named", name="a name", media_type=MediaType.HTML)
async def named() -> str:
    return "<h1></h1>"


@post("/buy")
async def buy() -> dict[str, Any]:
    umami.new_event("bought")
    return {}


@get("/broken", media_type=MediaType.HTML)
async def broken() -> str:
    raise ZeroDivisionError


@get("/stream")
async def stream() -> Stream:
    async def pieces() -> AsyncIterator[str]:
        umami.new_event("first piece")
        yield "<html>"
        yield "</html>"

    return Stream(pieces(), media_type=MediaType.HTML)


@websocket("/socket")
async def hear(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    umami.new_event("heard", custom_data={"text": await socket.receive_text()})
    await socket.close()


class Shop(Controller):
    path = "/shop"

    @get("/shelf/{name:str}", media_type=MediaType.HTML)
    async def shelf(self) -> str:
        return "<h1></h1>"


@asgi("/mounted", is_mount=True, copy_scope=True)
async def mounted(scope: Any, receive: Any, send: Any) -> None:
    await ASGIResponse(body=b"<h1></h1>", media_type=MediaType.HTML)(scope, receive, send)


HANDLERS: list[Any] = [page, named, buy, broken, stream, hear, Shop, mounted]


def site(middleware: Any = (), **options: Any) -> Any:
    return Litestar(HANDLERS, plugins=[UmamiPlugin(**options)], middleware=list(middleware))


@pytest.fixture
def outbox() -> Iterator[umami.testing.Outbox]:
    with umami.testing.capture() as outbox:
        yield outbox


Outbox = umami.testing.Outbox


def test_a_page_view_says_which_page_was_seen_and_by_whom(outbox: Outbox) -> None:
    with uvicorn_serving(site()) as port:
        headers = {"User_Agent": BROWSER, "Accept_Language": "de-DE", "Referer": "https://example.org/"}
        answer = request(port, "/items/17?id=3&utm_source=mail", peer="127.0.0.9", **headers)
        assert answer == (200, b"<h1>17</h1>")
        until(lambda: outbox.all)
    (view,) = outbox.page_views
    assert (view.url, view.title) == ("/items/17?utm_source=mail", "page")
    assert (view.ip_address, view.ua) == ("127.0.0.9", BROWSER)
    assert (view.language, view.referrer) == ("de-DE", "https://example.org/")


@pytest.mark.slow
def test_the_handlers_name_is_the_title_and_the_route_may_stand_for_the_path(outbox: Outbox) -> None:
    pages = {
        "/items/17": ("/items/{number}", "page"),
        "/named": ("/named", "a name"),
        "/shop/shelf/3": ("/shop/shelf/{name}", "shelf"),
        "/mounted/a/b": ("/mounted/a/b", "/mounted/a/b"),
    }
    with uvicorn_serving(site(routes="template")) as port:
        for number, path in enumerate(pages, 1):
            request(port, path)
            until(lambda: len(outbox.all) == number)  # noqa: B023
    assert [(view.url, view.title) for view in outbox.page_views] == list(pages.values())


def test_only_pages_count_and_sends_know_the_visitor(outbox: Outbox) -> None:
    with uvicorn_serving(site(exclude=["/items/2"])) as port:
        for path in ("/nowhere", "/broken", "/items/2", "/items/1"):
            request(port, path)
        request(port, "/buy", "POST", peer="127.0.0.9", User_Agent=BROWSER)
        assert request(port, "/stream") == (200, b"<html></html>")
        until(lambda: len(outbox.all) == 4)
    assert sorted(view.url for view in outbox.page_views) == ["/items/1", "/stream"]
    assert outbox.one("first piece").url == "/stream"
    bought = outbox.one("bought")
    assert (bought.url, bought.ip_address, bought.ua) == ("/buy", "127.0.0.9", BROWSER)


def test_a_websockets_sends_know_the_visitor(outbox: Outbox) -> None:
    with (
        TestClient(site()) as client,
        client.websocket_connect("/socket", headers={"user-agent": BROWSER}) as socket,
    ):
        socket.send_text("hello")
    event = outbox.one("heard")
    assert (event.url, event.ua, event.data) == ("/socket", BROWSER, {"text": "hello"})


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_user_whom_a_middleware_has_found_is_known(outbox: Outbox, is_async: bool) -> None:
    def logs_in(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            scope["user"] = "user-17"
            await app(scope, receive, send)

        return middleware

    async def identity_async(seen: Any) -> Any:
        return seen.raw["user"]

    def identity(seen: Any) -> Any:
        return seen.raw["user"]

    app = site([logs_in], distinct_id=identity_async if is_async else identity)
    with uvicorn_serving(app) as port:
        request(port, "/buy", "POST")
        request(port, "/")
        until(lambda: outbox.page_views)
    assert [sent.distinct_id for sent in outbox.all] == ["user-17", "user-17"]


def test_a_failure_to_track_is_logged_once_for_all_routes(heard: Any) -> None:
    with uvicorn_serving(site(client=Sent(website_id=None))) as port:
        for path in ("/", "/named", "/items/1"):
            assert request(port, path)[0] == 200
        heard.wait_for("A request was not tracked")
    assert len([record for record in heard.records if record.levelname == "ERROR"]) == 1


def test_the_end_flushes_after_what_the_application_sends_at_its_own() -> None:
    client = Sent(flush_interval=3600.0)
    end: Any = lambda: client.new_event("the last one")  # noqa: E731
    with uvicorn_serving(Litestar([page], plugins=[UmamiPlugin(client=client)], on_shutdown=[end])):
        pass
    assert [event["payload"]["name"] for event in client.exporter.events] == ["the last one"]


def test_a_wrong_option_is_refused_at_once() -> None:
    with pytest.raises(ValidationError, match=re.escape("routes must be 'path' or 'template', got 'name'.")):
        UmamiPlugin(routes="name")


@pytest.mark.slow
def test_the_example_under_uvicorn(collector: Collector) -> None:
    variables = environment(collector, flush_interval=600)
    command = ["uvicorn", "examples.litestar_site:app", "--port=0"]
    with running("-m", *command, errors=subprocess.STDOUT, **variables) as child:
        port = int(child.says(r"running on http://127\.0\.0\.1:(\d+)")[1])
        assert request(port, "/items/17", User_Agent=BROWSER)[0] == 200
        assert request(port, "/buy", "POST", User_Agent=BROWSER)[0] == 201
        assert request(port, "/schema/elements", User_Agent=BROWSER)[0] == 200
        child.process.send_signal(signal.SIGTERM)
        child.process.wait(DEADLINE)
    seen = sorted((event.name or "", event.url_path, event.title) for event in collector.events)
    assert seen == [("", "/items/{number}", "item"), ("purchase", "/buy", "purchase")]

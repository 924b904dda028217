"""aiohttp's own server: page views, visitors, addresses behind proxies, users, the flush at the end."""

import asyncio
import http.client
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE
from process_helpers import running
from process_helpers import settings as environment

import umami
import umami.testing
from integrations.web_servers import Gated, Sent, full_client, request, until
from umami.collector import Collector
from umami.errors import ValidationError

aiohttp = pytest.importorskip("aiohttp")

from aiohttp import web  # noqa: E402
from aiohttp.test_utils import TestClient, TestServer, unused_port  # noqa: E402

from umami.integrations.aiohttp import install  # noqa: E402

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
Outbox = umami.testing.Outbox
gate = threading.Event()


@contextmanager
def serving(app: web.Application) -> Iterator[int]:
    """Serve an application with aiohttp's runner, and yield the port."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()
    ports = []

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await done.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(DEADLINE)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(DEADLINE)
        loop.close()


def html(text: str = "<h1></h1>", **options: Any) -> web.Response:
    return web.Response(text=text, content_type="text/html", **options)


async def page(request: web.Request) -> web.StreamResponse:
    return html(f"<h1>{request.match_info.get('number')}</h1>")


async def buy(_: web.Request) -> web.StreamResponse:
    umami.new_event("bought")
    return web.json_response({})


async def raised(_: web.Request) -> web.StreamResponse:
    raise web.HTTPOk(text="<h1></h1>", content_type="text/html")


async def moved(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/")


async def broken(_: web.Request) -> web.StreamResponse:
    raise ZeroDivisionError


async def nothing(_: web.Request) -> Any:
    return None


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/html"})
    await response.prepare(request)
    umami.new_event("first piece")
    await response.write(b"<html>")
    assert await asyncio.get_running_loop().run_in_executor(None, gate.wait, DEADLINE)
    await response.write(b"</html>")
    return response


async def hear(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    umami.new_event("heard", custom_data={"text": await socket.receive_str()})
    return socket


@web.middleware
async def decorates(request: web.Request, handler: Any) -> web.StreamResponse:
    """Replace the request and the response, as some middlewares do."""
    seen = await handler(request.clone(headers={**request.headers, "Referer": "https://example.org/"}))
    if seen.prepared:
        return seen
    seen.headers["X-Decorated"] = "yes"
    return seen


def site(file: Path | None = None, middlewares: Any = (), **options: Any) -> web.Application:
    app = web.Application(middlewares=middlewares)
    install(app, **options)
    app.router.add_get("/", page)
    app.router.add_get(r"/items/{number:\d+}", page, name="item")
    app.router.add_post("/buy", buy)
    app.router.add_get("/raised", raised)
    app.router.add_get("/moved", moved)
    app.router.add_get("/broken", broken)
    app.router.add_get("/nothing", nothing)
    app.router.add_get("/stream", stream)
    app.router.add_get("/socket", hear)
    if file is not None:

        async def send_file(_: web.Request) -> web.StreamResponse:
            return web.FileResponse(file)

        app.router.add_get("/file", send_file)
    shop = web.Application()
    shop.router.add_get("/shelf/{name}", page, name="shelf")
    app.add_subapp("/shop/", shop)
    return app


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with umami.testing.capture() as outbox:
        yield outbox


def test_a_page_view_says_which_page_was_seen_and_by_whom(outbox: Outbox) -> None:
    with serving(site()) as port:
        headers = {"User_Agent": BROWSER, "Accept_Language": "de-DE", "Referer": "https://example.org/"}
        answer = request(port, "/items/17?id=%3D&utm_source=mail%20shot", peer="127.0.0.9", **headers)
        assert answer == (200, b"<h1>17</h1>")
        until(lambda: outbox.all)
    (view,) = outbox.page_views
    assert (view.url, view.title) == ("/items/17?utm_source=mail%20shot", "item")
    assert (view.ip_address, view.ua) == ("127.0.0.9", BROWSER)
    assert (view.language, view.referrer) == ("de-DE", "https://example.org/")


def test_only_pages_count_and_sends_know_the_visitor(outbox: Outbox) -> None:
    with serving(site(exclude=["/items/2"])) as port:
        for path in ("/nowhere", "/broken", "/nothing", "/moved", "/items/2", "/items/1", "/raised"):
            request(port, path)
        request(port, "/", "HEAD")
        request(port, "/buy", "POST", peer="127.0.0.9", User_Agent=BROWSER)
        until(lambda: len(outbox.all) == 3)
    assert [view.url for view in outbox.page_views] == ["/items/1", "/raised"]
    bought = outbox.one("bought")
    assert (bought.url, bought.ip_address, bought.ua) == ("/buy", "127.0.0.9", BROWSER)


@pytest.mark.parametrize(
    ("path", "route", "title"),
    [("/items/17", "/items/{number}", "item"), ("/shop/shelf/3", "/shop/shelf/{name}", "shelf")],
)
def test_the_route_stands_for_the_path_if_asked(outbox: Outbox, path: str, route: str, title: str) -> None:
    with serving(site(routes="template")) as port:
        request(port, path)
        until(lambda: outbox.all)
    assert [(view.url, view.title) for view in outbox.page_views] == [(route, title)]


def test_a_body_streams_and_its_page_view_comes_after_it(outbox: Outbox) -> None:
    gate.clear()
    with serving(site()) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request("GET", "/stream", headers={"User-Agent": BROWSER})
        answer = connection.getresponse()
        assert answer.read1() == b"<html>"  # while the rest is not there yet
        assert [(sent.name, sent.url, sent.ua) for sent in outbox.all] == [
            ("first piece", "/stream", BROWSER)
        ]
        gate.set()
        assert answer.read() == b"</html>"
        connection.close()
        until(lambda: outbox.page_views)
    assert [view.url for view in outbox.page_views] == ["/stream"]


def test_a_file_is_a_page_and_so_is_its_copy_in_the_browsers_cache(outbox: Outbox, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text("<html></html>")
    with serving(site(file)) as port:
        assert request(port, "/file") == (200, b"<html></html>")
        later = "Fri, 01 Jan 2100 00:00:00 GMT"
        assert request(port, "/file", Accept="text/html", If_Modified_Since=later)[0] == 304
        until(lambda: len(outbox.all) == 2)
    assert [view.url for view in outbox.page_views] == ["/file", "/file"]


def test_a_websockets_sends_know_the_visitor(outbox: Outbox) -> None:
    async def talk() -> None:
        async with TestClient(TestServer(site())) as client:
            socket = await client.ws_connect("/socket", headers={"User-Agent": BROWSER})
            await socket.send_str("hello")
            await socket.close()

    asyncio.run(talk())
    (event,) = outbox.all
    assert (event.name, event.url, event.ua) == ("heard", "/socket", BROWSER)


def test_a_middleware_that_replaces_the_request_does_not_matter(outbox: Outbox) -> None:
    with serving(site(middlewares=[decorates])) as port:
        request(port, "/items/1")
        until(lambda: outbox.all)
    assert [(view.url, view.referrer) for view in outbox.all] == [("/items/1", "https://example.org/")]


def test_only_a_trusted_proxy_says_who_the_visitor_is(outbox: Outbox) -> None:
    with serving(site(trusted_proxies=["127.0.0.9"])) as port:
        for peer in ("127.0.0.8", "127.0.0.9"):
            request(port, "/", peer=peer, X_Forwarded_For="198.51.100.7, 203.0.113.9:4711")
        until(lambda: len(outbox.all) == 2)
    assert [view.ip_address for view in outbox.all] == ["127.0.0.8", "203.0.113.9"]


def test_a_unix_sockets_peer_can_be_trusted(outbox: Outbox, tmp_path: Path) -> None:
    async def visit() -> None:
        runner = web.AppRunner(site(trusted_proxies=["unix"]))
        await runner.setup()
        path = str(tmp_path / "s")
        await web.UnixSite(runner, path).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            headers = {"X-Forwarded-For": "203.0.113.9"}
            async with session.get("http://site/", headers=headers) as answer:
                assert answer.status == 200
        await runner.cleanup()

    asyncio.run(visit())
    assert [view.ip_address for view in outbox.all] == ["203.0.113.9"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_user_whom_a_middleware_has_found_is_known(outbox: Outbox, is_async: bool) -> None:
    users = {}

    @web.middleware
    async def logs_in(request: web.Request, handler: Any) -> web.StreamResponse:
        users[request.path] = "user-17"
        return await handler(request)

    async def identity_async(seen: Any) -> Any:
        return users[seen.raw.path]

    def identity(seen: Any) -> Any:
        return users[seen.raw.path]

    with serving(site(None, [logs_in], distinct_id=identity_async if is_async else identity)) as port:
        request(port, "/buy", "POST")
        request(port, "/")
        until(lambda: outbox.page_views)
    assert [sent.distinct_id for sent in outbox.all] == ["user-17", "user-17"]


def test_requests_at_the_same_time_do_not_mix(outbox: Outbox) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        umami.new_event("slow", custom_data={"path": request.path})
        return web.json_response({})

    app = web.Application()
    install(app)
    app.router.add_get("/{number}", slow)

    async def visit() -> None:
        async with TestClient(TestServer(app)) as client:
            await asyncio.gather(*(client.get(f"/{number}") for number in range(50)))
            umami.new_event("outside")

    asyncio.run(visit())
    assert outbox.one("outside").url == "/"
    seen = [sent for sent in outbox.all if sent.name == "slow"]
    assert len(seen) == 50
    assert all(sent.url == sent.data["path"] for sent in seen)


def test_a_failure_to_track_is_logged_once_and_fails_no_request(heard: Any) -> None:
    with serving(site(client=Sent(website_id=None))) as port:
        for _ in range(3):
            assert request(port, "/")[0] == 200
        heard.wait_for("A request was not tracked")
    assert len(heard.matching("A request was not tracked")) == 1


def test_a_send_that_waits_does_not_block_the_event_loop() -> None:
    server = Gated("direct mode")

    @web.middleware
    async def opens(request: web.Request, handler: Any) -> web.StreamResponse:
        server.opens_soon()
        return await handler(request)

    async def visit() -> None:
        app = site(client=client, middlewares=[opens])
        async with TestClient(TestServer(app)) as visitor:
            assert (await visitor.get("/")).status == 200

    with server.client() as client:
        asyncio.run(visit())
    assert [payload["url"] for payload in server.payloads] == ["/"]


def test_a_full_queue_delays_no_response() -> None:
    with full_client() as client, serving(site(client=client)) as port:
        for path in ("/", "/raised"):
            assert request(port, path)[0] == 200
        assert client.queue_stats().dropped == {"queue_full": 2}


def test_a_wrong_option_is_refused_at_once() -> None:
    with pytest.raises(ValidationError, match=re.escape("routes must be 'path' or 'template', got 'name'.")):
        install(web.Application(), routes="name")


def test_the_end_of_the_application_flushes() -> None:
    client = Sent(flush_interval=3600.0)

    async def lasts(_: web.Application) -> Any:
        yield
        client.new_event("the last one")

    app = site(client=client)
    app.cleanup_ctx.append(lasts)
    with serving(app):
        pass
    assert [event["payload"]["name"] for event in client.exporter.events] == ["the last one"]


@pytest.mark.slow
def test_the_example(collector: Collector) -> None:
    variables = environment(collector, flush_interval=600)
    port = unused_port()
    with running("-m", "examples.aiohttp_site", str(port), errors=subprocess.STDOUT, **variables) as child:
        child.says("Running on")
        assert request(port, "/items/17", User_Agent=BROWSER)[0] == 200
        assert request(port, "/buy", "POST", User_Agent=BROWSER)[0] == 200
        child.process.send_signal(signal.SIGTERM)
        child.process.wait(DEADLINE)
    seen = sorted((event.name or "", event.url_path, event.title) for event in collector.events)
    assert seen == [("", "/items/{number}", "item"), ("purchase", "/buy", "purchase")]

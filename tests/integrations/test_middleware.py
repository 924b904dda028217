"""The ASGI and WSGI middleware in real servers: page views, visitors, and requests that are not tracked."""

import asyncio
import http.client
import io
import logging
import re
import threading
from collections.abc import Iterator
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import httpx
import pytest
from conftest import with_each

import umami
from integrations.web_servers import (
    Gated,
    Sent,
    full_client,
    request,
    until,
    uvicorn_serving,
    werkzeug_serving,
)
from umami.errors import ValidationError
from umami.integrations import asgi, wsgi
from umami.integrations._request import Headers
from umami.integrations._title import TitleReader

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("flask")

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
STARLETTE_NAMES_ROUTES = tuple(map(int, version("starlette").split(".")[:2])) >= (1, 7)
HTML = "<html><head><title>A page</title></head></html>"


class Site:
    """An application of a framework behind the middleware, and a client that its events are sent with.

    The route of `/items/<id>` is named `item`, `/buy` sends an event, and `/broken` raises.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.client = Sent()
        self.gate = threading.Event()
        self.names_routes = kind == "asgi" and STARLETTE_NAMES_ROUTES

    def serving(self, **options: Any) -> Any:
        options = {"client": self.client, **options}
        if self.kind == "asgi":
            return uvicorn_serving(asgi.UmamiMiddleware(self.starlette(), **options))
        return werkzeug_serving(wsgi.UmamiMiddleware(self.flask(), **options))

    def pieces(self) -> Iterator[str]:
        yield "<html>"
        self.client.new_event("first piece")
        assert self.gate.wait(60)
        yield "</html>"

    def starlette(self) -> Any:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
        from starlette.routing import Mount, Route

        def page(_: Request) -> Response:
            return HTMLResponse(HTML)

        async def buy(_: Request) -> Response:
            await self.client.new_revenue_event_async(20, "EUR")
            return JSONResponse({})

        def broken(_: Request) -> Response:
            raise ZeroDivisionError

        routes = [
            Route("/", page, name="home", methods=["GET", "POST"]),
            Route("/items/{id:int}", page, name="item"),
            Route("/buy", buy, methods=["POST"]),
            Route("/json", lambda _: JSONResponse({})),
            Route("/stream", lambda _: StreamingResponse(self.pieces(), media_type="text/html")),
            Route("/missing", lambda _: HTMLResponse(HTML, 404)),
            Route("/broken", broken),
            Route("/not-modified", lambda _: Response(status_code=304)),
            Route("/healthz", page),
            Mount("/static", routes=[Route("/page", page)]),
            Mount("/shop", routes=[Route("/article/{id}", page, name="article")]),
        ]
        return Starlette(routes=routes)

    def flask(self) -> Any:
        from flask import Flask, Response

        app = Flask("site", static_folder=None)

        def page(**_: Any) -> str:
            return HTML

        def buy() -> dict[str, Any]:
            self.client.new_revenue_event(20, "EUR")
            return {}

        def broken() -> None:
            raise ZeroDivisionError

        app.add_url_rule("/", "home", page, methods=["GET", "POST"])
        app.add_url_rule("/items/<int:id>", "item", page)
        app.add_url_rule("/buy", "buy", buy, methods=["POST"])
        app.add_url_rule("/json", "json", dict)
        app.add_url_rule("/stream", "stream", lambda: Response(self.pieces(), mimetype="text/html"))
        app.add_url_rule("/missing", "missing", lambda: (HTML, 404))
        app.add_url_rule("/broken", "broken", broken)
        app.add_url_rule("/not-modified", "not-modified", lambda: Response(status=304))
        app.add_url_rule("/healthz", "healthz", page)
        app.add_url_rule("/static/page", "static", page)
        app.add_url_rule("/shop/article/<id>", "article", page)
        return app


@pytest.fixture(params=["asgi", "wsgi"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(request.param)
    yield site
    site.client.shutdown(60)


def test_a_page_view_says_which_page_was_seen_and_by_whom(site: Site) -> None:
    with site.serving() as port:
        headers = {
            "User_Agent": BROWSER,
            "Accept_Language": "de-DE,de;q=0.9",
            "Referer": "https://example.org/",
        }
        assert request(port, "/items/17?id=3&utm_source=mail&gclid=x", peer="127.0.0.9", **headers)[0] == 200
        until(lambda: site.client.urls)
    (view,) = site.client.payloads
    assert view["url"] == "/items/17?utm_source=mail&gclid=x"
    assert view["title"] == ("item" if site.names_routes else "/items/17")
    assert (view["ip"], view["userAgent"]) == ("127.0.0.9", BROWSER)
    assert (view["language"], view["referrer"]) == ("de-DE", "https://example.org/")


def test_the_title_is_read_from_the_page_if_asked_for(site: Site) -> None:
    with site.serving(title="html") as port:
        site.gate.set()
        assert request(port, "/items/17", User_Agent=BROWSER)[0] == 200
        until(lambda: len(site.client.urls) == 1)
        assert request(port, "/stream", User_Agent=BROWSER)[0] == 200  # has no title
        until(lambda: len(site.client.urls) == 2)
    titles = {payload["url"]: payload["title"] for payload in site.client.payloads if "name" not in payload}
    assert titles["/items/17"] == "A page"
    assert titles["/stream"] in ("/stream", "<lambda>")


@with_each(
    ("pieces", "headers", "title"),
    [
        (["<html><head><ti", "tle>\n Caf\xe9 &amp;\n bar", "</title><body>"], {}, "Caf\xe9 & bar"),
        (["<TITLE lang='de'>Hallo</TITLE>"], {}, "Hallo"),
        (["<p>", "x" * 20_000, "<title>too late</title>"], {}, None),
        (["<title>" * 3000], {}, None),
        (["<title></title>"], {}, None),
        (["<title-bar>A</title-bar><title\nid=a>B</title>"], {}, "B"),
        (["<!-- <title>old</title> --><title>A</title>"], {}, "A"),
        (["<!--><title>A</title><!-- -->"], {}, "A"),
        (["<!-- <title>never closed</title>"], {}, None),
        (["<script>a < b; '<title>x</title>'</scr", "ipt ><title>A</title>"], {}, "A"),
        (["<style>/* <title> */</style><textarea><title>x</title></textarea><title>A</title>"], {}, "A"),
        (["<noscript><title>x</title></noscript><script><title>x</title>"], {}, None),
        (["<svg><svg></svg><title>icon</title><style/></svg><svg/><title>A</title>"], {}, "A"),
        (["</svg><template><title>x</title></template>"], {}, None),
        (["<meta content='<title>x</title>' name=\"a>b\"><title data-a='>'>A</title>"], {}, "A"),
        (["<title\f>A</title>"], {}, "A"),
        (["<meta content=Bob's><title>A</title>"], {}, "A"),
        (["<?php '<title>x</title>' ?><![CDATA[<title>x</title>]]>"], {}, None),
        (["<script>'</scripty><title>x</title>'</script><title>A</title>"], {}, "A"),
        (["<a =" * 4000], {}, None),
        (["<a '" * 4000], {}, None),
        (["<a" * 8000], {}, None),
        (["<!--" * 4000], {}, None),
        (["<title>A</title>"], {"content-encoding": "gzip"}, None),
        (["<title>A</title>"], {"content-type": "application/json"}, None),
        (["<title>A</title>"], {"content-type": "text/html; charset=nonsense"}, "A"),
    ],
)
def test_a_title_is_read_as_the_pieces_pass(
    pieces: list[str], headers: dict[str, str], title: str | None
) -> None:
    reader = TitleReader(Headers({"content-type": "text/html; charset=utf-8", **headers}.items()))
    for piece in pieces:
        reader.saw(piece.encode())
    assert reader.title == title


def test_the_events_of_a_request_have_its_data(site: Site, heard: Any) -> None:
    def data(asked: Any) -> Any:
        return {"plan": "pro"} if asked.query else "none"

    with site.serving(page_views=False, data=data) as port:
        assert request(port, "/buy?id=3", "POST", User_Agent=BROWSER, peer="127.0.0.9")[0] == 200
        assert request(port, "/buy", "POST", User_Agent=BROWSER, peer="127.0.0.9")[0] == 200
    first, second = site.client.payloads
    assert first["data"] == {"plan": "pro", "revenue": 20, "currency": "EUR"}
    assert second["data"] == {"revenue": 20, "currency": "EUR"}
    assert second["ip"] == "127.0.0.9"  # only the data is left out
    heard.wait_for("data")


def test_a_send_in_a_request_knows_the_visitor_and_the_page(site: Site) -> None:
    with site.serving(page_views=False, tag="b") as port:
        assert request(port, "/buy?utm_source=mail", "POST", User_Agent=BROWSER, peer="127.0.0.9")[0] == 200
        assert request(port, "/", User_Agent=BROWSER)[0] == 200
    (event,) = site.client.payloads
    assert (event["url"], event["ip"], event["userAgent"], event["tag"]) == (
        "/buy?utm_source=mail",
        "127.0.0.9",
        BROWSER,
        "b",
    )


REQUESTS: list[tuple[str, str, dict[str, str], bool]] = [
    ("/", "GET", {}, True),
    ("/not-modified", "GET", {"Accept": "text/html,*/*"}, True),
    ("/not-modified", "GET", {"Accept": "image/png"}, False),
    ("/", "GET", {"HX_Request": "true", "HX_Boosted": "true"}, True),
    ("/", "HEAD", {}, False),
    ("/", "POST", {}, False),
    ("/", "OPTIONS", {}, False),
    ("/json", "GET", {}, False),
    ("/missing", "GET", {}, False),
    ("/nowhere", "GET", {}, False),
    ("/broken", "GET", {}, False),
    ("/healthz", "GET", {}, False),
    ("/static/page", "GET", {}, False),
    ("/", "GET", {"Sec_Purpose": "prefetch;prerender"}, False),
    ("/", "GET", {"Purpose": "prefetch"}, False),
    ("/", "GET", {"HX_Request": "true"}, False),
    ("/", "GET", {"Turbo_Frame": "cart"}, False),
    ("/", "GET", {"X_Requested_With": "XMLHttpRequest"}, False),
]
"""Path, method and headers of requests, and whether they count as page views."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_only_pages_that_are_shown_count(site: Site) -> None:
    with site.serving() as port:
        for path, method, headers, counts in REQUESTS:
            site.client.exporter.events.clear()
            request(port, path, method, **headers)
            assert request(port, "/items/1")[0] == 200
            until(lambda counts=counts: len(site.client.urls) >= 1 + counts)
            # The next request may overtake a page view, which comes after its response.
            expected = sorted(([path] if counts else []) + ["/items/1"])
            assert sorted(site.client.urls) == expected, (path, method, headers)


def test_paths_are_excluded_and_included_by_patterns(site: Site) -> None:
    with site.serving(exclude=["/items/*"], include=["/items/2", "/healthz"]) as port:
        for path in ("/items/1", "/items/2", "/healthz", "/static/page", "/"):
            request(port, path)
            if path not in ("/items/1", "/static/page"):
                until(lambda path=path: path in site.client.urls)
    assert site.client.urls == ["/items/2", "/healthz", "/"]


@pytest.mark.parametrize(
    ("keep", "url"),
    [(True, "/?a=1&utm_id=2&a%5B%5D=3"), (False, "/"), (["a", "a[[]]"], "/?a=1&a%5B%5D=3")],
    ids=["all", "none", "some"],
)
def test_the_query_is_kept_as_far_as_asked(site: Site, keep: Any, url: str) -> None:
    with site.serving(keep_query=keep) as port:
        request(port, "/?a=1&utm_id=2&a%5B%5D=3")
        until(lambda: site.client.urls)
    assert site.client.urls == [url]


def test_a_body_streams_and_its_page_view_comes_after_it(site: Site) -> None:
    with site.serving() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        assert answer.read1() == b"<html>"  # while the rest is not there yet
        until(lambda: site.client.payloads)
        assert [payload.get("name") for payload in site.client.payloads] == ["first piece"]
        assert site.client.payloads[0]["url"] == "/stream"
        site.gate.set()
        assert answer.read() == b"</html>"
        connection.close()
        until(lambda: site.client.urls)
    assert site.client.urls == ["/stream"]


def test_a_failure_to_track_is_logged_once_and_fails_no_request(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.client.set_website_id(None)
    with caplog.at_level(logging.INFO, "umami"), site.serving() as port:
        for _ in range(3):
            assert request(port, "/")[0] == 200
        until(lambda: caplog.records)
    (record,) = (record for record in caplog.records if "not tracked" in record.message)
    assert "The website_id must be set" in record.message
    assert record.levelname == "ERROR"


@pytest.mark.parametrize("option", ["client_ip", "distinct_id", "should_track", "title"])
def test_a_function_that_raises_fails_no_request(
    site: Site, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("no")

    is_counted = option != "should_track"
    with caplog.at_level(logging.INFO, "umami"), site.serving(**{option: fail}) as port:
        assert request(port, "/", User_Agent=BROWSER)[0] == 200
        assert request(port, "/buy", "POST", User_Agent=BROWSER)[0] == 200
        until(lambda: len(site.client.payloads) == 1 + is_counted)
    assert "ZeroDivisionError: no" in caplog.text
    # All else is known.
    assert {payload["userAgent"] for payload in site.client.payloads} == {BROWSER}
    assert {payload["url"] for payload in site.client.payloads} == {"/buy", *["/"] * is_counted}


@pytest.mark.parametrize(
    ("option", "answer"),
    [("distinct_id", ["user"]), ("distinct_id", len), ("tag", 17), ("tag", "x" * 60), ("data", 17)],
    ids=["list", "function", "number", "long", "no mapping"],
)
def test_a_function_that_returns_what_no_send_takes_fails_no_request(
    site: Site, option: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "umami"), site.serving(**{option: lambda _: answer}) as port:
        assert request(port, "/buy", "POST")[0] == 200
        assert request(port, "/")[0] == 200
        until(lambda: len(site.client.payloads) == 2)
    assert option in caplog.text


def test_a_tag_that_no_send_takes_is_refused_at_the_start() -> None:
    for make in (asgi.UmamiMiddleware, wsgi.UmamiMiddleware):
        with pytest.raises(ValidationError, match=r"^tag must have at most 50 characters"):
            make(lambda *_: None, tag="x" * 60)


def test_an_identity_is_asked_for_when_it_is_needed(site: Site) -> None:
    seen = []

    def identity(asked: Any) -> str:
        seen.append(asked.path)
        return "user-17"

    with site.serving(distinct_id=identity, page_views=False) as port:
        request(port, "/")
        assert not seen
        request(port, "/buy", "POST")
        until(lambda: site.client.payloads)
    assert seen == ["/buy"]
    assert site.client.payloads[0]["id"] == "user-17"


def test_a_function_chooses_the_tag(site: Site) -> None:
    with site.serving(tag=lambda asked: asked.headers.get("x-variant") or None) as port:
        request(port, "/buy", "POST", X_Variant="b")
        request(port, "/", X_Variant="c")
        until(lambda: site.client.urls)
    assert [payload["tag"] for payload in site.client.payloads] == ["b", "c"]


@pytest.mark.parametrize("header", ["Sec_GPC", "DNT"])
def test_a_visitor_who_asks_for_privacy_is_left_alone_if_the_site_says_so(site: Site, header: str) -> None:
    with site.serving(respect_gpc=True, distinct_id=lambda _: "user-17") as port:
        request(port, "/", User_Agent=BROWSER, **{header: "1"})
        request(port, "/buy", "POST", User_Agent=BROWSER, **{header: "1"})
        until(lambda: site.client.payloads)
    (event,) = site.client.payloads
    assert event["name"] == "revenue"
    assert event.keys().isdisjoint({"ip", "userAgent", "id"})


def test_bots_are_left_out_if_asked(site: Site) -> None:
    pytest.importorskip("is_bot")
    with site.serving(skip_bots=True) as port:
        request(
            port, "/", User_Agent="Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
        )
        request(port, "/items/1", User_Agent=BROWSER)
        until(lambda: site.client.urls)
    assert site.client.urls == ["/items/1"]


def test_the_address_can_be_left_out_or_cut_short(site: Site) -> None:
    with site.serving(anonymize_ip=True) as port:
        request(port, "/", peer="127.0.0.9")
        until(lambda: site.client.urls)
    with site.serving(send_ip=False) as port:
        request(port, "/")
        until(lambda: len(site.client.urls) == 2)
    cut, without = site.client.payloads
    assert (cut["ip"], without.get("ip")) == ("127.0.0.0", None)


def test_a_forged_header_changes_nothing_and_a_trusted_proxys_does(site: Site) -> None:
    forged = {
        "X_Forwarded_For": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "CF_Connecting_IP": "198.51.100.7",
    }
    with site.serving(trusted_proxies=["127.0.0.9"]) as port:
        request(port, "/", peer="127.0.0.8", **forged)
        until(lambda: site.client.urls)
        request(
            port, "/", peer="127.0.0.9", **{**forged, "X_Forwarded_For": "198.51.100.7, 203.0.113.9:4711"}
        )
        until(lambda: len(site.client.urls) == 2)
    assert [view["ip"] for view in site.client.payloads] == ["127.0.0.8", "203.0.113.9"]


@with_each(
    ("options", "message"),
    [
        ({"routes": "name"}, "routes must be 'path' or 'template', got 'name'."),
        ({"exclude": "/admin"}, "exclude must be a list of patterns, such as ['/admin/*'], got '/admin'."),
        ({"trusted_proxies": ["localhost"]}, "trusted_proxies must be networks such as 10.0.0.0/8"),
        ({"exclude": None}, "exclude must be a list of patterns, such as ['/admin/*'], got None."),
        ({"trusted_proxies": "10.0.0.0/8"}, "trusted_proxies must be a list, such as ['10.0.0.0/8'], got"),
        ({"trusted_proxies": None}, "trusted_proxies must be a list, such as ['10.0.0.0/8'], got None."),
        ({"anonymize_ip": "no"}, "anonymize_ip must be True or False, got 'no'."),
        ({"client_ip": "X-Real-IP"}, "client_ip must be a function, got 'X-Real-IP'."),
        ({"distinct_id": 17}, "distinct_id must be a function, got 17."),
        ({"client": "main"}, "client must be an umami.Client, got 'main'."),
        ({"website_id": 17}, "website_id must be "),
        (
            {"trusted_proxies": ["10.0.0.1"], "trusted_hops": 1},
            "Set trusted_proxies or trusted_hops, not both.",
        ),
        ({"client_ip_header": "X-Real-IP"}, "client_ip_header needs trusted_proxies or trusted_hops"),
        (
            {"forwarded_header": "X-Real-IP"},
            "forwarded_header must be 'X-Forwarded-For' or 'Forwarded', got 'X-Real-IP'.",
        ),
    ],
)
@with_each("middleware", [asgi.UmamiMiddleware, wsgi.UmamiMiddleware])
def test_a_wrong_option_is_refused_at_once(middleware: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"^{re.escape(message)}"):
        middleware(lambda *_: None, **options)


# ASGI alone.


def test_async_functions_are_awaited_once_and_before_the_application() -> None:
    site = Site("asgi")
    seen = []

    class Variant:
        async def __call__(self, asked: Any) -> str:
            await asyncio.sleep(0)
            return str(asked.headers.get("x-variant"))

    async def identity(asked: Any) -> str:
        await asyncio.sleep(0)
        seen.append(asked.path)
        return f"user of {asked.path}"

    with site.serving(distinct_id=identity, tag=Variant()) as port:
        request(port, "/buy", "POST", X_Variant="b")
        request(port, "/", X_Variant="c")
        until(lambda: site.client.urls)
    event, view = site.client.payloads
    assert (event["id"], event["tag"], view["id"], view["tag"]) == ("user of /buy", "b", "user of /", "c")
    assert seen == ["/buy", "/"]
    site.client.shutdown(60)


@pytest.mark.parametrize("option", ["distinct_id", "tag"])
def test_an_async_function_that_raises_fails_no_request(
    option: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Any) -> str:
        raise ZeroDivisionError("no")

    site = Site("asgi")
    with caplog.at_level(logging.INFO, "umami"), site.serving(**{option: fail}) as port:
        assert request(port, "/")[0] == 200
        assert request(port, "/buy", "POST")[0] == 200
        until(lambda: len(site.client.payloads) == 2)
    assert "ZeroDivisionError: no" in caplog.text
    site.client.shutdown(60)


def test_the_title_is_read_before_a_middleware_further_out_compresses_the_page() -> None:
    from starlette.middleware.gzip import GZipMiddleware

    site = Site("asgi")
    app = asgi.UmamiMiddleware(site.starlette(), client=site.client, title="html")
    with uvicorn_serving(GZipMiddleware(app, minimum_size=1)) as port:
        assert request(port, "/", Accept_Encoding="gzip")[1].startswith(b"\x1f\x8b")
        until(lambda: site.client.urls)
    assert [view["title"] for view in site.client.payloads] == ["A page"]


@pytest.mark.skipif(not STARLETTE_NAMES_ROUTES, reason="Starlette names no routes before 1.7")
def test_a_route_of_a_mounted_application_is_named_whole() -> None:
    site = Site("asgi")
    with site.serving(routes="template") as port:
        request(port, "/shop/article/3")
        until(lambda: site.client.urls)
    assert site.client.urls == ["/shop/article/{id}"]
    site.client.shutdown(60)


@pytest.mark.slow
def test_fastapis_endpoints_dependencies_and_background_tasks_know_the_visitor() -> None:
    fastapi = pytest.importorskip("fastapi")
    client = Sent()

    def user(request: fastapi.Request) -> str:
        request.state.user_id = f"user-{request.path_params['number']}"
        client.new_event("dependency")
        return str(request.state.user_id)

    async def endpoint_async(tasks: fastapi.BackgroundTasks, _: str = fastapi.Depends(user)) -> Any:
        client.new_event("endpoint")
        tasks.add_task(client.new_event, "background task")
        return fastapi.responses.HTMLResponse(HTML)

    def endpoint(tasks: fastapi.BackgroundTasks, _: str = fastapi.Depends(user)) -> Any:
        client.new_event("endpoint")
        tasks.add_task(client.new_event, "background task")
        return fastapi.responses.HTMLResponse(HTML)

    def identity(request: asgi.Request) -> Any:
        return request.raw.get("state", {}).get("user_id")

    router = fastapi.APIRouter(prefix="/items")
    router.add_api_route("/{number}", endpoint, name="item")
    router.add_api_route("/async/{number}", endpoint_async, name="async item")
    app = fastapi.FastAPI()
    app.include_router(router)
    app.add_middleware(asgi.UmamiMiddleware, client=client, routes="template", distinct_id=identity)
    with uvicorn_serving(app) as port:
        for number, path in enumerate(("/items/0", "/items/async/1")):
            assert request(port, path, peer="127.0.0.9")[0] == 200
            until(lambda: len(client.payloads) == 4 * (number + 1))  # noqa: B023
    assert [
        (payload.get("name") or payload["title"], payload["url"], payload.get("id"))
        for payload in client.payloads
    ] == [
        ("dependency", "/items/0", "user-0"),
        ("endpoint", "/items/0", "user-0"),
        ("item", "/items/{number}", "user-0"),
        ("background task", "/items/0", "user-0"),
        ("dependency", "/items/async/1", "user-1"),
        ("endpoint", "/items/async/1", "user-1"),
        ("async item", "/items/async/{number}", "user-1"),
        ("background task", "/items/async/1", "user-1"),
    ]
    assert {payload["ip"] for payload in client.payloads} == {"127.0.0.9"}


def test_a_root_path_is_part_of_the_page() -> None:
    site = Site("asgi")
    app = asgi.UmamiMiddleware(site.starlette(), client=site.client)
    with uvicorn_serving(app, root_path="/app") as port:
        request(port, "/items/3")
        until(lambda: site.client.urls)
    assert site.client.urls == ["/app/items/3"]
    site.client.shutdown(60)


HEALTH = ["/healthz", "/app/healthz", "/app/healthz/", "/shop/readyz", "/app/shop/readyz"]


@pytest.mark.parametrize("path", HEALTH)
def test_a_health_check_below_a_mount_is_no_page(path: str) -> None:
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Mount, Route

    def page(_: Any) -> Any:
        return HTMLResponse(HTML)

    checks = [Route("/readyz", page)]
    routes = [Route("/healthz", page), Route("/healthz/", page), Mount("/shop", routes=checks)]
    client = Sent()
    app = asgi.UmamiMiddleware(Starlette(routes=[*routes, Route("/docs/healthz", page)]), client=client)
    root = "/app" if path.startswith("/app") else ""
    with uvicorn_serving(app, root_path=root) as port:
        assert request(port, path.removeprefix(root))[0] == 200
        assert request(port, "/docs/healthz")[0] == 200
        until(lambda: client.urls)
    assert client.urls == [f"{root}/docs/healthz"]
    client.shutdown(60)


def test_a_health_check_below_a_script_name_is_no_page() -> None:
    for path, urls in (("/healthz", []), ("/healthz/", []), ("/docs/healthz", ["/app/docs/healthz"])):
        client, body = wsgi_response([b""], SCRIPT_NAME="/app", PATH_INFO=path)
        list(body)
        body.close()
        assert client.urls == urls


def test_a_page_view_waits_for_no_room() -> None:
    for serving, middleware, app in (
        (uvicorn_serving, asgi.UmamiMiddleware, Site("asgi").starlette()),
        (werkzeug_serving, wsgi.UmamiMiddleware, Site("wsgi").flask()),
    ):
        with full_client() as client, serving(middleware(app, client=client)) as port:
            for _ in range(2):
                assert request(port, "/")[0] == 200
            until(lambda: client.queue_stats().dropped.get("queue_full") == 2)


def test_the_end_of_the_lifespan_flushes() -> None:
    client = Sent(flush_interval=3600.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        client.new_event("the last one")
        await send({"type": "lifespan.shutdown.complete"})

    with uvicorn_serving(asgi.UmamiMiddleware(app, client=client), lifespan="on"):
        pass
    assert [event["payload"]["name"] for event in client.exporter.events] == ["the last one"]


def test_a_page_view_that_waits_does_not_block_the_event_loop() -> None:
    server = Gated("direct mode")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        server.opens_soon()
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def visit() -> None:
        transport = httpx.ASGITransport(asgi.UmamiMiddleware(app, client=client))  # type: ignore[arg-type]
        async with client, httpx.AsyncClient(transport=transport, base_url="http://site") as visitor:
            assert (await visitor.get("/page")).status_code == 200

    with server.client() as client:
        asyncio.run(visit())
    assert [payload["url"] for payload in server.payloads] == ["/page"]


def test_nothing_but_http_is_touched() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    middleware = asgi.UmamiMiddleware(app, client=Sent())
    scope: Any = {"type": "other"}
    asyncio.run(middleware(scope, None, None))  # type: ignore[arg-type]
    assert seen == [(scope, None, None)]


def test_the_default_client_is_the_modules_functions() -> None:
    assert asgi.UmamiMiddleware(lambda *_: None)._client is umami


# WSGI alone.


@pytest.mark.parametrize("option", ["distinct_id", "tag"])
def test_wsgi_refuses_async_functions(option: str) -> None:
    async def function(_: Any) -> str:
        return "user-17"

    with pytest.raises(ValidationError, match=f"^{option} must not be an async function here"):
        wsgi.UmamiMiddleware(lambda *_: None, **{option: function})


def wsgi_response(body: Any, middleware: dict[str, Any] | None = None, **options: Any) -> tuple[Sent, Any]:
    """Call a WSGI application behind the middleware, and return its client and the body."""
    client = Sent()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return body

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ.update(options)
    wrapped = wsgi.UmamiMiddleware(app, client=client, **(middleware or {}))
    return client, wrapped(environ, lambda *_: None)


def test_a_body_that_the_server_gives_up_is_no_page_view() -> None:
    client, body = wsgi_response([b"<html>", b"</html>"])
    assert next(iter(body)) == b"<html>"
    body.close()
    assert client.urls == []


def test_the_length_of_a_body_and_its_close_pass() -> None:
    class Body(list[bytes]):
        closed = False

        def close(self) -> None:
            self.closed = True

    original = Body([b"<html></html>"])
    client, body = wsgi_response(original)
    assert (len(body), list(body), client.urls) == (1, [b"<html></html>"], [])
    body.close()
    assert (original.closed, client.urls) == (True, ["/"])


def test_a_file_goes_to_the_server_as_it_is() -> None:
    file = FileWrapper(io.BytesIO(b"<html></html>"))
    client, body = wsgi_response(file, **{"wsgi.file_wrapper": FileWrapper})
    assert body is file
    assert client.urls == ["/"]


def test_a_body_without_a_length_has_none() -> None:
    _, body = wsgi_response(iter([b"<html></html>"]))
    assert not hasattr(body, "__len__")


def test_what_the_application_is_mounted_at_is_part_of_the_page() -> None:
    client, body = wsgi_response([b""], SCRIPT_NAME="/app", PATH_INFO="/caf\xc3\xa9")
    list(body)
    body.close()
    assert client.urls == ["/app/caf%C3%A9"]


@pytest.mark.parametrize("path", ["//evil.example/items", "///evil.example/items"])
def test_a_path_with_two_slashes_is_a_path_and_no_host(path: str) -> None:
    client, body = wsgi_response([b""], PATH_INFO=path)
    list(body)
    body.close()
    assert client.urls == ["/evil.example/items"]


@with_each("option", ["should_track", "title", "client_ip"])
@with_each("middleware", [asgi.UmamiMiddleware, wsgi.UmamiMiddleware])
def test_options_that_nobody_awaits_take_no_async_functions(middleware: Any, option: str) -> None:
    async def function(*_: Any) -> Any:
        return None

    with pytest.raises(ValidationError, match=f"^{option} must not be an async function"):
        middleware(lambda *_: None, **{option: function})


@with_each(
    ("address", "sent"),
    [
        ("203.0.113.7:4711", "203.0.113.0"),
        ("[2001:db8:1:2::7]:4711", "2001:db8:1::"),
        (ip_address("203.0.113.7"), "203.0.113.0"),
        ("unknown", None),
        (None, None),
    ],
)
def test_what_a_function_says_is_the_address_is_cut_short(address: Any, sent: str | None) -> None:
    client, body = wsgi_response([b""], middleware={"client_ip": lambda _: address, "anonymize_ip": True})
    list(body)
    body.close()
    assert [view.get("ip") for view in client.payloads] == [sent]

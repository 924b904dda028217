"""The ASGI application: records each request, applies a scripted fault, or answers as Umami does."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from umami.collector.faults import Answer, Fault, FaultPlan
from umami.collector.feed import Entry, Feed, Reception, Verdict
from umami.collector.generations import Generation
from umami.collector.ingest import ServerDiedError
from umami.collector.ingest_routes import FAULT, RECEPTION
from umami.collector.journal import Journal
from umami.collector.page import STREAM, Page
from umami.collector.records import Headers, Request
from umami.collector.responses import API_HEADERS, on_http_error

TRANSPORT: Final = "umami.transport"
"""The ASGI extension that holds the connection's transport."""

_logger = logging.getLogger("umami.collector")

_EVENT_ROUTES: Final = ("/send", "/batch", "/collect")
"""How the paths end to which clients post events, in whatever version."""


class CollectorApp:
    """The collector as an ASGI application.

    Args:
        routes: Umami's routes.
        journal: Where requests are recorded.
        feed: Gets an entry for each request for events that was refused, or met a fault.
        page: Answers what is not Umami's.
        faults: The scripted faults.
        generation: The version of Umami to answer as.
        keep_alive: Seconds until an idle connection is closed. Answers announce it.
    """

    def __init__(
        self,
        routes: list[Route],
        journal: Journal,
        feed: Feed,
        page: Page,
        faults: FaultPlan,
        generation: Generation,
        *,
        keep_alive: int,
    ) -> None:
        self._generation = generation
        self._keep_alive = keep_alive
        self._journal = journal
        self._feed = feed
        self._page = page
        self._faults = faults
        self._router = Starlette(routes=routes, exception_handlers={HTTPException: on_http_error})
        self._router.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            request = await _read(scope, receive, self._generation.max_body)
            if request is None:
                return
            send = self._kept_alive(request, scope, send)
            path = _routed_path(scope)
            if path == "/" or path.startswith("/collector/"):
                if path == STREAM:
                    await self._page.stream(scope, receive, send)
                else:
                    await _respond(send, await self._answer(scope, request))
                return
            reception = Reception(request, scope["client"][0])
            scope[RECEPTION] = reception
            # The fault is taken first: a test that has seen the request may change the faults.
            fault = self._faults.take(request.path)
            self._journal.received(request)
            if fault is not None:
                await self._fail(fault, request, scope, receive, send)
                return
            answer = await self._answer(scope, request)
            request.status = answer.status
            if answer.status >= 400 and not reception.items:
                self._note(reception, "rejected", f"Answered {answer.status}.", answer.status)
            await _respond(send, answer)
        except ServerDiedError:
            self._note(scope[RECEPTION], "rejected", "This version of Umami crashes here.")
            await _hang_up(scope, receive)
        except asyncio.CancelledError:
            # The server is stopping and has closed the connection.
            return

    async def _fail(self, fault: Fault, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request as its fault says."""
        self._note(scope[RECEPTION], "fault", f"Fault: {fault.describe()}.", fault.status)
        scope[FAULT] = fault
        normal = await self._answer(scope, request) if fault.stores_first else None
        await asyncio.sleep(fault.delay)
        if fault.freeze:
            await self._faults.hold(fault)
        if fault.cut in ("before", "after"):
            await _hang_up(scope, receive)
            return
        if fault.status is None and normal is None:
            normal = await self._answer(scope, request)
        answer = fault.answer(normal, self._generation)
        if fault.cut == "body":
            await _respond(send, answer, cut=True)
            await _hang_up(scope, receive)
            return
        request.status = answer.status
        await _respond(send, answer)

    def _note(self, reception: Reception, verdict: Verdict, reason: str, status: int | None = None) -> None:
        """Adds an entry for a whole request, if it was for events."""
        if reception.request.method == "POST" and reception.request.path.endswith(_EVENT_ROUTES):
            self._feed.add([Entry(reception, None, verdict, reason, status, is_event=False)])

    async def _answer(self, scope: Scope, request: Request) -> Answer:
        """Returns the answer of the routes, without sending it."""
        raw = scope["raw_path"].decode("latin-1")
        path = re.sub("/{2,}", "/", raw)
        path = path.rstrip("/") or "/"
        if path != raw:
            location = f"{path}?{request.query}" if request.query else path
            return Answer(308, (("location", location), ("refresh", f"0;url={location}")), location.encode())
        collected: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Message) -> None:
            collected.append(message)

        try:
            await self._router({**scope, "path": _routed_path(scope)}, receive, send)
        except ServerDiedError:
            raise
        except Exception:
            _logger.exception("Cannot answer %s %s", request.method, path)
            return Answer(500, tuple(API_HEADERS.items()), b"")
        start, *parts = collected
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"])
        return Answer(start["status"], headers, b"".join(part.get("body", b"") for part in parts))

    def _kept_alive(self, request: Request, scope: Scope, send: Send) -> Send:
        """Adds to each answer how long the connection stays open, as Node.js does."""
        if scope["http_version"] != "1.1" or "close" in request.headers.get("connection", "").lower():
            return send

        async def send_kept_alive(message: Message) -> None:
            if message["type"] == "http.response.start":
                timeout = f"timeout={self._keep_alive}".encode()
                kept = [(b"connection", b"keep-alive"), (b"keep-alive", timeout)]
                message = {**message, "headers": [*message["headers"], *kept]}
            await send(message)

        return send_kept_alive


def _routed_path(scope: Scope) -> str:
    """Returns the path as Umami routes it: without dot segments, but not percent-decoded."""
    path: str = scope["raw_path"].decode("latin-1")
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        dots = re.sub("%2e", ".", segment, flags=re.IGNORECASE)
        if dots == "..":
            del segments[-1:]
        elif dots != ".":
            segments.append(segment)
    return "/" + "/".join(segments)


async def _read(scope: Scope, receive: Receive, limit: int) -> Request | None:
    """Reads a request. Returns None if the client disconnected before it was complete.

    A body is cut one byte after `limit`, which is enough to see that it is too long.
    """
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"][: limit + 1 - len(body)]
        more = message["more_body"]
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=Headers(headers),
        body=bytes(body),
        client_port=scope["client"][1],
    )


async def _respond(send: Send, answer: Answer, *, cut: bool = False) -> None:
    """Sends an answer, or only the first half of its body."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    headers = [header for header in headers if header[0] != b"content-length"]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    body = answer.body[: len(answer.body) // 2] if cut else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": cut})


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Closes the connection once everything written so far has been sent."""
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    transport.close()
    # Wait until uvicorn has noticed. Otherwise it would answer 500 when this returns.
    while (await receive())["type"] != "http.disconnect":
        pass

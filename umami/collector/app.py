"""The ASGI application: Umami's routes, with the scripted faults in front of them."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette import requests
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from umami.collector import queries, replies, rules
from umami.collector.faults import Answer, Fault, FaultPlan
from umami.collector.ingest import Context, Ingest
from umami.collector.javascript import UNDEFINED, parse_json, to_number
from umami.collector.records import Headers, Request

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from umami.collector.auth import Auth
    from umami.collector.journal import Journal
    from umami.collector.replies import Json
    from umami.collector.store import Store

Batch = bool | Literal[405, "broken"]
Stats = Literal["3.1", "3.0", "2"]

TRANSPORT: Final = "umami.transport"
"""The ASGI extension under which the server hands over the connection."""

_CHUNK: Final = 100
_PAGE_SIZE: Final = 20
_RECENT: Final = 50
_UUID: Final = re.compile(r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE)
_NOT_FOUND: Final = '<!DOCTYPE html><html lang="en"><head><title>404</title></head><body>This page could not be found.</body></html>'
_HEADERS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "*",
    "access-control-allow-methods": "GET, DELETE, POST, PUT",
    "access-control-max-age": "86400",
    "cache-control": "no-cache",
}
_WEBSITE: Final[dict[str, rules.Check]] = {"name": rules.text(100), "domain": rules.text(500)}
_CREDENTIALS: Final[dict[str, rules.Check]] = {"username": rules.text(), "password": rules.text()}

Endpoint = Callable[[requests.Request], Awaitable[Response]]


class CollectorApp:
    """The collector as an ASGI application.

    Args:
        store: Where websites and events are kept.
        journal: What is told of every request.
        faults: The scripted faults.
        auth: Who may query.
        ingest: Takes in one event.
        batch: As for `Collector`.
        stats: As for `Collector`.
        item_delay: As for `Collector`.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        faults: FaultPlan,
        auth: Auth,
        ingest: Ingest,
        *,
        batch: Batch,
        stats: Stats,
        item_delay: float,
    ) -> None:
        self._store = store
        self._journal = journal
        self._faults = faults
        self._auth = auth
        self._ingest = ingest
        self._stats = stats
        self._item_delay = item_delay
        website = "/api/websites/{website_id}"
        routes = [
            Route("/", self._page),
            Route("/collector/state", self._state),
            Route("/api/send", self._send, methods=["POST"]),
            Route("/api/heartbeat", self._heartbeat),
            Route("/api/auth/login", self._login, methods=["POST"]),
            Route("/api/auth/verify", self._authorized(self._verify), methods=["POST"]),
            Route("/api/auth/logout", self._authorized(self._heartbeat), methods=["POST"]),
            Route("/api/me", self._authorized(self._me)),
            Route("/api/websites", self._websites),
            Route("/api/websites", self._create_website, methods=["POST"]),
            Route(website, self._authorized(self._website)),
            Route(f"{website}/stats", self._website_stats),
            Route(f"{website}/active", self._authorized(self._active)),
            Route(f"{website}/events/stats", self._event_stats),
            Route(f"{website}/metrics", self._metrics),
        ]
        if batch is not False:
            answer: Endpoint = {True: self._batch, 405: _no_method, "broken": _broken_batch}[batch]
            routes.append(Route("/api/batch", answer, methods=["POST"]))
        self._router = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
        self._router.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or lets it go wrong as scripted."""
        body = await _read(receive)
        if body is None:
            return
        request = Request(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=Headers(
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
            ),
            body=body,
            client_port=scope["client"][1],
        )
        if request.path == "/" or request.path.startswith("/collector/"):
            await _respond(send, await self._answer(scope, body))
            return
        self._journal.received(request)
        try:
            await self._answer_or_fail(request, scope, send)
        except asyncio.CancelledError:
            # The server is stopping and has closed the connection.
            return

    async def _answer_or_fail(self, request: Request, scope: Scope, send: Send) -> None:
        fault = self._faults.take(request.path)
        if fault is None:
            answer = await self._answer(scope, request.body)
            request.status = answer.status
            await _respond(send, answer)
            return
        scope["umami.fault"] = fault
        normal = await self._answer(scope, request.body) if fault.stores_first else None
        await asyncio.sleep(fault.delay)
        if fault.freeze:
            await self._faults.hold()
        if fault.cut in ("before", "after"):
            await _hang_up(scope)
            return
        if fault.status is None and normal is None:
            normal = await self._answer(scope, request.body)
        answer = fault.answer(normal)
        if fault.cut == "body":
            await _respond(send, answer, upto=len(answer.body) // 2)
            await _hang_up(scope, flush=True)
            return
        request.status = answer.status
        await _respond(send, answer)

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        """Has the routes answer, without sending anything yet."""
        path = re.sub("/{2,}", "/", scope["path"])
        if (len(path) > 1 and path.endswith("/")) or path != scope["path"]:
            location = path.rstrip("/") + (
                "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
            )
            headers = (("location", location), ("refresh", f"0;url={location}"))
            return Answer(308, headers, location.encode())
        collected: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            collected.append(message)

        await self._router(scope, receive, send)
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in collected[0]["headers"]
        )
        return Answer(
            collected[0]["status"], headers, b"".join(message.get("body", b"") for message in collected[1:])
        )

    # Ingestion ------------------------------------------------------------------------------------------------

    async def _send(self, request: requests.Request) -> Response:
        body = await _body(request)
        reply, *_ = await self._take_in([body], request)
        return _json(reply)

    async def _batch(self, request: requests.Request) -> Response:
        items = await _body(request)
        wrong = rules.check_batch(items)
        if wrong is not None:
            return _json(replies.bad_request(**wrong))
        answers = await self._take_in(items, request)
        details = [
            {"index": index, "response": reply} for index, reply in enumerate(answers) if "error" in reply
        ]
        reply: Json = {
            "size": len(items),
            "processed": len(items) - len(details),
            "errors": len(details),
            "details": details,
            "cache": None,
        }
        accepted = [answer for answer in answers if "error" not in answer]
        tokens = [answer["cache"] for answer in accepted if "cache" in answer]
        if tokens:
            reply["cache"] = tokens[0]
        elif accepted:
            # Only bots: their replies have no cache, and Umami passes on what is not there.
            del reply["cache"]
        return _json(reply)

    async def _take_in(self, items: list[Any], request: requests.Request) -> list[Json]:
        """Takes in events one after another. Not in one go: the server stays responsive, and a stop cuts it short."""
        context = Context(_joined(request), request.client.host if request.client else "")
        fault: Fault | None = request.scope.get("umami.fault")
        size = 1 if self._item_delay else _CHUNK
        answers: list[Json] = []
        for start in range(0, len(items), size):
            await asyncio.sleep(self._item_delay)
            before = self._store.added_events
            with self._store.writing():
                for index, item in enumerate(items[start : start + size], start):
                    answers.append(self._take_in_one(index, item, context, fault))
            self._journal.stored(self._store.added_events - before)
        return answers

    def _take_in_one(self, index: int, item: Any, context: Context, fault: Fault | None) -> Json:
        error = fault.item_error(index, item) if fault is not None else None
        if error is None:
            return self._ingest.send(item, context)
        if error.get("meta", {}).get("modelName") in ("EventData", "Revenue"):
            self._ingest.send(item, context)
        if "error" in error:
            return error
        return replies.server_error(
            {**replies.exception(error.get("name", "Error"), error.get("message", "")), **error}
        )

    # Auth and queries -----------------------------------------------------------------------------------------

    def _authorized(self, endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def guarded(request: requests.Request) -> Response:
            if not self._is_authorized(request):
                return _json(replies.unauthorized())
            return await endpoint(request)

        return guarded

    def _is_authorized(self, request: requests.Request) -> bool:
        return self._auth.is_valid(request.headers.get("authorization", ""))

    def _refusal(self, request: requests.Request, wrong: Json | None) -> Response | None:
        """What stands against a query: its parameters first, then its token, then its website's id."""
        if wrong is not None:
            return _json(replies.bad_request(**wrong))
        if not self._is_authorized(request):
            return _json(replies.unauthorized())
        if not _UUID.fullmatch(request.path_params.get("website_id", "0" * 32)):
            return Response(status_code=500)
        return None

    async def _heartbeat(self, _: requests.Request) -> Response:
        return _json({"ok": True})

    async def _login(self, request: requests.Request) -> Response:
        body = await _body(request)
        wrong = rules.members(body, _CREDENTIALS)
        if wrong is not None:
            return _json(replies.bad_request(**wrong))
        token = self._auth.login(body["username"], body["password"])
        if token is None:
            return _json(replies.unauthorized("incorrect-username-password"))
        return _json({"token": token, "user": {**self._auth.user, "teams": []}})

    async def _verify(self, _: requests.Request) -> Response:
        return _json({**self._auth.user, "teams": []})

    async def _me(self, request: requests.Request) -> Response:
        token = request.headers["authorization"].split(" ")[1]
        return _json({"token": token, "shareToken": None, "user": self._auth.user})

    async def _websites(self, request: requests.Request) -> Response:
        query = dict(request.query_params)
        refusal = self._refusal(request, queries.check_page(query))
        if refusal is not None:
            return refusal
        page, size = (
            int(to_number(query.get(name, default)))
            for name, default in (("page", 1), ("pageSize", _PAGE_SIZE))
        )
        search = query.get("search")
        rows, count = self._store.websites(search or "", size, size * (page - 1))
        if not query.get("includeTeams"):
            user = {"username": self._auth.user["username"], "id": self._auth.user["id"]}
            rows = [{**row, "user": user} for row in rows]
        reply: Json = {"data": rows, "count": count, "page": page, "pageSize": size}
        return _json(reply if search is None else {**reply, "search": search})

    async def _create_website(self, request: requests.Request) -> Response:
        body = await _body(request)
        refusal = self._refusal(request, rules.members(body, _WEBSITE, {"id": rules.nullable(rules.uuid)}))
        if refusal is not None:
            return refusal
        try:
            website_id = self._store.add_website(body["name"], body["domain"], body.get("id"))
        except ValueError:
            return Response(status_code=500)
        return _json(self._store.website(website_id))

    async def _website(self, request: requests.Request) -> Response:
        return self._refusal(request, None) or _json(self._store.website(request.path_params["website_id"]))

    async def _website_stats(self, request: requests.Request) -> Response:
        query = dict(request.query_params)
        refusal = self._refusal(request, queries.check_range(query))
        if refusal is not None:
            return refusal
        present, earlier = queries.stats(self._store, request.path_params["website_id"], query)
        if self._stats == "2":
            return _json({name: {"value": present[name], "prev": earlier[name]} for name in queries.STATS})
        if self._stats == "3.0":
            present, earlier = _without_zero_sums(present), _without_zero_sums(earlier)
        return _json({**present, "comparison": earlier})

    async def _active(self, request: requests.Request) -> Response:
        refusal = self._refusal(request, None)
        if refusal is not None:
            return refusal
        count = queries.active_visitors(self._store, request.path_params["website_id"])
        return _json({"x" if self._stats == "2" else "visitors": count})

    async def _event_stats(self, request: requests.Request) -> Response:
        query = dict(request.query_params)
        refusal = self._refusal(request, queries.check_range(query))
        return refusal or _json(queries.event_stats(self._store, request.path_params["website_id"], query))

    async def _metrics(self, request: requests.Request) -> Response:
        query = dict(request.query_params)
        refusal = self._refusal(request, queries.check_range(query, type=rules.text()))
        if refusal is not None:
            return refusal
        rows = queries.metrics(self._store, request.path_params["website_id"], query)
        return _json(replies.bad_request() if rows is None else rows)

    # The page -------------------------------------------------------------------------------------------------

    async def _page(self, _: requests.Request) -> Response:
        return HTMLResponse(files("umami.collector").joinpath("page.html").read_text("utf-8"))

    async def _state(self, _: requests.Request) -> Response:
        events = [
            {
                "at": None if math.isinf(event.timestamp) else event.timestamp,
                "type": event.type.name.replace("_", " ").lower(),
                "name": event.name or event.title or "",
                "path": event.url_path,
                "website": event.website_id,
                "session": event.session_id,
                "data": event.data,
            }
            for event in reversed(self._store.events(last=_RECENT))
        ]
        counts = {"events": self._journal.event_count, "requests": self._journal.request_count}
        return _json({**counts, "recent": events})


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client has gone before it was complete."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def _body(request: requests.Request) -> Any:
    raw = await request.body()
    return UNDEFINED if len(raw) > rules.MAX_BODY else parse_json(raw)


async def _respond(send: Send, answer: Answer, upto: int | None = None) -> None:
    headers = [
        (name.encode(), value.encode("latin-1")) for name, value in answer.headers if name != "content-length"
    ]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body[:upto], "more_body": upto is not None})


async def _hang_up(scope: Scope, *, flush: bool = False) -> None:
    """Closes the connection under the response; what was written goes out first if `flush`."""
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    (transport.close if flush else transport.abort)()
    # The server has to see the loss before the request ends, or it answers 500 in our place.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _joined(request: requests.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _json(reply: Any) -> Response:
    status = replies.status_of(reply) if isinstance(reply, dict) else 200
    body = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, {**_HEADERS, "content-type": "application/json"})


async def _http_error(_: requests.Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return HTMLResponse(_NOT_FOUND, status) if status == 404 else Response(status_code=status)


async def _no_method(_: requests.Request) -> Response:
    return Response(status_code=405)


async def _broken_batch(_: requests.Request) -> Response:
    message = "Cannot read private member #state from an object whose class did not declare it"
    return _json(
        replies.error(500, "server-error", message, errorObject=replies.exception("TypeError", message))
    )


def _without_zero_sums(figures: Json) -> Json:
    return {name: value if value or name not in queries.SUMS else None for name, value in figures.items()}

"""The routes that need a token, the login that gives one, and the heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from umami.collector import queries, replies, rules
from umami.collector.auth import Auth
from umami.collector.generations import Generation
from umami.collector.javascript import to_number
from umami.collector.replies import Json
from umami.collector.responses import bad_request_response, crash_response, json_response, read_json
from umami.collector.store import Store

_PAGE_SIZE: Final = 20
_CREDENTIALS: Final[Mapping[str, rules.Check]] = {"username": rules.text(), "password": rules.text()}
_NEW_WEBSITE: Final[Mapping[str, rules.Check]] = {"name": rules.text(100), "domain": rules.text(500)}

Endpoint = Callable[[Request], Awaitable[Response]]


class QueryRoutes:
    """Answers login, verify, me, websites and the queries about a website.

    Args:
        store: What the queries are about.
        auth: Who may query.
        generation: Which Umami answers.
    """

    def __init__(self, store: Store, auth: Auth, *, generation: Generation) -> None:
        self._store = store
        self._auth = auth
        self._generation = generation
        website = "/api/websites/{website_id}"
        guarded = partial(partial, self._guarded)
        self.routes = [
            Route("/api/heartbeat", self._ok),
            Route("/api/auth/login", self._login, methods=["POST"]),
            Route("/api/auth/verify", guarded(self._verify), methods=["POST"]),
            Route("/api/auth/logout", guarded(self._ok), methods=["POST"]),
            Route("/api/me", guarded(self._me)),
            Route("/api/websites", guarded(self._websites, check=queries.check_page)),
            Route("/api/websites", self._create_website, methods=["POST"]),
            Route(website, guarded(self._website)),
            Route(f"{website}/active", guarded(self._active)),
            Route(f"{website}/stats", guarded(self._stats, check=queries.check_range)),
            Route(f"{website}/events/stats", guarded(self._event_stats, check=queries.check_range)),
            Route(f"{website}/metrics", guarded(self._metrics, check=queries.check_metrics)),
        ]

    async def _guarded(
        self,
        endpoint: Endpoint,
        request: Request,
        *,
        check: Callable[[queries.Query], Json | None] | None = None,
    ) -> Response:
        """Asks for right parameters first, and only then for a token, as Umami does."""
        wrong = None if check is None else check(request.query_params)
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if self._store.is_away:
            return crash_response(self._generation)
        if not self._is_authorized(request):
            return self._reply(replies.unauthorized())
        try:
            if "website_id" in request.path_params:
                queries.require_uuid(request.path_params["website_id"])
            return await endpoint(request)
        except queries.CrashError:
            return crash_response(self._generation)

    def _is_authorized(self, request: Request) -> bool:
        return self._auth.is_valid(request.headers.get("authorization", ""))

    def _reply(self, reply: Any) -> Response:
        return json_response(reply, self._generation)

    async def _ok(self, _: Request) -> Response:
        return self._reply({"ok": True})

    async def _login(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        wrong = rules.members(body, _CREDENTIALS)
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if self._store.is_away:
            return crash_response(self._generation)
        token = self._auth.login(body["username"], body["password"])
        if token is None:
            return self._reply(replies.unauthorized("incorrect-username-password"))
        return self._reply({"token": token, "user": {**self._auth.user, "teams": []}})

    async def _verify(self, _: Request) -> Response:
        return self._reply({**self._auth.user, "teams": []})

    async def _me(self, request: Request) -> Response:
        token = request.headers["authorization"].split(" ")[1]
        return self._reply({"token": token, "shareToken": None, "user": self._auth.user})

    async def _websites(self, request: Request) -> Response:
        query = request.query_params
        page = int(to_number(query.get("page", 1)))
        size = int(to_number(query.get("pageSize", _PAGE_SIZE)))
        search = query.get("search")
        rows, count = self._store.websites(search or "", size, size * (page - 1))
        if not query.get("includeTeams"):
            owner = {"username": self._auth.user["username"], "id": self._auth.user["id"]}
            rows = [{**row, "user": owner} for row in rows]
        reply: Json = {"data": rows, "count": count, "page": page, "pageSize": size}
        return self._reply(reply if search is None else {**reply, "search": search})

    async def _create_website(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        wrong = rules.members(body, _NEW_WEBSITE, {"id": rules.nullable(rules.uuid)})
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if self._store.is_away:
            return crash_response(self._generation)
        if not self._is_authorized(request):
            return self._reply(replies.unauthorized())
        try:
            website_id = self._store.add_website(body["name"], body["domain"], body.get("id"))
        except ValueError:
            return crash_response(self._generation)
        return self._reply(self._store.website(website_id))

    async def _website(self, request: Request) -> Response:
        return self._reply(self._store.website(request.path_params["website_id"]))

    async def _active(self, request: Request) -> Response:
        count = queries.active_visitors(self._store, request.path_params["website_id"])
        return self._reply({"x" if self._generation.errors == "text" else "visitors": count})

    async def _stats(self, request: Request) -> Response:
        now, before = queries.stats(self._store, request.path_params["website_id"], request.query_params)
        if self._generation.errors != "object":
            return self._reply({name: {"value": now[name], "prev": before[name]} for name in queries.STATS})
        if self._generation.since < (3, 1):
            now, before = _null_sums(now), _null_sums(before)
        return self._reply({**now, "comparison": before})

    async def _event_stats(self, request: Request) -> Response:
        website_id = request.path_params["website_id"]
        return self._reply(queries.event_stats(self._store, website_id, request.query_params))

    async def _metrics(self, request: Request) -> Response:
        rows = queries.metrics(self._store, request.path_params["website_id"], request.query_params)
        return self._reply(replies.bad_request() if rows is None else rows)


def _null_sums(figures: Json) -> Json:
    """Without rows, Umami 3.0 leaves the sums as the database gives them: null."""
    if figures["visits"]:
        return figures
    return {name: None if name in queries.SUMS else value for name, value in figures.items()}

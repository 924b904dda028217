"""The routes that need a token, the login, and the heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from umami.collector import replies, rules
from umami.collector.auth import Auth
from umami.collector.figure_routes import figures_of
from umami.collector.figures import totals
from umami.collector.figures.query import (
    CrashError,
    Query,
    canonical_uuid,
    check_page,
    check_range,
    read_page,
)
from umami.collector.figures.reports import REPORTS, Report, check_report, report_span
from umami.collector.figures.segments import use_segment
from umami.collector.generations import Generation
from umami.collector.javascript import to_number
from umami.collector.link_routes import LinkRoutes
from umami.collector.replies import Json
from umami.collector.responses import bad_request_response, crash_response, json_response, read_json
from umami.collector.store import Store
from umami.collector.website_routes import WebsiteRoutes, check_segment, check_segments, check_update

_CREDENTIALS: Final[Mapping[str, rules.Check]] = {"username": rules.text(), "password": rules.text()}
_NEW_WEBSITE: Final[Mapping[str, rules.Check]] = {"name": rules.text(100), "domain": rules.text(500)}
_NEW_WEBSITE_OPTIONS: Final[Mapping[str, rules.Check]] = {
    "shareId": rules.nullable(rules.text(50)),
    "teamId": rules.nullable(rules.uuid),
    "id": rules.nullable(rules.uuid),
}

Endpoint = Callable[[Request], Awaitable[Response]]


class QueryRoutes:
    """Answers logins, and queries about the user, websites and statistics.

    Args:
        store: The database.
        auth: The user and its tokens.
        generation: The version of Umami to answer as.
        version: The version that ``/api/version`` answers.
    """

    def __init__(self, store: Store, auth: Auth, *, generation: Generation, version: str) -> None:
        self._store = store
        self._auth = auth
        self._generation = generation
        self._version = version
        website = "/api/websites/{website_id}"
        guarded = partial(partial, self._guarded)
        self.routes = [
            Route("/api/websites", guarded(self._websites, check=check_page)),
            Route("/api/websites", self._create_website, methods=["POST"]),
            Route(website, guarded(self._website)),
            Route(f"{website}/active", guarded(self._active)),
            Route(f"{website}/stats", guarded(self._stats, check=check_range)),
        ]
        verify_methods = list(generation.verify_methods)
        for exists, route in (
            (generation.me is not None, Route("/api/me", guarded(self._me))),
            (
                generation.errors in ("bare", "object"),
                Route("/api/me/websites", guarded(self._websites, check=check_page)),
            ),
            *(
                (not generation.early_figures, Route(f"/api/{things}", guarded(self._none, check=check_page)))
                for things in ("me/teams", "teams")
            ),
            (not generation.is_cloud, Route("/api/heartbeat", self._ok)),
            (not generation.is_cloud, Route("/api/auth/login", self._login, methods=["POST"])),
            (
                not generation.is_cloud,
                Route("/api/auth/verify", guarded(self._verify, by_api_key=False), methods=verify_methods),
            ),
            (
                not generation.is_cloud,
                Route("/api/auth/logout", guarded(self._ok, by_api_key=False), methods=["POST"]),
            ),
            (generation.has_second_factor, Route("/api/2fa/verify", self._second_factor, methods=["POST"])),
            (bool(generation.config), Route("/api/config", self._config)),
            (generation.tells_version, Route("/api/version", self._tell_version)),
        ):
            if exists:
                self.routes.append(route)
        websites = WebsiteRoutes(store, generation)
        changing = partial(partial, self._changing)
        segments = f"{website}/segments"
        self.routes += [
            Route(website, changing(websites.update, check=check_update), methods=["POST"]),
            Route(website, changing(websites.delete), methods=["DELETE"]),
            Route(f"{website}/reset", changing(websites.reset), methods=["POST"]),
        ]
        if "sessionDeletionEnabled" in generation.config:
            one = f"{website}/sessions/{{session_id}}"
            self.routes.append(Route(one, changing(websites.delete_session), methods=["DELETE"]))
        if "segments" not in generation.missing_figures:
            one = f"{segments}/{{segment_id}}"
            self.routes += [
                Route(segments, guarded(websites.segments, check=check_segments)),
                Route(segments, changing(websites.create_segment, check=check_segment), methods=["POST"]),
                Route(one, guarded(websites.segment)),
                Route(one, changing(websites.update_segment, check=check_segment), methods=["POST"]),
                Route(one, changing(websites.delete_segment), methods=["DELETE"]),
            ]
        if not generation.early_figures:
            for kind in ("links", "pixels"):
                links = LinkRoutes(store, generation, kind)
                one = f"/api/{kind}/{{thing_id}}"
                self.routes += [
                    Route(f"/api/{kind}", guarded(links.listing, check=check_page)),
                    Route(f"/api/{kind}", changing(links.create, check=links.check_new), methods=["POST"]),
                    Route(one, guarded(links.read)),
                    Route(one, changing(links.update, check=links.check_changes), methods=["POST"]),
                    Route(one, changing(links.delete), methods=["DELETE"]),
                ]
            for kind, report in REPORTS.items():
                check = partial(check_report, kind)
                endpoint = changing(partial(self._report, report), check=check)
                self.routes.append(Route(f"/api/reports/{kind}", endpoint, methods=["POST"]))
        self.routes += [
            Route(figure.route, guarded(partial(self._figure, figure.compute), check=figure.check))
            for figure in figures_of(generation)
        ]

    async def _guarded(
        self,
        endpoint: Endpoint,
        request: Request,
        *,
        check: Callable[[Query], Json | None] | None = None,
        by_api_key: bool = True,
    ) -> Response:
        """Checks the parameters and the token of a route, and answers."""
        wrong = None if check is None else check(self._query(request))
        return await self._checked(request, wrong, partial(endpoint, request), by_api_key=by_api_key)

    async def _changing(
        self,
        endpoint: Callable[[Request, Json], Awaitable[Response]],
        request: Request,
        *,
        check: Callable[[Any, Generation], Json | None] | None = None,
    ) -> Response:
        """Does the same as `_guarded`, for a route that takes a body."""
        body = {} if check is None else await read_json(request, self._generation)
        wrong = None if check is None else check(body, self._generation)
        return await self._checked(request, wrong, partial(endpoint, request, body))

    async def _checked(
        self,
        request: Request,
        wrong: Json | None,
        answer: Callable[[], Awaitable[Response]],
        *,
        by_api_key: bool = True,
    ) -> Response:
        """Answers if parameters and token are right. Since 2.16, Umami checks the parameters first."""
        is_authorized = self._is_authorized(request, by_api_key=by_api_key)
        if wrong is not None and (is_authorized or self._generation.errors != "text"):
            return bad_request_response(wrong, self._generation)
        if self._store.is_away:
            return crash_response(self._generation)
        if not is_authorized:
            return self._reply(replies.unauthorized())
        try:
            if "website_id" in request.path_params:
                website_id = canonical_uuid(unquote(request.path_params["website_id"]))
                request.path_params["website_id"] = website_id
            return await answer()
        except CrashError:
            return crash_response(self._generation)

    def _is_authorized(self, request: Request, *, by_api_key: bool = True) -> bool:
        # The Cloud also takes API keys in a header of their own.
        key = request.headers.get("x-umami-api-key", "") if self._generation.is_cloud else ""
        authorization = request.headers.get("authorization", "")
        return self._auth.is_valid(authorization, key) and (
            by_api_key or not self._auth.is_api_key(authorization, key)
        )

    def _query(self, request: Request) -> Query:
        return Query(request.query_params, self._generation)

    def _reply(self, reply: Any) -> Response:
        return json_response(reply, self._generation)

    async def _ok(self, _: Request) -> Response:
        return self._reply({"ok": True} if self._generation.says_ok else {})

    async def _config(self, _: Request) -> Response:
        on = ("currentVersion", "sessionDeletionEnabled")
        return self._reply({name: name in on for name in self._generation.config})

    async def _tell_version(self, _: Request) -> Response:
        return self._reply({"version": self._version})

    async def _login(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        wrong = rules.members(body, _CREDENTIALS)
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if self._store.is_away or "\0" in body["username"]:
            return crash_response(self._generation)
        return self._logged_in(
            self._auth.login(body["username"], body["password"]), "incorrect-username-password"
        )

    async def _second_factor(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        wrong = rules.members(body, {"token": rules.text()})
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        authorization = request.headers.get("authorization", "")
        return self._logged_in(self._auth.complete(authorization, body["token"]), "unauthorized")

    def _logged_in(self, granted: Json | None, refusal: str) -> Response:
        if granted is None:
            code = refusal if self._generation.tells_wrong_password else "unauthorized"
            return self._reply(replies.unauthorized(code))
        if "token" not in granted:
            return self._reply(granted)
        user = {name: self._auth.profile[name] for name in self._generation.login_user}
        return self._reply({**granted, "user": user})

    async def _verify(self, request: Request) -> Response:
        if self._generation.verify_wraps_user:
            return await self._me(request)
        if self._generation.me is None:
            return self._reply({name: self._auth.profile[name] for name in self._generation.login_user})
        teams: Json = {"teams": []} if self._generation.errors == "object" else {}
        return self._reply({**self._auth.user, **teams})

    async def _me(self, request: Request) -> Response:
        if self._generation.me == "user" and not request.url.path.startswith("/api/auth/"):
            return self._reply(self._auth.user)
        token = request.headers.get("authorization", "").partition(" ")[2]
        return self._reply({"token": token, "shareToken": None, "user": self._auth.user})

    async def _websites(self, request: Request) -> Response:
        query = request.query_params
        page = int(to_number(query.get("page", 1)))
        size = self._generation.page_size
        if size is None:
            return self._reply(self._store.websites()[0])
        size = int(to_number(query.get("pageSize", size)))
        search = query.get("search")
        rows, count = self._store.websites(search or "", size, size * (page - 1))
        if not query.get("includeTeams"):
            owner = {"username": self._auth.user["username"], "id": self._auth.user["id"]}
            for row in rows:
                row |= {"user": owner, "shareId": row.pop("shareId")}
        reply: Json = {"data": rows, "count": count, "page": page, "pageSize": size}
        if self._generation.pages_tell_order:
            return self._reply({**reply, "orderBy": query.get("orderBy", "name")})
        return self._reply(reply if search is None else {**reply, "search": search})

    async def _none(self, request: Request) -> Response:
        """Returns a page of what the collector does not have."""
        page = read_page(self._query(request))
        return self._reply({"data": [], "count": 0, "page": page.number, "pageSize": page.size})

    async def _create_website(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        wrong = rules.members(body, _NEW_WEBSITE, _NEW_WEBSITE_OPTIONS)
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if self._store.is_away:
            return crash_response(self._generation)
        if not self._is_authorized(request):
            return self._reply(replies.unauthorized())
        if "\0" in body["name"] + body["domain"]:
            return crash_response(self._generation)
        try:
            website_id = self._store.add_website(body["name"], body["domain"], body.get("id"))
        except ValueError:
            return crash_response(self._generation)
        return self._reply(self._store.website(website_id))

    async def _website(self, request: Request) -> Response:
        return self._reply(self._store.website(request.path_params["website_id"]))

    async def _active(self, request: Request) -> Response:
        count = totals.active_visitors(self._store, request.path_params["website_id"])
        shape = self._generation.active
        return self._reply([{"x": count}] if shape == "rows" else {shape: count})

    async def _stats(self, request: Request) -> Response:
        website_id, query = request.path_params["website_id"], self._query(request)
        use_segment(self._store, website_id, query)
        generation = self._generation
        if (generation.stats_need_website and not self._store.has_website(website_id)) or (
            generation.referrer_filter_fails and "referrer" in query
        ):
            raise CrashError
        now, before = totals.stats(self._store, website_id, query)
        if not generation.counts_visits:
            now, before = _uniques(now), _uniques(before)
        if generation.stats == "change":
            return self._reply(
                {name: {"value": now[name], "change": now[name] - before[name]} for name in now}
            )
        if generation.stats == "prev":
            return self._reply({name: {"value": now[name], "prev": before[name]} for name in now})
        return self._reply({**now, "comparison": before})

    async def _report(self, report: Report, _: Request, body: Json) -> Response:
        website_id, parameters = body["websiteId"].lower(), body["parameters"]
        query = Query({name: str(value) for name, value in body["filters"].items()}, self._generation)
        use_segment(self._store, website_id, query)
        return self._reply(report(self._store, website_id, query, report_span(parameters), parameters))

    async def _figure(self, compute: Callable[..., Any], request: Request) -> Response:
        website_id, *ids = request.path_params.values()
        query = self._query(request)
        use_segment(self._store, website_id, query)
        reply = compute(self._store, website_id, query, *map(unquote, ids))
        return self._reply(replies.bad_request() if reply is None else reply)


def _uniques(figures: Json) -> Json:
    """Renames the figures as in versions without visits."""
    names = {"pageviews": "pageviews", "visitors": "uniques", "bounces": "bounces", "totaltime": "totaltime"}
    return {old: figures[name] for name, old in names.items()}

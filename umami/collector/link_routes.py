"""The routes of short links and of pixels, which differ in nothing but the link's URL."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from umami.collector import rules
from umami.collector.figures.query import CrashError, Query, canonical_uuid, read_page
from umami.collector.generations import Generation
from umami.collector.replies import Json
from umami.collector.responses import json_response
from umami.collector.store import USER_ID, Store, now_text

_LEAST_SLUG: Final = 8
_OPTIONS: Final[Mapping[str, rules.Check]] = {
    "teamId": rules.nullable(rules.text()),
    "id": rules.nullable(rules.uuid),
}


class LinkRoutes:
    """Keeps links, or pixels. They count no clicks.

    Args:
        store: The database.
        generation: The version of Umami to answer as.
        kind: Which.
    """

    def __init__(self, store: Store, generation: Generation, kind: Literal["links", "pixels"]) -> None:
        self._store = store
        self._generation = generation
        self._kind = kind
        url = {"url": rules.text(500)} if kind == "links" else {}
        self._fields: dict[str, rules.Check] = {"name": rules.text(100), **url, "slug": rules.text(100)}

    def check_new(self, body: Any, _: Generation) -> Json | None:
        """Checks a new one."""
        return rules.members(body, self._fields, _OPTIONS)

    def check_changes(self, body: Any, _: Generation) -> Json | None:
        """Checks changes."""
        wrong = rules.members(body, {}, dict.fromkeys(self._fields, rules.text()))
        if wrong is None and len(body.get("slug", " " * _LEAST_SLUG)) < _LEAST_SLUG:
            short = {"errors": [f"Too small: expected string to have >={_LEAST_SLUG} characters"]}
            return {"errors": [], "properties": {"slug": short}}
        return wrong

    async def listing(self, request: Request) -> Response:
        """Returns a page of them."""
        page = read_page(Query(request.query_params, self._generation))
        found = self._store.things(self._kind)
        rows = found[page.size * (page.number - 1) :][: page.size]
        return self._reply({"data": rows, "count": len(found), "page": page.number, "pageSize": page.size})

    async def create(self, _: Request, body: Json) -> Response:
        """Creates one."""
        now = now_text()
        new: Json = {"id": body.get("id") or str(uuid.uuid4()), **{name: body[name] for name in self._fields}}
        new |= {"userId": None if body.get("teamId") else USER_ID, "teamId": body.get("teamId")}
        new |= {"createdAt": now, "updatedAt": now, "deletedAt": None}
        return self._set(new)

    async def read(self, request: Request) -> Response:
        """Returns one, or null."""
        return self._reply(self._find(request))

    async def update(self, request: Request, body: Json) -> Response:
        """Changes one."""
        changes = {name: body[name] for name in self._fields if name in body}
        return self._set({**self._known(request), **changes, "updatedAt": now_text()})

    async def delete(self, request: Request, _: Json) -> Response:
        """Deletes one."""
        self._store.delete_thing(self._known(request)["id"])
        return self._reply({"ok": True})

    def _set(self, thing: Json) -> Response:
        if any(
            each["slug"] == thing["slug"] and each["id"] != thing["id"]
            for each in self._store.things(self._kind)
        ):
            raise CrashError
        self._store.set_thing(self._kind, thing)
        return self._reply(thing)

    def _find(self, request: Request) -> Json | None:
        wanted = canonical_uuid(request.path_params["thing_id"])
        return next((each for each in self._store.things(self._kind) if each["id"] == wanted), None)

    def _known(self, request: Request) -> Json:
        found = self._find(request)
        if found is None:
            raise CrashError
        return found

    def _reply(self, reply: Any) -> Response:
        return json_response(reply, self._generation)

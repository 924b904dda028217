"""The routes that change websites, and those of their segments."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from umami.collector import replies, rules
from umami.collector.figures.query import CrashError, Query, canonical_uuid
from umami.collector.generations import Generation
from umami.collector.replies import Json
from umami.collector.responses import json_response
from umami.collector.store import Store, now_text

_NAMES: Final[Mapping[str, rules.Check]] = {"name": rules.text(), "domain": rules.text()}
_SHARE: Final[Mapping[str, rules.Check]] = {"shareId": rules.nullable(rules.text(50))}
_KIND: Final = rules.one_of("segment", "cohort")
_SEGMENT: Final[Mapping[str, rules.Check]] = {
    "type": _KIND,
    "name": rules.text(200),
    "parameters": rules.record,
}


def check_update(body: Any, generation: Generation) -> Json | None:
    """Checks the changes of a website. Umami 2.x needs its name and domain."""
    if generation.early_figures:
        return rules.members(body, _NAMES, _SHARE)
    return rules.members(body, {}, {**_NAMES, **_SHARE})


def check_segment(body: Any, _: Generation) -> Json | None:
    """Checks a segment."""
    return rules.members(body, _SEGMENT)


def check_segments(query: Query) -> Json | None:
    """Checks the parameters of the list of segments."""
    return rules.members(query, {"type": _KIND})


class WebsiteRoutes:
    """Changes websites, and keeps segments.

    Args:
        store: The database.
        generation: The version of Umami to answer as.
    """

    def __init__(self, store: Store, generation: Generation) -> None:
        self._store = store
        self._generation = generation

    async def update(self, request: Request, body: Json) -> Response:
        """Changes the name, the domain or the share of a website."""
        website_id = self._known(request)
        changes: Json = {name: body[name] for name in ("name", "domain") if name in body}
        if "shareId" in body:
            changes["share_id"] = body["shareId"] or None
        self._store.update_website(website_id, changes)
        return self._reply(self._store.website(website_id))

    async def reset(self, request: Request, _: Json) -> Response:
        """Deletes a website's events."""
        self._store.reset_website(self._known(request))
        return self._ok()

    async def delete(self, request: Request, _: Json) -> Response:
        """Deletes a website."""
        self._store.delete_website(self._known(request))
        return self._ok()

    async def delete_session(self, request: Request, _: Json) -> Response:
        """Deletes a session with its events. By Umami's OpenAPI document; not compared with a real server."""
        session_id = canonical_uuid(request.path_params["session_id"])
        self._store.delete_session(self._known(request), session_id)
        return self._ok()

    async def segments(self, request: Request) -> Response:
        """Returns the segments, or the cohorts, of a website."""
        query, website_id = request.query_params, request.path_params["website_id"]
        search = query.get("search", "")
        found = [
            _told(each)
            for each in self._store.segments(
                website_id,
                "type = :p2 and lower(name) like '%' || :p3 || '%'",
                query["type"],
                "" if self._generation.early_figures else search.lower(),
            )
        ]
        if self._generation.early_figures:
            return self._reply(found)
        page: Json = {"data": found[:20], "count": len(found), "page": 1, "pageSize": 20}
        return self._reply({**page, "search": search} if search else page)

    async def create_segment(self, request: Request, body: Json) -> Response:
        """Creates a segment."""
        segment = {"id": str(uuid.uuid4()), "website_id": self._known(request), "created_at": now_text()}
        return self._set(segment, body)

    async def segment(self, request: Request) -> Response:
        """Returns a segment."""
        found = self._find(request)
        if found is None and self._generation.early_figures:
            return self._reply(None)
        return self._not_found() if found is None else self._reply(_told(found))

    async def update_segment(self, request: Request, body: Json) -> Response:
        """Changes a segment."""
        found = self._find(request)
        return self._not_found() if found is None else self._set(found, body)

    async def delete_segment(self, request: Request, _: Json) -> Response:
        """Deletes a segment."""
        found = self._find(request)
        if found is None:
            return self._not_found()
        self._store.delete_segment(found["id"])
        return self._ok()

    def _set(self, segment: Json, body: Json) -> Response:
        segment |= {name: body[name] for name in _SEGMENT} | {"updated_at": now_text()}
        self._store.set_segment(segment)
        return self._reply(_told(segment))

    def _find(self, request: Request) -> Json | None:
        segment_id = canonical_uuid(request.path_params["segment_id"])
        found = self._store.segments(request.path_params["website_id"], "id = :p2", segment_id)
        return found[0] if found else None

    def _known(self, request: Request) -> str:
        website_id: str = request.path_params["website_id"]
        if not self._store.has_website(website_id):
            raise CrashError
        return website_id

    def _ok(self) -> Response:
        return self._reply({"ok": True} if self._generation.says_ok else {})

    def _not_found(self) -> Response:
        return self._reply(replies.error(404, "not-found", "Not found"))

    def _reply(self, reply: Any) -> Response:
        return json_response(reply, self._generation)


def _told(segment: Json) -> Json:
    return {
        "id": segment["id"],
        "websiteId": segment["website_id"],
        "type": segment["type"],
        "name": segment["name"],
        "parameters": segment["parameters"],
        "createdAt": segment["created_at"],
        "updatedAt": segment["updated_at"],
    }

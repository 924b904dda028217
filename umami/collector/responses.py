"""Reads requests and writes responses, for all of the collector's routes."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from umami.collector.forms import told
from umami.collector.generations import Generation
from umami.collector.javascript import UNDEFINED, parse_json
from umami.collector.replies import Json, bad_request, status_of

_CORS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "*",
    "access-control-allow-methods": "GET, DELETE, POST, PUT",
    "access-control-max-age": "86400",
    "vary": "rsc, next-router-state-tree, next-router-prefetch, next-router-segment-prefetch",
}
API_HEADERS: Final = {**_CORS, "cache-control": "no-cache"}
_NOT_FOUND: Final = '<!DOCTYPE html><html lang="en"><title>404</title><p>This page could not be found.</html>'


async def read_json(request: Request, generation: Generation) -> Any:
    """Returns the request's parsed body: `UNDEFINED` if it is not JSON or too long.

    Versions that read the Content-Type return ``{}`` for another type.

    Raises:
        HTTPException: Such a version refuses the body.
    """
    body = await request.body()
    too_long = len(body) > generation.max_body
    if not generation.reads_by_content_type:
        return UNDEFINED if too_long else parse_json(body)
    if too_long:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Body exceeded 1mb limit")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return {}
    parsed = parse_json(body) if body else {}
    if parsed is UNDEFINED:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "Invalid JSON")
    return parsed


def json_response(reply: Any, generation: Generation) -> Response:
    """Returns the response for a reply, in a version's form."""
    if not isinstance(reply, dict):
        return body_response(HTTPStatus.OK, reply)
    return body_response(status_of(reply), told(reply, generation))


def body_response(status: int, body: Any) -> Response:
    """Returns the response with a body that has its form already: text, or a value to send as JSON."""
    if isinstance(body, str):
        # In versions that answer with text, errors have no Content-Type.
        kind = {"content-type": "text/plain"} if status == HTTPStatus.OK else {}
        return Response(body, status, {**_CORS, **kind})
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, API_HEADERS, "application/json")


def bad_request_response(wrong: Json, generation: Generation) -> Response:
    """Returns the response 400 with the tree of messages."""
    return json_response(bad_request(**wrong), generation)


def crash_response(generation: Generation) -> Response:
    """Returns the 500 of an error outside of Umami's error handling. Since 2.16 it has no body."""
    text = "Internal Server Error" if generation.errors == "text" else None
    return Response(text, 500, API_HEADERS)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Returns the response for an unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allow = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    # CORS: other origins may use Umami's routes, but not those of the collector.
    headers = API_HEADERS if request.url.path.startswith("/api/") else {}
    if request.method == "OPTIONS" and allow:
        methods = sorted({"OPTIONS", *allow.split(", ")})
        return Response(status_code=204, headers={**headers, "allow": ", ".join(methods)})
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE) and isinstance(
        error, HTTPException
    ):
        return Response(error.detail, status, headers)
    if status == HTTPStatus.NOT_FOUND:
        return HTMLResponse(_NOT_FOUND, status, headers)
    return Response(status_code=status, headers=headers)

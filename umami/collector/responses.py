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
    """The request's body, parsed; `UNDEFINED` if it is no JSON or too long, ``{}`` if not said to be JSON.

    Raises:
        HTTPException: What reads the body refuses it, before Umami sees it.
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
    """Sends a reply in a generation's form, with the status that it names, or 200."""
    if not isinstance(reply, dict):
        return body_response(HTTPStatus.OK, reply)
    return body_response(status_of(reply), told(reply, generation))


def body_response(status: int, body: Any) -> Response:
    """Sends a body that has its form already: text as it is, anything else as JSON."""
    if isinstance(body, str):
        # The errors of the generations that answer with text have no Content-Type.
        kind = {"content-type": "text/plain"} if status == HTTPStatus.OK else {}
        return Response(body, status, {**_CORS, **kind})
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, API_HEADERS, "application/json")


def bad_request_response(wrong: Json, generation: Generation) -> Response:
    """Answers 400 with the tree of what is wrong."""
    return json_response(bad_request(**wrong), generation)


def crash_response(generation: Generation) -> Response:
    """Answers as Umami does when it fails outside of its handlers: 500, and later with nothing in it."""
    text = "Internal Server Error" if generation.errors == "text" else None
    return Response(text, 500, API_HEADERS)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers for a path or a method that there is not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allow = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    # Other origins may ask Umami's own routes for anything, and nothing of the collector's.
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

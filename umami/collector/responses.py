"""Reads requests and writes responses, for all of the collector's routes."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from umami.collector import rules
from umami.collector.javascript import UNDEFINED, parse_json
from umami.collector.replies import bad_request, status_of

API_HEADERS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "*",
    "access-control-allow-methods": "GET, DELETE, POST, PUT",
    "access-control-max-age": "86400",
    "cache-control": "no-cache",
    "vary": "rsc, next-router-state-tree, next-router-prefetch, next-router-segment-prefetch",
}
_NOT_FOUND: Final = '<!DOCTYPE html><html lang="en"><title>404</title><p>This page could not be found.</html>'


async def read_json(request: Request) -> Any:
    """The request's body, parsed; `UNDEFINED` if it is no JSON or too long."""
    body = await request.body()
    return UNDEFINED if len(body) > rules.MAX_BODY else parse_json(body)


def json_response(reply: Any) -> Response:
    """Sends a reply with the status that it names, or 200."""
    status = status_of(reply) if isinstance(reply, dict) else 200
    body = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, API_HEADERS, "application/json")


def bad_request_response(wrong: dict[str, Any]) -> Response:
    """Answers 400 with the tree of what is wrong."""
    return json_response(bad_request(**wrong))


def crash_response() -> Response:
    """Answers as Umami does when it fails outside of its handlers: 500, with nothing in it."""
    return Response(status_code=500, headers=API_HEADERS)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers for a path or a method that there is not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allow = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    # Other origins may ask Umami's own routes for anything, and nothing of the collector's.
    headers = API_HEADERS if request.url.path.startswith("/api/") else {}
    if request.method == "OPTIONS" and allow:
        methods = sorted({"OPTIONS", *allow.split(", ")})
        return Response(status_code=204, headers={**headers, "allow": ", ".join(methods)})
    if status == 404:
        return HTMLResponse(_NOT_FOUND, status, headers)
    return Response(status_code=status, headers=headers)

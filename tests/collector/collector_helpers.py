"""Helpers for the collector's tests: a website, and events to send. They do not use the client."""

from typing import Any

import httpx

SITE = "978435e2-7ba1-4337-9860-ec31ece2db60"
ABSENT = object()
"""The value of a field that is to be left out."""


def item(type: str = "event", **payload: Any) -> dict[str, Any]:  # noqa: A002
    """An event as a client sends it, with these fields set or left out."""
    fields = {"website": SITE, "hostname": "example.com", "url": "/", **payload}
    return {"type": type, "payload": {name: value for name, value in fields.items() if value is not ABSENT}}


def send(http: httpx.Client, **payload: Any) -> httpx.Response:
    return http.post("/api/send", json=item(**payload))


def wrong(response: httpx.Response, field: str) -> str:
    """What a 400 says about a field of the payload."""
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["message"], error["code"], error["status"], error["errors"]) == (
        "Bad request",
        "bad-request",
        400,
        [],
    )
    [message] = error["properties"]["payload"]["properties"][field]["errors"]
    return message


def failure(response: httpx.Response) -> dict[str, Any]:
    """The exception in a 500."""
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["message"], error["code"], error["status"]) == ("Server error", "server-error", 500)
    return error["errorObject"]

"""Error messages: of each version of Umami, and of proxies."""

import json
from typing import Any

from conftest import with_each

from umami._http.answers import words, words_of

# As real servers of each generation answered.
SAID: list[tuple[str, Any, str | None]] = [
    ("2.15 text", b"Website not found: 1234.", "Website not found: 1234."),
    ("2.15 database", b"\nInvalid `prisma.website.findUnique()` invocation:\n\n\nCan't reach database server",
     "Invalid `prisma.website.findUnique()` invocation: Can't reach database server"),
    ("2.0 login", b"401 Unauthorized", "401 Unauthorized"),
    ("2.16 string", {"error": "Website not found."}, "Website not found."),
    ("2.19 login", {"error": "message.incorrect-username-password"}, "message.incorrect-username-password"),
    ("2.17 list", {"error": ["payload: "]}, "payload"),
    ("2.17 two", {"error": ["startAt: Required", "endAt: Required"]}, "startAt: Required; endAt: Required"),
    ("2.17 empty list", {"error": []}, None),
    ("2.16 zod", {"error": {"issues": [{"code": "too_big", "path": ["payload", "name"],
                                        "message": "Too long"},
                                       {"path": ["type"], "message": "Required"}], "name": "ZodError"}},
     "payload.name: Too long; type: Required"),
    ("2.19 database", {"error": {"name": "PrismaClientInitializationError", "code": "P1001",
                                 "message": "Can't reach database server at `db:5432`", "stack": "Error"}},
     "P1001 Can't reach database server at `db:5432`"),
    ("2.19 data", {"error": {"name": "PrismaClientKnownRequestError", "code": "P2000",
                             "meta": {"modelName": "Session"}, "message": "The value is too long"}},
     "P2000 The value is too long"),
    ("2.17 on Node 24", {"error": {"name": "TypeError", "message": "Cannot read private member #state",
                                   "stack": "TypeError"}}, "Cannot read private member #state"),
    ("3.x", {"error": {"message": "Unauthorized", "code": "unauthorized", "status": 401}}, "Unauthorized"),
    ("3.x site", {"error": {"message": "Website not found.", "code": "bad-request", "status": 400}},
     "Website not found."),
    ("3.x login", {"error": {"message": "Unauthorized", "code": "incorrect-username-password"}},
     "Unauthorized (incorrect-username-password)"),
    ("3.x tree", {"error": {"message": "Bad request", "code": "bad-request", "status": 400, "errors": [],
                            "properties": {"payload": {"errors": [], "properties": {
                                "name": {"errors": ["Too big", "Odd"]}}}}}},
     "Bad request: payload.name: Too big; payload.name: Odd"),
    ("3.x items", {"error": {"message": "Bad request", "code": "bad-request", "properties": {
        "steps": {"errors": [], "items": [{"errors": ["Odd"]}]}}}}, "Bad request: steps[0]: Odd"),
    ("3.x body", {"error": {"message": "Bad request", "code": "bad-request", "status": 400,
                            "errors": ["Invalid input: expected object, received undefined"]}},
     "Bad request: Invalid input: expected object, received undefined"),
    ("3.x database", {"error": {"message": "Server error", "code": "server-error", "errorObject": {
        "name": "PrismaClientKnownRequestError", "code": "P1001", "message": "\nCan't reach\n\ndatabase"}}},
     "P1001 Can't reach database"),
    ("3.x 500", {"error": {"message": "Server error", "code": "server-error"}}, "Server error"),
    ("nothing", b"", None),
    ("none", None, None),
    ("blank", b" \n ", None),
    ("a page", b"\xef\xbb\xbf\n<!DOCTYPE html><html>502 Bad Gateway</html>", None),
    ("half a JSON", b'{"error": {"message": "Unau', None),
    ("gzip", bytes(range(128, 256)) * 4, None),
    ("a gateway's", {"message": "Too many requests"}, "Too many requests"),
    ("FastAPI's", {"detail": "Not Found"}, "Not Found"),
    ("a bare string", "Forbidden", "Forbidden"),
    ("a number", 5, None),
    ("null", {"error": None}, None),
    ("a page with a title", b"<html><head><title>413 Too\nLarge</title></head><h1>No</h1>", "413 Too Large"),
    ("control characters", {"error": "a\x1b[31mb\x07\u202ec"}, "a [31mb c"),
]  # fmt: skip


def test_json_of_another_form_is_shown_as_it_is() -> None:
    assert words(b'{"status": "DOWN"}') == '{"status": "DOWN"}'
    assert len(words(b'{"status": "' + b"x" * 5000 + b'"}') or "") == 300


@with_each(("server", "body", "said"), SAID)
def test_an_error_is_said_in_the_servers_words(server: str, body: Any, said: str | None) -> None:
    assert words(body if isinstance(body, bytes | None) else json.dumps(body).encode()) == said
    if not isinstance(body, bytes | None):
        assert words_of(body) == said


DEEP: dict[str, Any] = {"errors": ["deep"]}
for _ in range(150):
    DEEP = {"properties": {"a": DEEP}}


@with_each(
    "body",
    [
        b"x" * 1_000_000,
        json.dumps({"error": "x" * 1_000_000}).encode(),
        json.dumps({"error": ["x" * 50] * 100_000}).encode(),
        json.dumps({"error": {"message": "m", "errors": ["y" * 9] * 100_000, "code": "c" * 9999}}).encode(),
        json.dumps({"error": {"message": "m", **DEEP}}).encode(),
        b"[" * 100_000,
        b'{"error":' * 100_000,
        json.dumps(
            {"error": {"issues": [{"path": 5, "message": "odd"}, 7], "errors": {}, "code": 5}}
        ).encode(),
        json.dumps({"error": {"errorObject": {"code": None, "message": ["no"]}, "properties": []}}).encode(),
    ],
)
def test_the_words_are_few_whatever_a_server_says(body: bytes) -> None:
    said = words(body)
    assert said is None or len(said) <= 300

"""Converts an answer to a version's form. All answers are created in the form of Umami 3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from umami.collector.generations import Generation
from umami.collector.replies import Json

_WORDS: Final = (
    # A message of zod 4; code and message of zod 3; the message of yup, which follows the field's name.
    (r"Invalid input: expected \w+, received undefined", "invalid_type", "Required", "is a required field"),
    (
        r"Invalid input: expected (\w+), received NaN",
        "invalid_type",
        r"Expected \1, received nan",
        r"must be a `\1` type, but the final value was: `NaN`.",
    ),
    (
        r"Too small: expected number to be >(\d+)",
        "too_small",
        r"Number must be greater than \1",
        r"must be greater than \1",
    ),
    (
        "Invalid input: expected int, received number",
        "invalid_type",
        "Expected integer, received float",
        "must be an integer",
    ),
    (
        r"Invalid input: expected (\w+), received (\w+)",
        "invalid_type",
        r"Expected \1, received \2",
        r"must be a `\1` type, but the final value was: `\2`.",
    ),
    (
        r"Too big: expected string to have <=(\d+) characters",
        "too_big",
        r"String must contain at most \1 character(s)",
        r"must be at most \1 characters",
    ),
    (r"Invalid UUID", "invalid_string", "Invalid uuid", "must be a valid UUID"),
    (
        r"Invalid string: must match pattern (.*)",
        "invalid_string",
        "Invalid",
        r'must match the following: "\1"',
    ),
    (r"Invalid IP address", "invalid_string", "Invalid ip", "must be an IP address"),
    (
        r"Invalid option: .*",
        "invalid_enum_value",
        "Invalid enum value.",
        'must match the following: "/event|identify/i"',
    ),
    (r"(.*)", "custom", r"\1", r"is wrong: \1"),
)


def told(reply: Json, generation: Generation) -> Json | str:
    """Converts a reply to a version's form.

    Args:
        reply: The reply in the form of Umami 3.
        generation: The version of Umami.

    Returns:
        The body: an object to be sent as JSON, or plain text.
    """
    if "error" not in reply:
        return _accepted(reply, generation)
    if generation.errors == "object":
        return reply
    error = reply["error"]
    issues = list(_issues(error, ()))
    if generation.errors == "text":
        return _text(error, issues)
    if "errorObject" in error:
        return {"error": error["errorObject"]}
    if "errors" not in error:
        return {"error": _message(error)}
    if generation.errors == "zod":
        return {"error": {"issues": [_issue(path, message) for path, message in issues], "name": "ZodError"}}
    members: Json = error.get("properties") or dict(enumerate(error.get("items", [])))
    return {"error": [f"{name}: {_joined(found)}" for name, found in members.items() if found]}


def _accepted(reply: Json, generation: Generation) -> Json | str:
    if "beep" in reply:
        return reply if generation.beeps else {}
    if "sessionId" not in reply or generation.accepted == "ids":
        return reply
    token: str = reply["cache"]
    return token if generation.accepted == "token" else {"cache": token}


def _text(error: Json, issues: list[tuple[tuple[str | int, ...], str]]) -> str:
    if issues:
        path, message = issues[0]
        return f"{'.'.join(map(str, path)) or 'this'} {_reworded(message, 3)}"
    if "errorObject" in error:
        return "Internal Server Error"
    message = _message(error)
    return f"{error['status']} {message.title()}" if message in ("Bad request", "Unauthorized") else message


def _message(error: Json) -> str:
    if error["code"] == "incorrect-username-password":
        return f"message.{error['code']}"
    text: str = error["message"]
    return text


def _issues(tree: Json, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields each error message with its path in the body."""
    for message in tree.get("errors", ()):
        yield path, message
    branches: list[tuple[Any, Any]] = [*tree.get("properties", {}).items(), *enumerate(tree.get("items", ()))]
    for name, branch in branches:
        if branch:
            yield from _issues(branch, (*path, name))


def _issue(path: tuple[str | int, ...], message: str) -> Json:
    return {"code": _reworded(message, 1), "path": list(path), "message": _reworded(message, 2)}


def _joined(tree: Json) -> str:
    return ", ".join(_reworded(message, 2) for message in tree["errors"])


def _reworded(message: str, column: int) -> str:
    found, words = next(
        (found, words)
        for words in _WORDS
        if (found := re.fullmatch(words[0], message.replace("record", "object"), re.DOTALL))
    )
    return found.expand(words[column])

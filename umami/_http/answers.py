"""Finds the message in an error answer: every generation of Umami has its own form for it. And tells tokens.

Before 2.16 an error is plain text. Then it is JSON: `{"error": …}` with a string, a list of strings, a
ZodError, a serialized exception, and from 3.0 on `{"message", "code", "status"}` with the validation's tree
or the exception beside them.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import from_json

_MOST: Final = 300
_MOST_DEPTH: Final = 20
# Only so much of an answer is looked at, however long it is.
_MOST_READ: Final = 4 * _MOST
_TOKEN: Final = re.compile(rb"\s*eyJ[\w-]+\.[\w-]+\.[\w-]+\s*")
_TITLE: Final = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)
# These say no more than the status does.
_PLAIN_CODES: Final = frozenset(("bad-request", "unauthorized", "forbidden", "not-found", "server-error"))


def is_token(body: bytes) -> bool:
    """Tell whether a body is a bare token, as Umami before 2.16 answers to an event that it has stored."""
    return _TOKEN.fullmatch(body) is not None


def is_error(body: bytes) -> bool:
    """Tell whether a body is an error in Umami's form: an object, or before 2.16 plain text."""
    try:
        answer = from_json(body)
    except ValueError:
        # A proxy's is HTML; that of Go's servers, such as Traefik, begins with the number.
        return bool(body) and not body.lstrip().startswith((b"<", b"404 "))
    return isinstance(answer, dict) and "error" in answer


def words(body: bytes | None) -> str | None:
    """Return what the body of an error answer says.

    Args:
        body: The body, decompressed; None if it could not be read.

    Returns:
        At most 300 printable characters: the message, the title of a page of HTML, or the beginning of JSON
        of another form. None if it is empty or not text.
    """
    if not body:
        return None
    try:
        answer = from_json(body)
    except ValueError:
        text = body[:_MOST_READ].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
        if title := _TITLE.search(text):
            return _clean(title[1])
        is_text = not text.startswith(("<", "{", "[")) and text.count("\ufffd") * 10 < len(text)
        return _clean(text) if is_text else None
    said = words_of(answer)
    if said is None and any(answer.values() if isinstance(answer, dict) else ()):
        return _clean(body[:_MOST_READ].decode("utf-8", "replace"))
    return said


def words_of(answer: Any) -> str | None:
    """Return what a decoded error answer says, or the answer to one item of a batch; see `words`."""
    error = answer
    if isinstance(answer, dict):
        error = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), None)
    return _clean("; ".join(_few(_parts(error))))


def _parts(error: Any) -> Iterator[str]:
    if isinstance(error, str):
        yield error
    elif isinstance(error, list):
        yield from (part for part in error if isinstance(part, str))
    elif isinstance(error, dict):
        cause = error.get("errorObject")
        if isinstance(cause, dict):
            error = cause
        head = _head(error)
        faults = list(_few(_faults(error, "", 0)))
        if head and faults:
            yield f"{head}: {'; '.join(faults)}"
        else:
            yield from [head] if head else faults


def _head(error: dict[str, Any]) -> str:
    """Return the code and the message; only one of them where it includes the other."""
    code, message = error.get("code"), error.get("message")
    code = code if isinstance(code, str) else ""
    message = message if isinstance(message, str) else ""
    if not message:
        name = error.get("name")
        return code or (name if isinstance(name, str) and "issues" not in error else "")
    if not code or code in _PLAIN_CODES:
        return message
    return f"{code} {message}" if code[:1].isupper() else f"{message} ({code})"


def _faults(node: Any, path: str, depth: int) -> Iterator[str]:
    """Yield what is wrong with each field: a ZodError's issues, or Zod's tree of errors."""
    if not isinstance(node, dict) or depth > _MOST_DEPTH:
        return
    issues = node.get("issues")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and isinstance(issue.get("message"), str):
            at = issue.get("path")
            yield _at(".".join(map(str, at)) if isinstance(at, list) else "", issue["message"])
    errors = node.get("errors")
    for fault in errors if isinstance(errors, list) else ():
        if isinstance(fault, str):
            yield _at(path, fault)
    properties, items = node.get("properties"), node.get("items")
    for name, child in properties.items() if isinstance(properties, dict) else ():
        yield from _faults(child, f"{path}.{name}" if path else str(name), depth + 1)
    for index, child in enumerate(items) if isinstance(items, list) else ():
        yield from _faults(child, f"{path}[{index}]", depth + 1)


def _at(path: str, fault: str) -> str:
    return f"{path}: {fault}" if path else fault


def _few(parts: Iterator[str]) -> Iterator[str]:
    """Yield no more parts than will be shown."""
    length = 0
    for part in parts:
        yield part[:_MOST_READ]
        length += len(part)
        if length > _MOST_READ:
            return


def _clean(text: str) -> str | None:
    """Return the printable characters as one line, safe for a log or a terminal."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[:_MOST_READ])
    return " ".join(line.split()).rstrip(": ")[:_MOST] or None

"""Umami's JSON replies: the error envelope, and the errors of its database.

A failed insert is answered with a 500, in which ``errorObject`` is the serialized exception with its stack. A
client needs this object to tell permanent from temporary failures, so its codes and size are realistic.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

Json = dict[str, Any]

_STACK = "".join(
    f"\n    at async frame{depth:02} (/app/node_modules/@prisma/client/runtime/client.js:{depth}:8286)"
    for depth in range(22)
)


class ServerError(Exception):
    """Umami's handler raises here, and answers 500 with the serialized exception.

    Args:
        error_object: The exception as Umami serializes it.
    """

    def __init__(self, error_object: Json) -> None:
        super().__init__(error_object.get("message"))
        self.error_object = error_object


def error(status: int, code: str, message: str | None = None, **details: Any) -> Json:
    """Wraps an error in Umami's envelope, ``{"error": {…}}``.

    Args:
        status: The HTTP status, which the envelope repeats.
        code: The error's code, such as ``bad-request``.
        message: The error message. By default, the phrase of the status.
        **details: Further members of the envelope.
    """
    phrase = HTTPStatus(status).phrase
    return {"error": {"message": message or phrase, "code": code, "status": status, **details}}


def bad_request(**details: Any) -> Json:
    """Returns a 400, with the tree of messages or another message in `details`."""
    return error(400, "bad-request", details.pop("message", "Bad request"), **details)


def unauthorized(code: str = "unauthorized") -> Json:
    """401: no valid token, or (with its own code) a wrong password."""
    return error(401, code)


def server_error(error_object: Json | None = None) -> Json:
    """Returns a 500, with the serialized exception if there is one."""
    details = {} if error_object is None else {"errorObject": error_object}
    return error(500, "server-error", "Server error", **details)


def status_of(reply: Json) -> int:
    """Returns the HTTP status of a reply: that of its error envelope, or 200."""
    envelope = reply.get("error")
    return int(envelope.get("status", 500)) if isinstance(envelope, dict) else 200


def exception(name: str, message: str, **members: Any) -> Json:
    """Returns an exception as Umami serializes it, with a stack of the usual size."""
    return {**members, "name": name, "message": message, "stack": f"{name}: {message}{_STACK}"}


def _prisma_exception(name: str, message: str, **members: Any) -> Json:
    """Returns an exception of Prisma that sets its own name, which therefore comes first."""
    return {"name": name} | exception(name, message, **members)


def completed(error_object: Json) -> Json:
    """Adds the members that a scripted ``errorObject`` lacks."""
    return exception(error_object.get("name", "Error"), error_object.get("message", "")) | error_object


def invalid_url(address: str, base: str) -> Json:
    """``new URL()`` failed, for example because of a hostname with a blank."""
    return exception("TypeError", "Invalid URL", code="ERR_INVALID_URL", input=address, base=base)


def invalid_date() -> Json:
    """A string in custom data looks like a date, but is not one. Does not show that the event is stored."""
    return exception("RangeError", "Invalid time value")


def no_geo_database() -> Json:
    """The visitor's address is public and the server has no GeoIP database."""
    path = "/app/geo/GeoLite2-City.mmdb"
    message = f"ENOENT: no such file or directory, stat '{path}'"
    return exception("Error", message, errno=-2, code="ENOENT", syscall="stat", path=path)


def nul_byte() -> Json:
    """PostgreSQL refuses U+0000 in a text. Has neither a code nor a model name."""
    cause = _cause("22021", "postgres", 'invalid byte sequence for encoding "UTF8": 0x00')
    return _prisma_exception("DriverAdapterError", cause["message"], cause=cause, clientVersion="7.6.0")


def too_long(model: str, operation: str, width: int) -> Json:
    """A text does not fit its column of `width` characters (Prisma's P2000)."""
    cause = _cause("22001", "LengthMismatch", f"value too long for type character varying({width})")
    reason = "The provided value for the column is too long for the column's type. Column: (not available)"
    return _query_failed("P2000", f"prisma.{operation}()", reason, cause, modelName=model)


def out_of_range(model: str, operation: str) -> Json:
    """A number does not fit its column (Prisma's P2020)."""
    cause = _cause("22003", "ValueOutOfRange", "numeric field overflow")
    cause["cause"] = cause["originalMessage"]
    reason = "Value out of range for the type: numeric field overflow"
    return _query_failed("P2020", f"prisma.{operation}()", reason, cause, modelName=model)


def session_refused(code: str, kind: str, message: str) -> Json:
    """PostgreSQL refused the session row (Prisma's P2010: a raw query failed). Nothing is stored."""
    reason = f"Raw query failed. Code: `{code}`. Message: `{message}`"
    return _query_failed("P2010", "prisma.$queryRawUnsafe()", reason, _cause(code, kind, message))


def invalid_argument(operation: str, problem: str) -> Json:
    """Prisma refused an argument before asking the database. Has neither a code nor a model name."""
    message = f"\nInvalid `prisma.{operation}()` invocation:\n\n{problem}"
    return _prisma_exception("PrismaClientValidationError", message, clientVersion="7.6.0")


def database_away(model: str = "Website") -> Json:
    """The database does not answer (Prisma's P1001): the one failure here that is worth a retry."""
    cause = _cause("ECONNREFUSED", "DatabaseNotReachable", "connect ECONNREFUSED 127.0.0.1:5432")
    reason = "Can't reach database server at 127.0.0.1:5432"
    return _query_failed("P1001", "prisma.website.findUnique()", reason, cause, modelName=model)


def _query_failed(code: str, operation: str, reason: str, cause: Json, **meta: Any) -> Json:
    words = cause["message"] if cause["kind"] == "postgres" else cause["kind"]
    driver_error = _prisma_exception("DriverAdapterError", words, cause=cause)
    return exception(
        "PrismaClientKnownRequestError",
        f"\nInvalid `{operation}` invocation:\n\n\n{reason}",
        code=code,
        meta={**meta, "driverAdapterError": driver_error},
        clientVersion="7.6.0",
    )


def _cause(code: str, kind: str, message: str) -> Json:
    cause = {"originalCode": code, "originalMessage": message, "kind": kind}
    if kind == "postgres":
        return cause | {"code": code, "severity": "ERROR", "message": message}
    return cause

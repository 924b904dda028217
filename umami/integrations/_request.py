"""A request and its response, as the middlewares show them to the functions among their options."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._title import TitleReader


class Headers:
    """Headers, by their names in small letters."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str:
        """Return the first value of a header; blank without it."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return self._values.get(name, [])


def environ_headers(environ: Mapping[str, Any]) -> Headers:
    """Return the headers of a request from its WSGI environ."""
    return Headers(
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    )


@dataclass
class Request:
    """A request, as a middleware shows it to the functions that it is given.

    Attributes:
        method: `GET`, say.
        path: The path, decoded, with what the application is mounted at.
        query: The query string, encoded.
        headers: Its headers: `headers.get("user-agent")`.
        peer: The address of the connection's other end; None if the server gives none, as at a Unix socket.
        raw: What the server gave: the ASGI scope, the WSGI environ, or Django's request.
        known: What functions among the options have returned before it was needed, by the options' names.
        fields: Whose visit it is, as the sends take it.
        mount: The beginning of the path that the application, or the one that answered, is mounted at.
    """

    method: str
    path: str
    query: str
    headers: Headers
    peer: str | None
    raw: Any
    known: dict[str, Any] = field(default_factory=dict, repr=False)
    fields: dict[str, Any] | None = field(default=None, repr=False)
    mount: str = ""


@dataclass
class Response:
    """A response, as a middleware shows it to the functions that it is given.

    Attributes:
        status: 200, say.
        headers: Its headers: `headers.get("content-type")`.
        route: The template of the route that answered, such as `/items/{id}`; None if it is not known.
        name: The name of that route; None if it is not known.
    """

    status: int
    headers: Headers
    route: str | None = None
    name: str | None = None
    reader: TitleReader | None = field(default=None, repr=False)

    @property
    def title(self) -> str | None:
        """The `<title>` of the page, with `title="html"`; None without."""
        return None if self.reader is None else self.reader.title

    def saw(self, piece: Any) -> None:
        """Take note of a piece of the body that is sent."""
        if self.reader is not None:
            self.reader.saw(piece)

"""One request of a query: what it asks for, by the server's version, and what its answer is read as."""

import functools
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pydantic

from umami._events import fields
from umami._http import filters as filtering
from umami._http.asking import checked, lacks_route, parsed, unexpected
from umami._http.messages import Flow, Request, json_of
from umami._http.server import Server, quoted
from umami._http.versions import Version, version_of, version_set
from umami.errors import UnsupportedError, ValidationError

from .ranges import Range

if TYPE_CHECKING:
    import httpx

    from umami._state import State

T = TypeVar("T")
Moment = datetime | date
V2: Final = (2, 0)
V3: Final = (3, 0)


class Queries:
    """What the rooms of queries build on. A client is made of them."""

    if TYPE_CHECKING:
        _state: State

    def _website_id(self, website_id: str | None) -> str:
        website = self._state.settings.website_id
        if website_id is not None:
            website = fields.text("website_id", website_id) or website
        if not website:
            raise ValidationError(
                "The website_id must be set, either as a parameter here or via set_website_id()."
            )
        return website

    def _website_path(self, website_id: str | None, root: str = "/websites") -> str:
        return f"{root}/{quoted(self._website_id(website_id))}"

    def _check(self, website_id: str | None, filters: Mapping[str, Any]) -> None:
        """Raise at the call what is wrong with a list's arguments, before its first page is asked for."""
        self._state.server(login=True)
        self._website_id(website_id)
        filtering.checked(filters)

    def _known_version(self, server: Server) -> Version | None:
        """Return the server's version, if the program has told it."""
        told = self._state.settings.server_version
        return version_set(told) if told is not None and not server.cloud else None

    def _version_for(self, website_id: str | None) -> Flow[Version]:
        """Return the server's version; ask the server unless it is known."""
        server, website = self._state.server(login=True), self._website_path(website_id)
        version = self._known_version(server)
        return version or (yield from version_of(server, website, self._state.versions, exact=False))

    def _get(
        self,
        name: str,
        route: str,
        kind: type[T],
        *,
        website_id: str | None,
        when: Range | None = None,
        filters: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        since: tuple[int, ...] = V2,
        filters_since: tuple[int, ...] = V2,
        root: str = "/websites",
        crash: str | None = None,
    ) -> Flow[T]:
        """Ask for a figure of a website.

        Args:
            name: The call, for errors: `event_stats()`.
            route: The route below the website's own, such as `/stats`.
            kind: What the answer is read as.
            website_id: The website.
            when: The range of time, if there is one.
            filters: The filters as the caller gave them; None if the route takes none.
            params: More parameters; those of None are left out.
            since: The first version that has the route.
            filters_since: The first version whose route takes filters.
            root: What comes before the website's id.
            crash: What an empty 500 most likely means; by default, that a filter or the website is wrong.

        Raises:
            UnsupportedError: The server does not have the route, or cannot apply a filter.
        """
        server = self._state.server(login=True)
        website = self._website_path(website_id, root)
        given = filtering.checked(filters or {})
        _, written = yield from self._translated(
            server, website, given, since=since, name=name, filters_since=filters_since
        )
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        asked |= when.parameters if when is not None else {}
        asked |= written
        request = server.request("GET", website + route, params=asked or None)
        try:
            response = yield request
            require_route(name, request, since, response)
            checked(request, response, filters=filtering.shown(given) if crash is None else None, crash=crash)
            return read_as(kind, request, response)
        except Exception:
            self._state.versions.pop(server.url_base or "", None)
            raise

    def _translated(
        self,
        server: Server,
        website: str,
        given: filtering.Given,
        *,
        since: tuple[int, ...] = V2,
        filters_since: tuple[int, ...] = V2,
        name: str = "",
        but: Iterable[str] = (),
    ) -> Flow[tuple[Version | None, dict[str, str]]]:
        """Return the parameters for some filters, and the server's version if they depend on it.

        Args:
            server: The server, which is asked for its version if need be.
            website: The path of the website.
            given: The filters.
            since: The first version that has the query.
            filters_since: The first version whose query takes filters.
            name: The call, for errors: `event_stats()`.
            but: The names of those filters whose answer shows whether the server has them.

        Raises:
            UnsupportedError: The server does not have the query, or cannot apply a filter.
        """
        version = self._known_version(server)
        if version is not None:
            version.require(since, name)
        filtered = bool(given) and filters_since > V2
        if version is None and (filtered or filtering.need_the_version(given, but=but)):
            exact = filtering.need_the_exact_version(given)
            version = yield from version_of(server, website, self._state.versions, exact=exact)
        try:
            if version is not None and filtered:
                version.require(filters_since, f"A filter of {name}")
            return version, filtering.parameters(given, version)
        except UnsupportedError:
            self._state.versions.pop(server.url_base or "", None)  # it may be upgraded before the next call
            raise


@functools.cache
def _reader(kind: Any) -> "pydantic.TypeAdapter[Any]":
    return pydantic.TypeAdapter(kind)


def read_as(kind: type[T], request: Request, response: "httpx.Response") -> T:
    """Return an answer's body as a value of a type.

    Raises:
        ResponseError: It has another form.
    """
    try:
        return cast("T", _reader(cast("Any", kind)).validate_json(response.content))
    except pydantic.ValidationError as error:
        raise unexpected(request, json_of(response), error) from None


def read_rows(kind: type[T], rows: Any, request: Request) -> T:
    """Return decoded rows as a value of a type.

    Raises:
        ResponseError: They have another form.
    """
    return cast("T", parsed(_reader(cast("Any", kind)).validate_python, rows, request))


def require_route(name: str, request: Request, since: tuple[int, ...], response: "httpx.Response") -> None:
    """Raise an UnsupportedError that names the call and the version it needs, if there is no such route."""
    if lacks_route(response):
        answered = f"{request.method} {response.request.url} answered {response.status_code}."
        if since > V2:
            raise UnsupportedError(f"{name} needs Umami {'.'.join(map(str, since))} or later: {answered}")
        raise UnsupportedError(f"The server has no route for {name}: {answered}")

"""What the calls share that list, read, change and delete an account's things."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from umami._events import fields
from umami._events.values import given
from umami._http import endpoints
from umami._http.asking import checked, parsed
from umami._http.messages import Flow, Request, json_of
from umami._http.server import quoted
from umami.errors import UnsupportedError, ValidationError

from .query import V2, V3, Queries, read_rows, require_route

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def changes_of(**values: Any) -> dict[str, Any]:
    """Return the fields to change, by Umami's names: those that are not None.

    Raises:
        ValidationError: There are none, or one is not a text.
    """
    body = {name: fields.text(name, value) for name, value in values.items() if value is not None}
    if not body:
        raise ValidationError(f"Give what to change: {' or '.join(values)}.")
    return body


def below(path: str, field: str, id_: str) -> str:
    """Return the path of one thing, by the path of its list and its id.

    Raises:
        ValidationError: The id is empty, or not a text.
    """
    checked_id = fields.text(field, id_)
    if not checked_id.strip(". "):  # dots would lead to another route
        raise ValidationError(f"{field} cannot be {given(checked_id)}.")
    return f"{path}/{quoted(checked_id)}"


class Changes(Queries):
    """The requests for things: websites, segments, links, pixels, teams, shares."""

    def _listing(
        self,
        call: str,
        kind: type[T],
        *paths: str,
        params: Mapping[str, Any] | None = None,
        since: tuple[int, ...] = V3,
    ) -> Flow[T]:
        """Read a whole list, from the first of some routes that the server has."""
        server = self._state.server(login=True)
        rows = yield from endpoints.listed(server, *paths, params=params)
        if rows is None:
            needed = ".".join(map(str, since))
            raise UnsupportedError(f"{call} needs Umami {needed} or later: the server has no {paths[0]}.")
        return read_rows(kind, rows, server.request("GET", paths[0]))

    def _found(
        self, what: str, path: str, id_: str, kind: type[M], *, call: str = "", since: tuple[int, ...] = V2
    ) -> Flow[M]:
        """Read one thing.

        Args:
            what: What it is: `link`.
            path: The path of its list.
            id_: Its id.
            kind: The model of it.
            call: The call, for errors; by default `link()`.
            since: The first version that has the route.

        Raises:
            ValidationError: There is none of this id.
        """
        request = self._state.server(login=True).request("GET", below(path, f"{what}_id", id_))
        response = yield request
        require_route(call or f"{what}()", request, since, response)
        body = None
        if response.status_code != 404:
            crash = f"Umami could not look up the {what}: check {what}_id."
            body = json_of(checked(request, response, crash=crash))
        if not body:
            raise ValidationError(f"{what}_id: there is no {what} {given(id_)}.")
        return parsed(kind.model_validate, body, request)

    def _changed(
        self, call: str, method: str, path: str, body: Any, kind: type[M], *, since: tuple[int, ...] = V2
    ) -> Flow[M]:
        """Make a request that changes something, and return the thing, as the server answers with it."""
        request, response = yield from self._made(call, method, path, body, since=since)
        return parsed(kind.model_validate, json_of(response), request)

    def _made(
        self, call: str, method: str, path: str, body: Any = None, *, since: tuple[int, ...] = V2
    ) -> "Flow[tuple[Request, httpx.Response]]":
        """Make a request that changes something, and return it with the answer."""
        request = self._state.server(login=True).request(method, path, json=body)
        response = yield request
        require_route(call, request, since, response)
        checked(
            request,
            response,
            crash="Umami could not make the change: an id may be unknown, or a slug taken.",
        )
        return request, response

    def _deleted(
        self, what: str, path: str, id_: str, confirm: str, kind: type[M], *, since: tuple[int, ...] = V2
    ) -> Flow[None]:
        """Delete one thing, if the caller confirms it."""
        call = f"delete_{what}()"
        found = yield from self._confirmed(call, what, path, id_, confirm, kind, since=since)
        yield from self._made(call, "DELETE", below(path, f"{what}_id", found.id))

    def _confirmed(
        self,
        call: str,
        what: str,
        path: str,
        id_: str,
        confirm: str,
        kind: type[M],
        *,
        since: tuple[int, ...] = V2,
    ) -> Flow[Any]:
        """Read the thing that is about to be destroyed.

        Raises:
            ValidationError: The caller gave neither its name, nor the id of a thing without a name.
        """
        told = fields.text("confirm", confirm)
        found: Any = yield from self._found(what, path, id_, kind, call=call, since=since)
        wanted = found.name or found.id
        if told != wanted:
            which = "the name" if found.name else f"the id, as the {what} has no name"
            raise ValidationError(
                f"confirm must be {which}, {given(wanted)}, got {given(told)}. Nothing was changed."
            )
        return found

"""What an account has: websites, teams, links, pixels, segments; and the deletion of a visitor's session."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from umami._calls import both
from umami._events import fields
from umami._events.values import given
from umami._http import endpoints
from umami._http.asking import asked, checked, parsed
from umami._http.messages import Flow, json_of
from umami._http.server import quoted
from umami.errors import UnsupportedError, ValidationError
from umami.models import Link, Pixel, Segment, Table, Team, User, Website

from .arguments import one_of
from .describing import described
from .query import Queries, read_rows, require_route
from .rows import session_id_of

T = TypeVar("T")
Kind = Literal["segment", "cohort"]


class Things(Queries):
    """What a client can read and change beside figures."""

    @described
    def _me(self) -> Flow[User]:
        """Return the account of the login or API key.

        Returns:
            The account.

        Example:
            ```python
            print(umami.me().username)
            ```
        """
        request = self._state.server(login=True).request("GET", "/me")
        body = json_of((yield from asked(request)))
        user = body.get("user", body) if isinstance(body, dict) else body  # before 2.16 it is the user itself
        return parsed(User.model_validate, user, request)

    @described
    def _website(self, website_id: str | None = None) -> Flow[Website]:
        """Return a website.

        Returns:
            The website.

        Example:
            ```python
            print(umami.website().domain)
            ```
        """
        wanted = self._website_id(website_id)
        request = self._state.server(login=True).request("GET", f"/websites/{quoted(wanted)}")
        body = json_of((yield from asked(request, filters={})))
        if not body:
            raise ValidationError(f"website_id: there is no website {given(wanted)}.")
        return parsed(Website.model_validate, body, request)

    @described
    def _create_website(self, name: str, domain: str, *, team_id: str | None = None) -> Flow[Website]:
        """Create a website.

        Args:
            name: Its name, at most 100 characters.
            domain: Its domain, at most 500 characters.
            team_id: The team that it belongs to; by default the account alone.

        Returns:
            The website, with its id.

        Example:
            ```python
            website = umami.create_website("Shop", "shop.example.com")
            umami.set_website_id(website.id)
            ```
        """
        body = {"name": fields.limited("name", name, 100), "domain": fields.limited("domain", domain, 500)}
        if team_id is not None:
            body["teamId"] = fields.text("team_id", team_id)
        created: Website = yield from self._changed("POST", "/websites", body, Website)
        return created

    @described
    def _update_website(
        self, website_id: str | None = None, *, name: str | None = None, domain: str | None = None
    ) -> Flow[Website]:
        """Change a website's name or domain.

        Args:
            name: The new name.
            domain: The new domain.

        Returns:
            The website.

        Example:
            ```python
            umami.update_website(name="Shop (old)")
            ```
        """
        wanted = {"name": name, "domain": domain}
        body: dict[str, Any] = {
            field: fields.text(field, value) for field, value in wanted.items() if value is not None
        }
        if not body:
            raise ValidationError("Give a name or a domain to change.")
        if len(body) < len(wanted):  # Umami 2 requires both
            now = yield from self._website(website_id)
            body = {"name": now.name or "", "domain": now.domain or "", **body}
        path = self._website_path(website_id)
        changed: Website = yield from self._changed("POST", path, body, Website)
        return changed

    @described
    def _reset_website(self, website_id: str, *, confirm: str) -> Flow[None]:
        """Delete all events of a website. This cannot be undone.

        Args:
            website_id: The website.
            confirm: The website's name, so that no other one is reset by mistake.

        Example:
            ```python
            umami.reset_website(site, confirm="Shop")
            ```
        """
        yield from self._confirmed(website_id, confirm)
        yield from self._changed("POST", f"/websites/{quoted(website_id)}/reset", None, None)

    @described
    def _delete_website(self, website_id: str, *, confirm: str) -> Flow[None]:
        """Delete a website with all its events. This cannot be undone.

        Args:
            website_id: The website.
            confirm: The website's name, so that no other one is deleted by mistake.

        Example:
            ```python
            umami.delete_website(site, confirm="Shop")
            ```
        """
        yield from self._confirmed(website_id, confirm)
        yield from self._changed("DELETE", f"/websites/{quoted(website_id)}", None, None)

    @described
    def _delete_session(self, session_id: str, website_id: str | None = None) -> Flow[None]:
        """Delete a session with all its events, as a visitor may ask for. This cannot be undone.

        This needs Umami 3.3 or later, on PostgreSQL. It was not tried on a real server.

        Args:
            session_id: The session's id, such as an event's `sessionId`.

        Example:
            ```python
            umami.delete_session("280fcbc0-ce5b-575d-9250-7e00fb65df44")
            ```
        """
        path = f"{self._website_path(website_id)}/sessions/{session_id_of(session_id)}"
        yield from self._changed("DELETE", path, None, None, call="delete_session()", since=(3, 3))

    @described
    def _teams(self) -> Flow[Table[Team]]:
        """Return the teams of the account.

        Returns:
            A table of teams.

        Example:
            ```python
            for row in umami.teams():
                print(row.name)
            ```
        """
        return (yield from self._listing("teams()", Table[Team], "/teams", "/me/teams"))

    @described
    def _links(self) -> Flow[Table[Link]]:
        """Return the account's short links. This needs Umami 3.0 or later.

        Returns:
            A table of links.

        Example:
            ```python
            for row in umami.links():
                print(row.slug, row.url)
            ```
        """
        return (yield from self._listing("links()", Table[Link], "/links"))

    @described
    def _pixels(self) -> Flow[Table[Pixel]]:
        """Return the account's pixels. This needs Umami 3.0 or later.

        Returns:
            A table of pixels.

        Example:
            ```python
            for row in umami.pixels():
                print(row.name, row.slug)
            ```
        """
        return (yield from self._listing("pixels()", Table[Pixel], "/pixels"))

    @described
    def _segments(
        self,
        type: Kind = "segment",  # noqa: A002
        website_id: str | None = None,
    ) -> Flow[Table[Segment]]:
        """Return a website's segments or cohorts. This needs Umami 3.0 or later.

        Args:
            type: `segment` or `cohort`.

        Returns:
            A table of segments, whose `id` the filters `segment` and `cohort` take.

        Example:
            ```python
            for row in umami.segments():
                print(row.name, umami.website_stats(period="7d", segment=row.id).visitors)
            ```
        """
        params = {"type": one_of("type", type, Kind)}
        path = f"{self._website_path(website_id)}/segments"
        return (yield from self._listing("segments()", Table[Segment], path, params=params))

    def _listing(
        self, call: str, kind: type[T], *paths: str, params: Mapping[str, Any] | None = None
    ) -> Flow[T]:
        server = self._state.server(login=True)
        rows = yield from endpoints.listed(server, *paths, params=params)
        if rows is None:
            raise UnsupportedError(f"{call} needs Umami 3.0 or later: the server has no {paths[0]}.")
        return read_rows(kind, rows, server.request("GET", paths[0]))

    def _confirmed(self, website_id: str, confirm: str) -> Flow[None]:
        """Raise an error unless a website has a name."""
        website = yield from self._website(fields.text("website_id", website_id) or "-")
        if website.name != fields.text("confirm", confirm):
            raise ValidationError(
                f"confirm must be the website's name, {given(website.name)}, got {given(confirm)}. "
                "Nothing was changed."
            )

    def _changed(
        self,
        method: str,
        path: str,
        body: Any,
        kind: Any,
        *,
        call: str = "",
        since: tuple[int, ...] | None = None,
    ) -> Flow[Any]:
        """Make a request that changes something, and return what it answers, unless `kind` is None."""
        request = self._state.server(login=True).request(method, path, json=body)
        response = yield request
        if since is not None:
            require_route(call, request, since, response)
        checked(request, response, filters={})
        return None if kind is None else parsed(kind.model_validate, json_of(response), request)

    # Each description's two functions.

    me, me_async = both(_me)
    website, website_async = both(_website)
    create_website, create_website_async = both(_create_website)
    update_website, update_website_async = both(_update_website)
    reset_website, reset_website_async = both(_reset_website)
    delete_website, delete_website_async = both(_delete_website)
    delete_session, delete_session_async = both(_delete_session)
    teams, teams_async = both(_teams)
    links, links_async = both(_links)
    pixels, pixels_async = both(_pixels)
    segments, segments_async = both(_segments)

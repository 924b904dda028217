"""What an account has: websites and their shares; and the deletion of a visitor's session."""

import uuid

from umami._calls import both
from umami._events import fields
from umami._http.asking import asked, parsed
from umami._http.messages import Flow, json_of
from umami._http.versions import version_of
from umami.errors import ValidationError
from umami.models import Share, Table, User, Website

from .changes import Changes, below, changes_of
from .describing import described
from .rows import session_id_of


class Things(Changes):
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
    def _server_version(self) -> Flow[str]:
        """Return the server's version, as far as its answers tell it.

        No route of every Umami tells it. The answer is remembered for ten minutes.

        Returns:
            The lowest version that it can be: `2.0` (before 2.10), `2.10` to `2.15`, `2.16` (to 2.20), `3.0`,
            `3.1` (or 3.2), or `3.3` (or later); `3.4` for Umami Cloud; and what the setting `server_version`
            says, if it is set.

        Raises:
            OperationNotAllowedError: No server is set.
            httpx.HTTPStatusError: The server did not answer as any Umami does.

        Example:
            ```python
            print("Umami", umami.server_version(), "or later")
            ```
        """
        server = self._state.server()
        version = self._known_version(server)
        if version is None:
            # The route that tells 3.0 checks its parameters before it looks for the website.
            any_website = f"/websites/{uuid.UUID(int=0)}"
            version = yield from version_of(server, any_website, self._state.versions, exact=True)
        return ".".join(map(str, version.least))

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
        return (yield from self._found("website", "/websites", wanted, Website))

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
        return (yield from self._changed("create_website()", "POST", "/websites", body, Website))

    @described
    def _update_website(
        self,
        website_id: str | None = None,
        *,
        name: str | None = None,
        domain: str | None = None,
        share_id: str | None = None,
    ) -> Flow[Website]:
        """Change a website's name or domain, or its public page.

        Args:
            name: The new name.
            domain: The new domain.
            share_id: Make the figures public at `/share/` and this text of 8 to 50 letters and digits. An
                empty text ends that, and deletes all shares.

        Returns:
            The website.

        Example:
            ```python
            umami.update_website(name="Shop (old)")
            ```
        """
        body = changes_of(name=name, domain=domain, share_id=share_id)
        if "share_id" in body:
            body["shareId"] = body.pop("share_id") or None
        if not body.keys() >= {"name", "domain"}:  # Umami 2 requires both
            now = yield from self._website(website_id)
            body = {"name": now.name or "", "domain": now.domain or "", **body}
        path = self._website_path(website_id)
        return (yield from self._changed("update_website()", "POST", path, body, Website))

    @described
    def _transfer_website(
        self, website_id: str, *, user_id: str | None = None, team_id: str | None = None
    ) -> Flow[Website]:
        """Give a website to a team, or to an account. This needs Umami 2.10 or later.

        Args:
            website_id: The website.
            user_id: The account that is to own it.
            team_id: The team that is to own it, in place of an account.

        Returns:
            The website.

        Example:
            ```python
            umami.transfer_website(site, team_id=umami.teams()[0].id)
            ```
        """
        if (user_id is None) == (team_id is None):
            raise ValidationError("Give user_id or team_id, one of them.")
        if user_id is not None:
            body = {"userId": fields.text("user_id", user_id)}
        else:
            body = {"teamId": fields.text("team_id", team_id)}
        path = f"{below('/websites', 'website_id', website_id)}/transfer"
        return (yield from self._changed("transfer_website()", "POST", path, body, Website, since=(2, 10)))

    @described
    def _reset_website(self, website_id: str, *, confirm: str) -> Flow[None]:
        """Delete all events of a website. This cannot be undone.

        Args:
            website_id: The website.
            confirm: The website's name, or its id if it has none, so that no other one is
                reset by mistake.

        Example:
            ```python
            umami.reset_website(site, confirm="Shop")
            ```
        """
        call = "reset_website()"
        website = yield from self._confirmed(call, "website", "/websites", website_id, confirm, Website)
        yield from self._made(call, "POST", f"{self._website_path(website.id)}/reset")

    @described
    def _delete_website(self, website_id: str, *, confirm: str) -> Flow[None]:
        """Delete a website with all its events. This cannot be undone.

        Args:
            website_id: The website.
            confirm: The website's name, or its id if it has none, so that no other one is
                deleted by mistake.

        Example:
            ```python
            umami.delete_website(site, confirm="Shop")
            ```
        """
        yield from self._deleted("website", "/websites", website_id, confirm, Website)

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
        yield from self._made("delete_session()", "DELETE", path, since=(3, 3))

    @described
    def _shares(self, website_id: str | None = None) -> Flow[Table[Share]]:
        """Return the public pages of a website. This needs Umami 3.1 or later.

        An older server has one page at most: `shareId` of `website()`.

        Returns:
            A table of them. Each is at `/share/` and its `slug`.

        Example:
            ```python
            for row in umami.shares():
                print(row.name, f"https://umami.example.com/share/{row.slug}")
            ```
        """
        path = f"{self._website_path(website_id)}/shares"
        return (yield from self._listing("shares()", Table[Share], path, since=(3, 1)))

    @described
    def _create_share(self, name: str, website_id: str | None = None) -> Flow[Share]:
        """Make a public page of a website. This needs Umami 3.1 or later.

        For an older server, use `update_website(share_id=...)`.

        Args:
            name: The page's name, at most 200 characters.

        Returns:
            The page. It is at `/share/` and its `slug`.

        Example:
            ```python
            page = umami.create_share("For the agency")
            print(f"https://umami.example.com/share/{page.slug}")
            ```
        """
        # What Umami itself sets for a page made with a website's shareId. Without, it shows nothing.
        body = {
            "name": fields.limited("name", name, 200),
            "parameters": {"overview": True, "events": True},
        }
        path = f"{self._website_path(website_id)}/shares"
        return (yield from self._changed("create_share()", "POST", path, body, Share, since=(3, 1)))

    @described
    def _delete_share(self, share_id: str) -> Flow[None]:
        """Delete a public page; the website stays. This needs Umami 3.1 or later.

        Args:
            share_id: The page's `id`.

        Example:
            ```python
            for row in umami.shares():
                umami.delete_share(row.id)
            ```
        """
        path = below("/share/id", "share_id", share_id)
        yield from self._made("delete_share()", "DELETE", path, since=(3, 1))

    # Each description's two functions.

    me, me_async = both(_me)
    server_version, server_version_async = both(_server_version)
    website, website_async = both(_website)
    create_website, create_website_async = both(_create_website)
    update_website, update_website_async = both(_update_website)
    reset_website, reset_website_async = both(_reset_website)
    delete_website, delete_website_async = both(_delete_website)
    delete_session, delete_session_async = both(_delete_session)
    transfer_website, transfer_website_async = both(_transfer_website)
    shares, shares_async = both(_shares)
    create_share, create_share_async = both(_create_share)
    delete_share, delete_share_async = both(_delete_share)

"""Logins, the websites, and any request: each described once (see `_calls.both`)."""

from collections.abc import Mapping
from typing import Any

from umami._calls import both
from umami._events import fields
from umami._events.values import given
from umami._http import endpoints
from umami._http.asking import asked
from umami._http.messages import Flow, json_of
from umami._http.server import quoted
from umami.errors import OperationNotAllowedError, ValidationError
from umami.models import LoginResponse, Website

from .query import Queries


class Account(Queries):
    """The login of a client, the websites that it may see, and requests that no other function makes."""

    def _login(
        self, username: str, password: str, *, code: str | None = None, remember: bool = False
    ) -> Flow[LoginResponse]:
        """Log in to a self-hosted server. Later calls use the token.

        Args:
            username: The account's user name.
            password: Its password.
            code: For an account with a second factor: the six digits that its authenticator app shows, or
                one of its backup codes.
            remember: Keep the user name and password in memory, and log in again, once, if the server
                refuses the token of a later call with 401. Not for an account with a second factor.

        Returns:
            The token and the account.

        Raises:
            OperationNotAllowedError: No URL base is set, or a Cloud API key is, or the account has a second
                factor and `code` is not given.
            ValidationError: The user name, the password or the code is empty.
            httpx.HTTPStatusError: The server refused.
            ResponseError: The answer is not Umami's, or comes from Umami 1, which is not supported.

        Example:
            ```python
            umami.login("admin", os.environ["UMAMI_PASSWORD"])
            ```
        """
        server = self._state.server()
        if server.cloud:
            raise OperationNotAllowedError(
                "login() is not used with Umami Cloud, where the API key is the credential. "
                "Call clear_cloud_api_key() first to log in to a self-hosted server."
            )
        if server.api_key is not None:
            raise OperationNotAllowedError(
                "login() is not used with an API key, which is the credential. "
                "Call clear_cloud_api_key() first to log in with a user name and password."
            )
        if not username:
            raise ValidationError("Email cannot be empty")
        if not password:
            raise ValidationError("Password cannot be empty")
        username, password = fields.text("username", username), fields.text("password", password)
        if code is not None:
            code = "".join(fields.text("code", code).split())  # as it is shown: 123 456
            if not code:
                raise ValidationError(
                    "code cannot be empty: leave it out for an account without a second factor."
                )
        response = yield from endpoints.login(server, username, password, code)
        self._state.set_token(response.token)
        if remember:
            self._state.remember(username, password)
        return response

    def _logout(self) -> Flow[None]:
        """Log out. The client forgets the token, even if the request fails.

        Raises:
            OperationNotAllowedError: Not logged in.
            httpx.HTTPStatusError: The server refused.

        Example:
            ```python
            umami.logout()
            ```
        """
        server = self._state.server(login=True)
        self._state.set_token(None)
        if server.api_key is None:
            yield from endpoints.logout(server)

    def set_token(self, token: str | None) -> None:
        """Use the token of an earlier login, of another process perhaps, at the server that is set now.

        Args:
            token: The `token` that `login()` returned; None forgets it. `verify_token()` tells whether the
                server still accepts it.

        Raises:
            ValidationError: The token is empty or not a string.

        Example:
            ```python
            umami.set_token(os.environ["SHOP_UMAMI_TOKEN"])
            ```
        """
        if token is not None and not (token := fields.text("token", token)):
            raise ValidationError("token cannot be empty.")
        self._state.set_token(token)

    def is_logged_in(self) -> bool:
        """Tell whether a login's token or an API key is set. Makes no request.

        Returns:
            True if one is set. `verify_token()` tells whether it is still valid.

        Example:
            ```python
            if not umami.is_logged_in():
                umami.login(username, password)
            ```
        """
        return self._state.settings.api_key is not None or self._state.token is not None

    def _verify_token(self, check_server: bool = True) -> Flow[bool]:
        """Tell whether the server accepts the token or API key. Never raises.

        Args:
            check_server: Ask the server. If False, a token or API key that is set is enough.

        Returns:
            True if it does. False if it does not or does not answer, or if nothing is set.

        Example:
            ```python
            if not umami.verify_token():
                umami.login(username, password)
            ```
        """
        try:
            server = self._state.server(login=True)
        except ValidationError:
            return False
        if not check_server:
            return True
        return (yield from endpoints.verify_token(server))

    def _heartbeat(self) -> Flow[bool]:
        """Tell whether the server answers. Never raises.

        Returns:
            True if it answered with 2xx; False if it did not, or if no server is set.

        Example:
            ```python
            if not umami.heartbeat():
                print("Umami does not answer")
            ```
        """
        try:
            server = self._state.server()
        except ValidationError:
            return False
        return (yield from endpoints.heartbeat(server))

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        raw: bool = False,
    ) -> Flow[Any]:
        """Make any other request of Umami's API. A login's token or an API key goes along, if there is one.

        Args:
            method: The method, such as `GET`.
            path: The path as in Umami's documentation, but without `/api`. `{website_id}` in it stands for
                the id of `set_website_id()`.
            params: What goes into the URL's query.
            json: What goes into the body, as JSON.
            raw: Return the `httpx.Response`, for its headers, or a body that is not JSON.

        Returns:
            The decoded JSON of the answer, usually a dict or a list; None if the answer is empty.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: The path does not begin with a slash, or begins with `/api/`; or it names the
                website, and none is set.
            httpx.HTTPStatusError: The server did not answer with 2xx.
            ResponseError: The answer is not JSON.

        Example:
            ```python
            times = {"startAt": 1767225600000, "endAt": 1798761600000, "type": "browser"}
            for row in umami.request("GET", "/websites/{website_id}/metrics", params=times):
                print(row["x"], row["y"])
            ```
        """
        path = fields.text("path", path)
        if not path.startswith("/") or path.startswith("/api/"):
            raise ValidationError(f"path must begin with a slash and have no /api, got {given(path)}.")
        if "{website_id}" in path:
            path = path.replace("{website_id}", quoted(self._website_id(None)))
        request = self._state.server().request(method, path, params=params, json=json)
        response = yield from asked(request)
        if raw:
            return response
        return json_of(response) if response.content else None

    def _websites(self) -> Flow[list[Website]]:
        """Return every website of the account and of its teams, from all pages of the server's list.

        Returns:
            The websites, the account's own first. A team's website has a `createUser` in place of a `user`.

        Raises:
            OperationNotAllowedError: No server or no credential is set.
            httpx.HTTPStatusError: The server did not answer with 2xx.
            ResponseError: The answer is not Umami's.

        Example:
            ```python
            for website in umami.websites():
                print(website.name, website.domain)
            ```
        """
        return (yield from endpoints.websites(self._state.server(login=True)))

    login, login_async = both(_login)
    logout, logout_async = both(_logout)
    verify_token, verify_token_async = both(_verify_token)
    heartbeat, heartbeat_async = both(_heartbeat)
    request, request_async = both(_request)
    websites, websites_async = both(_websites)

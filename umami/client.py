"""The client: all public calls but the sends, with their signatures and docstrings.

A query is written once, as a generator of requests. `_calls` makes a sync and an async function of it. A send
is written once, in `_sends.Sends`.
"""

import functools
import threading
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, cast

from typing_extensions import Self, Unpack

from ._calls import both, send_async
from ._checks import checked_api_key, checked_region, checked_url
from ._events import fields
from ._events.values import given
from ._http import endpoints
from ._http.asking import asked
from ._http.messages import Flow, json_of
from ._http.server import quoted
from ._queries.event_figures import EventFigures
from ._queries.figures import Figures
from ._queries.links import Links
from ._queries.reports import Reports
from ._queries.rows import RowQueries
from ._queries.segments import Segments
from ._queries.teams import Teams
from ._queries.things import Things
from ._sends import Sends
from ._state import State
from ._submit import submit, submit_async
from .errors import OperationNotAllowedError, ValidationError
from .models import LoginResponse, QueueStats, Website
from .settings import SettingsDict, with_settings


class Client(Sends, Figures, EventFigures, RowQueries, Reports, Things, Segments, Links, Teams):
    """Sends events to an Umami server or to Umami Cloud, and queries it.

    The functions of the module `umami` are the methods of one default client. Make more clients for more
    servers or websites. Threads and event loops can share a client, and it works after a fork. A `with`
    block, sync or async, ends with `shutdown()`.

    A copy or an unpickled client is a new client with the settings that were made in code, including API keys
    and passwords. It has no queued events and no login.

    Args:
        **settings: Any setting that `configure` takes.

    Raises:
        ValidationError: A setting is unknown or not valid.

    Example:
        ```python
        with umami.Client(url_base="https://umami.example.com", website_id=site, hostname=host) as client:
            client.new_event("signup")
        ```
    """

    def __init__(self, **settings: Unpack[SettingsDict]) -> None:
        state = State()
        weakref.finalize(self, state.abandon).atexit = False  # the end of the process has a flush of its own
        super().__init__(state, functools.partial(submit, state))
        self._awaited = Sends(state, cast("Any", functools.partial(submit_async, state)))
        if settings:
            state.set(settings)

    def __copy__(self) -> "Client":
        return Client(**self._state.code)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Client":
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle

        code = self._state.code
        for name, value in code.items():
            try:
                pickle.dumps(value)
            except Exception as error:
                raise TypeError(
                    f"A Client is pickled as its settings, and {name} cannot be pickled ({error}). Make a "
                    "Client in each process instead."
                ) from error
        return _with_settings, (code,)

    def __repr__(self) -> str:
        try:
            where = self._state.server().url_base or "Umami Cloud"
        except OperationNotAllowedError:
            where = "no server"
        except ValidationError:
            return "<umami.Client, with settings that are not valid>"
        return f"<umami.Client to {where}>"

    def __enter__(self) -> Self:
        self._state.will_flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._state.close()

    async def __aenter__(self) -> Self:
        self._state.will_flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown_async()
        await self._state.aclose()

    # Configuration.

    @with_settings
    def configure(self, **settings: Unpack[SettingsDict]) -> None:
        """Change settings. Those not named keep their values.

        A setting made in code overrides the environment's, and an argument of a call overrides both. None
        unsets a setting that has no default, even if the environment sets it; other settings refuse None.
        A change loses no queued event: each goes to the server that was set when it was sent.

        Args:
            **settings: Any of these. Times are in seconds, sizes in bytes.

        Raises:
            ValidationError: A setting is unknown or not valid; the message names it, and nothing is changed.

        Example:
            ```python
            umami.configure(queue_size=20_000, overflow="drop_oldest", shutdown_timeout=30)
            ```
        """
        self._state.set(settings)

    def set_url_base(self, url: str) -> None:
        """Set the URL of a self-hosted server.

        Args:
            url: The server's base URL, without `/api`. Trailing slashes and spaces are removed. It may have a
                user and a password, for a proxy in front of the server.

        Raises:
            ValidationError: The URL is empty, is not an http(s) URL, or has a query, a fragment or the path
                of a route.

        Example:
            ```python
            umami.set_url_base("https://umami.example.com")
            ```
        """
        self._state.set({"url_base": checked_url(url)})

    def set_website_id(self, website_id: str | None) -> None:
        """Set the website for calls that do not name one.

        Args:
            website_id: The website's id in Umami; None unsets it.

        Example:
            ```python
            umami.set_website_id("978435e2-7ba1-4337-9860-ec31ece2db60")
            ```
        """
        self._state.set({"website_id": website_id})

    def set_hostname(self, hostname: str | None) -> None:
        """Set the host name for sends that do not name one.

        Args:
            hostname: The website's host name, as Umami shows it; None unsets it.

        Example:
            ```python
            umami.set_hostname("example.com")
            ```
        """
        self._state.set({"hostname": hostname})

    def set_cloud_api_key(self, key: str, region: str | None = None) -> None:
        """Use Umami Cloud, even if a self-hosted server is set.

        Args:
            key: The account's API key.
            region: `us` or `eu`; None for the account's own region.

        Raises:
            ValidationError: The key is empty, or the region is unknown.

        Example:
            ```python
            umami.set_cloud_api_key(os.environ["UMAMI_KEY"], region="eu")
            ```
        """
        self._state.set({"api_key": checked_api_key(key), "region": checked_region(region)})

    def clear_cloud_api_key(self) -> None:
        """Unset the API key, and use the self-hosted server again.

        Example:
            ```python
            umami.clear_cloud_api_key()
            ```
        """
        self._state.set({"api_key": None, "region": None})

    def enable(self) -> None:
        """Send events, as by default. Reverses `disable()`.

        Example:
            ```python
            umami.enable()
            ```
        """
        self._state.set({"enabled": True})

    def disable(self) -> None:
        """Send no events: sends check their arguments and return `{}`. Queries and logins still work.

        Sends still need a URL, a website and a host name; with `UMAMI_DISABLED=1` in the environment they
        do not.

        Example:
            ```python
            if settings.TESTING:
                umami.disable()
            ```
        """
        self._state.set({"enabled": False})

    # Authentication.

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

    # Queries.

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

    # The queue.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event queued before this call is delivered, rejected or dropped.

        A retry that is due later is made now.

        Args:
            timeout: The maximum number of seconds to wait; None for no limit.

        Returns:
            True if all of them are settled; False if the time ran out, or a shutdown stopped the threads.

        Raises:
            ValidationError: The timeout is not a number of seconds.

        Example:
            ```python
            umami.new_event("signup")
            assert umami.flush(timeout=10)
            ```
        """
        return self._state.agent.flush(_seconds(timeout))

    async def flush_async(self, timeout: float | None = None) -> bool:
        """Flush as `flush` does, without blocking the event loop and without a thread.

        Args:
            timeout: The maximum number of seconds to wait; None for no limit.

        Returns:
            True if all of them are settled; False if the time ran out, a shutdown stopped the threads, or no
            sender thread can be started.

        Raises:
            ValidationError: The timeout is not a number of seconds.

        Example:
            ```python
            assert await umami.flush_async(timeout=10)
            ```
        """
        return await self._state.agent.flush_async(_seconds(timeout))

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush, and stop the worker threads. A later send starts them again.

        This happens automatically at exit. It may be called more than once.

        Args:
            timeout: The maximum number of seconds to wait; None for the setting `shutdown_timeout`.

        Returns:
            True if every event is settled. Events that are not stay queued: a later send, a later flush or
            the end of the process sends them.

        Raises:
            ValidationError: The timeout is not a number of seconds.

        Example:
            ```python
            if not umami.shutdown(timeout=30):
                print(umami.queue_stats())
            ```
        """
        return self._state.agent.shutdown(_seconds(timeout))

    async def shutdown_async(self, timeout: float | None = None) -> bool:
        """Shut down as `shutdown` does, without blocking the event loop. A cancelled call stops nothing.

        Args:
            timeout: The maximum number of seconds to wait; None for the setting `shutdown_timeout`.

        Returns:
            True if every event is settled. Events that are not stay queued: a later send, a later flush or
            the end of the process sends them.

        Raises:
            ValidationError: The timeout is not a number of seconds.

        Example:
            ```python
            await umami.shutdown_async()
            ```
        """
        return await self._state.agent.shutdown_async(_seconds(timeout))

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002
        """A lifespan for ASGI applications. It flushes when the application stops, after its last request.

        Pass it to Starlette, FastAPI and others. In a lifespan of your own, put it around the `yield`.

        Args:
            app: The application. It is not used.

        Returns:
            An async context manager. At its end it flushes as `shutdown` does, for at most `shutdown_timeout`
            seconds, also if several lifespans of this client end one after another.

        Example:
            ```python
            app = FastAPI(lifespan=umami.lifespan)


            @asynccontextmanager
            async def lifespan(app):
                async with umami.lifespan():
                    yield
            ```
        """
        self._state.will_flush()
        try:
            yield
        finally:
            # Our middleware has a lifespan as well: together they wait for no longer than `shutdown_timeout`.
            await self.shutdown_async(self._state.agent.patience())

    def queue_stats(self) -> QueueStats:
        """Return the counts of events: how many were delivered, rejected, dropped, or are pending.

        Returns:
            The counts at this instant. They always balance.

        Example:
            ```python
            stats = umami.queue_stats()
            print(stats.delivered, "delivered,", stats.pending, "pending")
            ```
        """
        return self._state.agent.stats()

    # Each description's two functions.

    login, login_async = both(_login)
    logout, logout_async = both(_logout)
    verify_token, verify_token_async = both(_verify_token)
    heartbeat, heartbeat_async = both(_heartbeat)
    request, request_async = both(_request)
    websites, websites_async = both(_websites)
    new_event_async = send_async(Sends.new_event)
    new_revenue_event_async = send_async(Sends.new_revenue_event)
    new_page_view_async = send_async(Sends.new_page_view)
    identify_async = send_async(Sends.identify)


def _with_settings(code: SettingsDict) -> Client:
    return Client(**code)


def _seconds(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValidationError(f"timeout must be a number of seconds or None, got {given(timeout)}.")
    return min(float(timeout), threading.TIMEOUT_MAX)

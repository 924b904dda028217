"""The client: every public call, described once and offered twice, sync and async."""

import threading
from collections.abc import Mapping
from datetime import date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import first_use
from ._events import data as custom
from ._events import fields
from ._events.encoder import BROWSER_USER_AGENT
from ._http.messages import Flow
from .errors import OperationNotAllowedError, ValidationError
from .first_use import endpoints, models
from .twins import call, call_async, send_async

if TYPE_CHECKING:
    from typing_extensions import Self

    from .state import State


class Client:
    """Ships events to one Umami server, or to Umami Cloud, and queries it.

    The module's functions are those of one default client. Make others for several servers or
    websites in one process. A client may be shared by threads and event loops, and survives a fork. As
    a context manager, sync or async, it shuts down at the end of the block.

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

    if TYPE_CHECKING:
        _state: State
    else:
        _state = first_use.OwnState()

    def __init__(self, **settings: Any) -> None:
        if settings:
            self._state.set(**settings)

    def __repr__(self) -> str:
        try:
            where = self._state.server().url_base or "Umami Cloud"
        except OperationNotAllowedError:
            where = "no server"
        except ValidationError:
            return "<umami.Client, with settings that are not valid>"
        return f"<umami.Client to {where}>"

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._state.close()

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown_async()
        await self._state.aclose()

    # Configuration.

    def configure(self, **settings: Any) -> None:
        """Change settings; those not named stay as they are.

        A setting made here goes before the environment's, and an argument of a call before both. Events
        already queued go where the client pointed when they were sent, and none is lost by a change.

        Args:
            **settings: `url_base`, `website_id`, `hostname`, `api_key`, `region`, `enabled`, `mode`
                (`queued` or `direct`); the queue's `queue_size` (events), `queue_bytes`, `overflow`
                (`drop_newest`, `drop_oldest` or `block`) and `block_timeout`; `batch_size` (events),
                `batch_bytes`, `flush_interval` and `senders` (threads); `timeout`, `item_timeout`,
                `retry_wait`, `retry_wait_max`, `retry_after_max`, `retry_limit`, `item_retry_limit`,
                `at_most_once`, `shutdown_timeout` and `flush_on_sigterm` (from the main thread); `headers`
                (extra request headers), `verify` (certificate authorities), `cert` (a client
                certificate) and `proxy` (its URL); the callbacks `before_send` and `on_error`.
                Times are in seconds.

        Raises:
            ValidationError: A setting is unknown or not valid; the message names it, and nothing is changed.

        Example:
            ```python
            umami.configure(queue_size=20_000, overflow="drop_oldest", shutdown_timeout=30)
            ```
        """
        self._state.set(**settings)

    def set_url_base(self, url: str) -> None:
        """Point the client at a self-hosted server.

        Args:
            url: Its base URL, without `/api`; trailing slashes and blanks are dropped. It may have a user and
                a password, for a proxy in front of it.

        Raises:
            ValidationError: It is empty, or no http(s) URL, or it has a query, a fragment or a route's path.

        Example:
            ```python
            umami.set_url_base("https://umami.example.com")
            ```
        """
        self._state.set(url_base=first_use.settings.checked_url(url))

    def set_website_id(self, website_id: str | None) -> None:
        """Set the website of calls that name none.

        Args:
            website_id: Its id in Umami; None unsets it.

        Example:
            ```python
            umami.set_website_id("978435e2-7ba1-4337-9860-ec31ece2db60")
            ```
        """
        self._state.set(website_id=website_id)

    def set_hostname(self, hostname: str | None) -> None:
        """Set the host name of sends that name none.

        Args:
            hostname: The website's host name, as Umami is to show it; None unsets it.

        Example:
            ```python
            umami.set_hostname("example.com")
            ```
        """
        self._state.set(hostname=hostname)

    def set_cloud_api_key(self, key: str, region: str | None = None) -> None:
        """Use Umami Cloud, which then goes before a self-hosted server.

        Args:
            key: The account's API key.
            region: `us` or `eu` to pin the data's region; None for the account's own.

        Raises:
            ValidationError: The key is empty, or the region unknown.

        Example:
            ```python
            umami.set_cloud_api_key(os.environ["UMAMI_KEY"], region="eu")
            ```
        """
        self._state.set(
            api_key=first_use.settings.checked_api_key(key), region=first_use.settings.checked_region(region)
        )

    def clear_cloud_api_key(self) -> None:
        """Go back from Umami Cloud to the self-hosted server.

        Example:
            ```python
            umami.clear_cloud_api_key()
            ```
        """
        self._state.set(api_key=None, region=None)

    def enable(self) -> None:
        """Let sends send, as they do by default.

        Example:
            ```python
            umami.enable()
            ```
        """
        self._state.set(enabled=True)

    def disable(self) -> None:
        """Let sends check their arguments, return `{}` and send nothing. Queries and auth go on.

        Example:
            ```python
            if settings.TESTING:
                umami.disable()
            ```
        """
        self._state.set(enabled=False)

    # Authentication.

    def _login(
        self, username: str, password: str, *, code: str | None = None
    ) -> Flow["models.LoginResponse"]:
        """Log in to a self-hosted server. The token is kept, and goes with the calls that follow.

        Args:
            username: The account's user name.
            password: Its password.
            code: The second factor of an account that has one: the six digits that its authenticator app
                shows now, or one of its backup codes.

        Returns:
            The token and the account.

        Raises:
            OperationNotAllowedError: No URL base is set, or a Cloud API key is, or the account has a second
                factor and `code` is not given.
            ValidationError: The user name, the password or the code is empty.
            httpx.HTTPStatusError: The server refused.
            ResponseError: The answer is not Umami's, or is that of Umami 1, which is too old.

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
        return response

    def _logout(self) -> Flow[None]:
        """Log out: the server is told, and the token forgotten even if it cannot be.

        Raises:
            OperationNotAllowedError: Nobody is logged in.
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

    def is_logged_in(self) -> bool:
        """Tell whether a login's token or a Cloud API key is set. Asks no server.

        Returns:
            Whether one is; `verify_token()` tells whether it is still valid.

        Example:
            ```python
            if not umami.is_logged_in():
                umami.login(username, password)
            ```
        """
        return self._state.settings.api_key is not None or self._state.token is not None

    def _verify_token(self, check_server: bool = True) -> Flow[bool]:
        """Tell whether the credential is valid. Never raises.

        Args:
            check_server: Whether to ask the server; if not, being set is enough.

        Returns:
            Whether it is; False too if the server cannot be asked, or is not set.

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
        """Tell whether the server is there. Never raises.

        Returns:
            Whether it answered 2xx; False too if none is set.

        Example:
            ```python
            if not umami.heartbeat():
                print("Umami is away")
            ```
        """
        try:
            server = self._state.server()
        except ValidationError:
            return False
        return (yield from endpoints.heartbeat(server))

    # Queries.

    def _websites(self) -> Flow["list[models.Website]"]:
        """Return every website of the account and of its teams, however many pages the server makes of them.

        Returns:
            The websites, the account's own first. Those of teams have a `createUser` in place of a `user`.

        Raises:
            OperationNotAllowedError: No server or no credential is set.
            httpx.HTTPStatusError: The server answered no 2xx.
            ResponseError: The answer is not Umami's.

        Example:
            ```python
            for website in umami.websites():
                print(website.name, website.domain)
            ```
        """
        return (yield from endpoints.websites(self._state.server(login=True)))

    def _active_users(self, website_id: str | None = None) -> Flow[int]:
        """Return how many visitors were on a website in the last five minutes.

        Args:
            website_id: The website, if not the one of `set_website_id()`.

        Returns:
            Their number.

        Raises:
            OperationNotAllowedError: No server or no credential is set.
            ValidationError: No website is named.
            httpx.HTTPStatusError: The server answered no 2xx.
            ResponseError: The answer is not Umami's.

        Example:
            ```python
            print(umami.active_users(), "visitors right now")
            ```
        """
        server = self._state.server(login=True)
        return (yield from endpoints.active_users(server, self._website(website_id)))

    def _website_stats(
        self,
        start_at: datetime | date,
        end_at: datetime | date,
        website_id: str | None = None,
        url: str | None = None,
        referrer: str | None = None,
        title: str | None = None,
        query: str | None = None,
        event: str | None = None,
        host: str | None = None,
        os: str | None = None,
        browser: str | None = None,
        device: str | None = None,
        country: str | None = None,
        region: str | None = None,
        city: str | None = None,
    ) -> Flow["models.WebsiteStats"]:
        """Return a website's sums over a range of time.

        Args:
            start_at: The first moment; a naive datetime is local time, a date its midnight.
            end_at: The last moment, likewise.
            website_id: The website, if not the one of `set_website_id()`.
            url: Only this URL path. This and all filters below are taken literally by every Umami: `t.co`
                and `a,b` are no operators.
            referrer: Only from this referrer.
            title: Only pages of this title.
            query: Only this query string.
            event: Only with this event.
            host: Only this host name; from Umami 2.12 on.
            os: Only this operating system.
            browser: Only this browser.
            device: Only this kind of device.
            country: Only from this country.
            region: Only from this region.
            city: Only from this city.

        Returns:
            Page views, visitors, visits, bounces and the total time in seconds, and the same for the
            period before. Custom events do not count as page views.

        Raises:
            OperationNotAllowedError: No server or no credential is set.
            ValidationError: No website is named, or `start_at` is after `end_at`, or a filter is no string,
                or the server cannot be asked for it.
            httpx.HTTPStatusError: The server answered no 2xx, or could not run the query.
            ResponseError: The answer is not Umami's.

        Example:
            ```python
            now = datetime.now()
            stats = umami.website_stats(now - timedelta(days=7), now)
            print(stats.pageviews, stats.visitors)
            ```
        """
        server = self._state.server(login=True)
        filters = {
            "url": url,
            "referrer": referrer,
            "title": title,
            "query": query,
            "event": event,
            "host": host,
            "os": os,
            "browser": browser,
            "device": device,
            "country": country,
            "region": region,
            "city": city,
        }
        return (
            yield from endpoints.website_stats(
                server, self._website(website_id), start_at, end_at, filters, self._state.dialects
            )
        )

    def _website(self, website_id: str | None) -> str:
        website = self._state.settings.website_id
        if website_id is not None:
            website = fields.text("website_id", website_id) or website
        if not website:
            raise ValidationError(
                "The website_id must be set, either as a parameter here or via set_website_id()."
            )
        return website

    # Sends.

    def new_event(
        self,
        event_name: str,
        hostname: str | None = None,
        url: str = "/",
        website_id: str | None = None,
        title: str | None = None,
        custom_data: Mapping[str, Any] | None = None,
        referrer: str = "",
        language: str = "en-US",
        screen: str = "1920x1080",
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
        ua: str | None = None,
    ) -> dict[str, Any]:
        """Send a custom event. In the default `queued` mode it is queued, and this returns at once.

        What the program chooses (names, tags, custom data's types) is checked strictly; what comes with
        a visitor's request (URL, referrer, language, screen, address, long texts) is made to fit.

        Args:
            event_name: Its name, at most 50 characters.
            hostname: The website's host name, if not the one of `set_hostname()`.
            url: The page's URL or path.
            website_id: The website, if not the one of `set_website_id()`.
            title: The page's title; the event's name if left out.
            custom_data: More about it: any mapping that can be encoded as JSON; datetimes, Decimals,
                UUIDs, Enums, dataclasses and pydantic models are welcome.
            referrer: Where the visitor came from.
            language: The visitor's language, or the whole Accept-Language header.
            screen: The size of the visitor's screen.
            ip_address: The visitor's address.
            distinct_id: Your own id for the visitor.
            tag: A tag to tell variants apart, at most 50 characters.
            timestamp: When it happened, as a datetime or in epoch seconds; now if left out.
            ua: The visitor's User-Agent; a browser's if left out, since Umami drops bots.

        Returns:
            `{'queued': True}`; or `{'queued': False, 'reason': …}` if it was dropped; `{}` if disabled.
            In `direct` mode the server's answer.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not what Umami takes.
            httpx.HTTPStatusError: In `direct` mode, the server answered no 2xx.

        Example:
            ```python
            umami.new_event("signup", url="/account/new", custom_data={"plan": "pro"})
            ```
        """
        route = self._state.route or self._state.new_route()
        payload = {
            "name": event_name,
            "title": event_name if title is None else title,
            "url": url,
            "data": {} if custom_data is None else custom_data,
        }
        encoded = route.encoder.event(
            payload,
            website_id,
            hostname,
            referrer,
            language,
            screen,
            ip_address,
            distinct_id,
            tag,
            timestamp,
            ua,
        )
        if encoded and route.put(route.lane, encoded):
            return {"queued": True}
        return self._state.submit(route, encoded, ua)

    def new_revenue_event(
        self,
        revenue: float,
        currency: str = "USD",
        event_name: str = "revenue",
        hostname: str | None = None,
        url: str = "/",
        website_id: str | None = None,
        title: str | None = None,
        custom_data: Mapping[str, Any] | None = None,
        referrer: str = "",
        language: str = "en-US",
        screen: str = "1920x1080",
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
        ua: str | None = None,
    ) -> dict[str, Any]:
        """Send an event that earned money, which Umami shows among its revenue.

        Args:
            revenue: The amount: an int, a float or a Decimal, finite and not negative.
            currency: Its currency's ISO 4217 code, at most 10 characters.
            event_name: The event's name, at most 50 characters.
            hostname: See `new_event`; so are the rest.
            url: See `new_event`.
            website_id: See `new_event`.
            title: See `new_event`.
            custom_data: See `new_event`; its `revenue` and `currency` are overwritten, in a copy.
            referrer: See `new_event`.
            language: See `new_event`.
            screen: See `new_event`.
            ip_address: See `new_event`.
            distinct_id: See `new_event`.
            tag: See `new_event`.
            timestamp: See `new_event`.
            ua: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not what Umami takes.
            httpx.HTTPStatusError: In `direct` mode, the server answered no 2xx.

        Example:
            ```python
            umami.new_revenue_event(19.99, "EUR", event_name="checkout", url="/checkout")
            ```
        """
        amount, code = fields.revenue(revenue), fields.currency(currency)
        data = custom.copied(custom_data)
        data["revenue"], data["currency"] = amount, code
        route = self._state.route or self._state.new_route()
        payload = {
            "name": event_name,
            "title": event_name if title is None else title,
            "url": url,
            "data": data,
        }
        encoded = route.encoder.event(
            payload,
            website_id,
            hostname,
            referrer,
            language,
            screen,
            ip_address,
            distinct_id,
            tag,
            timestamp,
            ua,
        )
        if encoded and route.put(route.lane, encoded):
            return {"queued": True}
        return self._state.submit(route, encoded, ua)

    def new_page_view(
        self,
        page_title: str,
        url: str,
        hostname: str | None = None,
        website_id: str | None = None,
        referrer: str = "",
        language: str = "en-US",
        screen: str = "1920x1080",
        ua: str = BROWSER_USER_AGENT,
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
    ) -> dict[str, Any]:
        """Send a page view, as Umami's script does from a browser.

        Args:
            page_title: The page's title.
            url: The page's URL or path.
            hostname: See `new_event`; so are the rest.
            website_id: See `new_event`.
            referrer: See `new_event`.
            language: See `new_event`.
            screen: See `new_event`.
            ua: The visitor's User-Agent; it tells the browser, the system and the device.
            ip_address: See `new_event`.
            distinct_id: See `new_event`.
            tag: See `new_event`.
            timestamp: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not what Umami takes.
            httpx.HTTPStatusError: In `direct` mode, the server answered no 2xx.

        Example:
            ```python
            umami.new_page_view(
                "Pricing", request.url.path, ua=request.headers["user-agent"], ip_address=request.client.host
            )
            ```
        """
        route = self._state.route or self._state.new_route()
        payload = {"title": page_title, "url": url}
        encoded = route.encoder.event(
            payload,
            website_id,
            hostname,
            referrer,
            language,
            screen,
            ip_address,
            distinct_id,
            tag,
            timestamp,
            ua,
        )
        if encoded and route.put(route.lane, encoded):
            return {"queued": True}
        return self._state.submit(route, encoded, ua)

    def identify(
        self,
        distinct_id: str | int,
        data: Mapping[str, Any],
        *,
        website_id: str | None = None,
        hostname: str | None = None,
        ip_address: str | None = None,
        timestamp: datetime | float | None = None,
        ua: str | None = None,
    ) -> dict[str, Any]:
        """Send what you know about a visitor, which Umami keeps with the visitor's sessions.

        Args:
            distinct_id: Your own id for the visitor, as given to the other sends.
            data: What you know: a mapping like `custom_data`.
            website_id: See `new_event`; so are the rest.
            hostname: See `new_event`.
            ip_address: See `new_event`.
            timestamp: See `new_event`.
            ua: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not what Umami takes.
            httpx.HTTPStatusError: In `direct` mode, the server answered no 2xx.

        Example:
            ```python
            umami.identify("user-17", {"plan": "pro", "since": date(2024, 5, 1)})
            ```
        """
        route = self._state.route or self._state.new_route()
        encoded = route.encoder.identity(distinct_id, data, website_id, hostname, ip_address, timestamp, ua)
        if encoded and route.put(route.lane, encoded):
            return {"queued": True}
        return self._state.submit(route, encoded, ua)

    # The queue.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event accepted before this call is settled. Cuts a backoff short.

        Args:
            timeout: The most seconds to wait; None for as long as it takes.

        Returns:
            Whether all of them are delivered, rejected or dropped; False when the time ran out,
            or a shutdown ended the threads.

        Raises:
            ValidationError: The timeout is no number of seconds.

        Example:
            ```python
            umami.new_event("signup")
            assert umami.flush(timeout=10)
            ```
        """
        return self._state.agent.flush(_seconds(timeout))

    async def flush_async(self, timeout: float | None = None) -> bool:
        """Do as `flush` does, without blocking the event loop.

        Args:
            timeout: The most seconds to wait; None for as long as it takes.

        Returns:
            Whether all of them are delivered, rejected or dropped; False when the time ran out,
            or a shutdown ended the threads.

        Raises:
            ValidationError: The timeout is no number of seconds.

        Example:
            ```python
            assert await umami.flush_async(timeout=10)
            ```
        """
        return await self._state.in_thread(self.flush, timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept no more events, flush, and stop the threads. A later send starts them again.

        Called by itself when the process ends; calling it twice does no harm.

        Args:
            timeout: The most seconds to wait; None for the setting `shutdown_timeout`.

        Returns:
            Whether every event is settled. Those that are not stay queued.

        Raises:
            ValidationError: The timeout is no number of seconds.

        Example:
            ```python
            if not umami.shutdown(timeout=30):
                print(umami.queue_stats())
            ```
        """
        return self._state.agent.shutdown(_seconds(timeout))

    async def shutdown_async(self, timeout: float | None = None) -> bool:
        """Do as `shutdown` does, without blocking the event loop.

        Args:
            timeout: The most seconds to wait; None for the setting `shutdown_timeout`.

        Returns:
            Whether every event is settled. Those that are not stay queued.

        Raises:
            ValidationError: The timeout is no number of seconds.

        Example:
            ```python
            await umami.shutdown_async()
            ```
        """
        return await self._state.in_thread(self.shutdown, timeout)

    def queue_stats(self) -> "models.QueueStats":
        """Return the ledger of the queue: what became of every event.

        Returns:
            The counts at this instant, which always balance.

        Example:
            ```python
            stats = umami.queue_stats()
            print(stats.delivered, "delivered,", stats.pending, "pending")
            ```
        """
        return self._state.agent.stats()

    # Each description's two functions.

    login, login_async = call(_login), call_async(_login)
    logout, logout_async = call(_logout), call_async(_logout)
    verify_token, verify_token_async = call(_verify_token), call_async(_verify_token)
    heartbeat, heartbeat_async = call(_heartbeat), call_async(_heartbeat)
    websites, websites_async = call(_websites), call_async(_websites)
    active_users, active_users_async = call(_active_users), call_async(_active_users)
    website_stats, website_stats_async = call(_website_stats), call_async(_website_stats)
    new_event_async = send_async(new_event)
    new_revenue_event_async = send_async(new_revenue_event)
    new_page_view_async = send_async(new_page_view)
    identify_async = send_async(identify)


def _seconds(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValidationError(f"timeout must be a number of seconds or None, got {fields.given(timeout)}.")
    return min(float(timeout), threading.TIMEOUT_MAX)

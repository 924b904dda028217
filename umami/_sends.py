"""The sends: all that queue an event, with their signatures and docstrings."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ._events import data as custom
from ._events import fields
from ._events.encoder import Dropped
from ._state import Route, State
from ._user_agents import BROWSER_USER_AGENT
from ._visitor import LANGUAGE, REFERRER, URL, visitor_now


class Sends:
    """The sends. Each checks and encodes its event, and queues it. Otherwise it calls `submit`.

    A client's async sends are the same functions with another `submit`, which is a coroutine function. So no
    send is written twice.

    Args:
        state: The client's settings and connections.
        submit: Called if the route did not queue the event, with the route, the encoded event and the event's
            own User-Agent, if any. It returns the result of the send.
    """

    def __init__(
        self, state: State, submit: Callable[[Route, bytes | Dropped, str | None], dict[str, Any]]
    ) -> None:
        self._state = state
        self._submit = submit

    def new_event(
        self,
        event_name: str,
        hostname: str | None = None,
        url: str = URL,
        website_id: str | None = None,
        title: str | None = None,
        custom_data: Mapping[str, Any] | None = None,
        referrer: str = REFERRER,
        language: str = LANGUAGE,
        screen: str = "1920x1080",
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
        ua: str | None = None,
        browser: str | None = None,
        os: str | None = None,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Send a custom event. In the default `queued` mode this returns at once.

        Values that the program chooses (names, tags, the types of custom data) are checked strictly. Values
        from a visitor's request (URL, referrer, language, screen, address, browser, long texts) are repaired.

        Args:
            event_name: Its name, at most 50 characters.
            hostname: The website's host name; by default that of `set_hostname()`.
            url: The page's URL or path.
            website_id: The website; by default that of `set_website_id()`.
            title: The page's title; by default the event's name.
            custom_data: A mapping that can be encoded as JSON. It may hold datetimes, Decimals, UUIDs, Enums,
                dataclasses and pydantic models.
            referrer: Where the visitor came from.
            language: The visitor's language, or the whole Accept-Language header.
            screen: The size of the visitor's screen.
            ip_address: The visitor's address.
            distinct_id: Your own id for the visitor.
            tag: A tag, to compare variants; at most 50 characters.
            timestamp: When it happened, as a datetime or in epoch seconds; by default now.
            ua: The visitor's User-Agent; by default a browser's, because Umami drops the events of bots.
            browser: The visitor's browser; omitted if it has over 20 characters. This and the next two are
                stored by Umami 3.0.2 and later; otherwise Umami reads them from the User-Agent.
            os: The visitor's operating system, likewise.
            device: The kind of device, such as `mobile`, likewise.

        Returns:
            `{'queued': True}`, or `{'queued': False, 'reason': …}` if the event was dropped, or `{}` if
            sending is disabled. In `direct` mode, the server's answer.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not valid.
            httpx.HTTPStatusError: In `direct` mode, the server did not answer with 2xx.

        Example:
            ```python
            umami.new_event("signup", url="/account/new", custom_data={"plan": "pro"})
            ```
        """
        route = self._state.route or self._state.new_route()
        if (visitor := visitor_now()) is not None:
            url, referrer, language, ip_address, distinct_id, tag, ua = visitor.fill(
                url, referrer, language, ip_address, distinct_id, tag, ua
            )
            if visitor.data:
                custom_data = {**visitor.data, **custom.copied(custom_data)}
        encoded = route.encoder.event(
            name=event_name,
            title=event_name if title is None else title,
            url="/" if url is URL else url,
            data={} if custom_data is None else custom_data,
            referrer="" if referrer is REFERRER else referrer,
            timestamp=timestamp,
            hostname=hostname,
            website_id=website_id,
            language="en-US" if language is LANGUAGE else language,
            screen=screen,
            distinct_id=distinct_id,
            ip_address=ip_address,
            tag=tag,
            ua=ua,
            browser=browser,
            os=os,
            device=device,
        )
        if encoded and route.put(encoded):
            return {"queued": True}
        return self._submit(route, encoded, ua)

    def new_revenue_event(
        self,
        revenue: float,
        currency: str = "USD",
        event_name: str = "revenue",
        hostname: str | None = None,
        url: str = URL,
        website_id: str | None = None,
        title: str | None = None,
        custom_data: Mapping[str, Any] | None = None,
        referrer: str = REFERRER,
        language: str = LANGUAGE,
        screen: str = "1920x1080",
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
        ua: str | None = None,
        browser: str | None = None,
        os: str | None = None,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Send an event with an amount of money, which Umami adds to the website's revenue.

        Args:
            revenue: The amount: an int, a float or a Decimal, finite and not negative.
            currency: The ISO 4217 code of its currency, at most 10 characters.
            event_name: The event's name, at most 50 characters.
            hostname: See `new_event`, as for all below.
            url: See `new_event`.
            website_id: See `new_event`.
            title: See `new_event`.
            custom_data: See `new_event`. In the event, `revenue` and `currency` replace keys of these names.
            referrer: See `new_event`.
            language: See `new_event`.
            screen: See `new_event`.
            ip_address: See `new_event`.
            distinct_id: See `new_event`.
            tag: See `new_event`.
            timestamp: See `new_event`.
            ua: See `new_event`.
            browser: See `new_event`.
            os: See `new_event`.
            device: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not valid.
            httpx.HTTPStatusError: In `direct` mode, the server did not answer with 2xx.

        Example:
            ```python
            umami.new_revenue_event(19.99, "EUR", event_name="checkout", url="/checkout")
            ```
        """
        amount, code = fields.revenue(revenue), fields.currency(currency)
        data = custom.copied(custom_data)
        data["revenue"], data["currency"] = amount, code
        return self.new_event(
            event_name,
            hostname=hostname,
            url=url,
            website_id=website_id,
            title=title,
            custom_data=data,
            referrer=referrer,
            language=language,
            screen=screen,
            ip_address=ip_address,
            distinct_id=distinct_id,
            tag=tag,
            timestamp=timestamp,
            ua=ua,
            browser=browser,
            os=os,
            device=device,
        )

    def new_page_view(
        self,
        page_title: str,
        url: str,
        hostname: str | None = None,
        website_id: str | None = None,
        referrer: str = REFERRER,
        language: str = LANGUAGE,
        screen: str = "1920x1080",
        ua: str = BROWSER_USER_AGENT,
        ip_address: str | None = None,
        distinct_id: str | int | None = None,
        *,
        tag: str | None = None,
        timestamp: datetime | float | None = None,
        browser: str | None = None,
        os: str | None = None,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Send a page view, as Umami's script does from a browser.

        Args:
            page_title: The page's title.
            url: The page's URL or path.
            hostname: See `new_event`, as for all below.
            website_id: See `new_event`.
            referrer: See `new_event`.
            language: See `new_event`.
            screen: See `new_event`.
            ua: The visitor's User-Agent. Umami reads the browser, the system and the device from it.
            ip_address: See `new_event`.
            distinct_id: See `new_event`.
            tag: See `new_event`.
            timestamp: See `new_event`.
            browser: See `new_event`.
            os: See `new_event`.
            device: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not valid.
            httpx.HTTPStatusError: In `direct` mode, the server did not answer with 2xx.

        Example:
            ```python
            umami.new_page_view(
                "Pricing",
                request.url.path,
                ua=request.headers.get("user-agent", ""),
                ip_address=request.client.host,
            )
            ```
        """
        route = self._state.route or self._state.new_route()
        agent: str | None = ua
        if (visitor := visitor_now()) is not None:
            url, referrer, language, ip_address, distinct_id, tag, agent = visitor.fill(
                url, referrer, language, ip_address, distinct_id, tag, ua
            )
        encoded = route.encoder.event(
            name="",
            title=page_title,
            url=url,
            data=None,
            referrer="" if referrer is REFERRER else referrer,
            timestamp=timestamp,
            hostname=hostname,
            website_id=website_id,
            language="en-US" if language is LANGUAGE else language,
            screen=screen,
            distinct_id=distinct_id,
            ip_address=ip_address,
            tag=tag,
            ua=agent,
            browser=browser,
            os=os,
            device=device,
        )
        if encoded and route.put(encoded):
            return {"queued": True}
        return self._submit(route, encoded, agent)

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
        """Send data about a visitor. Umami stores it with the visitor's sessions.

        Args:
            distinct_id: Your own id for the visitor, as given to the other sends.
            data: A mapping like `custom_data`.
            website_id: See `new_event`, as for all below.
            hostname: See `new_event`.
            ip_address: See `new_event`.
            timestamp: See `new_event`.
            ua: See `new_event`.

        Returns:
            As `new_event` does.

        Raises:
            OperationNotAllowedError: No server is set.
            ValidationError: An argument is not valid.
            httpx.HTTPStatusError: In `direct` mode, the server did not answer with 2xx.

        Example:
            ```python
            umami.identify("user-17", {"plan": "pro", "since": date(2024, 5, 1)})
            ```
        """
        route = self._state.route or self._state.new_route()
        if (visitor := visitor_now()) is not None:
            ip_address = visitor.ip_address if ip_address is None else ip_address
            ua = visitor.ua if ua is None else ua
        encoded = route.encoder.identity(
            distinct_id,
            data,
            hostname=hostname,
            website_id=website_id,
            ip_address=ip_address,
            timestamp=timestamp,
            ua=ua,
        )
        if encoded and route.put(encoded):
            return {"queued": True}
        return self._submit(route, encoded, ua)

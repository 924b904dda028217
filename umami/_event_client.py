"""The part of a client that sends events. It does not import the queries, which take a while to import."""

import functools
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from typing_extensions import Unpack

from ._checks import checked_api_key, checked_region, checked_url
from ._events.values import given
from ._functions import send_async
from ._models import QueueStats
from ._sends import Sends
from ._state import State
from ._submit import submit, submit_async
from .errors import OperationNotAllowedError, ValidationError
from .settings import SettingsDict, with_settings


class EventClient(Sends):
    """The part of a client that sends events; see `Client`.

    Args:
        **settings: Any setting that `configure` takes.
    """

    def __init__(self, **settings: Unpack[SettingsDict]) -> None:
        state = State()
        weakref.finalize(self, state.abandon).atexit = False  # the end of the process has a flush of its own
        super().__init__(state, functools.partial(submit, state))
        self._awaited = Sends(state, cast("Any", functools.partial(submit_async, state)))
        if settings:
            state.set(settings)

    def __repr__(self) -> str:
        try:
            where = self._state.server().url_base or "Umami Cloud"
        except OperationNotAllowedError:
            where = "no server"
        except ValidationError:
            return "<umami.Client, with settings that are not valid>"
        return f"<umami.Client to {where}>"

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

    new_event_async = send_async(Sends.new_event)
    new_revenue_event_async = send_async(Sends.new_revenue_event)
    new_page_view_async = send_async(Sends.new_page_view)
    identify_async = send_async(Sends.identify)


def _seconds(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValidationError(f"timeout must be a number of seconds or None, got {given(timeout)}.")
    return min(float(timeout), threading.TIMEOUT_MAX)

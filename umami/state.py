"""A client's settings, and what follows from them: where calls go, and how an event is encoded and queued.

After a change, all that a send needs is put into a new `Route`, which never changes. So a send reads one
attribute, and threads may change settings while others send.
"""

import atexit
import base64
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from . import threads
from ._events.encoder import BROWSER_USER_AGENT, Encoder
from ._http import endpoints, late
from ._http.access import Access, Current
from ._http.connections import Connections
from ._http.endpoints import Server
from ._http.exporter import UmamiExporter
from ._http.filters import Dialect
from ._http.generations import Generation
from ._http.messages import Flow
from ._http.verdicts import BOT
from .errors import OperationNotAllowedError, ValidationError
from .queue.bounds import Bounds
from .queue.destination import Destination
from .queue.exporter import Exporter
from .queue.lane import BATCH_FRAME, Lane, Limits
from .queue.lifecycle import in_child, sigterm
from .queue.report import logger
from .queue.retry import Policy
from .queue.spool import SpoolPlan
from .queue.worker import Agent, Plan
from .settings import Settings, SettingsDict, resolve, shown

if TYPE_CHECKING:
    from ._http.access import Cert, Verify
    from ._http.session import Session

_CUSTOM: Final = Destination("exporter:", None)
"""Where events go with an exporter of the user's."""

# Sends that wait for room have their own limit: anyio's is for the program's own blocking calls.
_MOST_WAITING: Final = 64


@dataclass(frozen=True, slots=True)
class Route:
    """What a send needs, from its arguments to the queue.

    Attributes:
        settings: The settings that the rest follows from.
        server: Where events go; None with an exporter of the user's.
        encoder: Checks and encodes events.
        lane: The queue for that server.
        put: Queues an encoded event and returns True; or returns False, and `State.submit` decides.
    """

    settings: Settings
    server: Server | None
    encoder: Encoder
    lane: Lane
    put: Callable[[Lane, bytes], bool]


class State:
    """The settings of one client, its login, its agent and its connections."""

    def __init__(self) -> None:
        self._code: dict[str, Any] = {}
        self._lock = threads.RLock()
        self._settings: Settings | None = None
        self._login: tuple[str | None, str] | None = None
        self._access = Current()
        self._agent: Agent | None = None
        self.route: Route | None = None
        self._waiting: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar(
            f"umami.waiting.{id(self)}"
        )
        self._session: Session | None = None
        self._connections = Connections(
            functools.partial(late.new_poster, self._access),
            lambda: self._access().headers,
            BROWSER_USER_AGENT,
        )
        # How servers read a query's filter, as far as that is known, by their URLs.
        self.dialects: dict[str, Dialect] = {}
        _states.add(self)

    # Settings.

    @property
    def settings(self) -> Settings:
        """All settings, from code, environment and defaults.

        Raises:
            ValidationError: One is not valid; the message names it.
        """
        settings = self._settings
        if settings is None:
            with self._lock:
                settings = resolve(self._code)
                self._handle_sigterm(settings)
                self._use(settings)
        return settings

    def _use(self, settings: Settings) -> None:
        if settings != self._settings and logger.isEnabledFor(logging.DEBUG):
            logger.debug("Settings that differ from the defaults: %s", shown(settings))
        self._access.change(_access(settings))
        self._settings = settings
        self._connections.timeout, self._connections.item_timeout = settings.timeout, settings.item_timeout

    def set(self, code: SettingsDict) -> None:
        """Change settings. If one is not valid, none is changed."""
        _load_for_gevent()
        with self._lock:
            merged: dict[str, Any] = {**self._code, **code}
            settings = resolve(merged)
            self._handle_sigterm(settings, asked="flush_on_sigterm" in code)
            plan = _plan(settings)
            if self._agent is not None:
                self._agent.configure(plan)
            elif plan.spool is not None:
                # Events that lie in the spool are not to wait for the first send.
                self._agent = self._new_agent(plan)
            if merged.get("spool") is not None:
                merged["spool"] = settings.spool  # a relative path means the folder of today
            self._code = merged
            self._use(settings)
            self.route = None
        if settings.enabled and (settings.url_base or settings.api_key):
            late.load()  # here, rather than at the first event, which should be quick

    def _handle_sigterm(self, settings: Settings, *, asked: bool = False) -> None:
        """Install or remove the SIGTERM handler, as the settings say, if this thread can."""
        wanted = settings.flush_on_sigterm
        try:
            if wanted:
                sigterm.install()
            elif asked and not any(other.wants_sigterm for other in _states.members() if other is not self):
                sigterm.uninstall()
        except ValueError as error:
            if asked:
                raise ValidationError(
                    f"flush_on_sigterm must be set in the main thread, where signals are handled: {error}."
                ) from None
            logger.warning(
                "UMAMI_FLUSH_ON_SIGTERM has no effect here: call umami.configure() in the main thread (%s).",
                error,
            )

    @property
    def wants_sigterm(self) -> bool:
        """Whether this client is set to flush at SIGTERM."""
        return self._settings is not None and self._settings.flush_on_sigterm

    # The server and the login.

    def server(self, *, login: bool = False) -> Server:
        """Return where calls go.

        Args:
            login: Whether the call needs a credential.

        Raises:
            OperationNotAllowedError: No server, or no credential, is set.
        """
        settings = self.settings
        own_key = _is_own_key(settings.api_key)
        if settings.api_key is not None and not own_key:
            return Server(None, api_key=settings.api_key, region=settings.region)
        if settings.url_base is None and own_key:
            raise OperationNotAllowedError(
                "An API key that begins with umami_ is a self-hosted server's, and never sent to Umami "
                "Cloud: set the server's URL with set_url_base()."
            )
        if settings.url_base is None:
            raise OperationNotAllowedError("Set a URL base with set_url_base() or call set_cloud_api_key().")
        token = settings.api_key if own_key else self.token
        if login and token is None:
            raise OperationNotAllowedError("Call login() or set_cloud_api_key() before proceeding.")
        url, basic = _without_user(settings.url_base)
        return Server(url, basic, token, settings.api_key)

    @property
    def token(self) -> str | None:
        """The login's token, if the server that is set now issued it. No other server is to see it."""
        login = self._login
        return login[1] if login is not None and login[0] == self.settings.url_base else None

    def set_token(self, token: str | None) -> None:
        """Store the token of a login at the server that is set now; None forgets it."""
        with self._lock:
            self._login = None if token is None else (self.settings.url_base, token)
            self.route = None

    # Sends.

    def new_route(self) -> Route:
        """Return a new route, and keep it in `route` until a setting changes.

        Raises:
            OperationNotAllowedError: No server is set.
        """
        _load_for_gevent()
        with self._lock:
            settings, agent = self.settings, self.agent
            encoder = Encoder(
                settings.website_id,
                settings.hostname,
                settings.batch_bytes - BATCH_FRAME,
                agent.note_repair,
                settings.before_send,
                self._keep_back,
            )
            server = self.server() if settings.exporter is None else None
            lane = agent.lane(_CUSTOM if server is None else _destination(server))
            queued = settings.enabled and settings.mode == "queued"
            route = self.route = Route(settings, server, encoder, lane, agent.put if queued else _put_nothing)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug(
                    "Events go to %s, %s, for website %s and host name %s unless a send names others.",
                    type(settings.exporter).__name__
                    if server is None
                    else server.batch_url or server.send_url,
                    f"{settings.mode} mode" if settings.enabled else "but sending is disabled",
                    settings.website_id,
                    settings.hostname,
                )
            return route

    @property
    def agent(self) -> Agent:
        """The agent, which is made at the first use, and starts its threads at the first event."""
        with self._lock:
            if self._agent is None:
                agent = self._new_agent(_plan(self.settings))
                # A signal handler may have interrupted that with a send, and so with an agent of its own.
                self._agent = self._agent or agent
            return self._agent

    def _new_agent(self, plan: Plan) -> Agent:
        return Agent(plan, self._new_exporter)

    def _new_exporter(self, destination: Destination) -> Exporter:
        if destination is _CUSTOM and self.settings.exporter is not None:
            return self.settings.exporter
        # The Cloud is the newest Umami, but for the batch route.
        is_cloud = destination.batch_url is None
        return UmamiExporter(
            destination, self._connections, Generation.V2_17 if is_cloud else Generation.UNKNOWN
        )

    def submit(self, route: Route, encoded: bytes, user_agent: str | None) -> dict[str, Any]:
        """Do what is to be done with an event that `Route.put` did not queue.

        Args:
            route: The route that it was encoded with.
            encoded: The event; empty if `before_send` dropped it.
            user_agent: Its own User-Agent, if it has one.

        Returns:
            The send's result.
        """
        settings = route.settings
        if not settings.enabled:
            return {}
        if not encoded:
            return {"queued": False, "reason": "before_send"}
        if settings.mode == "direct":
            return self.session.run(self._direct(route, encoded, user_agent))
        patience = settings.block_timeout if settings.overflow == "block" else 0.0
        return _late(self.agent.put_late(route.lane, encoded, patience))

    async def submit_async(self, route: Route, encoded: bytes, user_agent: str | None) -> dict[str, Any]:
        """Submit as `submit` does, without blocking the event loop."""
        settings = route.settings
        if encoded and settings.enabled:
            if settings.mode == "direct":
                return await self.session.run_async(self._direct(route, encoded, user_agent))
            if settings.overflow == "block":
                return await self._put_late_async(route, encoded)
        return self.submit(route, encoded, user_agent)

    async def _put_late_async(self, route: Route, encoded: bytes) -> dict[str, Any]:
        agent, give_up = self.agent, time.monotonic() + route.settings.block_timeout
        return await anyio.to_thread.run_sync(
            lambda: _late(agent.put_late(route.lane, encoded, max(0.0, give_up - time.monotonic()))),
            limiter=self._limiter(),
            abandon_on_cancel=True,
        )

    @staticmethod
    async def in_thread(wait: Callable[[float | None], bool], timeout: float | None) -> bool:
        """Make a call that waits, without blocking the event loop."""
        return await anyio.to_thread.run_sync(wait, timeout, abandon_on_cancel=True)

    def _limiter(self) -> anyio.CapacityLimiter:
        limiter = self._waiting.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_MOST_WAITING)
            self._waiting.set(limiter)
        return limiter

    def _direct(self, route: Route, encoded: bytes, user_agent: str | None) -> Flow[dict[str, Any]]:
        agent = (user_agent or "").strip() or BROWSER_USER_AGENT
        assert route.server is not None  # noqa: S101 - the settings refuse direct mode with an exporter
        answer = yield from endpoints.send(route.server, encoded, agent)
        if isinstance(answer, dict) and "beep" in answer:
            # The answer itself looks like success.
            self.agent.report("rejected", BOT.reason, BOT.message, encoded)
        return answer

    def _keep_back(self, encoded: bytes, why: str) -> None:
        """Count an event that `before_send` dropped."""
        settings = self.settings
        if settings.enabled and settings.mode == "queued":
            self.agent.drop("before_send", why, encoded)

    @property
    def session(self) -> "Session":
        """The connections of queries, logins and direct sends, which are made at the first call."""
        with self._lock:
            if self._session is None:
                self._session = late.new_session(lambda: self.settings.timeout, self._access)
            return self._session

    def close(self) -> None:
        """Close the connections of the sync calls."""
        if self._session is not None:
            self._session.close()

    async def aclose(self) -> None:
        """Close the connections of the sync calls, and of this event loop's async ones."""
        if self._session is not None:
            await self._session.aclose()

    def after_fork(self) -> None:
        """Start clean in a fork's child. Another thread of the parent may have held the locks."""
        self._lock = threads.RLock()
        self._inherited, self._session = self._session, None


def _load_for_gevent() -> None:
    """Import httpx in a greenlet of the program, since gevent imports badly in a worker's thread.

    It must be called without a lock: importing may switch to another greenlet, which would get the lock too.
    """
    if threads.is_patched():
        late.load()


def _put_nothing(lane: Lane, event: bytes) -> bool:  # noqa: ARG001
    return False


def _late(reason: str | None) -> dict[str, Any]:
    return {"queued": True} if reason is None else {"queued": False, "reason": reason}


def _plan(settings: Settings) -> Plan:
    """Return the part of the settings that the agent works by."""
    return Plan(
        bounds=Bounds(
            events=settings.queue_size,
            bytes=settings.queue_bytes,
            overflow=settings.overflow,
            limits=Limits(settings.batch_size, settings.batch_bytes, settings.flush_interval),
            policy=_policy(settings),
            item_retry_limit=settings.item_retry_limit,
            at_most_once=settings.at_most_once,
        ),
        senders=settings.senders,
        shutdown_timeout=settings.shutdown_timeout,
        flush_on_sigterm=settings.flush_on_sigterm,
        on_error=settings.on_error,
        spool=None
        if settings.spool is None
        else SpoolPlan(
            Path(settings.spool),
            settings.spool_max_bytes,
            {"User-Agent": BROWSER_USER_AGENT},
            _home(settings),
        ),
    )


def _policy(settings: Settings) -> Policy:
    """Return when failed requests are tried again."""
    wait, limit = settings.retry_wait, settings.retry_limit
    policy = Policy(
        wait=settings.retry_wait_max if callable(wait) else wait,
        wait_max=settings.retry_wait_max,
        retry_after_max=settings.retry_after_max,
        limit=None if callable(limit) else limit,
    )
    if callable(wait):
        policy._wait = wait  # type: ignore[assignment] # noqa: SLF001
    if callable(limit):
        policy._stop = limit  # type: ignore[assignment] # noqa: SLF001
    return policy


def _access(settings: Settings) -> Access:
    """Return how servers are reached: headers, certificates and proxy."""
    # Checked, they have these types.
    verify, cert = cast("Verify", settings.verify), cast("Cert | None", settings.cert)
    return Access(settings.headers or {}, verify, cert, settings.proxy)


def _home(settings: Settings) -> Destination | None:
    """Return where events go by the settings alone, with the user and password of the URL."""
    if settings.url_base is None or (settings.api_key is not None and not _is_own_key(settings.api_key)):
        return None
    return _destination(Server(*_without_user(settings.url_base)))


def _destination(server: Server) -> Destination:
    headers = {**server.send_headers, "User-Agent": BROWSER_USER_AGENT}
    return Destination(server.send_url, server.batch_url, headers)


def _is_own_key(api_key: str | None) -> bool:
    """Tell whether an API key belongs to a self-hosted server, Umami 3.4 and later."""
    return api_key is not None and api_key.startswith("umami_")


def _without_user(url: str) -> tuple[str, str | None]:
    """Split a URL with a user and password into the URL without them, which logs may show, and a header."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    encoded = base64.b64encode(unquote(user).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {encoded}"


_states: Final[threads.Registry[State]] = threads.Registry()


def _close_all() -> None:
    for state in _states.members():
        state.close()


def _after_fork() -> None:
    for state in _states.members():
        state.after_fork()


atexit.register(_close_all)
in_child.append(_after_fork)

"""What a client is set to, and what follows from it: where calls go, and how a send is written and queued.

Everything that a send needs is derived once after a change, into a `Route` that never changes: so a
send reads one attribute, and threads may change settings while others send.
"""

import atexit
import base64
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from . import late, threads
from ._events.encoder import BROWSER_USER_AGENT, Encoder
from ._http import endpoints
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
from .queue.lane import BATCH_FRAME, Lane, Limits
from .queue.lifecycle import in_child, sigterm
from .queue.report import logger
from .queue.retry import Policy
from .queue.spool import SpoolPlan
from .queue.worker import Agent, Plan
from .settings import Settings, resolve

if TYPE_CHECKING:
    from ._http.transport import Session

# Waiting for room must not take the threads that the program's own blocking calls run in.
_MOST_WAITING: Final = 64


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an event, from the arguments of a send to the server.

    Attributes:
        settings: The settings that it follows from.
        server: Where it ends.
        encoder: Checks and encodes events.
        lane: The agent's lane to that server.
        put: Queues an encoded event and returns True; returns False if there is more to do than that.
    """

    settings: Settings
    server: Server
    encoder: Encoder
    lane: Lane
    put: Callable[[Lane, bytes], bool]

    @property
    def may_wait(self) -> bool:
        """Whether a send may have to wait, for an answer or for room."""
        return self.settings.mode == "direct" or self.settings.overflow == "block"


Prepared: TypeAlias = tuple[Route, bytes, str | None]
"""What `State.submit` takes."""


class StandIn:
    """Stands in for a client, and for its state: an async send has its sync function run on it.

    It keeps to one route, whatever other threads set meanwhile. Where a send may have to wait, the event is
    not queued but handed over, for `State.submit_async`.

    Args:
        state: The state that it stands in for.
    """

    def __init__(self, state: "State") -> None:
        self._whole = state
        self._state = self
        self.route: Route | None = None

    def new_route(self) -> Route:
        """Return the way of an event sent now, and keep it."""
        route = self._whole.route or self._whole.new_route()
        self.route = route = replace(route, put=_put_nothing) if route.may_wait else route
        return route

    def submit(self, *prepared: Any) -> dict[str, Any] | Prepared:
        """Do as `State.submit` does; hand the event over if that may have to wait."""
        route: Route = prepared[0]
        return prepared if route.may_wait else self._whole.submit(*prepared)


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
        # What is known of what servers read in a query's filter, by their URLs.
        self.dialects: dict[str, Dialect] = {}
        self.stand_in = StandIn(self)
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
        self._access.change(_access(settings))
        self._settings = settings
        self._connections.timeout, self._connections.item_timeout = settings.timeout, settings.item_timeout

    def set(self, **code: Any) -> None:
        """Change settings. If one is not valid, none is changed."""
        with self._lock:
            merged = {**self._code, **code}
            settings = resolve(merged)
            self._handle_sigterm(settings, asked="flush_on_sigterm" in code)
            plan = _plan(settings)
            if self._agent is not None:
                self._agent.configure(plan)
            elif plan.spool is not None:
                self._agent = self._new_agent(
                    plan
                )  # what lies in the spool is not to wait for the first event
            self._code = merged
            self._use(settings)
            self._forget_route()
        if settings.enabled and (settings.url_base or settings.api_key):
            late.load()  # here rather than at the first event, whose caller may have less time

    def _handle_sigterm(self, settings: Settings, *, asked: bool = False) -> None:
        """Take the signal or give it back, as the settings want it, if this thread can."""
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
        """The login's token, if it was given by the server that is set now: no other is to see it."""
        login = self._login
        return login[1] if login is not None and login[0] == self.settings.url_base else None

    def set_token(self, token: str | None) -> None:
        """Keep the token of a login at the server that is set now; None forgets it."""
        with self._lock:
            self._login = None if token is None else (self.settings.url_base, token)
            self._forget_route()

    # Sends.

    def new_route(self) -> Route:
        """Return the way of an event sent now, and keep it in `route` until a setting changes.

        Raises:
            OperationNotAllowedError: No server is set.
        """
        with self._lock:
            settings, server, agent = self.settings, self.server(), self.agent
            encoder = Encoder(
                settings.website_id,
                settings.hostname,
                settings.batch_bytes - BATCH_FRAME,
                agent.note_repair,
                settings.before_send,
                self._keep_back,
            )
            headers = {**server.send_headers, "User-Agent": BROWSER_USER_AGENT}
            lane = agent.lane(Destination(server.send_url, server.batch_url, headers))
            queued = settings.enabled and settings.mode == "queued"
            route = self.route = Route(settings, server, encoder, lane, agent.put if queued else _put_nothing)
            return route

    def _forget_route(self) -> None:
        self.route = None
        self.stand_in = StandIn(self)

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

    def _new_exporter(self, destination: Destination) -> UmamiExporter:
        # The Cloud is the newest Umami, but for the batch route.
        is_cloud = destination.batch_url is None
        return UmamiExporter(
            destination, self._connections, Generation.V2_17 if is_cloud else Generation.UNKNOWN
        )

    def submit(self, route: Route, encoded: bytes, user_agent: str | None) -> dict[str, Any]:
        """Do what is to be done with an event that `Route.put` did not take.

        Args:
            route: Its way.
            encoded: The event; nothing if `before_send` kept it back.
            user_agent: Its User-Agent if it has one of its own.

        Returns:
            What the send is to return.
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
        """Do as `submit` does for a route that may wait, without blocking the event loop."""
        settings = route.settings
        if not (encoded and settings.enabled):
            return self.submit(route, encoded, user_agent)
        if settings.mode == "direct":
            return await self.session.run_async(self._direct(route, encoded, user_agent))
        if self.agent.put(route.lane, encoded):
            return {"queued": True}
        return await self._put_late_async(route, encoded)

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
        answer = yield from endpoints.send(route.server, encoded, agent)
        if isinstance(answer, dict) and "beep" in answer:
            # The answer itself looks like success.
            self.agent.report("rejected", BOT.reason, BOT.message, encoded)
        return answer

    def _keep_back(self, encoded: bytes, why: str) -> None:
        """Count an event that `before_send` kept back."""
        settings = self.settings
        if settings.enabled and settings.mode == "queued":
            self.agent.drop("before_send", why, encoded)

    @property
    def session(self) -> "Session":
        """The connections of the calls that go straight through, which are made at the first one."""
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
        """Start clean in a fork's child: another thread of the parent may have held the locks."""
        self._lock = threads.RLock()
        self._inherited, self._session = self._session, None


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
            policy=Policy(
                wait=settings.retry_wait,
                wait_max=settings.retry_wait_max,
                retry_after_max=settings.retry_after_max,
                limit=settings.retry_limit,
            ),
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


def _access(settings: Settings) -> Access:
    """Return how the settings have servers reached."""
    verify = True if settings.verify is None else settings.verify
    return Access(settings.headers or {}, verify, settings.cert, settings.proxy)


def _home(settings: Settings) -> Destination | None:
    """Return where the settings alone have events go, with the credential of the URL."""
    if settings.url_base is None or (settings.api_key is not None and not _is_own_key(settings.api_key)):
        return None
    server = Server(*_without_user(settings.url_base))
    headers = {**server.send_headers, "User-Agent": BROWSER_USER_AGENT}
    return Destination(server.send_url, server.batch_url, headers)


def _is_own_key(api_key: str | None) -> bool:
    """Tell whether an API key is one of a self-hosted server, Umami 3.4 and later."""
    return api_key is not None and api_key.startswith("umami_")


def _without_user(url: str) -> tuple[str, str | None]:
    """Take the user and password out of a URL, where logs would show them, and make a header of them."""
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

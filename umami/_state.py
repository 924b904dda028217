"""A client's settings, and what follows from them: where calls go, and how an event is encoded and queued.

After a change, all that a send needs is put into a new `Route`, which never changes. So a send reads one
attribute, and threads may change settings while others send.
"""

import atexit
import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from . import _threads
from ._app_servers import uwsgi_will_fork
from ._events.encoder import Encoder
from ._events.repairs import noting
from ._http import late
from ._http.access import Access
from ._http.connections import Connections
from ._http.exporter import UmamiExporter
from ._http.generations import Generation
from ._http.server import Server
from ._http.target import Target, named
from ._http.versions import Known
from ._process import in_child, notice_fork, sigterm, will_flush
from ._server import home_of, is_local, server_of
from ._storage import Storage
from .errors import OperationNotAllowedError, ValidationError
from .queue.agent import Agent
from .queue.destination_queue import BATCH_FRAME
from .queue.exporter import Exporter
from .queue.reporter import logger
from .queue.retry import RetryPolicy
from .settings import Settings, SettingsDict, disabled_by_environment, resolve, shown

if TYPE_CHECKING:
    from ._http.session import Session

_NO_WEBSITE: Final = "00000000-0000-0000-0000-000000000000"
_NO_HOSTNAME: Final = "localhost"
_MOST_SERVERS: Final = 64


# Takes an encoded event, in place of every client's queue, and returns True.
Capture = Callable[[bytes], bool]

_captures: Final[list[Capture]] = []
_forbidden: Final[list[str]] = []


@dataclass(frozen=True, slots=True)
class Route:
    """What a send needs, from its arguments to the queue.

    Attributes:
        settings: The settings that the rest follows from.
        server: Where events go; None with an exporter of the user's.
        encoder: Checks and encodes events.
        destination: The queue for that server or exporter; None where a test captures what is sent.
        put: Queues an encoded event and returns True; or returns False, and `submit` decides.
    """

    settings: Settings
    server: Server | None
    encoder: Encoder
    destination: Any
    put: Callable[[bytes], bool]


class State:
    """The settings of one client, its login, its agent and its connections."""

    def __init__(self) -> None:
        self._code: dict[str, Any] = {}
        self._own_lock = _threads.RLock()
        self._settings: Settings | None = None
        self._login: tuple[str | None, str] | None = None
        self._account: tuple[str | None, str, str] | None = None
        self._access = Access(Settings.model_validate({}))
        self._agent: Agent | None = None
        self._storage = Storage()
        self._exporters: dict[str, UmamiExporter] = {}
        self.route: Route | None = None
        self._session: Session | None = None
        self._connections = Connections(
            functools.partial(late.new_poster, self.access), lambda: self.settings
        )
        # The servers' versions, as far as queries had to know them, by their URLs.
        self.versions: dict[str, Known] = {}
        _states.add(self)

    @property
    def _lock(self) -> Any:
        notice_fork()
        return self._own_lock

    # Settings.

    @property
    def code(self) -> SettingsDict:
        """The settings that were made in code."""
        return cast("SettingsDict", dict(self._code))

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
            _log(settings)
        return settings

    def _use(self, settings: Settings) -> None:
        if not self._access.is_same_with(settings):
            self._access = Access(settings)
        self._settings = settings

    def access(self) -> Access:
        """Return how servers are reached now."""
        return self._access

    def set(self, code: SettingsDict) -> None:
        """Change settings. If one is not valid, none is changed."""
        _prepare()
        with self._lock:
            merged: dict[str, Any] = {**self._code, **code}
            spool = self._storage.spool
            if spool is not None:  # set by the environment, perhaps: a relative path keeps its meaning
                merged.setdefault("spool", str(spool.path))
            settings = resolve(merged)
            if settings.enabled:
                _threads.refuse_eventlet()
            self._handle_sigterm(settings, asked="flush_on_sigterm" in code)
            if merged.get("spool") is not None:
                merged["spool"] = settings.spool  # a relative path means the folder of today
            if merged.get("rejected") is not None:
                merged["rejected"] = settings.rejected
            former = self._code, self._settings
            try:
                self._code = merged
                self._use(settings)
                self.route = None
                if self._agent is not None:
                    self._open_storage(self._agent, settings)
                    self._agent.configure(settings)
                elif (settings.spool is not None or settings.rejected is not None) and not _captures:
                    self.agent  # noqa: B018 - events that lie in the spool are not to wait for the first send
            except BaseException:
                self._code, self._settings = former
                if self._settings is not None:
                    self._use(self._settings)
                raise
            is_opened = spool is None and self._storage.spool is not None
        if is_opened and self._agent is not None:
            self._agent.look_for_orphans()  # without the lock, which that needs
        if settings != former[1]:
            _log(settings)
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

    def forget_route(self) -> None:
        """Have the next send look anew at where it goes."""
        with self._lock:
            self.route = None

    def snapshot(self) -> Any:
        """Return what `restore` brings back: the settings of code, and the login."""
        with self._lock:
            return self._code, self._login, self._account

    def restore(self, snapshot: Any) -> None:
        """Undo what calls have set since a snapshot."""
        code, login, account = snapshot
        with self._lock:
            self._login, self._account = login, account
            self.route = None  # another thread may have made one of the settings that end here
            if self._code is not code:
                self._code, self._settings = code, None
                if self._agent is not None:
                    self._agent.configure(self.settings)

    # The server and the login.

    def server(self, *, login: bool = False) -> Server:
        """Return where calls go.

        Args:
            login: Whether the call needs a credential.

        Raises:
            OperationNotAllowedError: No server, or no credential, is set; or a test may not use that server.
        """
        server = server_of(self.settings, self.token, login=login)
        if _forbidden and not is_local(server.url_base):
            raise OperationNotAllowedError(f"{_forbidden[-1]}, not {server.url_base or 'Umami Cloud'}.")
        return server

    @property
    def token(self) -> str | None:
        """The login's token, if the server that is set now issued it. No other server is to see it."""
        login = self._login
        return login[1] if login is not None and login[0] == self.settings.url_base else None

    def set_token(self, token: str | None) -> None:
        """Store the token of a login at the server that is set now; None forgets it, and any account."""
        with self._lock:
            self._login = None if token is None else (self.settings.url_base, token)
            self._account = None
            self.route = None

    def renew_token(self, token: str) -> None:
        """Store the token of a new login with the account that is remembered."""
        with self._lock:
            account = self._account
            self.set_token(token)
            self._account = account

    @property
    def account(self) -> tuple[str, str] | None:
        """The user name and password to log in with again at the server that is set now, if it may."""
        account = self._account
        return account[1:] if account is not None and account[0] == self.settings.url_base else None

    def remember(self, username: str, password: str) -> None:
        """Keep an account in memory, to log in with again."""
        with self._lock:
            self._account = (self.settings.url_base, username, password)

    # Sends.

    will_flush = staticmethod(will_flush)

    def new_route(self) -> Route:
        """Return a new route, and keep it in `route` until a setting changes.

        Raises:
            OperationNotAllowedError: No server is set.
        """
        if _captures:
            return self._captured(_captures[-1])
        _prepare()
        if self.settings.enabled:  # read, and logged, without the lock
            _threads.refuse_eventlet()
        with self._lock:
            settings, agent = self.settings, self.agent
            # With UMAMI_DISABLED=1, as tests set it, a program need not be configured to send nothing.
            off = not settings.enabled and disabled_by_environment()
            encoder = Encoder(
                settings.website_id or (_NO_WEBSITE if off else None),
                settings.hostname or (_NO_HOSTNAME if off else None),
                settings.batch_bytes - BATCH_FRAME,
                noting(agent.reporter) if settings.enabled else _note_nothing,
                settings.before_send,
                settings.common_data,
            )
            server = None
            if settings.exporter is None:
                try:
                    server = self.server()
                except OperationNotAllowedError:
                    if not off:
                        raise
                    server = Server(f"http://{_NO_HOSTNAME}")
            exporter = settings.exporter if server is None else self.exporter(server.target)
            assert exporter is not None  # noqa: S101 - for the type checker
            queue = agent.queue.destination(exporter)
            queued = settings.enabled and settings.mode == "queued"
            route = Route(settings, server, encoder, queue, queue.put if queued else _put_nothing)
            # A worker that uWSGI forks comes here at its first send, and so notices the fork.
            self.route = None if _captures or uwsgi_will_fork() else route
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Events go to %s, %s, for website %s and host name %s unless a send names others.",
                exporter.name,
                f"{settings.mode} mode" if settings.enabled else "but sending is disabled",
                settings.website_id,
                settings.hostname,
            )
        return route

    def _captured(self, capture: Capture) -> Route:
        """Return a route to a capture. It is not kept: the capture may end at any time."""
        settings = self.settings
        encoder = Encoder(
            settings.website_id or _NO_WEBSITE,
            settings.hostname or _NO_HOSTNAME,
            settings.batch_bytes - BATCH_FRAME,
            _note_nothing,
            settings.before_send,
            settings.common_data,
        )
        return Route(settings, None, encoder, None, capture)

    @property
    def agent(self) -> Agent:
        """The agent, which is made at the first use, and starts its threads at the first event."""
        with self._lock:
            if self._agent is None:
                settings = self.settings
                agent = Agent(settings, self._exporter_of)
                # A signal handler may have interrupted that with a send, and so with an agent of its own.
                self._agent = self._agent or agent
                try:
                    self._open_storage(self._agent, settings)
                except BaseException:
                    self._agent = None
                    raise
            return self._agent

    def _open_storage(self, agent: Agent, settings: Settings) -> None:
        home = home_of(settings)
        if settings.spool is not None and home is not None:
            self.exporter(home)  # with its credential, which what others left for it needs
        self._storage.open(agent, settings)

    def exporter(self, target: Target) -> UmamiExporter:
        """Return the exporter to a server; it uses the target's headers from now on."""
        with self._lock:
            exporter = self._exporters.get(target.name)
            if exporter is None:
                # The Cloud is the newest Umami, but for the batch route.
                generation = Generation.V2_17 if target.batch_url is None else Generation.UNKNOWN
                exporter = UmamiExporter(target, self._connections, generation)
                if len(self._exporters) >= _MOST_SERVERS:
                    del self._exporters[next(iter(self._exporters))]  # the oldest; a queue may go on using it
                self._exporters[target.name] = exporter
            exporter.target = target
            return exporter

    def _exporter_of(self, name: str) -> Exporter | None:
        """Return the exporter of a name that events in the spool have; None if this client has none."""
        own = self.settings.exporter
        if own is not None:
            return own if own.name == name else None
        exporter = self._exporters.get(name)
        if exporter is not None:
            return exporter
        target = named(name)
        return None if target is None else self.exporter(target)

    @property
    def session(self) -> "Session":
        """The connections of queries, logins and direct sends, which are made at the first call."""
        with self._lock:
            if self._session is None:
                self._session = late.new_session(lambda: self.settings, self.access, self._policy)
            return self._session

    def _policy(self) -> RetryPolicy:
        """Return when a query that failed is made again."""
        return RetryPolicy(self.settings, lambda report: logger.warning("%s", report.message))

    def copy(self, event: bytes) -> None:
        """Send a copy of an event to the mirror, best effort."""
        self._connections.copy([event])

    def finish_copies(self) -> None:
        """Wait a moment for copies that are being sent."""
        self._connections.finish_copies()

    def close(self) -> None:
        """Close the connections of the sync calls."""
        if self._session is not None:
            self._session.close()

    async def aclose(self) -> None:
        """Close the connections of the sync calls, and of this event loop's async ones."""
        if self._session is not None:
            await self._session.aclose()

    def abandon(self) -> None:
        """Let everything go once the queued events are settled: the client is gone."""
        self.close()
        if self._agent is not None:
            self._agent.abandon()

    def after_fork(self) -> None:
        """Start clean in a fork's child. Another thread of the parent may have held the locks."""
        self._own_lock = _threads.RLock()
        self._connections.after_fork()
        self._inherited, self._session = self._session, None


def _log(settings: Settings) -> None:
    """Log the settings in force. Called without a lock: a log handler may wait for another thread's send."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Settings that differ from the defaults: %s", shown(settings))


def _prepare() -> None:
    """Notice a fork. If gevent has patched since `umami` was imported, import now what a sender should not.

    It must be called without a lock: importing may switch to another greenlet, which would get the lock too.
    """
    notice_fork()
    if _threads.is_patched():
        late.load()


def _put_nothing(event: bytes) -> bool:  # noqa: ARG001
    return False


def _note_nothing(kind: str, detail: str = "", /) -> None:
    """Count no repair, and warn of nothing: the event goes nowhere."""


_states: Final[_threads.Registry[State]] = _threads.Registry()


# What tests do to all clients.


@contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Have each send of each client, also of one that is made meanwhile, go to `capture` alone.

    At the end, the settings and the login of each client are as they were.
    """
    former = [(state, state.snapshot()) for state in _states.members()]
    _captures.append(capture)
    _forget_routes()
    try:
        yield
    finally:
        _captures.remove(capture)
        for state, snapshot in former:
            state.restore(snapshot)


@contextmanager
def local_only(why: str) -> Iterator[None]:
    """Have each call to a server that is not on this machine raise an error that begins with `why`."""
    _forbidden.append(why)
    _forget_routes()
    try:
        yield
    finally:
        _forbidden.remove(why)


def _forget_routes() -> None:
    for state in _states.members():
        state.forget_route()


def _close_all() -> None:
    for state in _states.members():
        state.close()
        state.finish_copies()


def _after_fork() -> None:
    for state in _states.members():
        state.after_fork()


atexit.register(_close_all)
in_child.append(_after_fork)

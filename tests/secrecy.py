"""Checks in every test that no token, API key or password is shown.

It wraps the public calls. Their arguments are the secrets of the test, and nothing that comes out may contain
one. It searches every log record of the process, every exception that a call raises and its causes, the reprs
of the clients and of everything in them, error reports, counts, and the output of child processes. Tests need
not do anything for it. A test fails if a secret shows.

A secret must be distinct from other text: only those with eight characters or more, one of them a digit, are
searched for. The tests' passwords and keys are such.
"""

import functools
import inspect
import itertools
import logging
import re
import traceback
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import pytest

import umami
from umami._http.messages import Request
from umami._http.server import Server
from umami._sends import Sends

CHATTY = (
    *(
        "httpx",
        "httpcore.connection",
        "httpcore.http11",
        "httpcore.http2",
        "httpcore.proxy",
        "httpcore.socks",
    ),
    "asyncio",
)
"""Loggers with much to say of each request, at levels that the tests do not listen to."""

_URL_PASSWORD = re.compile(r"//[^/?#]*?:([^/?#]*)@")
_CHUNK = 24
_MOST_LINES = 5000
_MOST_ITEMS = 100


class Watch:
    """Knows the secrets of the running test, and remembers where one showed."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._seen: deque[tuple[str, str]] = deque(maxlen=_MOST_LINES)
        self._leaks: dict[str, str] = {}
        self._clients: list[umami.Client] = []
        self._make_record = logging.getLogRecordFactory()
        self._levels: dict[str, int] = {}

    # What is secret.

    def learn(self, kind: str, secret: Any) -> None:
        """Take note of a secret, and look for it from now on, and in what was said since the first one."""
        if not isinstance(secret, str) or len(secret) < 8 or not any(map(str.isdigit, secret)):
            return
        # A part of a long one is one too: a message may quote the first eighty characters of something.
        chunks = [secret[at : at + _CHUNK] for at in range(0, len(secret) - _CHUNK + 1, _CHUNK)]
        for text in {secret, quote(secret, safe=""), *chunks}:
            if text not in self._secrets:
                self._listen()
                self._secrets[text] = kind
                for where, said in tuple(self._seen):
                    self._compare(where, said, text, kind)

    def learn_settings(self, settings: Mapping[str, Any]) -> None:
        """Take note of the secrets among settings."""
        self.learn("an API key", settings.get("api_key"))
        headers = settings.get("headers")
        for value in headers.values() if isinstance(headers, Mapping) else ():
            self.learn("a header's value", value)
        cert = settings.get("cert")
        if isinstance(cert, (tuple, list)) and len(cert) == 3:
            self.learn("a key's password", cert[2])
        self.learn(
            "a proxy's password", unquote(str(settings.get("proxy")).rpartition("@")[0].rpartition(":")[2])
        )
        for password in _URL_PASSWORD.findall(str(settings.get("url_base"))):
            self.learn("a URL's password", unquote(password))
            self.learn("a URL's password", password)

    def learn_environment(self, environment: Mapping[str, str]) -> None:
        """Take note of the secrets in the environment of a process."""
        names = {"UMAMI_API_KEY": "api_key", "UMAMI_URL": "url_base", "UMAMI_URL_BASE": "url_base"}
        for name, setting in names.items():
            self.learn_settings({setting: environment.get(name)})
        self.learn("a password", environment.get("UMAMI_PASSWORD"))

    # Where it may not show.

    def look(self, where: str, text: str) -> None:
        """Look for every secret in a text."""
        if self._secrets:
            self._seen.append((where, text))
            for secret, kind in tuple(self._secrets.items()):
                self._compare(where, text, secret, kind)

    def _compare(self, where: str, text: str, secret: str, kind: str) -> None:
        at = text.find(secret)
        if at >= 0:
            shows = f"{kind} shows in {where}"
            self._leaks.setdefault(shows, f"{shows}: …{text[max(0, at - 80) : at + _CHUNK]}…")

    def look_at_error(self, where: str, error: BaseException | None, seen: tuple[int, ...] = ()) -> None:
        """Look at an exception, and at those that it came of."""
        if not self._secrets or error is None or id(error) in seen:
            return
        for text in (shown(error), str(error), shown(error.args), shown(vars(error))):
            self.look(f"an exception of {where}", text)
        for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            self.look_at_error(where, other, (*seen, id(error)))

    def look_at_client(self, client: umami.Client) -> None:
        """Look at the ledger of a client, and at the repr of each object that it holds."""
        for kept in held_by(client):
            where = f"the repr of {type(kept).__qualname__}"
            self.look(where, shown(kept))
            self.look(where, shown(kept, str))
        if client._state._agent is not None:
            self.look("queue_stats()", shown(client._state._agent.stats()))

    def _record(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a log record: the one point that all of them come by, handled or not."""
        record = self._make_record(*args, **kwargs)
        if self._secrets:
            where = f"the log of {record.name}"
            try:
                self.look(where, record.getMessage())
            except Exception:  # noqa: BLE001 - the handlers will say so
                self.look(where, str(record.msg))
            self.look(where, shown(record.args))
            if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
                self.look_at_error(where, record.exc_info[1])
                self.look(where, "".join(traceback.format_exception(*record.exc_info)))
        return record

    # The public calls.

    def wrap(self) -> None:
        """Wrap the public calls, for the whole run."""
        logging.setLogRecordFactory(self._record)
        umami.Client.__init__ = self._guarded("__init__", umami.Client.__init__)
        for kind in umami.Client.__mro__[:-1]:
            if kind is Sends:  # tests send hundreds of thousands of events
                continue
            for name, function in tuple(vars(kind).items()):
                if inspect.isfunction(function) and not name.startswith("_"):
                    setattr(kind, name, self._guarded(name, function))
        for name in umami.__all__:
            value = getattr(umami, name)
            if isinstance(getattr(value, "__self__", None), umami.Client.__mro__[1:-1]):
                setattr(umami, name, getattr(value.__self__, value.__name__))
        self._at_birth(Server, self._learn_server)
        for kind in (Request, umami.models.ErrorReport):
            self._at_birth(kind, lambda born: self.look(f"the repr of {type(born).__name__}", shown(born)))

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        enter = self._entrances().get(name)
        signature = inspect.signature(function)

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if enter is not None:
                try:
                    arguments = signature.bind(*args, **kwargs).arguments
                except TypeError:
                    return  # the call itself is about to say so
                enter(arguments)

        def end(result: Any) -> Any:
            if self._secrets:
                if isinstance(result, umami.models.LoginResponse):
                    self.learn("a token", result.token)
                self.look(f"what {name}() returns", shown(result))
            return result

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                begin(args, kwargs)
                try:
                    return end(await function(*args, **kwargs))
                except BaseException as error:
                    self.look_at_error(f"{name}()", error)
                    raise

            return call_async

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            begin(args, kwargs)
            try:
                return end(function(*args, **kwargs))
            except BaseException as error:
                self.look_at_error(f"{name}()", error)
                raise

        return call

    def _entrances(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        """The calls that secrets come in by, and who learns them."""

        def log_in(arguments: dict[str, Any]) -> None:
            self.learn("a password", arguments["password"])

        def make(arguments: dict[str, Any]) -> None:
            self._clients.append(arguments["self"])
            configure(arguments)

        def configure(arguments: dict[str, Any]) -> None:
            self.learn_settings(arguments.get("settings", {}))

        return {
            "__init__": make,
            "configure": configure,
            "login": log_in,
            "login_async": log_in,
            "set_url_base": lambda arguments: self.learn_settings({"url_base": arguments["url"]}),
            "set_cloud_api_key": lambda arguments: self.learn_settings({"api_key": arguments["key"]}),
        }

    def _at_birth(self, kind: type, look: Callable[[Any], None]) -> None:
        make: Callable[..., None] = kind.__init__  # type: ignore[misc]

        @functools.wraps(make)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            make(self, *args, **kwargs)
            look(self)

        kind.__init__ = init  # type: ignore[misc]

    def _learn_server(self, server: Server) -> None:
        self.learn("a token", server.token)
        self.learn("an API key", server.api_key)
        if server.basic is not None:
            encoded = server.basic.partition(" ")[2]
            self.learn("a URL's password", encoded)
            self.learn("a URL's password", b64decode(encoded).decode().partition(":")[2])
        self.look("the repr of Server", shown(server))

    def _listen(self) -> None:
        """Hear the chatty loggers too, without anybody else hearing more of them than before."""
        if not self._levels:
            for name in CHATTY:
                logger = logging.getLogger(name)
                self._levels[name] = logger.level
                logger.setLevel(logging.DEBUG)
                logger.addFilter(_as_before)

    # A test's course.

    def begin(self) -> None:
        """Forget what the test before had."""
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.removeFilter(_as_before)
        self._levels = {}
        self._secrets = {}
        self._leaks = {}
        self._seen.clear()
        self._clients = []

    def let_go(self, client: umami.Client) -> None:
        """Look at a client now, and hold it no longer, for a test in which nobody may."""
        self._clients = [other for other in self._clients if other is not client]
        if self._secrets:
            self.look_at_client(client)

    def look_at_clients(self) -> None:
        """Look at all clients that the test had."""
        clients, self._clients = self._clients, []
        if self._secrets:
            for client in clients:
                self.look_at_client(client)

    def check(self) -> None:
        """Fail if a secret showed."""
        leaks, self._leaks = self._leaks, {}
        if leaks:
            pytest.fail("\n".join(leaks.values()), pytrace=False)


def _as_before(record: logging.LogRecord) -> bool:
    """Let pass what would have come through without us."""
    return record.levelno >= logging.getLogger().level


def shown(value: Any, show: Callable[[Any], str] = repr) -> str:
    """Return how an object shows itself, or nothing if that fails."""
    try:
        return show(value)
    except Exception:  # noqa: BLE001 - a test's own object may do anything
        return ""


def held_by(client: umami.Client) -> Iterator[Any]:
    """Walk through the package's own objects that a client holds, itself the first."""
    known: set[int] = set()
    waiting: list[Any] = [client]
    while waiting:
        value = waiting.pop()
        if id(value) in known:
            continue
        known.add(id(value))
        try:
            if isinstance(value, Mapping):
                waiting.extend(itertools.islice(value.values(), _MOST_ITEMS))
            elif isinstance(value, (list, tuple, set, frozenset, deque)):
                waiting.extend(itertools.islice(value, _MOST_ITEMS))
            elif type(value).__module__.partition(".")[0] == "umami":
                yield value
                waiting.extend(getattr(value, "__dict__", {}).values())
                for kind in type(value).__mro__:
                    slots = kind.__dict__.get("__slots__", ())
                    waiting.extend(getattr(value, slot) for slot in slots if hasattr(value, slot))
        except RuntimeError:
            continue  # a sender is at work on it


watch = Watch()


class Plugin:
    """Has each test watched, from its set-up to its end."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        watch.begin()
        result = yield
        watch.check()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        result = yield
        watch.look_at_clients()
        watch.check()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        result = yield
        watch.check()
        watch.begin()
        return result


def watch_all(config: pytest.Config) -> None:
    """Begin to watch the tests of a run."""
    if not config.pluginmanager.has_plugin("secrecy watch"):
        config.pluginmanager.register(Plugin(), "secrecy watch")
        watch.wrap()

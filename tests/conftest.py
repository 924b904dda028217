"""Fixtures: a collector that answers as Umami does, clients that send to it, and child processes."""

import contextlib
import functools
import gc
import inspect
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
from secrecy import shown, watch, watch_all

import umami
from umami.collector import Collector
from umami.collector.server import ServerThread

SITE = "978435e2-7ba1-4337-9860-ec31ece2db60"
ROOT = Path(__file__).parent.parent
PASSWORD = "pa55-of-the-collector"
"""The collectors' password: unlike their own default, it can be told from all else; see `secrecy`."""
DEADLINE = float(os.environ.get("UMAMI_TEST_DEADLINE", "60"))
"""Seconds that a test waits for something before it fails."""
FAST_VERSIONS = {"3.1"}
"""The version of Umami in `make test-fast`, for the tests that run with every version."""
TRIO = pytest.param("trio", marks=pytest.mark.slow)
"""The event loop that `make test-fast` leaves out."""
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)

if sys.platform == "win32":
    # They need forks, POSIX's signals and `unshare`; or the locks of a spool's files.
    collect_ignore_glob = ["test_exit.py", "test_fork.py", "test_frameworks.py", "test_spool*.py"]

_SLOW_FILE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that need none: the default one takes longer to make than most tests."""


# In each process that starts, pydantic would read the metadata of all installed packages.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
# Set in many containers. The tests' programs are to run as they do elsewhere.
os.environ.pop("PYTHONUNBUFFERED", None)
ALL_PACKAGES = {"PYTHONPATH": str(ROOT)}
"""The environment variables of a test's program that needs more than those below leave."""
_SOME_PACKAGES = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "hidden_packages"), str(ROOT)])}
FOR_SERVERS = {**_SOME_PACKAGES, "HIDDEN_PACKAGES": "rich trio"}
"""Those of a server or a worker of a framework. It starts in two thirds of the time."""
CORE_ONLY = {**_SOME_PACKAGES, "HIDDEN_PACKAGES": "click h2 rich socksio trio"}
"""Those of a program that needs the core alone. It starts in half the time."""


def pytest_configure(config: pytest.Config) -> None:
    watch_all(config)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As in a shell's background job: the child processes would inherit that, and never see a Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Have `make test-fast` not even import a file whose `pytestmark` says that it is slow."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return _SLOW_FILE.search(collection_path.read_text("utf-8")) is not None or None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector from walking through all tests, while they are collected and later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a proxy by its type: its text may hold an address, and pytest-xdist needs stable ids."""
    return argname if type(val) is not val.__class__ else None


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UMAMI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _same_logger() -> Iterator[None]:
    """Leave the logger as it was: a framework's set-up may disable it, or set its level."""
    logger = logging.getLogger("umami")
    before = logger.level, logger.propagate, logging.root.level, logging.root.handlers.copy()
    yield
    logging.disable(logging.NOTSET)
    logger.disabled = False
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logging.root.setLevel(before[2])  # Celery sets it, and adds handlers
    logging.root.handlers[:] = before[3]


@pytest.fixture(params=["asyncio", TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def reserved(port: int = 0) -> socket.socket:
    """Return a socket that keeps a port from being given to anybody who asks for a free one.

    Nobody listens there, and a collector can still be started there.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


@pytest.fixture(scope="session", autouse=True)
def _ports_used_once() -> Iterator[None]:
    """Keep the ports of stopped collectors from the collectors of other tests, and of a test run beside this.

    A client or a process that outlives its test, and sends again, would reach another test's collector.
    """
    holders: list[socket.socket] = []
    stop = ServerThread.stop

    def stop_and_reserve(server: ServerThread, **options: Any) -> None:
        stop(server, **options)
        with contextlib.suppress(OSError):  # somebody was quicker
            holders.append(reserved(server.port))
        if len(holders) > 300:
            holders.pop(0).close()

    ServerThread.stop = stop_and_reserve  # type: ignore[method-assign]
    yield
    ServerThread.stop = stop  # type: ignore[method-assign]
    for holder in holders:
        holder.close()


@pytest.fixture(scope="session")
def _idle_collectors() -> Iterator[list[Collector]]:
    """The collector that the next test is to use, if the last one has left it as it was."""
    collectors: list[Collector] = []
    yield collectors
    for collector in collectors:
        collector.stop()


@pytest.fixture
def collector(_idle_collectors: list[Collector]) -> Iterator[Collector]:
    """A collector without events, shared by all tests that leave nothing behind: starting one takes 20 ms."""
    collector = _idle_collectors.pop() if _idle_collectors else Collector(password=PASSWORD)
    collector.start()
    try:
        yield collector
    finally:
        if _is_reusable(collector):
            collector.clear()
            _idle_collectors.append(collector)
        else:
            collector.stop()


@pytest.fixture
def own_collector() -> Iterator[Collector]:
    """A collector of this test's own, which no process of an earlier test can reach."""
    with Collector(password=PASSWORD) as collector:
        yield collector


@pytest.fixture
def no_websites(_idle_collectors: list[Collector]) -> None:
    """Have the test's `collector` know no website yet; for `pytest.mark.usefixtures`."""
    while _idle_collectors:
        _idle_collectors.pop().stop()


def until_read(collector: Collector) -> None:
    """Wait until a collector has read what reached it before this, also from processes that are gone."""
    with socket.create_connection((collector.host, collector.port), DEADLINE) as connection:
        connection.sendall(b"GET /api/heartbeat HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(1)


def _is_reusable(collector: Collector) -> bool:
    """Return whether this test leaves nothing behind, and nothing of it can reach the collector any more."""
    if "running" not in repr(collector) or any(t.name == "umami-sender" for t in threading.enumerate()):
        return False
    until_read(collector)
    websites = {each["id"] for each in collector._store.websites()[0]}
    return all(request.status for request in collector.requests) and websites <= {SITE}


@pytest.fixture
def other() -> Iterator[Collector]:
    """A second collector."""
    with Collector() as other:
        yield other


@pytest.fixture(params=[True, False], ids=["batch", "send"])
def batch(request: pytest.FixtureRequest) -> bool:
    """Whether the server has a batch route."""
    return request.param


def version(batch: bool) -> str:
    """Return a version of Umami with a batch route, or one without."""
    return "3.1" if batch else "cloud"


def with_version(version: str, *values: Any, name: str) -> Any:
    """Return one set of parameters for a test that runs with every version of Umami."""
    return pytest.param(*values, id=name, marks=[] if version in FAST_VERSIONS else [pytest.mark.slow])


def slow(*values: Any) -> list[Any]:
    """Return values of one parameter that `make test-fast` leaves out, since others take the same path."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def with_each(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Any], Any]:
    """Run a test with each of many cases, one after another.

    Unlike `pytest.mark.parametrize`, which sets up and reports every case by itself, it costs next to nothing
    for each. The fixtures are the same for all cases; only collectors are cleared after each. The first case
    that fails ends the test, and is named.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        names_of_case = (names,) if isinstance(names, str) else names
        signature = inspect.signature(test)

        @functools.wraps(test)
        def run_each(**fixtures: Any) -> None:
            for values in cases:
                case = dict(zip(names_of_case, (values,) if isinstance(names, str) else values, strict=True))
                try:
                    test(**fixtures, **case)
                except (Exception, pytest.fail.Exception) as error:
                    raise AssertionError(f"failed with {shown(case)[:500]}") from error
                for fixture in fixtures.values():
                    if isinstance(fixture, Collector):
                        fixture.clear()

        others = [parameter for name, parameter in signature.parameters.items() if name not in names_of_case]
        run_each.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return run_each

    return decorate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for a spool; it does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def browse() -> Iterator[Callable[..., httpx.Client]]:
    """Make HTTP clients with the User-Agent of a browser."""
    clients = []

    def make(collector: Collector, **options: Any) -> httpx.Client:
        client = httpx.Client(
            base_url=collector.url,
            headers={"User-Agent": CHROME},
            verify=_TLS,
            **{"timeout": 30.0, **options},
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def http(collector: Collector, browse: Callable[..., httpx.Client]) -> httpx.Client:
    return browse(collector)


@pytest.fixture
def make_client(collector: Collector) -> Iterator[Callable[..., umami.Client]]:
    """Make clients that send to the collector and retry quickly; they are shut down at the end."""
    clients = []

    def make(**settings: Any) -> umami.Client:
        defaults = {
            "url_base": collector.url,
            "website_id": SITE,
            "hostname": "example.com",
            "retry_wait": 0.02,
            "retry_wait_max": 0.1,
            "flush_interval": 0.05,
        }
        client = umami.Client(**{**defaults, **settings})
        clients.append(client)
        return client

    yield make
    collector.clear_faults()
    collector.thaw()
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., umami.Client]) -> umami.Client:
    return make_client()


@pytest.fixture
def user(client: umami.Client, collector: Collector) -> umami.Client:
    """A client that is logged in; the collector has forgotten how."""
    client.login("admin", PASSWORD)
    collector.clear()
    return client


def query_of(collector: Collector) -> dict[str, str]:
    """Return the parameters of the last request."""
    return {name: values[0] for name, values in parse_qs(collector.requests[-1].query).items()}


@pytest.fixture(params=["sync", "asyncio", TRIO])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a client's method, or its async version on a new event loop."""

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return function(*args, **kwargs)
        pair = getattr(function.__self__, f"{function.__name__}_async")
        return anyio.run(functools.partial(pair, *args, **kwargs), backend=request.param)

    return run


@pytest.fixture
def heard() -> Iterator[logging.Handler]:
    """What the package logs during the test."""
    from queue_helpers import Listener

    listener = Listener()
    logger = logging.getLogger("umami")
    logger.addHandler(listener)
    yield listener
    logger.removeHandler(listener)


@pytest.fixture
def balanced() -> Callable[[umami.Client], None]:
    """Check that a client's ledger balances."""

    def check(client: umami.Client) -> None:
        stats = client.queue_stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
        assert stats.submitted == ended + stats.pending, stats

    return check


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a fresh interpreter, and return what it printed and how it ended."""

    def run(
        program: str, *args: str, timeout: float = DEADLINE, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        watch.learn_environment(environment)
        process = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), *args],
            env={**os.environ, **CORE_ONLY, **environment},
            cwd=ROOT,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
        watch.look("the output of a child process", process.stdout)
        watch.look("the errors of a child process", process.stderr)
        return process

    return run

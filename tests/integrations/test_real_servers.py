"""The middleware under real servers: who saw which page, whose event it is, and nothing lost at SIGTERM."""

import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from process_helpers import Child, running
from process_helpers import settings as environment

from integrations.web_servers import request, until
from umami.collector import Collector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM"),
]

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
VISITORS = 16


class Server:
    """A way to start a server.

    Args:
        command: Python's arguments; `PORT` stands for a free port.
        ready: What its log says when a process is ready for requests, and also for SIGTERM.
        times: How often it says that.
        needs: The modules that it consists of.
        trusts: The number of a visitor whose address it takes for that of a trusted proxy; None if of nobody.
        **variables: The client's settings.
    """

    def __init__(
        self,
        command: str,
        ready: str,
        times: int = 1,
        needs: tuple[str, ...] = (),
        trusts: int | None = None,
        **variables: object,
    ) -> None:
        self.trusts = trusts
        self._command, self._ready, self._times, self._needs = command, ready, times, needs
        self._variables = variables

    @contextmanager
    def running(self, collector: Collector) -> Iterator[tuple[Child, int]]:
        """Run it, and yield it and its port."""
        for module in self._needs:
            if find_spec(module) is None:
                pytest.skip(f"{module} is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [word.replace("PORT", str(port)) for word in shlex.split(self._command)]
        variables = {
            **environment(collector, flush_interval=600, **self._variables),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
        }
        with running(*command, errors=subprocess.STDOUT, **variables) as child:
            child.says(self._ready, self._times)
            until(lambda: _listens(port))
            yield child, port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gunicorn(app: str, options: str, *needs: str) -> Server:
    address = "--bind=127.0.0.1:PORT --no-control-socket"
    return Server(f"-m gunicorn {app} {address} {options}", "Booting worker", 1, ("gunicorn", *needs))


def granian(app: str, interface: str, workers: int) -> Server:
    # A worker that has not said that it has started ignores SIGTERM, and is waited for without end.
    command = f"-m granian --interface={interface} --workers={workers} --port=PORT {app}"
    return Server(command, "Started worker-", workers, ("granian",))


WSGI, ASGI = "examples.wsgi_site:app", "examples.fastapi_site:app"
SITES = {
    "gunicorn sync, preloaded": gunicorn(WSGI, "--preload --workers=2"),
    "gunicorn gthread": gunicorn(WSGI, "--worker-class=gthread --threads=4"),
    "gunicorn gevent": gunicorn(WSGI, "--worker-class=gevent", "gevent"),
    "granian, WSGI": granian(WSGI, "wsgi", 2),
    "hypercorn, WSGI": Server(
        f"-m hypercorn --bind=127.0.0.1:PORT wsgi:{WSGI}", "Running on", needs=("hypercorn",)
    ),
    "uWSGI": Server(
        f"-c 'import pyuwsgi; pyuwsgi.run()' --module={WSGI} --http-socket=127.0.0.1:PORT "
        "--master --processes=2 --enable-threads "
        "--hook-master-start='unix_signal:15 gracefully_kill_them_all'",
        "spawned uWSGI worker 2",
        needs=("pyuwsgi",),
    ),
    "waitress": Server(
        f"-m waitress --listen=127.0.0.1:PORT {WSGI}", "Serving on", needs=("waitress",), flush_on_sigterm=1
    ),
    "uvicorn": Server(
        f"-m uvicorn --workers=2 --port=PORT --forwarded-allow-ips=127.0.1.3 {ASGI}",
        "startup complete",
        2,
        trusts=3,
    ),
    "gunicorn asgi": gunicorn(ASGI, "--worker-class=asgi"),
    "gunicorn uvicorn": gunicorn(ASGI, "--worker-class=uvicorn_worker.UvicornWorker", "uvicorn_worker"),
    "granian, ASGI": granian(ASGI, "asgi", 1),
    "hypercorn, ASGI": Server(
        f"-m hypercorn --workers=2 --bind=127.0.0.1:PORT {ASGI}",
        "Running on",
        2,
        ("hypercorn",),
        flush_on_sigterm=1,
    ),
}


def visit(port: int, number: int) -> None:
    """See an item and buy it, as a visitor with an address of her own."""
    headers = {
        "User_Agent": BROWSER,
        "Accept_Language": "de-DE",
        "X_Forwarded_For": "198.51.100.7, 203.0.113.9",
        "peer": f"127.0.1.{number}",
    }
    assert request(port, f"/items/{number}?utm_source=mail&session=3", **headers)[0] == 200
    assert request(port, f"/buy/{number}", "POST", **headers)[0] == 200


@pytest.mark.parametrize("server", SITES.values(), ids=SITES)
def test_pages_and_events_arrive_with_their_visitors(collector: Collector, server: Server) -> None:
    with server.running(collector) as (child, port):
        with ThreadPoolExecutor(8) as visitors:
            list(visitors.map(lambda number: visit(port, number), range(1, VISITORS + 1)))
        child.process.send_signal(signal.SIGTERM)
        child.end()

    seen = Counter(
        (event.name, event.url_path, event.url_query, event.title, event.ip) for event in collector.events
    )
    expected: list[Any] = []
    for number in range(1, VISITORS + 1):
        address = "203.0.113.9" if number == server.trusts else f"127.0.1.{number}"
        expected.append((None, f"/items/{number}", "utm_source=mail", "An item", address))
        expected.append(("purchase", f"/buy/{number}", "", "purchase", address))
    assert seen == Counter(expected)
    assert {(event.browser, event.language) for event in collector.events} == {("firefox", "de-DE")}


def test_djangos_own_server(collector: Collector) -> None:
    command = "examples/django_site.py runserver --noreload PORT"
    with Server(command, "development server at", needs=("django",)).running(collector) as (child, port):
        for path in ("/items/17", "/buy"):
            assert request(port, path, User_Agent=BROWSER, peer="127.0.1.9")[0] == 200
        child.process.send_signal(signal.SIGTERM)
        child.end()
    seen = sorted((event.name or "", event.url_path, event.ip, event.browser) for event in collector.events)
    assert seen == [
        ("", "/buy", "127.0.1.9", "firefox"),
        ("", "/items/<int:number>", "127.0.1.9", "firefox"),
        ("purchase", "/buy", "127.0.1.9", "firefox"),
    ]

"""Proxies in front of a server: one that answers 404 while it is down, and nginx with a rate limit."""

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from typing_extensions import Self

NOT_FOUND: Final = b"404 page not found\n"
BAD_GATEWAY: Final = b"Bad Gateway"
_SERVER_SECONDS: Final = 60.0
_NGINX_SECONDS: Final = 1800
_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection"}
_SURELY_NOT_STORED: Final = ("P1001", "Can't reach database server")
_INGESTION: Final = ("/api/send", "/api/batch")


@dataclass
class Log:
    """The record of a proxy.

    Attributes:
        requests: The number of requests with events.
        largest: The number of events of the largest request.
        unanswered: For each request that reached the server but got no answer, its number of events.
        doubtful: The number of events whose error answer does not rule out that they were stored.
        statuses: How often each status was answered.
    """

    requests: int = 0
    largest: int = 0
    unanswered: list[int] = field(default_factory=list)
    doubtful: int = 0
    statuses: dict[str, int] = field(default_factory=dict)


class Proxy(ThreadingHTTPServer):
    """A reverse proxy on loopback. It opens a connection to the server for each request.

    It answers 404 in plain text if the server refuses the connection, and 502 if the server does not answer.

    Args:
        server: The URL of the server.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.log = Log()
        self._lock = threading.Lock()
        parts = urlsplit(server)
        self.behind = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing. A client may close its connection at any time."""

    def note(self, path: str, events: int, status: int | None, body: bytes) -> None:
        """Record the end of a request. The status is None if the server did not answer."""
        if path not in _INGESTION:
            return
        with self._lock:
            log = self.log
            log.requests += 1
            log.largest = max(log.largest, events)
            name = "none" if status is None else str(status)
            log.statuses[name] = log.statuses.get(name, 0) + 1
            if status is None:
                log.unanswered.append(events)
            elif status >= 500 or path == "/api/batch":
                log.doubtful += _doubtful(status, body, events)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: Proxy

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _forward(self, body: bytes) -> None:
        events = _count(self.path, body)
        connection = http.client.HTTPConnection(*self.server.behind, timeout=_SERVER_SECONDS)
        try:
            connection.connect()
        except OSError:
            self.server.note(self.path, events, 404, b"")
            self._answer(404, [("Content-Type", "text/plain; charset=utf-8")], NOT_FOUND)
            return
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            headers["X-Forwarded-For"] = self.headers.get("X-Forwarded-For", self.client_address[0])
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.server.note(self.path, events, None, b"")
            self._answer(502, [("Content-Type", "text/plain; charset=utf-8")], BAD_GATEWAY)
            return
        finally:
            connection.close()
        kept = [
            (name, value)
            for name, value in response.getheaders()
            if name.lower() not in {*_HOP_BY_HOP, "content-length", "date", "server"}
        ]
        try:
            self._answer(response.status, kept, answer)
        except OSError:
            self.server.note(self.path, events, None, b"")
            raise
        self.server.note(self.path, events, response.status, answer)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _count(path: str, body: bytes) -> int:
    """Return the number of events in a request."""
    if path != "/api/batch":
        return 1
    try:
        return len(json.loads(body))
    except (ValueError, TypeError):
        return 0


def _doubtful(status: int, body: bytes, events: int) -> int:
    """Return how many events the server may have stored although it answered with an error."""
    if status >= 500:
        return 0 if _says_not_stored(body.decode(errors="replace")) else events
    try:
        details = json.loads(body)["details"]
    except (ValueError, KeyError, TypeError):
        return 0
    texts = [json.dumps(detail) for detail in details]
    return sum(not _says_not_stored(text) and '"status": 400' not in text for text in texts)


def _says_not_stored(text: str) -> bool:
    return any(words in text for words in _SURELY_NOT_STORED)


def nginx_is_there() -> bool:
    """Return whether nginx is installed."""
    return shutil.which("nginx") is not None


@contextlib.contextmanager
def nginx(behind: str, status: int, folder: Path, rate: int = 5) -> Iterator[str]:
    """Run nginx with a rate limit, and yield its URL.

    Args:
        behind: The URL to forward to.
        status: The status for requests over the limit.
        folder: The folder for its configuration, log and temporary files.
        rate: The limit, in requests per second.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(f"""daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
{temporary}
  access_log off;
  limit_req_zone $server_name zone=all:1m rate={rate}r/s;
  limit_req_status {status};
  server {{
    listen 127.0.0.1:{port};
    server_name _;
    location / {{
      limit_req zone=all;
      proxy_pass {behind};
    }}
  }}
}}
""")
    command = ["timeout", str(_NGINX_SECONDS), "nginx", "-p", str(folder), "-c", str(configuration)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for_port(port, process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError):
            connection.connect()
            connection.close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"nginx does not start: {(folder / 'output').read_text()}")

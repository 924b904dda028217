"""A small reverse proxy in front of a collector: it passes requests on, or does what a test wants instead."""

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from conftest import DEADLINE
from typing_extensions import Self


@dataclass
class Asked:
    """A request that has come to the proxy.

    Attributes:
        status: What it was answered with; None for not at all.
    """

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    status: int | None = None

    @property
    def names(self) -> list[str]:
        """The names, or else the titles, of the events that it carries."""
        if not self.body:
            return []
        decoded = json.loads(self.body)
        payloads = [item["payload"] for item in (decoded if isinstance(decoded, list) else [decoded])]
        return [payload.get("name") or payload.get("title") for payload in payloads]


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


CUT = Answer(0)
"""No answer: the connection is closed."""

Rule = Callable[[Asked], Answer | None]


class ReverseProxy:
    """Stands before a server. Its rules may be replaced while it runs.

    Args:
        url: Where the server is.
        before: Returns what a request is answered with by the proxy itself; None to pass it on.
        after: Returns what a request is answered with that the server has answered; None for its own answer.
        down: The answer while the server cannot be reached.
        change: Changes the body that is passed on.

    Attributes:
        asked: The requests that have come, in order.
    """

    def __init__(
        self,
        url: str,
        before: Rule = lambda asked: None,
        *,
        after: Rule = lambda asked: None,
        down: Answer = Answer(502, b"<h1>Bad Gateway</h1>"),
        change: Callable[[bytes], bytes] = lambda body: body,
    ) -> None:
        self.before = before
        self.after = after
        self.down = down
        self.change = change
        self.asked: list[Asked] = []
        self._address = urlsplit(url).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, self.path, body, dict(self.headers.items()))
                proxy.asked.append(asked)
                answer = proxy.answer(asked)
                asked.status = answer.status or None
                if answer is CUT:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST  # noqa: N815 - http.server wants that name

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, asked: Asked) -> Answer:
        """Answer a request by a rule, or else as the server does."""
        own = self.before(asked)
        if own is not None:
            return own
        try:
            passed = self._pass_on(asked)
        except (OSError, http.client.HTTPException):
            return self.down
        return self.after(asked) or passed

    def _pass_on(self, asked: Asked) -> Answer:
        connection = http.client.HTTPConnection(self._address, timeout=DEADLINE)
        try:
            kept = {"content-type", "user-agent", "authorization"}
            headers = {name: value for name, value in asked.headers.items() if name.lower() in kept}
            headers["User-Agent"] = self.change(headers.get("User-Agent", "").encode()).decode()
            connection.request(asked.method, asked.path, self.change(asked.body), headers)
            reply = connection.getresponse()
            named = {"Content-Type": reply.getheader("Content-Type") or "text/plain"}
            return Answer(reply.status, reply.read(), named)
        finally:
            connection.close()

    def posted(self, path: str = "/api/batch") -> list[Asked]:
        """Return the requests for a path that carried events."""
        return [asked for asked in tuple(self.asked) if asked.path == path and len(asked.body) > len("[]")]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

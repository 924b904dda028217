"""A small HTTP proxy in front of a collector. It forwards requests, or answers them as a test says."""

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
class ProxyRequest:
    """A request that the proxy received.

    Attributes:
        path: As in the request line: a whole URL if the client takes this for its forward proxy.
        status: The status of the answer; None if there was none.
    """

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    status: int | None = None

    @property
    def names(self) -> list[str]:
        """The names of the events in the request; the titles of page views."""
        if not self.body:
            return []
        decoded = json.loads(self.body)
        payloads = [item["payload"] for item in (decoded if isinstance(decoded, list) else [decoded])]
        return [payload.get("name") or payload.get("title") for payload in payloads]


@dataclass(frozen=True)
class Answer:
    """An answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


NO_ANSWER = Answer(0)
"""The connection is closed without an answer."""

Rule = Callable[[ProxyRequest], Answer | None]


class ReverseProxy:
    """An HTTP proxy in front of a server.

    What stands before `/api/` in a path is not passed on; so it can also be used as a forward proxy, and the
    server can be reached under any number of base URLs.

    Args:
        url: The server's URL.
        before: Returns the proxy's own answer to a request, or None to pass the request on.
        after: Returns the answer to a request that the server has answered, or None for the server's answer.
        down: The answer while the server cannot be reached.
        change: Returns the body to pass on in place of the one received; the User-Agent header likewise.

    Attributes:
        requests: The requests received, in order. The arguments are attributes too, and may be changed.
    """

    def __init__(
        self,
        url: str,
        before: Rule = lambda request: None,
        *,
        after: Rule = lambda request: None,
        down: Answer = Answer(502, b"<h1>Bad Gateway</h1>"),
        change: Callable[[bytes], bytes] = lambda body: body,
    ) -> None:
        self.before = before
        self.after = after
        self.down = down
        self.change = change
        self.requests: list[ProxyRequest] = []
        self._address = urlsplit(url).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = ProxyRequest(self.command, self.path, body, dict(self.headers.items()))
                proxy.requests.append(request)
                answer = proxy.answer(request)
                request.status = answer.status or None
                if answer is NO_ANSWER:
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

    def answer(self, request: ProxyRequest) -> Answer:
        own = self.before(request)
        if own is not None:
            return own
        try:
            answer = self._pass_on(request)
        except (OSError, http.client.HTTPException):
            return self.down
        return self.after(request) or answer

    def _pass_on(self, request: ProxyRequest) -> Answer:
        connection = http.client.HTTPConnection(self._address, timeout=DEADLINE)
        try:
            kept = {"content-type", "user-agent", "authorization"}
            headers = {name: value for name, value in request.headers.items() if name.lower() in kept}
            headers["User-Agent"] = self.change(headers.get("User-Agent", "").encode()).decode()
            path = request.path[request.path.index("/api/") :]
            connection.request(request.method, path, self.change(request.body), headers)
            reply = connection.getresponse()
            answered = {"Content-Type": reply.getheader("Content-Type") or "text/plain"}
            return Answer(reply.status, reply.read(), answered)
        finally:
            connection.close()

    def batches(self) -> list[ProxyRequest]:
        """Return the batch requests that carried events."""
        return [
            request
            for request in tuple(self.requests)
            if request.path == "/api/batch" and len(request.body) > len("[]")
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

"""The internet, for tests: an HTTPS proxy that routes every host to one collector, with real TLS.

Umami Cloud's two hosts answer as its documentation says. Any other host is a self-hosted server.
"""

import functools
import http.client
import json
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import trustme
from conftest import PASSWORD
from typing_extensions import Self

from umami.collector import Collector

API_KEY = "cloud-key-51729"
DATA_HOST, EVENT_HOST = "api.umami.is", "cloud.umami.is"


@dataclass(frozen=True)
class Seen:
    """One request, as it came out of the tunnel."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@functools.cache
def _certified(*hosts: str) -> tuple[trustme.CA, trustme.LeafCert]:
    """Return a certificate authority, and its certificate for the hosts."""
    authority = trustme.CA()
    return authority, authority.issue_cert(DATA_HOST, EVENT_HOST, *hosts)


class Internet:
    """Runs the proxy on a thread.

    Args:
        collector: What answers.
        folder: Where to write the certificate authority's certificate.
        hosts: The self-hosted servers there are.
    """

    def __init__(self, collector: Collector, folder: Path, *hosts: str) -> None:
        authority, certificate = _certified(*hosts)
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.tls)
        self.collector = collector
        self.seen: list[Seen] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.internet = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))

    @property
    def environment(self) -> dict[str, str]:
        """What a program's environment must say for its requests to come here."""
        proxy = f"http://127.0.0.1:{self._server.server_port}"
        return {"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(self.certificate)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: Seen) -> tuple[int, dict[str, str], bytes]:
        """Have the collector answer, at the route that the host and its path stand for."""
        self.seen.append(request)
        host, path = urlsplit(request.url).hostname, request.url.split("/", 3)[3]
        headers = {
            name: value for name, value in request.headers.items() if name not in ("host", "connection")
        }
        if host == EVENT_HOST and path != "api/send":
            return 405, {}, b""
        if host == DATA_HOST:
            if headers.pop("x-umami-api-key", "") != API_KEY:
                return 401, {"content-type": "application/json"}, b'{"error":{"code":"unauthorized"}}'
            version, _, path = path.partition("/")
            region, _, rest = path.partition("/")
            path = f"api/{rest if region in ('us', 'eu') else path}"
            if version != "v1" or path.startswith(("api/heartbeat", "api/auth/")):
                return 404, {}, b""
            headers["authorization"] = f"Bearer {self._token()}"
        return self._collected(request.method, f"/{path}", request.body, headers)

    def _token(self) -> str:
        account = json.dumps({"username": "admin", "password": PASSWORD}).encode()
        _, _, body = self._collected("POST", "/api/auth/login", account, {})
        return body.decode().split('"token":"')[1].split('"')[0]

    def _collected(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.collector.host, self.collector.port)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection: first the proxy's end of it, then, inside the tunnel, the server's."""

    protocol_version = "HTTP/1.1"
    origin = ""

    def do_CONNECT(self) -> None:
        internet: Internet = self.server.internet  # type: ignore[attr-defined]
        self.origin = f"https://{self.path.removesuffix(':443')}"
        self.send_response_only(200)
        self.end_headers()
        outside = self.rfile, self.wfile
        try:
            with (
                internet.tls.wrap_socket(self.connection, server_side=True) as self.connection,
                self.connection.makefile("rb") as self.rfile,
                self.connection.makefile("wb") as self.wfile,
            ):
                self.close_connection = False
                while not self.close_connection:
                    self.handle_one_request()
        except (OSError, ValueError):
            pass  # the client does not trust us, or has gone
        self.rfile, self.wfile = outside
        self.close_connection = True

    def _serve(self) -> None:
        internet: Internet = self.server.internet  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answered, content = internet.answer(
            Seen(self.command, self.origin + self.path, headers, body)
        )
        self.send_response_only(status)
        for name, value in answered.items():
            if name not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - named by http.server

    def log_message(self, *_: Any) -> None:
        pass

"""Small servers that answer logins and queries as one version of Umami does.

Their answers were copied from real servers, or else follow Umami's source. They have a few page views, and
interpret filters as their version does.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

GENERATIONS = ["2.0", "2.4", "2.6", "2.11", "2.15", "2.16", "2.17", "2.19", "3.0", "3.1", "3.2", "3.4"]
TOKEN = "token-0f-an-old-umami-5e7a1c"
VIEWS = [
    # path, host name, referrer, title
    ("/pricing", "example.com", "t.co", "Pricing, plans"),
    ("/pricing", "example.com", "xt.co", "pricing, PLANS"),
    ("/pricing", "docs.example.com", "", "Pricing"),
    ("/docs", "docs.example.com", "c.example", "plans"),
    ("/~user", "example.com", "", "!important"),
    ("/a", "example.com", "example", "t.co\nsecond line"),
]
_FIELDS = {"path": 0, "url": 0, "hostname": 1, "host": 1, "referrer": 2, "title": 3}
_OPERATORS_OF_3 = "eq|neq|s|ns|c|dnc|re|nre|t|f|gt|lt|gte|lte|bf|af"
_OPERATORS_OF_3_0 = "eq|neq|s|ns|c|dnc|t|f|gt|lt|gte|lte|bf|af"


class Seen(NamedTuple):
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Answer(NamedTuple):
    """What is answered; a body that is no text goes as JSON."""

    status: int
    body: Any = b""
    kind: str = "application/json"


class QueryCrashError(Exception):
    """A query that the database does not take."""


NEXT_404 = Answer(404, b"<!DOCTYPE html><html><head></head></html>", "text/html; charset=utf-8")


class OldUmami:
    """A server of one generation.

    Args:
        version: The generation, such as 1.40, 2.19, or 3.4-clickhouse.
        override: Asked for each answer first; None for the generation's own.
    """

    def __init__(self, version: str, override: Callable[[Seen], Answer | None] | None = None) -> None:
        self.name = version
        self.version = tuple(int(part) for part in version.partition("-")[0].split("."))
        self.override = override
        self.seen: list[Seen] = []
        self.websites = {"own": ["site-1", "site-2"], "team-1": ["site-2", "site-3"], "team-2": ["site-4"]}

    def since(self, *version: int) -> bool:
        return self.version >= version

    # Requests.

    def answer(self, request: Seen) -> Answer:
        self.seen.append(request)
        override = self.override(request) if self.override is not None else None
        if override is not None:
            return override
        path = request.path.removeprefix("/api")
        if path == "/config":
            return self._config()
        if path == "/auth/login":
            return self._login(request)
        if path == "/auth/verify" and request.method == "POST" and self.version in ((2, 16), (2, 17)):
            return Answer(405)
        if not self._exists(path):
            return NEXT_404
        if path == "/teams" and (2, 10) <= self.version < (3, 0):
            return Answer(405)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.refusal(401, "Unauthorized")
        return self._guarded(path, request)

    def _exists(self, path: str) -> bool:
        if path.endswith("/events/stats"):
            return self.since(3, 1)
        if path == "/me/teams":
            return self.since(2, 4)
        return True

    def _guarded(self, path: str, request: Seen) -> Answer:
        user = {"id": "user-1", "username": "admin"}
        if path == "/auth/verify":
            return Answer(200, {"user": user, "token": "t"} if self.version == (2, 0) else user)
        if path == "/me":
            return Answer(200, {"token": "t", "user": user} if self.since(2, 16) else user)
        if path in ("/teams", "/me/teams"):
            return self._list(
                [{"id": team, "name": team} for team in self.websites if team != "own"], request
            )
        if path == "/websites":
            rows = [{"id": site, "user": user} for site in self.websites["own"]]
            return self._list(rows, request)
        if path.startswith("/teams/"):
            team = path.split("/")[2]
            sites: list[dict[str, Any]] = [{"id": site, "createUser": user} for site in self.websites[team]]
            if not self.since(2, 5):
                sites = [{"id": f"{team}-{site['id']}", "teamId": team, "website": site} for site in sites]
            return self._list(sites, request)
        if path.endswith("/active"):
            if self.since(2, 16):
                return Answer(200, {"visitors": 7})
            return Answer(200, {"x": 7} if self.since(2, 12) else [{"x": 7}])
        if path.endswith("/events/stats"):
            return self.refusal(400, "Bad request")
        return self._stats(request)

    def _list(self, rows: list[dict[str, Any]], request: Seen) -> Answer:
        if not self.since(2, 5):
            return Answer(200, rows)
        size, page = int(request.query.get("pageSize", 10)), int(request.query.get("page", 1))
        shown = rows[size * (page - 1) : size * page]
        return Answer(200, {"data": shown, "count": len(rows), "page": page, "pageSize": size})

    # Auth.

    def _login(self, request: Seen) -> Answer:
        if request.body["password"] == "wrong":
            if self.since(3, 0):
                error = {"message": "Unauthorized", "code": "incorrect-username-password", "status": 401}
                return Answer(401, {"error": error})
            return self.refusal(401, "message.incorrect-username-password")
        user: dict[str, Any] = {"id": "user-1", "username": "admin", "createdAt": "2024-01-01T00:00:00.000Z"}
        if not self.since(2, 0):
            user = {"userId": 1, "username": "admin", "isAdmin": True, "accountUuid": "a-1"}
        elif self.since(2, 1):
            user |= {"role": "admin", "isAdmin": True}
        return Answer(200, {"token": TOKEN, "user": user})

    def refusal(self, status: int, words: str) -> Answer:
        """Refuse in the generation's form."""
        if self.since(3, 0):
            code = words.lower().replace(" ", "-")
            return Answer(status, {"error": {"message": words, "code": code, "status": status}})
        return (
            Answer(status, {"error": words})
            if self.since(2, 16)
            else Answer(status, words.encode(), "text/plain")
        )

    # Queries.

    def _config(self) -> Answer:
        if (2, 16) <= self.version < (3, 0):
            return NEXT_404
        config: dict[str, Any] = {"telemetryDisabled": False, "updatesDisabled": False}
        if not self.since(3, 0):
            return Answer(
                200, config | ({"uiDisabled": False} if self.since(2, 10) else {"cloudMode": False})
            )
        config |= {"cloudMode": False, "privateMode": False}
        if self.version == (3, 1):
            config["currentVersion"] = False
        if self.since(3, 3):
            config["sessionDeletionEnabled"] = "clickhouse" not in self.name
        return Answer(200, config)

    def _stats(self, request: Seen) -> Answer:
        try:
            views = [view for view in VIEWS if self._passes(view, request.query)]
        except QueryCrashError:
            return Answer(500, b"" if self.since(2, 16) else b"Internal Server Error", "text/plain")
        now = {"pageviews": len(views), "visitors": 2, "visits": 3, "bounces": 1, "totaltime": 40}
        before = {"pageviews": 1, "visitors": 1, "visits": 2, "bounces": 0, "totaltime": 10}
        if self.since(3, 0):
            return Answer(200, {**now, "comparison": before})
        if self.since(2, 12):
            return Answer(200, {name: {"value": now[name], "prev": before[name]} for name in now})
        figures = {name: {"value": now[name], "change": now[name] - before[name]} for name in now}
        if not self.since(2, 11):
            del figures["visits"]
            figures["uniques"] = figures.pop("visitors")
        return Answer(200, figures)

    def _passes(self, view: tuple[str, ...], query: dict[str, str]) -> bool:
        known = ["path", "hostname"] if self.since(3, 0) else ["url"]
        if (2, 12) <= self.version < (3, 0):
            known.append("host")
        return all(
            self._matches(view[_FIELDS[name]], query[name])
            for name in [*known, "referrer", "title"]
            if name in query
        )

    def _matches(self, value: str, wanted: str) -> bool:
        if not self.since(2, 11):
            return value == wanted
        if not self.since(3, 0):
            return self._matches_in_2(value, wanted)
        operators = _OPERATORS_OF_3 if self.since(3, 1) else _OPERATORS_OF_3_0
        match = re.fullmatch(rf"({operators})\.([^\n\r\u2028\u2029]*)", wanted)
        operator, text = match.groups() if match else ("eq", wanted)
        if operator in ("eq", "neq"):
            texts = text.split(",") if self.since(3, 1) else [text]
            return (value in texts) == (operator == "eq")
        if operator in ("c", "dnc"):
            return (text.lower() in value.lower()) == (operator == "c")
        if operator in ("re", "nre"):
            return self._matches_pattern(value, text) == (operator == "re")
        raise QueryCrashError

    def _matches_in_2(self, value: str, wanted: str) -> bool:
        match = re.fullmatch(r"(!~|!|~)?(.*)", wanted)
        if match is None:  # a line's end
            raise QueryCrashError
        operator, text = match[1] or "", match[2]
        same = text.lower() in value.lower() if "~" in operator else text == value
        return same != ("!" in operator)

    def _matches_pattern(self, value: str, pattern: str) -> bool:
        """Match as the databases do, asked to ignore the case unless the pattern asks otherwise."""
        heed = "(?-i)" if "clickhouse" in self.name else "(?c)"
        if pattern.startswith("(?") and not pattern.startswith(heed):
            raise QueryCrashError
        flags = 0 if pattern.startswith(heed) else re.IGNORECASE
        pattern = re.sub(r"\$\Z", r"\\Z", pattern.removeprefix(heed))
        return re.search(pattern, value, flags) is not None


@contextmanager
def served(umami: OldUmami) -> Iterator[str]:
    """Serve it, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            parts = urlsplit(self.path)
            answer = umami.answer(
                Seen(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query, keep_blank_values=True)),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(body) if body else None,
                )
            )
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

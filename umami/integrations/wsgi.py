"""Middleware for WSGI: Flask, Django, plain WSGI."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import Context, copy_context
from typing import Any, Final, cast

from ._request import Headers, Request, Response, environ_headers
from ._web import Middleware, should_track

__all__ = ["Request", "Response", "UmamiMiddleware", "should_track"]

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


REQUEST: Final = "umami.request"
"""The key of a request in its environ, for an integration that knows more of it."""

ROUTE: Final = "umami.route"
"""The key of the template and the name of its route, which an integration may set."""


class UmamiMiddleware(Middleware):
    """Sends a page view for each page, and sets the visitor for all sends of a request.

    Responses are neither delayed nor buffered: a page view is queued after the last byte. If tracking fails,
    this is logged once, and the request succeeds.

    Example:
        ```python
        app = Flask(__name__)
        app.wsgi_app = UmamiMiddleware(app.wsgi_app, exclude=["/admin/*"], trusted_proxies=["10.0.0.0/8"])


        @app.post("/buy")
        def buy():
            umami.new_revenue_event(19.99, "EUR")  # knows the visitor and the page
            return "thanks"
        ```
    """

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle one request."""
        request, response = _request(environ), Response(0, Headers(()))
        environ[REQUEST] = request

        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            response.status = int(status.split(" ", 1)[0])
            response.headers = Headers((name.lower(), value) for name, value in headers)
            self._read_title(response)
            return start_response(status, headers, *more)

        # The body is produced later, perhaps between those of other requests in the same thread.
        context = copy_context()
        context.run(self._visitor(request).__enter__)
        body = context.run(self._app, environ, started)

        def finished() -> None:
            response.route, response.name = environ.get(ROUTE, (None, None))
            self._finished(request, response)

        files = environ.get("wsgi.file_wrapper")
        if isinstance(files, type) and isinstance(body, files):
            finished()  # the server sends the file by itself, and takes no other iterable for one
            return cast("Iterable[bytes]", body)
        return (_SizedBody if isinstance(body, Sized) else _Body)(body, context, response.saw, finished)


class _Body:
    """The body of a response. Each piece is produced in the context of the request."""

    def __init__(
        self,
        body: Iterable[bytes],
        context: Context,
        saw: Callable[[bytes], None],
        finished: Callable[[], None],
    ) -> None:
        self._body = body
        self._context = context
        self._saw = saw
        self._finished = finished
        self._pieces: Iterator[bytes] | None = None
        self._is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._pieces is None:
            self._pieces = self._context.run(iter, self._body)
        try:
            piece = self._context.run(next, self._pieces)
        except StopIteration:
            self._is_complete = True
            raise
        self._saw(piece)
        return piece

    def close(self) -> None:
        """Send the page view of a response that was produced to its end."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._context.run(close)
        finally:
            if self._is_complete:
                self._finished()


class _SizedBody(_Body):
    """A body with a known number of pieces. For a single one, servers compute the Content-Length."""

    def __len__(self) -> int:
        return len(cast("Sized", self._body))


def _request(environ: Environ) -> Request:
    mount = environ.get("SCRIPT_NAME", "")
    path = mount + environ.get("PATH_INFO", "")
    return Request(
        environ["REQUEST_METHOD"],
        path.encode("latin-1").decode("utf-8", "replace") or "/",
        environ.get("QUERY_STRING", ""),
        environ_headers(environ),
        environ.get("REMOTE_ADDR") or None,
        environ,
        mount=mount.encode("latin-1").decode("utf-8", "replace"),
    )

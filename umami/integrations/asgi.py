"""Middleware for ASGI: Starlette, FastAPI, Litestar, Quart, Django under ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ._request import Headers, Request, Response
from ._web import Middleware, should_track

__all__ = ["Request", "Response", "UmamiMiddleware", "should_track"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class UmamiMiddleware(Middleware):
    """Sends a page view for each page, and sets the visitor for all sends of a request.

    Responses are neither delayed nor buffered: a page view is queued after the last byte. If tracking fails,
    this is logged once, and the request succeeds. All events are flushed at the end of the application's
    lifespan.

    Example:
        ```python
        app = FastAPI()
        app.add_middleware(UmamiMiddleware, exclude=["/admin/*"], trusted_proxies=["10.0.0.0/8"])


        @app.post("/buy")
        async def buy():
            umami.new_revenue_event(19.99, "EUR")  # knows the visitor and the page
        ```
    """

    _awaits = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the application's lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
        elif scope["type"] in ("http", "websocket"):
            request = self._seen(scope)
            await self._ask(request)
            with self._visitor(request):
                await self._app(scope, receive, self._tracked(request, send))
        else:
            await self._app(scope, receive, send)

    def _seen(self, scope: Scope) -> Request:
        return _request(scope)

    def _tracked(self, request: Request, send: Send) -> Send:
        response = Response(0, Headers(()))

        async def tracked(message: Message) -> None:
            is_last = self._look(message, response)
            await send(message)
            if is_last:
                response.route, response.name = _route(request.raw)
                request.mount = request.raw.get("root_path", "")
                await self._finished_async(request, response)

        return tracked

    def _look(self, message: Message, response: Response) -> bool:
        """Note what a message says of the response, and return whether it is the last one. It never raises.

        Before it is sent: a middleware further out may change it then, as one that compresses does.
        """
        kind = message["type"]
        try:
            if kind == "http.response.start":
                response.status = message["status"]
                response.headers = _headers(message.get("headers", ()))
                self._read_title(response)
            elif kind == "http.response.body":
                response.saw(message.get("body", b""))
        except Exception as error:  # noqa: BLE001 - the server says what is wrong with the message
            self._failures.note(error)
        return kind == "http.response.pathsend" or (
            kind in ("http.response.body", "http.response.zerocopysend") and not message.get("more_body")
        )

    def _flushing(self, send: Send) -> Send:
        lifespan = self._client.lifespan()

        async def flushing(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await lifespan.__aenter__()
            elif message["type"].startswith("lifespan.shutdown."):
                await lifespan.__aexit__(None, None, None)  # the server waits for this message, then it ends
            await send(message)

        return flushing


def _request(scope: Scope) -> Request:
    path, root = scope["path"], scope.get("root_path", "")
    # The specification wants the root path at the beginning of the path; older servers leave it out.
    if root and path != root and not path.startswith(f"{root}/"):
        path = root + path
    client = scope.get("client")
    return Request(
        scope.get("method", "GET"),
        path,
        scope.get("query_string", b"").decode("latin-1"),
        _headers(scope["headers"]),
        client[0] if client else None,
        scope,
    )


def _headers(pairs: Any) -> Headers:
    return Headers((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs)


def _route(scope: Scope) -> tuple[str | None, str | None]:
    """Return the template and the name of a request's route, where the framework puts them into the scope."""
    route = scope.get("route")  # of Starlette and FastAPI
    template = scope.get("path_template") or getattr(route, "path", None)  # the former is Litestar's
    if template is None:
        return None, None
    name = getattr(route, "name", None)
    if route is None:
        handler = scope.get("route_handler")  # of Litestar
        name = getattr(handler, "name", None) or getattr(handler, "handler_name", None)
    return scope.get("root_path", "") + template, name if isinstance(name, str) else None

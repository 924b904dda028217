"""aiohttp's server: page views, and the visitor for all sends of a request."""

from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

import umami

from ._request import Headers, Request, Response
from ._web import Middleware, should_track

__all__ = ["Request", "Response", "install", "should_track"]

# The place, in a request and in its response, that says that the handler has ended. Before aiohttp 3.14 keys
# are strings.
_IN_REQUEST: Final[Any] = getattr(web, "RequestKey", lambda name, _: name)("umami", Request)
_IN_RESPONSE: Final[Any] = getattr(web, "ResponseKey", lambda name, _: name)("umami", Request)


def install(app: web.Application, *, client: "umami.Client | None" = None, **options: Any) -> None:
    """Send a page view for each page, give the sends of a request their visitor, and flush at the end.

    It appends a middleware to those of the application. If `distinct_id` or `tag` reads what another
    middleware sets, such as a session, call `install` after that one's set-up. The handlers of nested
    applications are tracked too. If tracking fails, this is logged once, and the request succeeds.

    Args:
        app: The application.
        client: The client that sends; by default the module's functions.
        **options: The middleware's options, as `umami.integrations.asgi.UmamiMiddleware` has them. Functions
            among them may be async. Their `request.raw` is aiohttp's request.

    Raises:
        ValidationError: An option is not valid.

    Example:
        ```python
        app = web.Application()
        umami.integrations.aiohttp.install(app, exclude=["/admin/*"], trusted_proxies=["10.0.0.0/8"])
        ```
    """
    flushing: Any = umami if client is None else client

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        async with flushing.lifespan():
            yield

    middleware = _Middleware(app, client=client, **options)
    app.middlewares.append(middleware.handle)
    app.on_response_prepare.append(middleware.prepared)
    app.cleanup_ctx.insert(0, lifespan)  # the first to begin is the last to end


class _Middleware(Middleware):
    """The page view of a response that streams comes after its last byte.

    aiohttp sends any other response after all middlewares have returned, and it says so only before it sends
    the headers. They are complete then, those of files included.
    """

    _awaits = True

    @web.middleware
    async def handle(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Handle one request."""
        seen = _seen(request)
        await self._ask(seen)
        try:
            with self._visitor(seen):
                response: web.StreamResponse = await handler(request)
        except web.HTTPException:
            request[_IN_REQUEST] = seen
            raise
        if not isinstance(response, web.StreamResponse):
            return response  # aiohttp says what is wrong
        if response.prepared:
            await self._finished_async(seen, _known(request, response))
        else:
            # Another middleware may have replaced the request, or may replace the response.
            request[_IN_REQUEST] = response[_IN_RESPONSE] = seen
        return response

    async def prepared(self, request: web.Request, response: web.StreamResponse) -> None:
        """Send the page view of a response that is not streamed."""
        seen = response.get(_IN_RESPONSE) or request.get(_IN_REQUEST)
        if seen is not None:
            known = _known(request, response)
            self._read_title(known)
            body = getattr(response, "body", None)
            if isinstance(body, (bytes, bytearray)):
                known.saw(body)
            await self._finished_async(seen, known)


def _seen(request: web.Request) -> Request:
    return Request(
        request.method,
        request.path,
        request.rel_url.raw_query_string,
        Headers((name.lower(), value) for name, value in request.headers.items()),
        request.remote,
        request,
    )


def _known(request: web.Request, response: web.StreamResponse) -> Response:
    headers = Headers((name.lower(), value) for name, value in response.headers.items())
    resource = request.match_info.route.resource
    if resource is None:
        return Response(response.status, headers)
    return Response(response.status, headers, resource.canonical, resource.name)

"""Litestar: a plugin with page views, and the visitor for all sends of a request."""

from contextlib import AsyncExitStack
from copy import copy
from typing import Any
from urllib.parse import unquote

from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

import umami

from .asgi import Request, Response, UmamiMiddleware, should_track

__all__ = ["Request", "Response", "UmamiPlugin", "should_track"]


class UmamiPlugin(InitPlugin):
    """Sends a page view for each page, gives the sends of a request their visitor, and flushes at the end.

    Responses are neither delayed nor buffered: a page view is queued after the last byte. If tracking fails,
    this is logged once, and the request succeeds.

    Example:
        ```python
        app = Litestar([pricing, buy], plugins=[UmamiPlugin(exclude=["/schema/*"])])
        ```
    """

    def __init__(self, *, client: "umami.Client | None" = None, **options: Any) -> None:
        """Make the plugin.

        Args:
            client: The client that sends; by default the module's functions.
            **options: The middleware's options, as `umami.integrations.asgi.UmamiMiddleware` has them.

        Raises:
            ValidationError: An option is not valid.
        """
        self._client: Any = umami if client is None else client
        self._lifespan = AsyncExitStack()
        self._middleware = _Middleware(None, client=client, **options)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware and the flush to an application. Litestar calls this."""
        # Inside of the other middlewares, so that `distinct_id` knows who has logged in.
        app_config.middleware.append(self._middleware.around)
        app_config.on_startup.insert(0, self._start)
        app_config.on_shutdown.append(self._stop)  # after all lifespans
        return app_config

    async def _start(self) -> None:
        await self._lifespan.enter_async_context(self._client.lifespan())

    async def _stop(self) -> None:
        await self._lifespan.aclose()


class _Middleware(UmamiMiddleware):
    def _seen(self, scope: Any) -> Request:
        request = super()._seen(scope)
        if getattr(scope.get("route_handler"), "is_mount", False) and scope.get("raw_path"):
            # Litestar leaves only the rest of the path there.
            request.path = unquote(scope["raw_path"].decode("latin-1"))
        return request

    def around(self, app: Any) -> Any:
        """Return this middleware around a route: Litestar asks for one for each."""
        another = copy(self)
        another._app = app  # noqa: SLF001 - of the same class
        return another

"""The middleware for Django, under WSGI and ASGI."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.http import FileResponse, HttpRequest, HttpResponseBase

from umami.errors import ValidationError
from umami.integrations._request import Headers, Request, Response, environ_headers
from umami.integrations._web import Middleware

from .configuration import middleware_options


class UmamiMiddleware(Middleware):
    """Sends a page view for each page, and gives the sends of a request their visitor.

    It takes its options from the setting `UMAMI`. Under ASGI it runs in the event loop, without a thread. A
    failure to track is logged once, and no request fails for it.

    Example:
        ```python
        MIDDLEWARE = ["umami.integrations.django.UmamiMiddleware", ...]
        UMAMI = {"URL": "https://umami.example.com", "WEBSITE_ID": "…", "EXCLUDE": ["/admin/*"]}
        ```
    """

    sync_capable = True
    async_capable = True

    _awaits = True
    process_view: Callable[..., Any]  # of those that need it, since Django calls it for each request

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Wrap the middleware or the view that is next.

        Args:
            get_response: What is next.

        Raises:
            ImproperlyConfigured: An option is not valid, or the app is not installed.
        """
        if not apps.is_installed("umami.integrations.django"):
            raise ImproperlyConfigured("Add 'umami.integrations.django' to INSTALLED_APPS.")
        self._is_async = iscoroutinefunction(get_response)
        options = middleware_options()
        user_id = options.pop("user_id", None)
        if user_id is not None:
            if "distinct_id" in options:
                raise ImproperlyConfigured("UMAMI: set USER_ID or DISTINCT_ID, not both.")
            options["distinct_id"] = _identity(user_id, in_async=self._is_async)
        try:
            super().__init__(get_response, **options)
        except ValidationError as error:
            raise ImproperlyConfigured(f"UMAMI: {error}") from None
        if self._is_async:
            markcoroutinefunction(self)
        # Django calls it after all middlewares, and so when the user is known.
        if self._async_names:
            self.process_view = (
                self._ask_before_view if self._is_async else async_to_sync(self._ask_before_view)
            )
        elif user_id is not None:
            self.process_view = self._load_user_before_view

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request."""
        seen = request.umami = _seen(request)
        if self._is_async:
            return self._handle(request, seen)
        with self._visitor(seen):
            response = self._app(request)
        complete = self._complete(seen, response)
        if complete is not None:
            self._finished(seen, complete)
        return response

    async def _handle(self, request: HttpRequest, seen: Request) -> HttpResponseBase:
        with self._visitor(seen):
            response: HttpResponseBase = await self._app(request)
        complete = self._complete(seen, response)
        if complete is not None:
            await self._finished_async(seen, complete)
        return response

    async def _ask_before_view(self, request: HttpRequest, *_: Any) -> None:
        await self._ask(request.umami)
        self._visitor(request.umami).__enter__()  # the end of the block around the request undoes it

    def _load_user_before_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        if iscoroutinefunction(view):  # where no user can be looked up any more
            self._answer("distinct_id", request.umami)

    def _complete(self, seen: Request, response: HttpResponseBase) -> Response | None:
        """Return what is known of a complete response. One that streams is tracked after its last piece."""
        try:
            headers = Headers((name.lower(), value) for name, value in response.items())
            known = Response(response.status_code, headers, *_route(seen.raw))
            self._read_title(known)
            if not response.streaming:
                if known.reader is not None:  # `content` joins the body anew each time
                    known.saw(response.content)
                return known
            # A server may send a file by itself, and takes no other iterable for one.
            if isinstance(response, FileResponse):
                return known
            pieces = self._pieces_async if getattr(response, "is_async", False) else self._pieces
            response.streaming_content = pieces(response.streaming_content, seen, known)
        except Exception as error:  # noqa: BLE001 - of a response of the user's
            self._failures.note(error)
        return None

    # A piece is produced after the middleware has returned, perhaps between those of other requests.

    def _pieces(self, body: Iterable[bytes], seen: Request, known: Response) -> Iterator[bytes]:
        pieces, visitor = iter(body), self._visitor(seen)
        while True:
            with visitor:
                piece = next(pieces, None)
            if piece is None:
                break
            known.saw(piece)
            yield piece
        self._finished(seen, known)

    async def _pieces_async(
        self, body: AsyncIterable[bytes], seen: Request, known: Response
    ) -> AsyncIterator[bytes]:
        pieces, visitor = aiter(body), self._visitor(seen)
        while True:
            with visitor:
                piece = await anext(pieces, None)
            if piece is None:
                break
            known.saw(piece)
            yield piece
        await self._finished_async(seen, known)


def _identity(attribute: str, *, in_async: bool) -> Callable[[Request], Any]:
    """Return a function that looks up the user of a request."""

    def of(user: Any) -> str | None:
        return str(getattr(user, attribute)) if user.is_authenticated else None

    def identity(request: Request) -> str | None:
        return of(request.raw.user)

    async def identity_async(request: Request) -> str | None:
        if hasattr(request.raw, "auser"):
            return of(await request.raw.auser())
        return await sync_to_async(identity)(request)  # before Django 5.0

    return identity_async if in_async else identity


def _seen(request: HttpRequest) -> Request:
    return Request(
        request.method or "",
        request.path,
        request.META.get("QUERY_STRING", ""),
        environ_headers(request.META),
        request.META.get("REMOTE_ADDR") or None,
        request,
        mount=request.path.removesuffix(request.path_info),
    )


def _route(request: HttpRequest) -> tuple[str | None, str | None]:
    """Return the template and the name of the route that a request was resolved to."""
    match = request.resolver_match
    if match is None:
        return None, None
    template = match.route.removeprefix("^").removesuffix("$").removesuffix(r"\Z")
    return (
        f"{request.META.get('SCRIPT_NAME', '').rstrip('/')}/{template.lstrip('/')}",
        match.view_name or None,
    )

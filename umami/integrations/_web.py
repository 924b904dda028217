"""The common part of both middlewares: the visitor of a request, and whether its response is a page view."""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from fnmatch import translate
from inspect import iscoroutinefunction, isroutine
from typing import Any, Final, Literal
from urllib.parse import quote, unquote_plus

import umami
from umami._user_agents import is_bot
from umami.errors import ValidationError
from umami.settings import resolve

from ._address import ClientAddress, anonymized
from ._failures import Failures
from ._request import Request, Response
from ._title import TitleReader

CAMPAIGN_KEYS: Final = (
    "utm_*",
    "gclid",
    "fbclid",
    "msclkid",
    "ttclid",
    "li_fat_id",
    "twclid",
    "ref",
)
"""The query parameters that a page view keeps by default: those that Umami reports, and `ref`."""

NO_PAGES: Final = (
    "/static/*",
    "/assets/*",
    "/favicon.ico",
    "/robots.txt",
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/ping",
    "/metrics",
)
"""Paths that are no pages, unless `include` names them: whole ones, and those below a mount."""

_SAFE: Final = "/:@!$&'()*+,;=~"


def should_track(request: Request, response: Response) -> bool:
    """Tell whether a response shows a visitor a page, as the middlewares do by default.

    It does if the request is a GET, but no prefetch and not for a fragment of a page, and the answer is HTML:
    2xx with `text/html`, or 304 to a client that takes HTML.

    Args:
        request: The request.
        response: Its response.

    Returns:
        Whether to send a page view.

    Example:
        ```python
        def blog_only(request, response):
            return request.path.startswith("/blog/") and should_track(request, response)
        ```
    """
    get = request.headers.get
    if request.method != "GET":
        return False
    if response.status == 304:
        is_html = "text/html" in get("accept")
    else:
        is_html = 200 <= response.status < 300 and response.headers.get("content-type").lower().startswith(
            "text/html"
        )
    if not is_html or "prefetch" in f"{get('sec-purpose')} {get('purpose')}":
        return False
    if get("hx-boosted"):
        return True
    return not (get("hx-request") or get("turbo-frame") or get("x-requested-with") == "XMLHttpRequest")


Identity = str | int | None
Data = Mapping[str, Any]


class Middleware:
    """The options of a middleware, and what follows from them for each request."""

    _awaits = False
    """Whether functions among the options may be async."""

    def __init__(
        self,
        app: Any,
        *,
        client: "umami.Client | None" = None,
        page_views: bool = True,
        should_track: Callable[[Request, Response], bool] = should_track,
        exclude: Collection[str] = (),
        include: Collection[str] = (),
        routes: Literal["path", "template"] = "path",
        keep_query: bool | Collection[str] = CAMPAIGN_KEYS,
        title: Callable[[Request, Response], str | None] | Literal["html"] | None = None,
        hostname: str | None = None,
        website_id: str | None = None,
        trusted_proxies: Collection[str] = (),
        trusted_hops: int = 0,
        forwarded_header: str = "X-Forwarded-For",
        client_ip_header: str | None = None,
        client_ip: Callable[[Request], str | None] | None = None,
        send_ip: bool = True,
        anonymize_ip: bool = False,
        skip_bots: bool = False,
        respect_gpc: bool = False,
        distinct_id: Callable[[Request], Identity | Awaitable[Identity]] | None = None,
        tag: str | Callable[[Request], str | Awaitable[str | None] | None] | None = None,
        data: Data | Callable[[Request], Data | Awaitable[Data | None] | None] | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            client: The client that sends; by default the module's functions.
            page_views: Send page views. If not, the sends of a request still know their visitor.
            should_track: Called with the request and its response; returns whether to send a page view.
            exclude: Paths that are no pages, as patterns such as `/admin/*`.
            include: Paths that are pages, although `exclude` or the built-in list (`/static/*`, `/healthz`
                and the like) has them.
            routes: `path`, or `template`: page views have `/items/{id}` in place of `/items/17`, if the
                framework says which route answered.
            keep_query: The query parameters that stay in a page's URL, as patterns; True for all, False for
                none. By default those of campaigns.
            title: `html`: the page's `<title>`, if it is among the first 16 KiB of the response and these are
                not compressed. Or a function, which is called with the request and its response and returns
                the title. Otherwise the title is the route's name, or the path.
            hostname: The site's host name; by default the client's.
            website_id: The website; by default the client's.
            trusted_proxies: The networks of the proxies in front, such as `10.0.0.0/8`, and `unix` for a Unix
                socket. Only if the connection comes from one of them, the visitor's address is read from
                `forwarded_header`, from the right. Without any, the address is the connection's, as uvicorn's
                `--proxy-headers` or werkzeug's `ProxyFix` set it.
            trusted_hops: In place of `trusted_proxies`, the number of proxies in front.
            forwarded_header: `X-Forwarded-For` or `Forwarded`.
            client_ip_header: A header of a trusted proxy that holds the address alone, such as
                `CF-Connecting-IP`, in place of `forwarded_header`.
            client_ip: Called with the request; returns the visitor's address. Replaces all of the above.
            send_ip: Send the visitor's address. Without addresses, Umami cannot tell visitors with the same
                browser apart.
            anonymize_ip: Set the last 8 bits of an IPv4 address, and the last 80 of an IPv6 address, to zero.
            skip_bots: Send no page views of bots, by Umami's own rule. This needs the extra `bots`.
            respect_gpc: Send no page views of visitors whose browser sends `Sec-GPC` or `DNT`, and nothing
                about such a visitor with other events.
            distinct_id: Called with the request when something is sent; returns your own id for the visitor,
                a string or an integer. An async function is awaited once, before the application handles the
                request. The WSGI middleware takes no async function.
            tag: A tag for all events; or a function, which is called with the request. It may be async, as
                `distinct_id` may.
            data: Custom data for all events of a request but its page view; or a function, as for `tag`.

        Raises:
            ValidationError: An option is not valid.
            ModuleNotFoundError: `skip_bots` is set, and the extra `bots` is not installed.
        """
        if title is not None and title != "html" and not callable(title):
            raise ValidationError(f"title must be 'html' or a function, got {title!r}.")
        if routes not in ("path", "template"):
            raise ValidationError(f"routes must be 'path' or 'template', got {routes!r}.")
        if client is not None and not hasattr(client, "new_page_view"):
            raise ValidationError(f"client must be an umami.Client, got {client!r}.")
        site = {"hostname": hostname, "website_id": website_id}
        # Raises if it is wrong.
        settings = resolve({name: value for name, value in site.items() if value is not None})
        for name, switch in (
            ("page_views", page_views),
            ("send_ip", send_ip),
            ("anonymize_ip", anonymize_ip),
            ("skip_bots", skip_bots),
            ("respect_gpc", respect_gpc),
        ):
            if not isinstance(switch, bool):
                raise ValidationError(f"{name} must be True or False, got {switch!r}.")
        if skip_bots:
            is_bot("")
        for name, function in (
            ("should_track", should_track),
            ("client_ip", client_ip),
            ("distinct_id", distinct_id),
            ("title", title if callable(title) else None),
        ):
            if function is not None and not callable(function):
                raise ValidationError(f"{name} must be a function, got {function!r}.")
            if name != "distinct_id" and _is_async(function):
                raise ValidationError(f"{name} must not be an async function. Pass a plain function.")
        self._app = app
        self._client: Any = umami if client is None else client
        if client is None and settings.flush_on_sigterm:
            # By the environment, perhaps. Signals are handled in the main thread, which mostly makes the
            # middleware, but which sends nothing in a threaded server.
            umami.configure()
        self._page_views, self._should_track = page_views, should_track
        self._is_excluded = _matcher("exclude", exclude)
        self._is_included = _matcher("include", include)
        self._is_kept = _matcher(
            "keep_query", ("*",) * keep_query if isinstance(keep_query, bool) else keep_query
        )
        self._by_template = routes == "template"
        self._reads_title = title == "html"
        self._title = title if callable(title) else None
        self._site = site
        address = ClientAddress(trusted_proxies, trusted_hops, forwarded_header, client_ip_header)
        self._client_ip = client_ip or (lambda request: address.of(request.peer, request.headers))
        self._send_ip, self._anonymize_ip = send_ip, anonymize_ip
        self._skip_bots, self._respect_gpc = skip_bots, respect_gpc
        options: dict[str, Any] = {"distinct_id": distinct_id, "tag": tag, "data": data}
        self._functions = {name: option for name, option in options.items() if callable(option)}
        self._async_names = [name for name, function in self._functions.items() if _is_async(function)]
        if self._async_names and not self._awaits:
            raise ValidationError(
                f"{self._async_names[0]} must not be an async function here: a WSGI application cannot wait "
                "for it. Pass a plain function."
            )
        self._tag = None if callable(tag) else tag
        self._data = None if callable(data) else data
        umami.visitor(tag=self._tag, data=self._data)  # raises if they are not valid
        self._failures = Failures("A request was not tracked")

    async def _ask(self, request: Request) -> None:
        """Await the async functions among the options. It never raises."""
        for name in self._async_names:
            request.known[name] = None
            if name != "distinct_id" or not self._is_private(request):
                try:
                    request.known[name] = _checked(name, await self._functions[name](request))
                except Exception as error:  # noqa: BLE001 - of a function of the user's
                    self._failures.note(error)

    def _read_title(self, response: Response) -> None:
        """Have the title of a response read as its body is sent, if somebody asked for it."""
        if self._reads_title:
            response.reader = TitleReader(response.headers)

    def _visitor(self, request: Request) -> AbstractContextManager[None]:
        """Return the block to handle a request in, whose sends are this visitor's. It never raises."""
        try:
            fields = request.fields = self._fields(request)
            if "distinct_id" in self._functions and "ua" in fields:
                # Called when something is sent: the visitor may log in yet.
                fields = {**fields, "distinct_id": lambda: self._answer("distinct_id", request)}
            data = self._answer("data", request) if "data" in self._functions else self._data
            try:
                return umami.visitor(**fields, data=data)
            except ValidationError as error:  # of the data: all else are texts
                self._failures.note(error)
                return umami.visitor(**fields)
        except Exception as error:  # noqa: BLE001 - of a function of the user's
            self._failures.note(error)
            return nullcontext()

    def _finished(self, request: Request, response: Response) -> None:
        """Send a page view if a response is one, after its last byte. It never raises, nor waits for room.

        With `overflow="block"` it would hold up the response where the framework ends it later, or else the
        thread for the next request.
        """
        try:
            if self._is_page_view(request, response):
                with umami.no_wait():
                    self._client.new_page_view(**self._page_view(request, response))
        except Exception as error:  # noqa: BLE001
            self._failures.note(error)

    async def _finished_async(self, request: Request, response: Response) -> None:
        """Do as `_finished` does, and block no event loop: in direct mode a send waits for the server."""
        try:
            if self._is_page_view(request, response):
                with umami.no_wait():
                    await self._client.new_page_view_async(**self._page_view(request, response))
        except Exception as error:  # noqa: BLE001
            self._failures.note(error)

    def _page_view(self, request: Request, response: Response) -> dict[str, Any]:
        fields = request.fields or self._fields(request)
        if self._by_template and response.route:
            fields = {**fields, "url": self._url(request, response.route)}
        title = self._call(self._title, request, response) if self._title else response.title
        return {
            "page_title": title or response.name or request.path,
            "distinct_id": self._answer("distinct_id", request),
            **{name: value for name, value in fields.items() if value is not None},
            **self._site,
        }

    def _is_page_view(self, request: Request, response: Response) -> bool:
        return (
            self._page_views
            and self._should_track(request, response)
            and (not self._is_left_out(request) or bool(self._is_included(request.path)))
            and not self._is_private(request)
            and not (self._skip_bots and is_bot(request.headers.get("user-agent")))
        )

    def _is_left_out(self, request: Request) -> bool:
        path = request.path
        return bool(
            self._is_excluded(path)
            or _IS_NO_PAGE(path)
            or (request.mount and _IS_NO_PAGE(path.removeprefix(request.mount)))
        )

    def _is_private(self, request: Request) -> bool:
        get = request.headers.get
        return self._respect_gpc and "1" in (get("sec-gpc"), get("dnt"))

    def _fields(self, request: Request) -> dict[str, Any]:
        """Return the arguments of a send that say whose visit it belongs to; None where that is not known."""
        get = request.headers.get
        fields: dict[str, Any] = {
            "url": self._url(request, quote(request.path, safe=_SAFE)),
            "tag": self._answer("tag", request) if "tag" in self._functions else self._tag,
        }
        if not self._is_private(request):
            fields["ua"] = get("user-agent") or None
            fields["language"] = get("accept-language") or None
            fields["referrer"] = get("referer") or None
            if self._send_ip:
                address = self._call(self._client_ip, request)
                if address is not None:
                    address = anonymized(str(address)) if self._anonymize_ip else str(address)
                fields["ip_address"] = address
        return fields

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the function of an option returns; None if it fails, for the rest is still known."""
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001
            self._failures.note(error)
            return None

    def _answer(self, name: str, request: Request) -> Any:
        """Return what the function of an option says of a request; None without one. It never raises."""
        if name in request.known or name not in self._functions or name in self._async_names:
            return request.known.get(name)
        try:
            return _checked(name, self._functions[name](request))
        except Exception as error:  # noqa: BLE001
            self._failures.note(error)
            return None

    def _url(self, request: Request, path: str) -> str:
        if path.startswith("//"):
            path = f"/{path.lstrip('/')}"  # or Umami would take its first part for a host
        if not request.query:
            return path
        pairs = request.query.split("&")
        kept = "&".join(pair for pair in pairs if self._is_kept(unquote_plus(pair.partition("=")[0])))
        return f"{path}{'?' if kept else ''}{kept}"


def _checked(name: str, answer: Any) -> Any:
    """Return what a function of an option says, or raise here as each send in the view would."""
    if isroutine(answer):
        raise ValidationError(f"The function {name} must return a value, and not another function.")
    if name != "data":  # checked by the visitor's block
        umami.visitor(**{name: answer})
    return answer


def _is_async(function: Any) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _patterns(option: str, patterns: Any) -> tuple[str, ...]:
    if (
        isinstance(patterns, str)
        or not isinstance(patterns, Iterable)
        or not all(isinstance(each, str) for each in patterns)
    ):
        raise ValidationError(f"{option} must be a list of patterns, such as ['/admin/*'], got {patterns!r}.")
    return tuple(patterns)


def _matcher(option: str, patterns: Any) -> Callable[[str], Any]:
    """Return a function that tells whether one of the patterns matches a whole text."""
    return re.compile("|".join(map(translate, _patterns(option, patterns))) or "(?!)").match


_IS_NO_PAGE: Final = _matcher("exclude", [path + end for path in NO_PAGES for end in ("", "/")])

"""The current visitor: sends use its values for arguments that they are not given.

It is a context variable, so each request, task, thread and greenlet has its own.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any, Final

from ._events import data as custom
from ._events.fields import tag as fit_tag
from ._events.values import given, native, written
from ._user_agents import BROWSER_USER_AGENT
from .errors import ValidationError


class Default(str):
    """A default of a parameter. It equals the plain string, but is recognized by its identity.

    A caller may give the same string by hand, and Python uses one object for equal strings of a program. So
    identity tells a default from an argument only if the default is an object of its own.
    """

    __slots__ = ()


URL: Final[str] = Default("/")
REFERRER: Final[str] = Default("")
LANGUAGE: Final[str] = Default("en-US")


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor. None means that a value is unknown."""

    ip_address: str | None = None
    ua: str | None = None
    language: str | None = None
    url: str | None = None
    referrer: str | None = None
    distinct_id: str | int | Callable[[], str | int | None] | None = None
    tag: str | None = None
    data: Mapping[str, Any] | None = None

    def fill(
        self,
        url: str,
        referrer: str,
        language: str,
        ip_address: str | None,
        distinct_id: str | int | None,
        tag: str | None,
        ua: str | None,
    ) -> tuple[str, str, str, str | None, str | int | None, str | None, str | None]:
        """Return the arguments of a send, with this visitor's values for those that were not given."""
        return (
            self.url if url is URL and self.url is not None else url,
            self.referrer if referrer is REFERRER and self.referrer is not None else referrer,
            self.language if language is LANGUAGE and self.language is not None else language,
            self.ip_address if ip_address is None else ip_address,
            self.identity() if distinct_id is None else distinct_id,
            self.tag if tag is None else tag,
            self.ua if ua is None or ua is BROWSER_USER_AGENT else ua,
        )

    def identity(self) -> str | int | None:
        """Return the id of the visitor, who may have logged in since the block began."""
        return self.distinct_id() if callable(self.distinct_id) else self.distinct_id


current: Final[ContextVar[Visitor | None]] = ContextVar("umami.visitor", default=None)
visitor_now: Final = current.get
"""Returns the visitor of the innermost block; None outside of all. Bound here, as each send calls it."""


class _Keep:
    def __repr__(self) -> str:
        return "<as it is>"


KEEP: Final[Any] = _Keep()


class VisitorBlock:
    """A block of code whose sends are for one visitor. Created by `umami.visitor`.

    It may be entered again, even while it is entered, but by one thread or task only.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._tokens: list[Token[Visitor | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(current.set(replace(current.get() or Visitor(), **self._fields)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current.reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


def visitor(
    *,
    ip_address: str | None = KEEP,
    ua: str | None = KEEP,
    language: str | None = KEEP,
    url: str | None = KEEP,
    referrer: str | None = KEEP,
    distinct_id: str | int | Callable[[], str | int | None] | None = KEEP,
    tag: str | None = KEEP,
    data: Mapping[str, Any] | None = KEEP,
) -> VisitorBlock:
    """Set the visitor for all sends in a block. They use these values for arguments that they are not given.

    Blocks may be nested: the inner one adds to the outer one, and None unsets a value of the outer one. Each
    task, thread and greenlet has its own visitor. `contextvars.copy_context()` passes a visitor to a thread.

    Args:
        ip_address: The visitor's address.
        ua: The visitor's User-Agent.
        language: The visitor's language, or the whole Accept-Language header.
        url: The URL or path of the page.
        referrer: Where the visitor came from.
        distinct_id: Your own id for the visitor; or a function that returns it, for one who may log in later.
            It is called by each send that is not given an id.
        tag: A tag, to compare variants.
        data: Custom data for each event in the block. An event's own keys win. Page views have none.

    Returns:
        A context manager, for `with` and `async with`.

    Raises:
        ValidationError: A value is not a string, `tag` has over 50 characters, or `data` is not a mapping
            that can be encoded as JSON. The sends check the rest, as they check their arguments.

    Example:
        ```python
        with umami.visitor(ip_address=request.client.host, ua=request.headers.get("user-agent")):
            umami.new_event("signup")
            umami.new_revenue_event(19.99, "EUR")
        ```
    """
    named: dict[str, Any] = {
        "ip_address": ip_address,
        "ua": ua,
        "language": language,
        "url": url,
        "referrer": referrer,
        "distinct_id": distinct_id,
        "tag": tag,
    }
    fields: dict[str, Any] = {name: value for name, value in named.items() if value is not KEEP}
    if data is not KEEP:
        # A copy in plain values: the block may last, and the caller's own may change.
        fields["data"] = None if data is None else custom.fit(data, lambda *_: None, field="data")
    for name, value in fields.items():
        if name == "data" or value is None or written(value) is not None:
            continue
        if name != "distinct_id":
            raise ValidationError(f"{name} must be a string or None, got {given(value)}.")
        if type(native(value)) is not int and not callable(value):
            raise ValidationError(
                f"distinct_id must be a string, an integer, a function that returns one, or None, "
                f"got {given(value)}."
            )
    if fields.get("tag") is not None:
        fit_tag(fields["tag"], lambda *_: None)
    return VisitorBlock(fields)


def current_visitor() -> dict[str, Any]:
    """Return the visitor of the sends here, to carry it to another process: the arguments of `visitor`.

    Returns:
        What the blocks around have set, without values of None; empty outside of a block. A `distinct_id`
        that is a function is called. All values can be encoded as JSON.

    Example:
        ```python
        job_queue.put({"order": 17, "visitor": umami.current_visitor()})

        # in the worker
        with umami.visitor(**job["visitor"]):
            umami.new_event("shipped")
        ```
    """
    visitor = current.get()
    if visitor is None:
        return {}
    found = {each.name: getattr(visitor, each.name) for each in fields(visitor)}
    found["distinct_id"] = visitor.identity()
    return {name: value for name, value in found.items() if value is not None}

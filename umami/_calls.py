"""Creates the sync and the async function of a call from one definition.

A query is defined as a flow, from which both functions are created. A send is defined by its sync function.
The created functions have exactly the arguments of the definition.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel

from ._http import endpoints
from ._http.asking import status_of
from ._http.messages import Flow
from ._rows import AsyncRows, Rows

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Asker(Protocol):
    """What a client has for its queries: the state, whose session runs flows."""

    _state: Any


class Caller(Protocol):
    """What a client has for its async sends: the sends that await."""

    @property
    def _awaited(self) -> Any: ...


Q = TypeVar("Q", bound=Asker)
R = TypeVar("R", bound=BaseModel)
S = TypeVar("S")


def both(
    describe: Callable[Concatenate[Q, P], Flow[T]],
) -> tuple[Callable[Concatenate[Q, P], T], Callable[Concatenate[Q, P], Coroutine[Any, Any, T]]]:
    """Return the sync and the async function of a query."""
    flow, flow_async = _named(describe), _named(describe, "_async")
    returns = get_args(describe.__annotations__["return"])[2]

    def run(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked, state = flow(self, *args, **kwargs), self._state
        return cast("T", state.session.run(_logged_in(state, asked, lambda: flow(self, *args, **kwargs))))

    async def run_async(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked, state = flow_async(self, *args, **kwargs), self._state
        again = _logged_in(state, asked, lambda: flow_async(self, *args, **kwargs))
        return cast("T", await state.session.run_async(again))

    signature = _signature(describe, returns)
    return _dressed(run, flow, signature), _dressed(run_async, flow_async, signature)


class Pages(Protocol[R]):
    """A list that comes in pages.

    Attributes:
        count: How many rows the server said there are; None before the first page.
        pages: How many pages were fetched.
    """

    count: int | None
    pages: int

    def page(self) -> Flow[list[R]]:
        """Fetch the next page; an empty one at the end. A page that failed can be fetched again."""


def listed(
    describe: Callable[Concatenate[Q, P], Pages[R]],
) -> tuple[Callable[Concatenate[Q, P], Rows[R]], Callable[Concatenate[Q, P], AsyncRows[R]]]:
    """Return the sync and the async function of a list that comes in pages."""
    pages, pages_async = _named(describe), _named(describe, "_async")
    (row,) = get_args(describe.__annotations__["return"])

    def run(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> Rows[R]:
        found, state = pages(self, *args, **kwargs), self._state

        def fetch() -> list[R]:
            return cast("list[R]", state.session.run(_logged_in(state, found.page(), found.page)))

        return Rows(found, fetch)

    def run_async(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> AsyncRows[R]:
        found, state = pages_async(self, *args, **kwargs), self._state

        async def fetch() -> list[R]:
            flow = _logged_in(state, found.page(), found.page)
            return cast("list[R]", await state.session.run_async(flow))

        return AsyncRows(found, fetch)

    signature = _signature(describe, Rows[row])  # type: ignore[valid-type]
    signature_async = signature.replace(return_annotation=AsyncRows[row])  # type: ignore[valid-type]
    return _dressed(run, pages, signature), _dressed(run_async, pages_async, signature_async)


def _logged_in(state: Any, flow: Flow[T], again: Callable[[], Flow[T]]) -> Flow[T]:
    """Run a flow. If its token is refused, and the account is remembered, log in and run it again."""
    account, token = state.account, state.token
    try:
        return (yield from flow)
    except Exception as error:
        # A login and a logout change the account.
        if status_of(error) != 401 or account is None or token is None or state.account != account:
            raise
        if state.token == token:  # else another call has logged in again meanwhile
            answer = yield from endpoints.login(state.server(), account[0], account[1], None)
            state.renew_token(answer.token)
    return (yield from again())


def send_async(
    send: Callable[Concatenate[S, P], dict[str, Any]],
) -> Callable[Concatenate[Caller, P], Coroutine[Any, Any, dict[str, Any]]]:
    """Return the async function of a send."""
    named = _named(send, "_async")

    async def run(self: Caller, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        answer: Any = named(self._awaited, *args, **kwargs)
        # A dict if the event was queued, else the coroutine of `_awaited`'s `submit`.
        return answer if isinstance(answer, dict) else cast("dict[str, Any]", await answer)

    return _dressed(run, named, _signature(send, dict[str, Any]))


def _named(describe: F, suffix: str = "") -> F:
    """Return a copy of a function under the public name, which a wrong call's TypeError shows."""
    assert isinstance(describe, FunctionType)  # noqa: S101 - for the type checker
    name = f"{describe.__name__.removeprefix('_')}{suffix}"
    code, defaults = describe.__code__, describe.__defaults__
    copy = FunctionType(code, describe.__globals__, name, defaults, describe.__closure__)
    functools.update_wrapper(copy, describe)
    del copy.__wrapped__  # type: ignore[attr-defined]
    copy.__kwdefaults__ = describe.__kwdefaults__
    copy.__name__, copy.__qualname__ = name, f"Client.{name}"
    if suffix:
        sync = name.removesuffix(suffix)
        doc = describe.__doc__ or ""
        # A list is not awaited, but read with `async for`.
        returned: Any = get_origin(describe.__annotations__["return"])
        is_list = returned is Pages
        told = (f"for row in umami.{sync}(", f"async for row in umami.{name}(")
        copy.__doc__ = doc.replace(*told if is_list else (f"umami.{sync}(", f"await umami.{name}("))
    return cast("F", copy)


def _signature(describe: Callable[..., Any], returns: Any) -> inspect.Signature:
    """Return the signature of a definition, but for what it returns."""
    returned = None if returns is type(None) else returns
    return inspect.signature(describe).replace(return_annotation=returned)


def _dressed(function: F, described: Callable[..., Any], signature: inspect.Signature) -> F:
    """Give a function the name, signature and docstring that its users are to see.

    To make a signature takes a while when the client is imported, so both functions of a call share one.
    """
    annotations = {**described.__annotations__, "return": signature.return_annotation}
    described.__annotations__ = annotations
    functools.update_wrapper(function, described)
    shown = _shown(described, signature, is_async=inspect.iscoroutinefunction(function))
    function.__wrapped__ = shown  # type: ignore[attr-defined]
    function.__annotations__ = annotations
    if sys.version_info >= (3, 14):
        function.__annotate__ = lambda _format: annotations  # what functools.wraps copies in a user's wrapper
    return function


def _shown(described: Callable[..., Any], signature: inspect.Signature, *, is_async: bool) -> FunctionType:
    """Return what `__wrapped__` leads to: a signature, the source of a definition, and the kind of its call.

    The definition itself is a generator, and FastAPI, which follows `__wrapped__`, would take the call for a
    dependency that yields. A `__signature__` of the call, with its `self`, would be copied into a user's
    wrapper by `functools.wraps`.
    """
    assert isinstance(described, FunctionType)  # noqa: S101 - for the type checker
    source = described.__code__
    code = (_nothing_async if is_async else _nothing).__code__
    code = code.replace(co_filename=source.co_filename, co_firstlineno=source.co_firstlineno)
    shown = FunctionType(code, described.__globals__, described.__name__)
    shown.__qualname__ = described.__qualname__
    shown.__signature__ = signature  # type: ignore[attr-defined]
    return shown


def _nothing() -> None:
    """Do nothing."""


async def _nothing_async() -> None:
    """Do nothing."""

"""Creates the sync and the async function of a query from one definition.

A query is defined as a flow, from which both functions are created. They have exactly the arguments of the
definition.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, get_args

from pydantic import BaseModel

from ._functions import dressed, named, signature_of
from ._http import endpoints
from ._http.asking import status_of
from ._http.messages import Flow
from ._rows import AsyncRows, Rows

P = ParamSpec("P")
T = TypeVar("T")


class Asker(Protocol):
    """What a client has for its queries: the state, whose session runs flows."""

    _state: Any


Q = TypeVar("Q", bound=Asker)
R = TypeVar("R", bound=BaseModel)


def both(
    describe: Callable[Concatenate[Q, P], Flow[T]],
) -> tuple[Callable[Concatenate[Q, P], T], Callable[Concatenate[Q, P], Coroutine[Any, Any, T]]]:
    """Return the sync and the async function of a query."""
    flow, flow_async = named(describe), named(describe, "_async")
    returns = get_args(describe.__annotations__["return"])[2]

    def run(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked, state = flow(self, *args, **kwargs), self._state
        return cast("T", state.session.run(_logged_in(state, asked, lambda: flow(self, *args, **kwargs))))

    async def run_async(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked, state = flow_async(self, *args, **kwargs), self._state
        again = _logged_in(state, asked, lambda: flow_async(self, *args, **kwargs))
        return cast("T", await state.session.run_async(again))

    signature = signature_of(describe, returns)
    return dressed(run, flow, signature), dressed(run_async, flow_async, signature)


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
    pages, pages_async = named(describe), named(describe, "_async", is_list=True)
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

    signature = signature_of(describe, Rows[row])  # type: ignore[valid-type]
    signature_async = signature.replace(return_annotation=AsyncRows[row])  # type: ignore[valid-type]
    return dressed(run, pages, signature), dressed(run_async, pages_async, signature_async)


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

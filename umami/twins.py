"""Makes the two functions of a call, sync and async, from its one description.

Of a call that goes straight through, the description is a flow, and both functions are made of it. Of a
send it is the sync function itself: the async one has it run on a stand-in for the client, which hands
the encoded event over. The functions made here take exactly the description's arguments.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ForwardRef, ParamSpec, Protocol, TypeVar, cast, get_args

from ._http.messages import Flow

if TYPE_CHECKING:
    from .state import Prepared, State

P = ParamSpec("P")
T = TypeVar("T")


class HasState(Protocol):
    """What the descriptions are methods of."""

    @property
    def _state(self) -> "State": ...


S = TypeVar("S", bound=HasState)


def call(describe: Callable[Concatenate[S, P], Flow[T]]) -> Callable[Concatenate[S, P], T]:
    """Return the sync function of a call that goes straight through."""

    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._state.session.run(describe(self, *args, **kwargs))

    return _dressed(run, describe, get_args(describe.__annotations__["return"])[2])


def call_async(
    describe: Callable[Concatenate[S, P], Flow[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return the async function of a call that goes straight through."""

    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._state.session.run_async(describe(self, *args, **kwargs))

    return _dressed(run, describe, get_args(describe.__annotations__["return"])[2], "_async")


def send_async(
    send: Callable[Concatenate[S, P], dict[str, Any]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, dict[str, Any]]]:
    """Return the async function of a send, whose sync one may use nothing of its client but the state."""

    async def submit(self: S, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        state = self._state
        answer: dict[str, Any] | Prepared = send(cast("S", state.stand_in), *args, **kwargs)
        return answer if isinstance(answer, dict) else await state.submit_async(*answer)

    return _dressed(submit, send, dict[str, Any], "_async")


F = TypeVar("F", bound=Callable[..., Any])


def _dressed(function: F, describe: Callable[..., Any], returns: Any, suffix: str = "") -> F:
    """Give a function the name, signature and docstring that its users are to see."""
    functools.update_wrapper(function, describe)
    if returns is type(None):
        returns = None
    elif isinstance(returns, ForwardRef):
        returns = returns.__forward_arg__  # a model, which is not imported yet
    name = describe.__name__.removeprefix("_")
    function.__name__ = f"{name}{suffix}"
    function.__qualname__ = describe.__qualname__.replace(describe.__name__, function.__name__)
    function.__doc__ = describe.__doc__
    if suffix:
        function.__doc__ = (describe.__doc__ or "").replace(f"umami.{name}(", f"await umami.{name}{suffix}(")
    annotations = {**describe.__annotations__, "return": returns}
    function.__annotations__ = annotations
    if sys.version_info >= (3, 14):
        function.__annotate__ = lambda _format: annotations  # what functools.wraps copies in a user's wrapper
    function.__signature__ = inspect.signature(describe).replace(return_annotation=returns)  # type: ignore[attr-defined]
    return function

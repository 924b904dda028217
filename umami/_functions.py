"""Makes the public functions of a definition: their names, signatures and docstrings."""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")


class Caller(Protocol):
    """What a client has for its async sends: the sends that await."""

    @property
    def _awaited(self) -> Any: ...


def send_async(
    send: Callable[Concatenate[S, P], dict[str, Any]],
) -> Callable[Concatenate[Caller, P], Coroutine[Any, Any, dict[str, Any]]]:
    """Return the async function of a send."""
    function = named(send, "_async")

    async def run(self: Caller, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        answer: Any = function(self._awaited, *args, **kwargs)
        # A dict if the event was queued, else the coroutine of `_awaited`'s `submit`.
        return answer if isinstance(answer, dict) else cast("dict[str, Any]", await answer)

    return dressed(run, function, signature_of(send, dict[str, Any]))


def named(describe: F, suffix: str = "", *, is_list: bool = False) -> F:
    """Return a copy of a function under the public name, which a wrong call's TypeError shows.

    Args:
        describe: The definition.
        suffix: What the public name ends with.
        is_list: The async function is not awaited, but read with `async for`.
    """
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
        told = (f"for row in umami.{sync}(", f"async for row in umami.{name}(")
        copy.__doc__ = doc.replace(*told if is_list else (f"umami.{sync}(", f"await umami.{name}("))
    return cast("F", copy)


def signature_of(describe: Callable[..., Any], returns: Any) -> inspect.Signature:
    """Return the signature of a definition, but for what it returns."""
    returned = None if returns is type(None) else returns
    return inspect.signature(describe).replace(return_annotation=returned)


def dressed(function: F, described: Callable[..., Any], signature: inspect.Signature) -> F:
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

"""What becomes of an event that a send's route did not queue at once.

Sending may be disabled, `before_send` may have dropped the event, a direct send makes a request, and a full
queue drops an event or waits.
"""

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Final

from ._events.encoder import Dropped
from ._http import direct
from ._http.messages import Flow
from ._http.verdicts import BOT
from ._state import Route, State
from ._user_agents import BROWSER_USER_AGENT
from .queue.reasons import BEFORE_SEND, TOO_LARGE
from .queue.reporter import Report

_may_wait: Final = ContextVar("umami.may_wait", default=True)


class _NoWait:
    """The block of `no_wait`. It is a class because each page view enters one, and a generator costs more."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _may_wait.set(False)

    def __exit__(self, *_: object) -> None:
        _may_wait.reset(self._token)


def no_wait() -> AbstractContextManager[None]:
    """Have no send in a block wait for room in a full queue, whatever the setting `overflow`.

    With `overflow="block"`, an event that finds no room is dropped at once as with `drop_newest`: it is
    counted as `queue_full`, and logged. For code that must not be held up, such as a middleware after the
    response. In direct mode, a send still waits for the server.

    Returns:
        A context manager, for sync and async code. It applies to the current thread or task, and serves one
        block: call the function anew for the next.

    Example:
        ```python
        with umami.no_wait():
            umami.new_page_view("Pricing", "/pricing")
        ```
    """
    return _NoWait()


def submit(state: State, route: Route, encoded: bytes | Dropped, user_agent: str | None) -> dict[str, Any]:
    """Do what is to be done with an event that `Route.put` did not queue.

    Args:
        state: The client's state.
        route: The route that the event was encoded with.
        encoded: The event, or why it is not to be sent.
        user_agent: Its own User-Agent, if it has one.

    Returns:
        The send's result.
    """
    settings = route.settings
    if not settings.enabled:
        return {}
    if isinstance(encoded, Dropped):
        return _drop(state, route, encoded)
    if settings.mode == "direct":
        return state.session.run(_direct(state, route, encoded, user_agent))
    patience = settings.block_timeout if settings.overflow == "block" and _may_wait.get() else 0.0
    return _result(state.agent.put_late(route.destination, encoded, patience))


async def submit_async(
    state: State, route: Route, encoded: bytes | Dropped, user_agent: str | None
) -> dict[str, Any]:
    """Submit as `submit` does, without blocking the event loop."""
    settings = route.settings
    if encoded and settings.enabled:
        if settings.mode == "direct":
            return await state.session.run_async(_direct(state, route, encoded, user_agent))
        if settings.overflow == "block" and _may_wait.get():
            return _result(
                await state.agent.put_late_async(route.destination, encoded, settings.block_timeout)
            )
    return submit(state, route, encoded, user_agent)


def _direct(state: State, route: Route, encoded: bytes, user_agent: str | None) -> Flow[dict[str, Any]]:
    agent = (user_agent or "").strip() or BROWSER_USER_AGENT
    assert route.server is not None  # noqa: S101 - the settings refuse direct mode with an exporter
    answer = yield from direct.send(route.server, encoded, agent)
    if isinstance(answer, dict) and "beep" in answer:
        # The answer itself looks like success.
        state.agent.reporter.add(Report("rejected", BOT.reason, BOT.message, [encoded]))
    if route.settings.mirror is not None:
        state.copy(encoded)
    return answer


def _drop(state: State, route: Route, dropped: Dropped) -> dict[str, Any]:
    """Count an event that `before_send` dropped or spoiled, and return the send's result."""
    reason, fault = TOO_LARGE if dropped.is_too_large else BEFORE_SEND, dropped.fault
    if route.destination is not None:  # else it was sent within a test's capture
        if route.settings.mode == "queued":
            state.agent.queue.drop(reason, fault or "before_send returned None.", [dropped.event])
        if fault is not None:
            state.agent.reporter.add(Report("failure", reason, f"Events are dropped: {fault}"))
    return {"queued": False, "reason": reason}


def _result(reason: str | None) -> dict[str, Any]:
    return {"queued": True} if reason is None else {"queued": False, "reason": reason}

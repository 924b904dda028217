"""Holding the queue's lock."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Guarded(Protocol):
    """What `locked` needs of the queue."""

    _lock: Any

    def _interrupts(self) -> bool: ...
    def _close_inboxes(self) -> None: ...
    def _open_inboxes(self) -> None: ...
    def _recount(self) -> None: ...


Q = TypeVar("Q", bound=Guarded)
P = ParamSpec("P")
T = TypeVar("T")


def locked(method: Callable[Concatenate[Q, P], T]) -> Callable[Concatenate[Q, P], T]:
    """Have a method hold the lock, with all inboxes closed and what was in them counted.

    If it is broken off (by a Ctrl-C or a MemoryError, say), the counts still match the contents.
    It is a decorator and no context manager: a handler may raise where the latter begins or ends, and the
    lock would stay held.
    """

    @wraps(method)
    def run(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        interrupts = self._interrupts()
        with self._lock:
            if interrupts:
                return method(self, *args, **kwargs)
            try:
                self._close_inboxes()
                return method(self, *args, **kwargs)
            except BaseException:
                self._recount()
                raise
            finally:
                self._open_inboxes()

    return run

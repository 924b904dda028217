"""Waiting for other threads: a thread blocks, a task of an event loop takes no thread at all.

A call that waits is written once, as a generator of its steps: a `Wait`, or `Work` that may take long. `run`
takes the steps in the caller's thread. `run_async` awaits them in a task of asyncio or trio: the thread that
ends a wait wakes the event loop by the loop's own thread-safe call, and does not wait for the loop.
"""

import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from . import _threads
from ._clock import monotonic

T = TypeVar("T")

_MOST_SECONDS: Final = 3600.0


class Waiting:
    """Threads and tasks that wait under a lock, each for a condition of its own.

    Args:
        lock: The reentrant lock around what they wait for.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._changed = _threads.Condition(lock)
        self._awaited: list[tuple[Callable[[], bool], Callable[[], None]]] = []

    def __len__(self) -> int:
        return len(self._awaited)

    def until(self, wanted: Callable[[], bool], give_up: float) -> bool:
        """Wait until `wanted` holds, or a monotonic time has come; tell whether it holds."""
        awaited = wanted, self._changed.notify_all
        with self._lock:
            try:
                self._awaited.append(awaited)
                return self._wait(wanted, give_up)
            finally:
                self._forget(awaited)

    def _wait(self, wanted: Callable[[], bool], give_up: float) -> bool:
        # A call, because since Python 3.12 a Ctrl-C at a loop's end passes by a `with` around it.
        while not wanted():
            remaining = give_up - monotonic()
            if remaining <= 0:
                return False
            self._changed.wait(remaining)
        return True

    async def until_async(self, wanted: Callable[[], bool], give_up: float) -> bool:
        """Wait as `until` does, without blocking the event loop."""
        while True:
            alarm = _alarm()
            awaited = wanted, alarm.set
            with self._lock:
                if wanted():
                    return True
                self._awaited.append(awaited)
            try:
                remaining = give_up - monotonic()
                if remaining <= 0:
                    return False
                await alarm.wait(remaining)
            finally:
                with self._lock:
                    self._forget(awaited)

    def _forget(self, awaited: tuple[Callable[[], bool], Callable[[], None]]) -> None:
        if awaited in self._awaited:  # unless something interrupted before it was
            self._awaited.remove(awaited)

    def notify(self) -> None:
        """Wake those whose condition holds. The lock is held."""
        # To wake one for nothing costs more than to look whether it is for nothing.
        for wanted, wake in self._awaited.copy():
            if wanted():
                wake()


class _AsyncioAlarm:
    """Wakes one task of asyncio, from any thread."""

    def __init__(self) -> None:
        import asyncio

        self._wait: Final = asyncio.wait
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    def set(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        await self._wait([self._future], timeout=min(seconds, _MOST_SECONDS))


class _TrioAlarm:
    """Wakes one task of trio, from any thread."""

    def __init__(self, trio: Any) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()
        self._move_on_after = trio.move_on_after

    def set(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._token.run_sync_soon(self._event.set, idempotent=True)

    async def wait(self, seconds: float) -> None:
        with self._move_on_after(min(seconds, _MOST_SECONDS)):
            await self._event.wait()


def _alarm() -> _AsyncioAlarm | _TrioAlarm:
    trio = sys.modules.get("trio")
    if trio is not None:
        # This is not a task of trio's, or another thread has only begun to import it.
        with suppress(RuntimeError, AttributeError):
            return _TrioAlarm(trio)
    return _AsyncioAlarm()


class Wait(NamedTuple):
    """A step: wait until a condition holds. Its result tells whether it does.

    Attributes:
        waiting: Where to wait, and what to notify when the condition may hold.
        wanted: The condition, looked at under the lock.
        give_up: The monotonic time to stop at.
    """

    waiting: Waiting
    wanted: Callable[[], bool]
    give_up: float

    def run(self) -> bool:
        """Wait in this thread."""
        return self.waiting.until(self.wanted, self.give_up)

    async def run_async(self) -> bool:
        """Wait in this task."""
        return await self.waiting.until_async(self.wanted, self.give_up)


class Work(NamedTuple):
    """A step: a call that may take long. Its result is the call's.

    An event loop has it made by a thread of its own, which ends with the call, even if the task is cancelled
    meanwhile. If no thread can be started, or the call takes too long, the result is None.

    Attributes:
        call: The call.
        give_up: The monotonic time to wait no longer at, in an event loop.
    """

    call: Callable[[], object]
    give_up: float

    def run(self) -> object:
        """Make the call in this thread."""
        return self.call()

    async def run_async(self) -> object:
        """Have a thread make the call, and wait for it."""
        results: list[object] = []
        errors: list[BaseException] = []
        lock = _threads.RLock()
        ended = Waiting(lock)

        def work() -> None:
            try:
                results.append(self.call())
            except BaseException as error:  # noqa: BLE001 - raised by the task
                errors.append(error)
            with lock:
                ended.notify()

        try:
            _threads.Thread("umami-flush").start(work)
        except RuntimeError:
            return None
        await ended.until_async(lambda: bool(results or errors), self.give_up)
        if errors:
            raise errors[0]
        return results[0] if results else None


Steps = Generator[Wait | Work, Any, T]
"""A call that waits, as its steps; see above."""


def run(steps: Steps[T]) -> T:
    """Take the steps in this thread, and return the call's result."""
    try:
        step = next(steps)
        while True:
            step = steps.send(step.run())
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def run_async(steps: Steps[T]) -> T:
    """Take the steps without blocking the event loop, and return the call's result."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await step.run_async())
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()

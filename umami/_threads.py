"""Threads and locks of the operating system, even if gevent or eventlet has replaced them with greenlets.

Their monkey-patching makes `threading` start greenlets. A sender in a greenlet stands still whenever another
greenlet computes or blocks. So the agent uses the unpatched threads and locks.
"""

import logging  # noqa: F401 - before the lock below, which a fork is to take before logging's own
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, ParamSpec, TypeVar

from ._clock import monotonic
from .errors import OperationNotAllowedError

P = ParamSpec("P")
T = TypeVar("T")


def is_patched() -> bool:
    """Tell whether gevent has replaced `threading`."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def refuse_eventlet() -> None:
    """Do nothing, unless eventlet has replaced `threading`.

    Raises:
        OperationNotAllowedError: It has. Its locks, which logging then uses too, fail between threads: a
            greenlet that waits for one that a thread holds is never woken.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise OperationNotAllowedError(
            "umami does not work with eventlet's threads: its worker threads could block the program. "
            "Call eventlet.monkey_patch(thread=False), or use gevent."
        )


def _original(name: str) -> Any:
    """Return a name of `_thread` as it was before gevent came."""
    monkey = sys.modules.get("gevent.monkey")
    module = sys.modules["_thread"]
    return getattr(module, name) if monkey is None else monkey.get_original("_thread", name)


Lock: Final = _original("allocate_lock")
_BuiltinRLock: Final = _original("RLock")


class _RLock(_BuiltinRLock):  # type: ignore[misc, valid-type]
    """A lock that `with` never leaves held.

    On CPython 3.14, `with` takes a lock in a call of its own, after which a signal handler may raise before
    `with` knows that there is something to give back.
    """

    def __enter__(self) -> bool:
        taken: list[bool] = []
        try:
            # In one call that nothing can interrupt, or else it could be taken without a trace. Python looks
            # for signals at its end, which is within this `try`, but not where this function returns.
            taken.extend(map(_acquire, (self,)))
        except BaseException:
            if taken:
                self.release()
            raise
        return True


_acquire: Final = _BuiltinRLock.acquire
RLock: Final = _RLock if sys.version_info[:2] == (3, 14) else _BuiltinRLock
# Held while something is imported late. A fork in the middle of that would leave the child with locks that
# are never released, so it waits. It takes first what was registered last: what is imported takes logging's.
importing: Final = RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
    )
get_ident: Final[Callable[[], int]] = _original("get_ident")
_start_new_thread: Final = _original("start_new_thread")
_ours: Final[set[int]] = set()
_FORK_SECONDS: Final = 0.1
_native: Final[list[object]] = []


class Registry(Generic[T]):
    """Weak references to live objects.

    Threads, finalizers and signal handlers may add to it and die while another thread reads it, and a fork
    may come at any time: it has no lock, and each of its steps is one call that nothing can interrupt. (The
    iteration over a `weakref.WeakSet` fails when another thread adds to it.)
    """

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, member: T) -> None:
        """Know an object, which must not define equality."""
        self._references.add(weakref.ref(member, self._references.discard))

    def members(self) -> list[T]:
        """Return those that are known, in no order."""
        references = self._references.copy()
        return [member for reference in references if (member := reference()) is not None]


def waiter() -> Any:
    """Return what one thread can wait on once, until another releases it."""
    lock = Lock()
    lock.acquire()
    return lock


_release: Final = type(Lock()).release
_release_save: Final = type(RLock())._release_save  # noqa: SLF001


class Condition:
    """What `threading.Condition` is.

    Args:
        lock: The reentrant lock around what is waited for.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._waiters: deque[Any] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait, and have not been notified."""
        return len(self._waiters)

    def register(self, waiter: Any) -> None:
        """Count this thread, which holds the lock, as one that waits; it must `wait` or `withdraw` then."""
        self._waiters.append(waiter)

    def withdraw(self, waiter: Any) -> bool:
        """Count a thread as waiting no more; tell whether it was notified."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return True
        return False

    def wait(self, timeout: float | None = None, registered: Any = None) -> bool:
        """Let go of the lock, which this thread holds, until notified; tell whether that happened in time.

        Args:
            timeout: The most seconds to wait.
            registered: What `register` was called with, if it was.
        """
        own = registered or waiter()
        held: list[Any] = []
        notified = False
        try:
            if own is not registered:
                self._waiters.append(own)
            # In one call that nothing can interrupt, or else it could be let go of without a trace.
            held.extend(map(_release_save, (self._lock,)))
            own.acquire(True, -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            try:
                if held:
                    self._lock._acquire_restore(held[0])  # noqa: SLF001 - as threading.Condition does
            finally:
                try:
                    self._waiters.remove(own)  # not by `withdraw`, whose beginning could be interrupted
                except ValueError:
                    notified = True
        return notified

    def notify(self) -> None:
        """Wake one of the waiting threads, if there is one."""
        if self._waiters:
            with suppress(IndexError):
                # In one call that nothing can interrupt: a thread that is not counted has been woken.
                next(map(_release, iter(self._waiters.popleft, None)))

    def notify_all(self) -> None:
        """Wake every waiting thread."""
        while self._waiters:
            self.notify()


class LookUps:
    """The host names that senders look up to connect; a fork waits for them.

    The C library holds locks meanwhile that a fork's child inherits and never releases: it could look up
    no name ever after. It holds them for an instant only, so a fork waits little longer for a server that
    does not answer.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start clean, as a fork's child does."""
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._threads: list[int] = []  # one may wait for several, in an event loop

    def begin(self) -> None:
        """Tell that this thread looks up a name."""
        with self._lock:
            self._threads.append(get_ident())

    def end(self) -> None:
        """Tell that it has."""
        with self._lock:
            with suppress(ValueError):  # a fork's child has begun anew
                self._threads.remove(get_ident())
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no look-up is in progress, and let none begin."""
        self._lock.acquire()
        give_up = monotonic() + _FORK_SECONDS
        while set(self._threads) - {get_ident()} and (left := give_up - monotonic()) > 0:
            self._changed.wait(left)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()


look_ups: Final = LookUps()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=look_ups.before_fork,
        after_in_parent=look_ups.after_fork_in_parent,
        after_in_child=look_ups.reset,
    )


def after_fork_in_c() -> None:
    """Start clean in a child that was forked in C, where the hooks above do not run."""
    importing._at_fork_reinit()  # noqa: SLF001 - as threading does with its own locks
    look_ups.reset()


class Thread:
    """A daemon thread.

    Args:
        name: What debuggers show.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ident: int | None = None
        self._begun = Lock()

    def start(self, target: Callable[..., object], *args: object) -> None:
        """Start; whatever this raises, `call_off` tells whether it has begun.

        Args:
            target: What it does.
            args: What `target` is called with.

        Raises:
            RuntimeError: No thread can be started: the process has too many, or is ending.
        """
        if sys.is_finalizing():
            # Some interpreters would start it all the same, and wait for ever until it runs.
            raise RuntimeError("can't start new thread at interpreter shutdown")
        if is_patched():
            _start_new_thread(self._run, (target, args))
            return
        handled = sys.exc_info()[1]  # by the caller
        try:
            threading.Thread(target=self._run, args=(target, args), name=self._name, daemon=True).start()
        except RuntimeError as error:
            # What interrupts it as it waits for the thread, a Ctrl-C, comes out as a complaint of its lock.
            hidden = error.__context__
            if hidden is None or hidden is handled or isinstance(hidden, Exception):
                raise
            raise hidden from None

    def call_off(self) -> bool:
        """Tell whether it has not begun. If so, it never will."""
        return bool(self._begun.acquire(False))

    def is_current(self) -> bool:
        """Tell whether this very thread asks."""
        return self._ident == get_ident()

    def _run(self, target: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self._begun.acquire(False):
            return
        ident = self._ident = get_ident()
        _ours.add(ident)
        try:
            target(*args)
        finally:
            self._ident = None
            _ours.discard(ident)


def bounded(call: Callable[[], T], seconds: float) -> T:
    """Make a call that nothing can interrupt, such as the look-up of a host name, and wait for it so long.

    A sender makes it itself: nobody waits for a sender that hangs. Another thread, such as the one that ends
    the process, leaves it to a thread of its own. Without any thread, the call takes as long as it takes.

    Raises:
        TimeoutError: It takes longer.
        BaseException: What it raised.
    """
    if get_ident() in _ours or is_patched():
        return call()
    done = waiter()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)
        done.release()

    try:
        _start(work)
    except (RuntimeError, OSError, ImportError, AttributeError, TypeError):  # there is no pthread_create
        return call()
    if not done.acquire(True, min(seconds, threading.TIMEOUT_MAX)):
        raise TimeoutError
    if errors:
        raise errors[0]
    return results[0]


def _start(work: Callable[[], None]) -> None:
    """Start a thread, also as the process ends.

    Since Python 3.12 an interpreter that ends starts no thread: it would not wait for it. Nothing waits for
    this one, so the operating system starts it.
    """
    try:
        Thread("umami-look-up").start(work)
    except RuntimeError:
        if sys.is_finalizing():
            raise  # Python code can run in no other thread now
        import ctypes

        begin = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: work())
        _native.append(begin)  # it must live as long as its thread
        thread = ctypes.c_void_p()
        if ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, begin, None):
            raise


def off_hub(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call that may wait. In a greenlet, it is made by another thread: greenlets share theirs.

    Not by the hub's threads, unless no other can be started. There are ten, which look up the program's host
    names too: others would wait for one beyond their own time.
    """
    if not is_patched() or get_ident() in _ours:
        return call(*args, **kwargs)
    hub = sys.modules["gevent"].get_hub()
    results: list[T] = []
    errors: list[BaseException] = []
    ended = sys.modules["gevent.event"].Event()
    watcher = hub.loop.async_()

    def work() -> None:
        try:
            results.append(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised by the greenlet
            errors.append(error)
        finally:
            watcher.send()

    def end() -> None:
        watcher.close()
        ended.set()

    watcher.start(end)  # until the thread ends, even if the greenlet is killed meanwhile
    try:
        Thread("umami-wait").start(work)
    except RuntimeError:
        watcher.close()
        result: T = hub.threadpool.apply(call, args, kwargs)
        return result
    ended.wait()
    if errors:
        raise errors[0]
    return results[0]

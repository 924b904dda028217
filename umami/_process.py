"""The life of the process: exit, SIGTERM and forks.

Each agent registers once. Its methods are called at these events.
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
from _queue import Empty, SimpleQueue  # reentrant, and never gevent's
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Protocol

from . import _app_servers as servers
from . import _threads

logger: Final = logging.getLogger("umami")

_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 2.0
_LOOK_SECONDS: Final = 0.05


class Hooks(Protocol):
    """What is called as the process ends or forks."""

    def begin_exit(self) -> None:
        """Take no more events, and have everything sent as soon as possible. `exit` follows."""

    def exit(self) -> None:
        """Flush before the process ends."""

    @property
    def flushes_on_sigterm(self) -> bool:
        """Whether a SIGTERM waits for deliveries."""

    def begin_flush(self) -> float:
        """Have everything sent as soon as possible, and return until when to wait for it."""

    def end_flush(self, give_up: float) -> None:
        """Wait for deliveries."""

    def after_fork(self) -> None:
        """Start clean in a fork's child."""


class SigtermFlush:
    """Flushes at SIGTERM, once installed, before the signal has its ordinary effect.

    The handler takes no lock, because the code that it interrupts may hold it. It hands the signal to a
    thread, which flushes and then raises it again; the second time the handler lets it have its effect.

    uvicorn is to finish its requests first, and the events that they send are to be flushed too. So its own
    handler is called at once. The signal that it raises at its end is held back, and the thread flushes then.

    Args:
        flush: Flushes, within a time of its own choosing.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush: Final = flush
        self._installed = False
        self._former: Any = None
        self._thread: _threads.Thread | None = None
        self._arrived: SimpleQueue[tuple[int, int, Any]] = SimpleQueue()
        self._taken: SimpleQueue[None] = SimpleQueue()
        self._flushed = False
        self._held = threading.local()

    def install(self) -> None:
        """Handle SIGTERM from now on, until other code replaces the handler.

        Raises:
            ValueError: This is not the main thread, or the former handler is not Python's.
        """
        if not hasattr(signal, "pthread_kill") or self._is_ours():
            return  # on Windows there is no SIGTERM; or it is done already
        former = signal.getsignal(signal.SIGTERM)
        if former is None:
            raise ValueError("SIGTERM has a handler that was not installed by Python code")
        if self._installed and servers.uvicorn_of(former) is not None:
            return  # uvicorn will restore this handler, and then raise the signal
        signal.signal(signal.SIGTERM, self._handle)
        self._former = former
        self._installed = True
        self.start()

    def uninstall(self) -> None:
        """Give SIGTERM back.

        Raises:
            ValueError: This is not the main thread.
        """
        if self._installed and self._is_ours():
            signal.signal(signal.SIGTERM, self._former)
        self._installed = False

    def _is_ours(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._handle

    def start(self) -> None:
        """Start the thread that flushes, if that is wanted and it does not run in this process."""
        if self._installed and self._thread is None:
            thread = _threads.Thread("umami-sigterm")
            with suppress(RuntimeError):  # the process is ending, and flushes anyway
                thread.start(self._flush_and_raise_again)
                self._thread = thread

    def before_fork(self) -> None:
        """Hold SIGTERM back: a child forgets a signal that comes before its interpreter is set up."""
        if self._installed:
            self._held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def after_fork_in_parent(self) -> None:
        """Let SIGTERM come again."""
        mask = getattr(self._held, "mask", None)
        if mask is not None:
            self._held.mask = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def after_fork(self) -> None:
        """Start clean in a fork's child: it has the handler, but not the thread."""
        self._thread = None
        self._arrived, self._taken = SimpleQueue(), SimpleQueue()
        self._flushed = False
        self.after_fork_in_parent()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        notice_fork()
        if self._thread is None:
            self._take_effect(number, frame)
        elif self._flushed:
            self._flushed = False
            self._taken.put(None)
            self._take_effect(number, frame)
        elif servers.uvicorn_of(self._former) is not None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {number})
            self._former(number, frame)
            self._arrived.put((number, _threads.get_ident(), signal.getsignal(number)))
        else:
            self._arrived.put((number, _threads.get_ident(), None))

    def _take_effect(self, number: int, frame: FrameType | None) -> None:
        if callable(self._former):
            self._former(number, frame)
        elif self._former == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            # Still here: this is PID 1, the first process of a container, for which that has no effect.
            os._exit(128 + number)

    def let_go(self) -> None:
        """Let a signal that was held back while uvicorn stopped have its effect, after the exit's flush."""
        if self._installed:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _flush_and_raise_again(self) -> None:
        while True:
            number, main_thread, until_uvicorn_ends = self._arrived.get()
            while until_uvicorn_ends is not None and signal.getsignal(number) == until_uvicorn_ends:
                time.sleep(_LOOK_SECONDS)
            try:
                self._flush()
            except Exception:
                logger.exception("Flushing at SIGTERM failed unexpectedly: a bug in umami, please report it.")
            if until_uvicorn_ends is not None:
                os.kill(os.getpid(), number)  # to this thread, since the main thread holds it back
                continue
            self._flushed = True
            # To the main thread, where handlers run. If that was just about to begin a system call, it sleeps
            # on the signal, as Python does not look between; so it is woken until it has taken it.
            wait = _FIRST_WAIT
            while self._flushed:
                signal.pthread_kill(main_thread, number)
                with suppress(Empty):
                    self._taken.get(timeout=wait)
                wait = min(2 * wait, _LONGEST_WAIT)


in_child: Final[list[Callable[[], None]]] = []
"""What else is called in a fork's child. Its own hook would come after those that the program registered."""
_registered: Final[_threads.Registry[Hooks]] = _threads.Registry()
_kept: Final[list[Hooks]] = []
_pid = os.getpid()
_exiting = False
_is_watching = False
_program_flushes = False


def register(agent: Hooks) -> None:
    """Call an agent's hooks from now on; `begin_exit` at once if the process is ending."""
    _registered.add(agent)
    if _exiting:
        agent.begin_exit()


def keep(agent: Hooks) -> None:
    """Keep an agent in being until the process ends."""
    _kept.append(agent)


def watch() -> None:
    """Notice the end of this process also where `atexit` is not called, and SIGTERM."""
    global _is_watching  # noqa: PLW0603
    sigterm.start()
    if _is_watching:
        return
    _is_watching = True
    if servers.uwsgi_has_no_threads():
        logger.warning(
            "uWSGI runs this process without threads, so events are delivered late: "
            "start it with --enable-threads."
        )
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        if util.is_exiting():
            before_exit()
        else:
            # The last of the finalizers: others may send events.
            util.Finalize(None, before_exit, exitpriority=-100)
    celery = sys.modules.get("celery.signals")
    if celery is not None:
        # Its prefork workers run neither finalizers nor atexit handlers.
        celery.worker_process_shutdown.connect(_receive_exit, weak=False, dispatch_uid="umami")


def will_flush() -> None:
    """Know that the program flushes before a server ends it."""
    global _program_flushes  # noqa: PLW0603
    _program_flushes = True


def note_server() -> None:
    """Say once if a server is to end this process without its exit handlers, and nothing flushes before."""
    if not _program_flushes and servers.uvicorn_has_started():
        will_flush()  # or not: it is said
        logger.warning(
            "uvicorn ends this process without Python's exit handlers, and events that are queued then are "
            "lost. Pass lifespan=umami.lifespan to the application, or set flush_on_sigterm=True. Ignore "
            "this warning if the application's own lifespan calls umami.shutdown_async()."
        )


def _receive_exit(**_: object) -> None:
    before_exit()


def before_exit() -> None:
    """Deliver what all clients of this process have queued, as its end does by itself.

    Call it last in a process that ends without Python's exit handlers: one that calls `os._exit`, or that a
    task queue ends so. Each client waits for at most its setting `shutdown_timeout`, all at the same time.
    What is left then is logged.

    Example:
        ```python
        umami.before_exit()
        os._exit(0)
        ```
    """
    global _exiting  # noqa: PLW0603
    notice_fork()
    _exiting = True
    agents = _registered.members()
    for agent in agents:
        agent.begin_exit()
    for agent in agents:
        agent.exit()
    sigterm.let_go()


def _flush_at_sigterm() -> None:
    flushes = [(agent, agent.begin_flush()) for agent in _registered.members() if agent.flushes_on_sigterm]
    for agent, give_up in flushes:
        agent.end_flush(give_up)


def notice_fork() -> None:
    """Start clean if this process was forked in C, where Python's fork hooks do not run.

    Call it before any lock is taken: a thread of the parent may have held it.
    """
    if os.getpid() != _pid:
        _threads.after_fork_in_c()
        _after_fork()


def _after_fork() -> None:
    global _exiting, _is_watching, _pid  # noqa: PLW0603
    _pid = os.getpid()
    _exiting = _is_watching = False
    for agent in _registered.members():
        with suppress(Exception):  # the next one must start clean all the same
            agent.after_fork()
    for start_clean in in_child:
        start_clean()
    sigterm.after_fork()


sigterm: Final = SigtermFlush(_flush_at_sigterm)

atexit.register(before_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=sigterm.before_fork, after_in_parent=sigterm.after_fork_in_parent, after_in_child=_after_fork
    )

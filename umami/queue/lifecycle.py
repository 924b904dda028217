"""The life of the process, for every agent in it: its end in whatever form it comes, and its forks.

An agent makes itself known once, and is told when it matters. What it does then is its own affair.
"""

import atexit
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol

from umami import threads

from .signals import SigtermFlush


class Mortal(Protocol):
    """What lives no longer than the process."""

    def begin_exit(self) -> None:
        """Close the door, and have everything sent as soon as possible. `exit` follows."""

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


in_child: Final[list[Callable[[], None]]] = []
"""What else is called in a fork's child. Its own hook would come after those that the program registered."""
_known: Final[threads.Registry[Mortal]] = threads.Registry()
_exiting = False
_watching = False


def know(agent: Mortal) -> None:
    """Tell an agent of the end of this process, at once if that has come, and of forks."""
    _known.add(agent)
    if _exiting:
        agent.begin_exit()


def watch_the_end() -> None:
    """Learn of the end of this process where it comes without atexit, or by SIGTERM."""
    global _watching  # noqa: PLW0603
    sigterm.attend()
    if _watching:
        return
    _watching = True
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        if util.is_exiting():
            _exit()
        else:
            # The last of the finalizers: others may send events.
            util.Finalize(None, _exit, exitpriority=-100)
    celery = sys.modules.get("celery.signals")
    if celery is not None:
        # Its prefork workers run neither finalizers nor atexit handlers.
        celery.worker_process_shutdown.connect(_exit, weak=False, dispatch_uid="umami")


def _exit(**_: object) -> None:
    global _exiting  # noqa: PLW0603
    _exiting = True
    agents = _known.members()
    for agent in agents:
        agent.begin_exit()
    for agent in agents:
        agent.exit()


def _flush_at_sigterm() -> None:
    flushes = [(agent, agent.begin_flush()) for agent in _known.members() if agent.flushes_on_sigterm]
    for agent, give_up in flushes:
        agent.end_flush(give_up)


def _after_fork() -> None:
    global _exiting, _watching  # noqa: PLW0603
    _exiting = _watching = False
    for agent in _known.members():
        agent.after_fork()
    for start_clean in in_child:
        start_clean()
    sigterm.after_fork()


sigterm: Final = SigtermFlush(_flush_at_sigterm)

atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=sigterm.before_fork, after_in_parent=sigterm.after_fork_in_parent, after_in_child=_after_fork
    )

"""Imports httpx, and all of its own imports, late: a program that does not need them yet does not wait.

A program that names its server in code waits for them there, at its start. Otherwise the first worker or the
first query imports them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from umami import _threads
from umami._app_servers import must_import_early
from umami.queue.retry import RetryPolicy
from umami.settings import Settings

from .access import Access

if TYPE_CHECKING:
    from .poster import Poster
    from .session import Session


def load() -> None:
    """Import what a request needs, and what would be imported in the middle of the first one."""
    with _threads.importing:
        import encodings.idna  # noqa: F401 - by the look-up of a host name

        import idna.uts46data  # noqa: F401 - by a visitor's international host name

        with _without_broken_trio():
            from . import poster, session  # noqa: F401


@contextmanager
def _without_broken_trio() -> Iterator[None]:
    """Have httpcore import as if trio were not installed, where trio's own import fails.

    That is after eventlet has replaced `socket`: its sockets lack what trio wraps. The error is no
    ImportError, so httpcore does not expect it.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("socket") or "trio" in sys.modules:
        yield
        return
    sys.modules["trio"] = None  # type: ignore[assignment] # so Python marks what cannot be imported
    try:
        yield
    finally:
        sys.modules.pop("trio", None)


def new_poster(access: Callable[[], Access]) -> "Poster":
    """Return a new `poster.Poster`."""
    load()
    from .poster import Poster

    return Poster(access)


def new_session(
    settings: Callable[[], Settings], access: Callable[[], Access], policy: Callable[[], RetryPolicy]
) -> "Session":
    """Return a new `session.Session`."""
    load()
    from .session import Session

    return Session(settings, access, policy)


if must_import_early():
    load()

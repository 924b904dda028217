"""Imports httpx, and all of its own imports, late: a program that does not need them yet does not wait.

A program that names its server in code waits for them there, at its start. Otherwise the first worker or the
first query imports them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from umami import _threads
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

        from . import poster, session  # noqa: F401


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


if _threads.is_patched():
    load()  # for gevent imports well in the main thread only

"""Imports `transport`, and with it httpx and all of its own imports, late: nobody waits who needs it not yet.

A program that names its server in code waits for them there, at its start; otherwise the first sender or
the first query imports them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _threads

if TYPE_CHECKING:
    from ._http.access import Access
    from ._http.transport import Poster, Session


def load() -> None:
    """Import what a request needs, and what would be imported in the middle of the first one."""
    with _threads.importing:
        import encodings.idna  # noqa: F401 - by the look-up of a host name

        import idna.uts46data  # noqa: F401 - by a visitor's international host name

        from ._http import transport  # noqa: F401


def new_poster(access: Callable[[], "Access"] | None = None) -> "Poster":
    """Return a new `poster.Poster`."""
    load()
    from ._http.transport import Poster

    return Poster(access)


def new_session(timeout: Callable[[], float], access: Callable[[], "Access"]) -> "Session":
    """Return a new `session.Session`."""
    load()
    from ._http.transport import Session

    return Session(timeout, access)


if _threads.is_patched():
    load()  # for gevent imports well in the main thread only

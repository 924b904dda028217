"""Imports `transport`, and with it httpx and all of its own imports, late: `import umami` does not wait.

A program that names its server in code waits for them there, at its start; otherwise the first sender or
the first query imports them.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import threads

if TYPE_CHECKING:
    from .transport import Poster, Session

# A fork in the middle of an import would leave the child with locks that nobody gives back, so it waits.
importing: Final = threads.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
    )


def load() -> None:
    """Import what a request needs, and what would be imported in the middle of the first one."""
    with importing:
        import encodings.idna  # noqa: F401 - by the look-up of a host name

        import httpcore  # noqa: F401 - by httpx

        from . import transport  # noqa: F401

        if threads.is_patched():
            from . import real_sockets  # noqa: F401


def new_poster() -> "Poster":
    """Return a new `transport.Poster`."""
    load()
    from .transport import Poster

    return Poster()


def new_session(timeout: Callable[[], float]) -> "Session":
    """Return a new `transport.Session`."""
    load()
    from .transport import Session

    return Session(timeout)


if threads.is_patched():
    load()  # for gevent imports well in the main thread only

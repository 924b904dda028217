"""Servers that start or end processes in a special way: uWSGI and uvicorn."""

import signal
import sys
from typing import Any

from . import _threads


def uwsgi_will_fork() -> bool:
    """Tell whether uWSGI runs this process and has not forked its workers yet.

    It forks in C, without Python's fork hooks unless it is started with `--py-call-uwsgi-fork-hooks`.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    return hasattr(uwsgi, "worker_id") and not (uwsgi.worker_id() or uwsgi.mule_id())


def must_import_early() -> bool:
    """Tell whether all is to be imported at once, not when it is first used.

    gevent imports badly in a thread that is not the main one. And uWSGI forks at any moment: its workers
    would inherit an import in progress, with locks that are never released.
    """
    return _threads.is_patched() or uwsgi_will_fork()


def uwsgi_has_no_threads() -> bool:
    """Tell whether uWSGI runs this process without threads, as older versions do unless told otherwise."""
    uwsgi: Any = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if options is None:
        return False
    return not getattr(uwsgi, "has_threads", "enable-threads" in options or "threads" in options)


def uvicorn_of(handler: Any) -> Any:
    """Return the `uvicorn.Server` that a signal handler belongs to; None if there is none.

    At SIGTERM it finishes the requests. Then it restores the handlers that it found and raises the signal
    again, which usually kills the process: no exit handler of Python's runs.
    """
    server, uvicorn = getattr(handler, "__self__", None), sys.modules.get("uvicorn")
    kind = getattr(uvicorn, "Server", None)
    return server if kind is not None and isinstance(server, kind) else None


def uvicorn_has_started() -> bool:
    """Tell whether uvicorn serves in this process's main thread, after the beginning of the lifespan."""
    return bool(getattr(uvicorn_of(signal.getsignal(signal.SIGTERM)), "started", False))

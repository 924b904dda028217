"""Ship events to Umami, the privacy-preserving web analytics server, from the background.

Sends check and queue an event and return at once; a background worker delivers them in batches, waits
out outages, and flushes at exit. Queries go straight to the server. The functions here are those of one
default `Client`.

Example:
    ```python
    import umami

    umami.set_url_base("https://umami.example.com")
    umami.set_website_id("978435e2-7ba1-4337-9860-ec31ece2db60")
    umami.set_hostname("example.com")
    umami.new_event("signup", custom_data={"plan": "pro"})
    ```
"""

# ruff: noqa: F403, F405 - a star import brings type checkers the functions

import os as _os
import typing as _typing
from importlib import import_module as _import_module

from . import _threads, errors
from ._version import __version__
from .queue import process as _process  # noqa: F401 - its exit handler runs after those registered from now on

__all__ = [
    "Client",
    "__version__",
    "active_users",
    "active_users_async",
    "clear_cloud_api_key",
    "configure",
    "disable",
    "enable",
    "errors",
    "exporters",
    "flush",
    "flush_async",
    "heartbeat",
    "heartbeat_async",
    "identify",
    "identify_async",
    "is_logged_in",
    "login",
    "login_async",
    "logout",
    "logout_async",
    "models",
    "new_event",
    "new_event_async",
    "new_page_view",
    "new_page_view_async",
    "new_revenue_event",
    "new_revenue_event_async",
    "queue_stats",
    "set_cloud_api_key",
    "set_hostname",
    "set_url_base",
    "set_website_id",
    "shutdown",
    "shutdown_async",
    "spool",
    "user_agent",
    "verify_token",
    "verify_token_async",
    "website_stats",
    "website_stats_async",
    "websites",
    "websites_async",
]

if _typing.TYPE_CHECKING:
    from . import exporters, models, spool
    from ._default import *
    from ._http.messages import USER_AGENT as user_agent  # noqa: N811 - the published name
    from .client import Client
else:
    # All but the names above is imported when one of the others is first used (PEP 562).

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with _threads.importing:  # a fork waits: its child would inherit the import's locks
            if name in ("exporters", "models", "spool"):
                return _import_module(f"{__name__}.{name}")
            # All functions at once: at the interpreter's shutdown, a finalizer can import no more.
            functions = vars(_import_module(f"{__name__}._default"))
            for each in functions.keys() & set(__all__):
                globals().setdefault(each, functions[each])
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

    if _threads.is_patched() or any(map(_os.environ.get, ("UMAMI_URL", "UMAMI_URL_BASE", "UMAMI_API_KEY"))):
        # Here rather than at the first event, whose caller may have less time. And gevent imports badly in a
        # thread that is not the main one.
        __getattr__("configure")

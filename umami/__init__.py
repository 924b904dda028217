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

# ruff: noqa: F403 - a star import brings type checkers the functions

import os as _os
import sys as _sys
import typing as _typing
from importlib import import_module as _import_module

from . import (
    _process,  # noqa: F401 - its exit handler runs after those registered from now on
    _threads,
)
from . import errors as errors
from ._app_servers import must_import_early as _must_import_early
from ._version import __version__ as __version__

if _typing.TYPE_CHECKING:
    from . import exporters as exporters
    from . import filters as filters
    from . import models as models
    from . import spool as spool
    from . import testing as testing
    from ._default import *
    from ._default import user_agent as user_agent
    from ._default_queries import *
    from .client import Client as Client
else:
    # All of that is imported when one of the names is first used (PEP 562).
    _MODULES = ("errors", "exporters", "filters", "models", "spool", "testing")

    def __getattr__(name: str) -> object:
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with _threads.importing:  # a fork waits: its child would inherit the import's locks
            if name in _MODULES:
                return _import_module(f"{__name__}.{name}")
            # What sends events first: many programs make no query, and need not import them. All functions of
            # a part at once: at the interpreter's shutdown, a finalizer can import no more.
            names = [*_MODULES, "__version__"]
            for part in ("_default", "_default_queries"):
                found = vars(_import_module(f"{__name__}.{part}"))
                public = [each for each in found if each[0].isalpha()]  # pytest adds "@pytest_ar"
                for each in public:
                    globals().setdefault(each, found[each])
                if name in public:
                    return globals()[name]
                names += public
            if "login" in names:  # or else a signal's handler has interrupted the import of the queries
                globals().setdefault("__all__", sorted(names))
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})

    _is_configured = any(map(_os.environ.get, ("UMAMI_URL", "UMAMI_URL_BASE", "UMAMI_API_KEY")))
    _is_command = _os.path.basename((getattr(_sys, "argv", None) or [""])[0]) in ("umami", "umami.exe")  # noqa: PTH119
    if _must_import_early():
        __getattr__("__all__")
    elif _is_configured and not _is_command:
        # Here rather than at the first event, whose caller may have less time. The command has time: its help
        # needs no client.
        __getattr__("configure")

"""Imports what the calls rest on at their first use, or when the program names its server: not before.

`import umami` gives the calls and their checks. The agent, the settings and the models are imported with
the first setting in code or any other first use, or at once where the environment names a server.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import (
    _threads,
    late,  # noqa: F401 - which loads at once, in the main thread, where gevent has patched it
)
from .queue import process  # noqa: F401 - to know of the process's end, even if the rest comes with it

if TYPE_CHECKING:
    from . import models, settings
    from ._http import endpoints
    from .state import State
else:

    class _Module:
        """Stands in for a module of this package until something of it is wanted."""

        def __init__(self, name: str) -> None:
            self._name = f"{__package__}.{name}"

        def __getattr__(self, name: str) -> Any:
            with _threads.importing:
                return getattr(import_module(self._name), name)

    endpoints, models, settings = map(_Module, ("_http.endpoints", "models", "settings"))

__all__ = ["OwnState", "endpoints", "models", "settings", "submodule"]


def submodule(name: str) -> ModuleType:
    """Return a module of the package that is one of its public names.

    Raises:
        AttributeError: It is none.
    """
    if name not in ("models", "spool"):
        raise AttributeError(f"module {__package__!r} has no attribute {name!r}")
    with _threads.importing:
        return import_module(f"{__package__}.{name}")


class OwnState:
    """Gives each object a `state.State` of its own, as its attribute `_state`, when that is first read."""

    def __get__(self, instance: object, owner: type) -> "OwnState | State":
        """Make it; it is found without this from then on."""
        if instance is None:
            return self
        with _threads.importing:
            from .state import State

            own = vars(instance)
            if "_state" not in own:
                own["_state"] = State()
            state: State = own["_state"]
            return state

"""The settings of a framework's own configuration: which are the client's, and which the middleware's."""

import inspect
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from umami.errors import ValidationError
from umami.settings import Settings, environment_names

from ._web import Middleware

_OPTIONS: Final = frozenset(inspect.signature(Middleware).parameters) - {"app", "client"}
# By the names of the environment's variables, and by their own.
_SETTINGS: Final = {
    name: setting
    for setting in Settings.model_fields
    for name in (setting, *(each.removeprefix("UMAMI_").lower() for each in environment_names(setting)))
    if name != "disabled"
}


def split(config: Mapping[str, Any], also: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a framework's configuration into the client's settings and the middleware's options.

    Args:
        config: The values, by names such as `URL` or `EXCLUDE`: those of the environment's variables without
            `UMAMI_`, and those of the middleware's options, in capitals.
        also: More options that the integration has.

    Returns:
        The client's settings and the options, each by its own name.

    Raises:
        ValidationError: A name is unknown.
    """
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for given, value in config.items():
        name = str(given).lower()
        if name == "disabled":
            settings["enabled"] = not value
        elif name in _SETTINGS:
            settings[_SETTINGS[name]] = value
        elif name in _OPTIONS or name in also:
            options[name] = value
        else:
            known = [*_SETTINGS, *_OPTIONS, *also, "disabled"]
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0].upper()}?" if near else ""
            raise ValidationError(f"{given} is not a setting.{hint}")
    return settings, options

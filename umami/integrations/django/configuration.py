"""The setting `UMAMI`: what the client and the middleware take from it."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from umami.errors import ValidationError
from umami.integrations._config import split

_FUNCTIONS: Final = ("before_send", "on_error", "should_track", "title", "client_ip", "distinct_id")

# Nothing is sent with these. But sends ask for them, and tests are not to fail because they are missing.
_IN_TESTS: Final = {
    "url_base": "http://localhost",
    "website_id": "00000000-0000-0000-0000-000000000000",
    "hostname": "localhost",
}


def client_settings() -> dict[str, Any]:
    """Return the client's settings. Under `manage.py test` sending is disabled, unless they enable it.

    Raises:
        ImproperlyConfigured: `UMAMI` is not a dictionary, or has an unknown name.
    """
    found = _imported(_read()[0])
    if sys.argv[1:2] == ["test"] and "enabled" not in found:
        return {**_IN_TESTS, **found, "enabled": False}
    return found


def middleware_options() -> dict[str, Any]:
    """Return the middleware's options.

    Raises:
        ImproperlyConfigured: `UMAMI` is not a dictionary, or has an unknown name.
    """
    return _imported(_read()[1])


def _read() -> tuple[dict[str, Any], dict[str, Any]]:
    config = getattr(settings, "UMAMI", {})
    if not isinstance(config, Mapping):
        raise ImproperlyConfigured(
            "UMAMI must be a dictionary, such as {'URL': 'https://umami.example.com', 'WEBSITE_ID': '…'}."
        )
    try:
        return split(config, ("user_id",))
    except ValidationError as error:
        raise ImproperlyConfigured(f"UMAMI: {error}") from None


def _imported(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the functions that are given by their dotted names."""
    return {
        name: import_string(value) if name in _FUNCTIONS and isinstance(value, str) else value
        for name, value in values.items()
    }

"""The system checks: what is missing for events to be sent, and how to set it."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .configuration import middleware_options
from .middleware import UmamiMiddleware

_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
_IN_CODE = "If your code calls umami.configure(), add {} to SILENCED_SYSTEM_CHECKS."


def check(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:  # noqa: ARG001 - Django's signature
    """Return what is missing or wrong in the settings."""
    found: list[checks.CheckMessage] = []
    client = apps.get_app_config("umami").client_settings
    if client.enabled and client.exporter is None:
        if client.url_base is None and client.api_key is None:
            found.append(_missing("W001", "No Umami server is set", "URL", "https://umami.example.com"))
        if client.website_id is None:
            found.append(_missing("W002", "No website is set", "WEBSITE_ID", "978435e2-7ba1-4337-9860-…"))
        if client.hostname is None:
            found.append(_missing("W003", "No host name is set", "HOSTNAME", "example.com"))
    try:
        options = middleware_options()
        UmamiMiddleware(_answer)
    except (ImproperlyConfigured, ImportError) as error:
        found.append(checks.Error(str(error), id="umami.E001"))
        return found
    has_middleware = _has(UmamiMiddleware)
    if not has_middleware:
        found.append(
            checks.Warning(
                "The middleware is not in MIDDLEWARE: events do not know their visitor, and no page views "
                "are sent.",
                hint="Put 'umami.integrations.django.UmamiMiddleware' at the beginning of MIDDLEWARE.",
                id="umami.W004",
            )
        )
    elif options.get("user_id") is not None and not _has(import_string(_AUTHENTICATION)):
        found.append(
            checks.Error(
                "UMAMI['USER_ID'] is set, but no request has a user.",
                hint=f"Add '{_AUTHENTICATION}' to MIDDLEWARE, or remove UMAMI['USER_ID'].",
                id="umami.E002",
            )
        )
    return found


async def _answer(request: Any) -> Any:
    """Stand for what is behind the middleware. It is async, since async functions are valid under ASGI."""


def _missing(number: str, what: str, name: str, example: str) -> checks.CheckMessage:
    return checks.Warning(
        f"{what}: no event can be sent.",
        hint=f"Set UMAMI = {{'{name}': '{example}', …}}, or UMAMI_{name} in the environment. "
        + _IN_CODE.format(f"'umami.{number}'"),
        id=f"umami.{number}",
    )


def _has(wanted: type) -> bool:
    found = map(import_string, settings.MIDDLEWARE)
    return any(isinstance(each, type) and issubclass(each, wanted) for each in found)

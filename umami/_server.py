"""Which server a client's settings name, and the credential for it."""

import base64
from urllib.parse import unquote, urlsplit

from ._http.server import Server
from ._http.target import Target
from .errors import OperationNotAllowedError
from .settings import Settings


def server_of(settings: Settings, token: str | None, *, login: bool) -> Server:
    """Return where calls go.

    Args:
        settings: The client's settings.
        token: The token of a login at the server that they name, if there was one.
        login: Whether the call needs a credential.

    Raises:
        OperationNotAllowedError: No server, or no credential, is set.
    """
    own_key = _is_own_key(settings.api_key)
    if settings.api_key is not None and not own_key:
        return Server(None, api_key=settings.api_key, region=settings.region)
    if settings.url_base is None and own_key:
        raise OperationNotAllowedError(
            "An API key that begins with umami_ is a self-hosted server's, and never sent to Umami "
            "Cloud: set the server's URL with set_url_base()."
        )
    if settings.url_base is None:
        raise OperationNotAllowedError("Set a URL base with set_url_base() or call set_cloud_api_key().")
    credential = settings.api_key if own_key else token
    if login and credential is None:
        raise OperationNotAllowedError("Call login() or set_cloud_api_key() before proceeding.")
    url, basic = _without_user(settings.url_base)
    return Server(url, basic, credential, settings.api_key)


def home_of(settings: Settings) -> Target | None:
    """Return where events go by the settings alone, with the user and password of the URL."""
    if settings.url_base is None or (settings.api_key is not None and not _is_own_key(settings.api_key)):
        return None
    return Server(*_without_user(settings.url_base)).target


def is_local(url: str | None) -> bool:
    """Tell whether a URL names this machine."""
    host = urlsplit(url or "").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _is_own_key(api_key: str | None) -> bool:
    """Tell whether an API key belongs to a self-hosted server, Umami 3.4 and later."""
    return api_key is not None and api_key.startswith("umami_")


def _without_user(url: str) -> tuple[str, str | None]:
    """Split a URL with a user and password into the URL without them, which logs may show, and a header."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    encoded = base64.b64encode(unquote(user).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {encoded}"

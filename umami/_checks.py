"""Checks of the settings that take more than a type and bounds. No message shows a secret."""

import functools
import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from . import _tls as tls
from ._events import data as custom
from ._events.values import given
from ._proxy import parsed as parsed_proxy
from .errors import ValidationError

if TYPE_CHECKING:
    import ssl

# The paths of Umami's pages, script and routes below the base URL. A base path may contain `api`, so only
# known endings count.
_PAGE: Final = re.compile(
    r"/(?:api(?:/(?:send|batch|collect|heartbeat|me|config|version|auth/\w+|websites(?:/.*)?))?|script\.js"
    r"|umami\.js|login|logout|dashboard|(?:websites|settings|share|teams/[^/]+)(?:/.*)?)$",
    re.IGNORECASE,
)
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_ESCAPES: Final = "# as %23, / as %2F, ? as %3F, @ as %40, [ as %5B, ] as %5D"


def checked_url(url: str | None) -> str:
    """Return a base URL without trailing slashes and spaces.

    Raises:
        ValidationError: It is empty, or cannot be a server's base URL; the message shows no password.
    """
    if url is None or (isinstance(url, str) and not url.strip()):
        raise ValidationError("URL must not be empty.")
    if not isinstance(url, str) or not url.strip().startswith(("http://", "https://")):
        raise ValidationError("The url must start with the HTTP scheme (http:// or https://).")
    url = url.strip().rstrip("/").strip()
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValidationError("The url must not have blanks, backslashes or control characters in it.")
    scheme, _, rest = url.partition("://")
    account, at, _ = rest.rpartition("@")
    if at and re.search(r"[/?#\[\]]", account):
        raise ValidationError(
            f"The url's user name and password must have these characters percent-encoded: {_ESCAPES}."
        )
    try:
        parts = urlsplit(url)
        named = _is_host(parts.hostname or "") and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise ValidationError(
            "The url must name a host, like https://analytics.example.com or http://localhost:3000."
        )
    base = f"{scheme}://{parts.netloc.rpartition('@')[2]}{_PAGE.sub('', parts.path).rstrip('/')}"
    if "?" in url or "#" in url:
        raise ValidationError(f"The url must not have a query or a fragment: set it to {base}.")
    if _PAGE.search(parts.path):
        raise ValidationError(
            f"The url must not have the path of a page, a script or a route: set it to {base}."
        )
    return url


def checked_mirror(url: str) -> str:
    """Return the base URL of a mirror.

    Raises:
        ValidationError: It cannot be a server's base URL, or has a user or password.
    """
    base = checked_url(url)
    if "@" in base:
        raise ValidationError("The url of a collector must not have a user name or password in it.")
    return base


def _is_host(name: str) -> bool:
    """Tell whether a name could be looked up: each part of it has 1 to 63 characters."""
    return all(0 < len(part) < 64 for part in name.removesuffix(".").split("."))


def checked_api_key(key: str | None) -> str:
    """Return an API key without the spaces around it.

    Raises:
        ValidationError: It is empty, or cannot be sent.
    """
    if not isinstance(key, str) or not key.strip():
        raise ValidationError("API key must not be empty.")
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValidationError("API key must be of printable ASCII characters.")
    return key


def checked_region(region: str | None) -> str | None:
    """Return a Cloud region.

    Raises:
        ValidationError: It is neither 'us' nor 'eu' nor None.
    """
    if region not in (None, "us", "eu"):
        raise ValidationError("region must be 'us', 'eu', or None.")
    return region


def checked_version(version: Any) -> str:
    """Return a version of Umami.

    Raises:
        ValidationError: It is not two or more numbers with dots between them.
    """
    if not isinstance(version, str) or not _VERSION.fullmatch(version.strip()):
        raise ValidationError(f"server_version must be a version such as '2.19', got {given(version)}.")
    return version.strip()


def checked_common_data(data: Any) -> dict[str, Any]:
    """Return custom data as plain JSON values.

    Raises:
        ValidationError: It is not a mapping, or something in it cannot be encoded.
    """
    return custom.fit(data, lambda *_: None, field="data")


# How servers are reached.

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[ -~]*")
_MOST_HEADERS: Final = 64
_MOST_VALUE: Final = 8192
# Headers that the client or HTTP itself sets.
_RESERVED: Final = re.compile(
    r"content-.*|authorization|user-agent|x-umami-.*|host|connection|keep-alive|transfer-encoding|te|trailer"
    r"|upgrade|expect|proxy-.*|accept|accept-encoding",
    re.IGNORECASE,
)


def checked_headers(headers: Any) -> dict[str, str]:
    """Return extra request headers.

    Raises:
        ValidationError: One must not be set here, or cannot be sent. The message shows no value.
    """
    if not isinstance(headers, Mapping):
        raise ValidationError(f"it must be a dict of names and values, got {type(headers).__name__}.")
    if len(headers) > _MOST_HEADERS:
        raise ValidationError(f"at most {_MOST_HEADERS} can be set, got {len(headers)}.")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValidationError("a name may have letters, digits and -, like X-Access-Key.")
        if _RESERVED.fullmatch(name):
            raise ValidationError(f"{name} cannot be set here. {_instead(name.lower())}")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValidationError(f"the value of {name} must be a string of printable ASCII characters.")
        if len(value) > _MOST_VALUE:
            raise ValidationError(f"the value of {name} must have at most {_MOST_VALUE} characters.")
        checked[name] = value.strip()
    return checked


def _instead(name: str) -> str:
    if name == "authorization":
        return "Use login(), an API key, or a user and password in url_base."
    if name == "user-agent":
        return "Umami reads the visitor's browser from it: pass ua= to a send."
    if name.startswith("proxy-"):
        return "Put the proxy's user and password into the URL that proxy names."
    return "The client sets it, or must not send it."


def checked_verify(verify: Any) -> "bool | str | ssl.SSLContext":
    """Return which certificates are trusted.

    Raises:
        ValidationError: It is of another type, or its file cannot be read.
    """
    import ssl

    if isinstance(verify, os.PathLike):
        verify = os.fspath(verify)
    if isinstance(verify, (bool, ssl.SSLContext)):
        return verify
    if not isinstance(verify, str) or not verify.strip():
        raise ValidationError(
            "it must be True, False, an ssl.SSLContext, or the path of a file or folder of certificate "
            f"authorities, got {type(verify).__name__}."
        )
    path = os.path.abspath(os.path.expanduser(verify.strip()))  # noqa: PTH100, PTH111
    try:
        tls.of_authorities(path)
    except (OSError, ValueError) as error:
        raise ValidationError(f"no certificate authorities can be read from {path}: {error}.") from None
    return path


def checked_cert(cert: Any) -> "tuple[str, ...]":
    """Return the client's own certificate.

    Raises:
        ValidationError: It is of another form, or cannot be loaded. The message shows no password.
    """
    import ssl

    parts = (cert,) if isinstance(cert, (str, os.PathLike)) else cert
    if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 3:
        raise ValidationError("it must be a path, or (cert, key), or (cert, key, password).")
    if not all(isinstance(part, (str, os.PathLike)) and os.fspath(part) for part in parts):
        raise ValidationError("it must be a path, or (cert, key), or (cert, key, password).")
    files = [os.path.abspath(os.path.expanduser(os.fspath(part))) for part in parts[:2]]  # noqa: PTH100, PTH111
    loaded = (*files, *(str(part) for part in parts[2:]))
    try:
        tls.load_cert(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), loaded)
    except (OSError, ValueError) as error:
        raise ValidationError(
            f"the client certificate cannot be loaded from {' and '.join(files)}: {error}."
        ) from None
    return loaded


def checked_proxy(proxy: Any) -> str:
    """Return a proxy's URL.

    Raises:
        ValidationError: It is not a proxy's URL. The message does not repeat it.
    """
    if not isinstance(proxy, str):
        raise ValidationError(f"it must be a URL, got {type(proxy).__name__}.")
    try:
        parsed_proxy(proxy)
    except ValueError as error:
        raise ValidationError(f"it {error}.") from None
    return proxy.strip()


# The rest.


@functools.lru_cache(maxsize=64)  # A variable's relative path means the same folder after an os.chdir().
def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def checked_folder(path: Any) -> str:
    """Return a folder's absolute path.

    Raises:
        ValidationError: It is not a path.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
        raise ValidationError(f"it must be a folder's path, got {given(path)}.")
    return _absolute(os.fspath(path))


def checked_exporter(exporter: Any) -> Any:
    """Return an exporter.

    Raises:
        ValidationError: It is not one, or not complete.
    """
    from .queue.exporter import Exporter, Limits

    if isinstance(exporter, type):
        raise ValidationError(
            f"it must be an object, got the class {exporter.__name__}: pass {exporter.__name__}(…)."
        )
    if not isinstance(exporter, Exporter):
        raise ValidationError(
            f"it must be an object of a subclass of umami.exporters.Exporter, got {given(exporter)}."
        )
    name = getattr(exporter, "name", None)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValidationError(f"its name must be a printable string, got {given(name)}.")
    try:
        inspect.signature(exporter.export).bind([], None)
    except TypeError as error:
        raise ValidationError(f"its export() must take events and a deadline: {error}.") from None
    if not isinstance(exporter.limits, Limits):
        raise ValidationError(f"its limits must be an umami.exporters.Limits, got {given(exporter.limits)}.")
    return exporter

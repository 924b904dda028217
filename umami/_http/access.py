"""How servers are reached: the settings `headers`, `verify`, `cert` and `proxy`, and how each is checked."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from umami import _threads
from umami.errors import ValidationError

from . import proxies

if TYPE_CHECKING:
    import ssl

logger: Final = logging.getLogger("umami")

Verify: TypeAlias = "bool | str | ssl.SSLContext"
Cert: TypeAlias = "str | tuple[str, ...]"

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


@dataclass(frozen=True)
class Access:
    """How servers are reached.

    Attributes:
        headers: Extra headers of each request to the server itself.
        verify: Which certificates are trusted: True for those of the usual authorities, a path for those of
            the authorities in that file or folder, an `ssl.SSLContext` for what it says; False for all.
        cert: The client's own certificate: its file; or its file, its key's file and the key's password.
        proxy: The URL of the proxy; None for the one that the environment names.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: "Verify" = True
    cert: "Cert | None" = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)

    _contexts: "dict[str, ssl.SSLContext]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def context(self) -> "ssl.SSLContext":
        """Return the TLS context for servers. Loading the usual authorities takes some 20 ms of CPU."""
        if self.verify is False and "server" not in self._contexts:
            logger.warning(
                "verify=False: certificates are not checked, and whoever is between here and the server can "
                "read and change what is sent. Set verify to the file of your certificate authority instead."
            )
        return self._context("server", self.cert)

    def proxy_context(self) -> "ssl.SSLContext":
        """Return the TLS context for a proxy, which does not see the client's certificate."""
        return self._context("proxy", None)

    def _context(self, peer: str, cert: "Cert | None") -> "ssl.SSLContext":
        with _threads.importing:
            if peer not in self._contexts:
                self._contexts[peer] = _context(self.verify, cert)
            return self._contexts[peer]


class Current:
    """How servers are reached now: a change of settings replaces it, and each request reads it."""

    def __init__(self) -> None:
        self.access = Access()

    def __call__(self) -> Access:
        """Return it."""
        return self.access

    def change(self, access: Access) -> None:
        """Replace it if the new one differs: new connections are made then."""
        if access != self.access:
            self.access = access


def _context(verify: "Verify", cert: "Cert | None") -> "ssl.SSLContext":
    import ssl

    import httpx

    if isinstance(verify, str):
        folder = os.path.isdir(verify)  # noqa: PTH112
        context = ssl.create_default_context(
            cafile=None if folder else verify, capath=verify if folder else None
        )
    elif isinstance(verify, bool):
        try:
            context = httpx.create_ssl_context(verify=verify)
        except OSError as error:  # it names no file
            raise OSError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}") from error
    else:
        context = verify
    if cert is not None:
        # Without this, OpenSSL would ask for the password at the terminal.
        file, *more = (cert,) if isinstance(cert, str) else cert
        key, password = (*more, None, None)[:2]
        context.load_cert_chain(file, key, _no_password if password is None else password)
    return context


def _no_password() -> str:
    raise ValueError("its key has a password, which cert must hold: (cert, key, password)")


# The settings.


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


def checked_verify(verify: Any) -> "Verify":
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
        _context(path, None)
    except (OSError, ValueError) as error:
        raise ValidationError(f"no certificate authorities can be read from {path}: {error}.") from None
    return path


def checked_cert(cert: Any) -> "Cert":
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
        _context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), loaded)
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
        proxies.parsed(proxy)
    except ValueError as error:
        raise ValidationError(f"it {error}.") from None
    return proxy.strip()

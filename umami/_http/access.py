"""How servers are reached, as the settings say: extra headers, TLS contexts, the proxy."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from umami import _threads, _tls
from umami.settings import Settings

from .messages import log

if TYPE_CHECKING:
    import ssl


class Access:
    """How servers are reached, and the TLS contexts for that.

    Args:
        settings: Of these, `headers`, `verify`, `cert` and `proxy` count.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def headers(self) -> Mapping[str, str]:
        """Extra headers of each request to the server itself."""
        return self._settings.headers or {}

    @property
    def proxy(self) -> str | None:
        """The URL of the proxy; None for the one that the environment names."""
        return self._settings.proxy

    def is_same_with(self, settings: Settings) -> bool:
        """Tell whether servers are reached in the same way with other settings."""
        return all(
            getattr(settings, name) == getattr(self._settings, name)
            for name in ("headers", "verify", "cert", "proxy")
        )

    def context(self) -> "ssl.SSLContext":
        """Return the TLS context for servers. Loading the default authorities takes about 20 ms of CPU."""
        if self._settings.verify is False and "server" not in self._contexts:
            log(
                logging.WARNING,
                "verify=False: certificates are not checked, so anyone on the way to the server can read and "
                "change the data. Set verify to the file of your certificate authority instead.",
            )
        return self._context("server", with_cert=True)

    def proxy_context(self) -> "ssl.SSLContext":
        """Return the TLS context for a proxy, which does not see the client's certificate."""
        return self._context("proxy", with_cert=False)

    def _context(self, peer: str, *, with_cert: bool) -> "ssl.SSLContext":
        with _threads.importing:
            if peer not in self._contexts:
                self._contexts[peer] = self._new_context(with_cert=with_cert)
            return self._contexts[peer]

    def _new_context(self, *, with_cert: bool) -> "ssl.SSLContext":
        import ssl

        import httpx

        verify, cert = self._settings.verify, self._settings.cert
        if isinstance(verify, ssl.SSLContext):
            context = verify
        elif isinstance(verify, bool):
            try:
                context = httpx.create_ssl_context(verify=verify)
            except OSError as error:  # it names no file
                raise OSError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}") from error
        else:
            context = _tls.of_authorities(str(verify))
        if with_cert and cert is not None:
            _tls.load_cert(context, cast("tuple[str, ...]", cert))  # as it is once checked
        return context

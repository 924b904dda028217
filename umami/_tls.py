"""TLS: the authorities that are trusted, and the client's own certificate."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def of_authorities(path: str) -> "ssl.SSLContext":
    """Return a context that trusts the certificate authorities in a file or folder.

    Raises:
        OSError: It cannot be read.
    """
    import ssl

    folder = os.path.isdir(path)  # noqa: PTH112
    return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)


def load_cert(context: "ssl.SSLContext", cert: tuple[str, ...]) -> None:
    """Have a context show the client's own certificate.

    Args:
        context: What is to show it.
        cert: Its file; or its file, its key's file and the key's password.

    Raises:
        OSError: A file cannot be read.
        ValueError: The key has a password, which is not given.
    """
    file, *more = cert
    key, password = (*more, None, None)[:2]
    # Without a password, OpenSSL would ask for one at the terminal.
    context.load_cert_chain(file, key, _no_password if password is None else password)


def _no_password() -> str:
    raise ValueError("its key has a password, which cert must hold: (cert, key, password)")

"""Logs users in: there is one, and a token stays valid until it is revoked."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import Final

from umami.collector.replies import Json
from umami.collector.store import USER_ID

_SALT_BYTES: Final = 253
_SIGNATURE_BYTES: Final = 32


class Auth:
    """The collector's one user and the tokens issued to it.

    Args:
        username: The user's name.
        password: The user's password.
        created_at: When the user was created, as the API gives it.
    """

    def __init__(self, username: str, password: str, created_at: str) -> None:
        self._credentials = (username, password)
        self._key = secrets.token_bytes(32)
        self.user: Json = {
            "id": USER_ID,
            "username": username,
            "role": "admin",
            "createdAt": created_at,
            "isAdmin": True,
        }

    def login(self, username: str, password: str) -> str | None:
        """Issues a token, of the length of a real one; None if the credentials are wrong."""
        if (username, password) != self._credentials:
            return None
        salt = secrets.token_bytes(_SALT_BYTES)
        return base64.b64encode(salt + self._sign(salt)).decode()

    def is_valid(self, authorization: str) -> bool:
        """Whether an Authorization header holds a token. As in Umami, the scheme's name does not matter."""
        _, _, token = authorization.partition(" ")
        try:
            raw = base64.b64decode(token.partition(" ")[0], validate=True)
        except (binascii.Error, ValueError):
            return False
        salt, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        return len(salt) == _SALT_BYTES and hmac.compare_digest(signature, self._sign(salt))

    def revoke(self) -> None:
        """Makes every token issued so far invalid."""
        self._key = secrets.token_bytes(32)

    def _sign(self, salt: bytes) -> bytes:
        return hmac.digest(self._key, salt, "sha256")

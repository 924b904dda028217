"""Logins: there is one user, and its tokens stay valid until they are revoked.

The second factor follows the OpenAPI document of Umami's official client. It was not compared with a real
server. The document does not say how the partial token is sent. Here it is a Bearer token, like a full one.
"""

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


_WHOLE: Final = b"whole"
_PARTIAL: Final = b"partial"


class Auth:
    """The collector's one user and the tokens issued to it.

    Args:
        username: The user's name.
        password: The user's password.
        created_at: When the user was created, as the API gives it.
        second_factor: The code that a login also asks for; None for none.
        api_key: The user's API key; None for none.
    """

    def __init__(
        self,
        username: str,
        password: str,
        created_at: str,
        second_factor: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self._credentials = (username, password)
        self._second_factor = second_factor
        self._api_key = api_key
        self._key = secrets.token_bytes(32)
        self.user: Json = {
            "id": USER_ID,
            "username": username,
            "role": "admin",
            "createdAt": created_at,
            "isAdmin": True,
        }
        self.profile: Json = {**self.user, "teams": [], "userId": 1, "accountUuid": USER_ID}
        """All members that some version of Umami has in the answer to a login."""

    def login(self, username: str, password: str) -> Json | None:
        """Returns the answer to a login, without the user: a token, or a request for the second factor.

        None means that the credentials are wrong.
        """
        if (username, password) != self._credentials:
            return None
        if self._second_factor is not None:
            return {"requiresTwoFactor": True, "partialToken": self._issue(_PARTIAL)}
        return {"token": self._issue(_WHOLE)}

    def complete(self, authorization: str, code: object) -> Json | None:
        """Completes a login with its second factor. Returns None if the code or partial token is wrong."""
        if code != self._second_factor or not self._is_issued(_bearer(authorization), _PARTIAL):
            return None
        return {"token": self._issue(_WHOLE)}

    def is_valid(self, authorization: str, api_key: str = "") -> bool:
        """Whether an Authorization header holds a token. As in Umami, the scheme's name does not matter.

        Args:
            authorization: The header.
            api_key: The header that the Cloud also takes API keys in.
        """
        return self._is_issued(_bearer(authorization), _WHOLE) or self.is_api_key(authorization, api_key)

    def is_api_key(self, authorization: str, api_key: str = "") -> bool:
        """Whether one of the headers holds the user's API key."""
        return self._api_key is not None and self._api_key in (_bearer(authorization), api_key)

    def revoke(self) -> None:
        """Makes every token issued so far invalid."""
        self._key = secrets.token_bytes(32)

    def _issue(self, kind: bytes) -> str:
        """Returns a new token, as long as Umami's."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return base64.b64encode(salt + self._sign(kind, salt)).decode()

    def _is_issued(self, token: str, kind: bytes) -> bool:
        try:
            raw = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return False
        salt, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        return len(salt) == _SALT_BYTES and hmac.compare_digest(signature, self._sign(kind, salt))

    def _sign(self, kind: bytes, salt: bytes) -> bytes:
        return hmac.digest(self._key, kind + salt, "sha256")


def _bearer(authorization: str) -> str:
    _, _, token = authorization.partition(" ")
    return token.partition(" ")[0]

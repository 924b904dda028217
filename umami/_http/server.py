"""The server of a client's calls: its routes, and the credential that goes along."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import to_json

from .messages import USER_AGENT, Request
from .target import Target, batch_url, send_url

_CLOUD_DATA: Final = "https://api.umami.is/v1"
_TWO_CREDENTIALS: Final = (
    "url_base has a user and a password, and this call needs a token: one Authorization header cannot "
    "carry both. Let the proxy pass /api without a password, or have it check a header of its own, "
    "which the setting headers holds."
)


@dataclass(frozen=True)
class Server:
    """Where calls go, and with which credential: a self-hosted server, or Umami Cloud.

    Attributes:
        url_base: The self-hosted server's base URL; None in Cloud mode.
        basic: The `Authorization` of a proxy in front of it, if the URL named a user; else None.
        token: The login's token, if there is one.
        api_key: The Cloud API key, or a self-hosted server's, which is the token as well.
        region: The Cloud region.
    """

    url_base: str | None
    basic: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    region: str | None = None

    @property
    def cloud(self) -> bool:
        """Whether this is Umami Cloud."""
        return self.url_base is None

    @property
    def target(self) -> Target:
        """Where events go, with the credential that goes along.

        Umami takes events from anybody, so a proxy's credential goes rather than the login's token.
        """
        headers = {} if self.cloud else self._authorization(token=self.basic is None and self.api_key is None)
        url = send_url(self.url_base)
        return Target(url, batch_url(url), headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        credential: bool = True,
    ) -> Request:
        """Describe a request for a data route, given without its `/api`."""
        hint = ""
        if self.api_key is not None and self.cloud:
            region = f"/{self.region}" if self.region else ""
            url = f"{_CLOUD_DATA}{region}{path}"
            headers = {"x-umami-api-key": self.api_key}
        else:
            url = f"{self.url_base}/api{path}"
            headers = self._authorization(token=credential)
            if credential and self.token and self.basic:
                hint = _TWO_CREDENTIALS
        headers["User-Agent"] = USER_AGENT
        content = None
        if json is not None:
            headers["Content-Type"] = "application/json"
            content = to_json(json)
        return Request(method, url, headers, params, content, hint=hint, paced=self.cloud)

    def _authorization(self, *, token: bool = True) -> dict[str, str]:
        if token and self.token:
            return {"Authorization": f"Bearer {self.token}"}
        return {"Authorization": self.basic} if self.basic else {}


def quoted(part: str) -> str:
    """Return a text as one part of a path."""
    return quote(part, safe="")

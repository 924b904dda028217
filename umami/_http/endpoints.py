"""Each query and auth call, described once: its requests, and what its answers mean.

A call is a flow (see `messages.Flow`), which the sync and the async runner run alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import pydantic
from pydantic_core import to_json

from umami import models
from umami.errors import ResponseError, ValidationError
from umami.fields import VISITOR_LIMIT, given

from .messages import USER_AGENT, Flow, Request, exchange, json_of

M = TypeVar("M", bound=pydantic.BaseModel)

_CLOUD_DATA: Final = "https://api.umami.is/v1"
_CLOUD_EVENTS: Final = "https://cloud.umami.is"
_PAGE_SIZE: Final = 100
_MOST_PAGES: Final = 10_000
_BOTH: Final = (
    "url_base has a user and a password, and this call needs a token: one Authorization header cannot "
    "carry both. Let the proxy pass /api without a password, or have it check a header of its own, "
    "which the setting headers holds."
)
_NO_HEADER: Final = re.compile(r"[^ -~]")
_COUNT: Final[pydantic.TypeAdapter[int]] = pydantic.TypeAdapter(
    models.Total, config=pydantic.ConfigDict(defer_build=True)
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
    def send_url(self) -> str:
        """The route for one event."""
        return f"{_CLOUD_EVENTS if self.cloud else self.url_base}/api/send"

    @property
    def batch_url(self) -> str | None:
        """The route for many events; None where there is none."""
        return None if self.cloud else f"{self.url_base}/api/batch"

    @property
    def send_headers(self) -> dict[str, str]:
        """The credential that goes with events, which Umami takes from anybody: a proxy's goes first."""
        if self.cloud:
            return {}
        return self._authorization(token=self.basic is None and self.api_key is None)

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
                hint = _BOTH
        headers["User-Agent"] = USER_AGENT
        content = None
        if json is not None:
            headers["Content-Type"] = "application/json"
            content = to_json(json)
        return Request(method, url, headers, params, content, hint=hint)

    def _authorization(self, *, token: bool = True) -> dict[str, str]:
        if token and self.token:
            return {"Authorization": f"Bearer {self.token}"}
        return {"Authorization": self.basic} if self.basic else {}


def login(server: Server, username: str, password: str) -> Flow[models.LoginResponse]:
    """Exchange a user name and a password for a token."""
    account = {"username": username, "password": password}
    request = server.request("POST", "/auth/login", json=account, credential=False)
    response = yield from exchange(replace(request, private=True))
    return _parsed(models.LoginResponse, json_of(response, private=True), request)


def logout(server: Server) -> Flow[None]:
    """Tell the server to forget the token."""
    yield from exchange(server.request("POST", "/auth/logout"))


def verify_token(server: Server) -> Flow[bool]:
    """Ask whether the credential is valid; any trouble means no."""
    try:
        if server.cloud:
            body = json_of((yield from exchange(server.request("GET", "/me"))))
            return isinstance(body, dict) and ("user" in body or "username" in body)
        body = json_of((yield from exchange(server.request("POST", "/auth/verify"))))
        return isinstance(body, dict) and "username" in body
    except Exception:  # noqa: BLE001
        return False


def heartbeat(server: Server) -> Flow[bool]:
    """Ask whether the server is there; any trouble means no."""
    path = "/me" if server.cloud else "/heartbeat"
    try:
        response = yield from exchange(server.request("GET", path, credential=server.cloud))
        return isinstance(json_of(response), dict)
    except Exception:  # noqa: BLE001
        return False


def websites(server: Server) -> Flow[list[models.Website]]:
    """Read the websites page by page, until the server has no more."""
    found: dict[str, models.Website] = {}
    for page in range(1, _MOST_PAGES):
        request = server.request("GET", "/websites", params={"page": page, "pageSize": _PAGE_SIZE})
        response = yield from exchange(request)
        listing = _parsed(models.WebsitesResponse, json_of(response), request)
        before = len(found)
        found.update({website.id: website for website in listing.websites})
        # A server that does not page answers every page alike.
        if len(found) >= listing.count or len(found) == before:
            break
    return list(found.values())


def active_users(server: Server, website_id: str) -> Flow[int]:
    """Read how many visitors are on the website now."""
    request = server.request("GET", f"/websites/{quote(website_id, safe='')}/active")
    body = json_of((yield from exchange(request)))
    if not isinstance(body, dict):
        raise _unexpected(request, body)
    visitors = body["visitors"] if "visitors" in body else body.get("x")
    try:
        return _COUNT.validate_python(visitors)
    except pydantic.ValidationError as error:
        raise _unexpected(request, body, error) from None


def website_stats(
    server: Server, website_id: str, start_at: date, end_at: date, filters: Mapping[str, Any]
) -> Flow[models.WebsiteStats]:
    """Read a website's sums over a range of time."""
    params = {"startAt": milliseconds("start_at", start_at), "endAt": milliseconds("end_at", end_at)}
    if params["startAt"] > params["endAt"]:
        raise ValidationError(f"start_at must not be after end_at: {start_at} is after {end_at}.")
    params |= {name: value for name, value in filters.items() if value is not None}
    request = server.request("GET", f"/websites/{quote(website_id, safe='')}/stats", params=params)
    response = yield from exchange(request)
    return _parsed(models.WebsiteStats, json_of(response), request)


def send(server: Server, encoded: bytes, user_agent: str) -> Flow[dict[str, Any]]:
    """Post one event and return the server's answer."""
    agent = _NO_HEADER.sub("?", user_agent[:VISITOR_LIMIT]).strip()  # whole it is in the payload
    headers = {**server.send_headers, "User-Agent": agent, "Content-Type": "application/json"}
    response = yield from exchange(Request("POST", server.send_url, headers, content=encoded))
    answer: dict[str, Any] = json_of(response)
    return answer


def milliseconds(field: str, moment: Any) -> int:
    """Return a datetime, or a date's midnight, as epoch milliseconds; a naive one is local time."""
    if not isinstance(moment, datetime):
        if type(moment) is not date:
            raise ValidationError(f"{field} must be a datetime or a date, got {given(moment)}.")
        moment = datetime.combine(moment, datetime.min.time())
    try:
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise ValidationError(f"{field} is out of range: {error}.") from None


def _parsed(model: type[M], body: Any, request: Request) -> M:
    try:
        return model.model_validate(body)
    except pydantic.ValidationError as error:
        raise _unexpected(request, body, error) from None


def _unexpected(request: Request, body: Any, error: pydantic.ValidationError | None = None) -> ResponseError:
    """Say what is wrong with an answer without repeating it: it may hold a token."""
    if error is not None and isinstance(body, dict):
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"its {'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    else:
        what = f"a JSON {type(body).__name__} in place of an object"
    return ResponseError(f"{request.method} {request.url} did not answer as Umami does: {what}.")

"""Each query and auth call, described once: its requests, and what its answers mean.

A call is a flow (see `messages.Flow`), which the sync and the async runner run alike.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import pydantic
from pydantic_core import to_json

import umami.models as models  # noqa: PLR0402 - not by way of the package's __getattr__
from umami._events.values import given
from umami.errors import OperationNotAllowedError, ResponseError, ValidationError

from . import filters as filtering
from .answers import words
from .filters import Dialect
from .messages import USER_AGENT, Flow, Request, agent_header, json_of, secrets_of, without_secrets
from .target import Target, batch_url, send_url

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_CLOUD_DATA: Final = "https://api.umami.is/v1"
_PAGE_SIZE: Final = 100
_MOST_PAGES: Final = 10_000
_MOST_SERVERS: Final = 64
_TWO_CREDENTIALS: Final = (
    "url_base has a user and a password, and this call needs a token: one Authorization header cannot "
    "carry both. Let the proxy pass /api without a password, or have it check a header of its own, "
    "which the setting headers holds."
)
_NO_ROUTE: Final = frozenset((404, 405))
_OTP_LENGTH: Final = 6
# What Umami answers when the database refuses a query: since 2.16, and before.
_COULD_NOT_RUN: Final = frozenset((b"", b"Internal Server Error"))
_LATE: Final = pydantic.ConfigDict(defer_build=True)
_COUNT: Final[pydantic.TypeAdapter[int]] = pydantic.TypeAdapter(models.Total, config=_LATE)
_WEBSITES: Final[pydantic.TypeAdapter[list[models.Website]]] = pydantic.TypeAdapter(
    list[models.Website], config=_LATE
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
        return Request(method, url, headers, params, content, hint=hint)

    def _authorization(self, *, token: bool = True) -> dict[str, str]:
        if token and self.token:
            return {"Authorization": f"Bearer {self.token}"}
        return {"Authorization": self.basic} if self.basic else {}


def login(
    server: Server, username: str, password: str, code: str | None = None
) -> Flow[models.LoginResponse]:
    """Exchange a user name and a password, and a second factor where it is asked for, for a token."""
    request = server.request(
        "POST", "/auth/login", json={"username": username, "password": password}, credential=False
    )
    body = yield from _asked_in_private(request, [password])
    if isinstance(body, dict) and body.get("requiresTwoFactor"):
        partial = body.get("partialToken")
        if code is None:
            raise OperationNotAllowedError(
                "The account has a second factor: call login(username, password, code=...) with the code "
                "that its authenticator app shows now, or with one of its backup codes."
            )
        if not isinstance(partial, str):
            raise _unexpected(request, body)
        # From 3.2 or 3.3 on, by Umami's source and its OpenAPI document. It was not tried on a real server.
        answer = {"token" if len(code) == _OTP_LENGTH else "backupCode": code}
        request = server.request("POST", "/2fa/verify", json=answer, credential=False)
        request = replace(request, headers={**request.headers, "Authorization": f"Bearer {partial}"})
        body = yield from _asked_in_private(request, [password, code, partial])
    user = body.get("user") if isinstance(body, dict) else None
    if isinstance(user, dict) and "id" not in user and "userId" in user:
        raise ResponseError(
            f"{request.url} is the route of an Umami 1, which is too old for this client: upgrade the server."
        )
    return _parsed(models.LoginResponse.model_validate, body, request)


def logout(server: Server) -> Flow[None]:
    """Tell the server to forget the token."""
    yield from _asked(server.request("POST", "/auth/logout"))


def verify_token(server: Server) -> Flow[bool]:
    """Ask whether the credential is valid. Any failure means that it is not."""
    try:
        response = None
        if server.api_key is None:  # an API key has no access to /auth
            response = yield from _asked_if_there(server.request("POST", "/auth/verify"))
        if response is None:  # 2.16 and 2.17 have it for GET only; /me is everywhere since 2.0
            response = yield from _asked(server.request("GET", "/me"))
        body = json_of(response)
    except Exception:  # noqa: BLE001
        return False
    return isinstance(body, dict) and bool(body.get("user") or body.get("username"))


def heartbeat(server: Server) -> Flow[bool]:
    """Ask whether the server is there. Any failure means that it is not."""
    path = "/me" if server.cloud else "/heartbeat"
    try:
        response = yield from _asked(server.request("GET", path, credential=server.cloud))
        return isinstance(json_of(response), dict)
    except Exception:  # noqa: BLE001
        return False


def request(
    server: Server, method: str, path: str, params: Mapping[str, Any] | None, json: Any
) -> Flow["httpx.Response"]:
    """Make a request that the client has no function for."""
    return (yield from _asked(server.request(method, path, params=params, json=json)))


def websites(server: Server) -> Flow[list[models.Website]]:
    """Read the account's websites, then those of its teams.

    The parameter `includeTeams` is not enough, by the source of each generation: 2.10 to 2.20 ignore it, and
    3.0 to 3.3 list only the teams that the account owns or manages, and leave out `user`. The list of each
    team is complete, and exists since 2.0.
    """
    own = server.request("GET", "/websites")
    found = yield from _listed(own)
    teams = yield from _maybe_listed(server.request("GET", "/teams"))
    if teams is None:  # 2.10 to 2.20 have the second route only, 2.0 to 2.3 the first
        teams = yield from _maybe_listed(server.request("GET", "/me/teams"))
    for team in teams or ():
        for row in (yield from _listed(server.request("GET", f"/teams/{_quoted(team['id'])}/websites"))):
            # Before 2.10 a website belongs to its user, who may share it with a team.
            website = row.get("website")
            found.append(website if isinstance(website, dict) and isinstance(website.get("id"), str) else row)
    once: dict[str, dict[str, Any]] = {}
    for row in found:
        once.setdefault(row["id"], row)
    return _parsed(_WEBSITES.validate_python, list(once.values()), own)


def active_users(server: Server, website_id: str) -> Flow[int]:
    """Read how many visitors are on the website now."""
    request = server.request("GET", f"/websites/{_quoted(website_id)}/active")
    body = json_of((yield from _asked(request)))
    if isinstance(body, list) and len(body) == 1:  # before 2.12
        body = body[0]
    if not isinstance(body, dict):
        raise _unexpected(request, body)
    visitors = body["visitors"] if "visitors" in body else body.get("x")
    return _parsed(lambda _: _COUNT.validate_python(visitors), body, request)


def website_stats(
    server: Server,
    website_id: str,
    start_at: date,
    end_at: date,
    filters: Mapping[str, Any],
    dialects: MutableMapping[str, Dialect],
) -> Flow[models.WebsiteStats]:
    """Read a website's sums over a range of time.

    Args:
        server: Where.
        website_id: Which website.
        start_at: The first moment.
        end_at: The last moment.
        filters: The filters, by their names in 2.x; those that are None are left out.
        dialects: How servers are known to read a filter's value, by their URLs.
    """
    times = {"startAt": milliseconds("start_at", start_at), "endAt": milliseconds("end_at", end_at)}
    if times["startAt"] > times["endAt"]:
        raise ValidationError(f"start_at must not be after end_at: {start_at} is after {end_at}.")
    texts = filtering.checked(filters)
    website = f"/websites/{_quoted(website_id)}"
    known = server.url_base or ""
    dialect = None
    if filtering.need_a_dialect(texts):
        dialect = dialects.get(known) or (yield from _dialect(server, website))
    try:
        stats, is_2 = yield from _stats(server, website, times, texts, dialect)
        if dialect is not None and is_2 != (dialect is Dialect.V2):
            # It is another server than the one that was asked: it was upgraded, or a proxy answered for it.
            dialect = Dialect.V2 if is_2 else (yield from _dialect_of_3(server, website))
            stats, _ = yield from _stats(server, website, times, texts, dialect)
    except Exception:
        dialects.pop(known, None)
        raise
    if dialect is not None:
        if len(dialects) >= _MOST_SERVERS:
            dialects.clear()
        dialects[known] = dialect
    return stats


def _stats(
    server: Server, website: str, times: dict[str, int], filters: dict[str, str], dialect: Dialect | None
) -> Flow[tuple[models.WebsiteStats, bool]]:
    """Read the sums; tell also whether they came in the form of 2.x."""
    params = times | filtering.parameters(filters, dialect)
    request = server.request("GET", f"{website}/stats", params=params)
    body = json_of((yield from _asked(request, filters=filters)))
    stats = _parsed(models.WebsiteStats.model_validate, body, request)
    views = body["pageviews"]
    if "host" in filters and isinstance(views, dict) and "change" in views:
        raise ValidationError(
            "host cannot be used with this server: Umami before 2.12 ignores it, and answers for the whole "
            "website."
        )
    return stats, isinstance(views, dict)


def _dialect(server: Server, website: str) -> Flow[Dialect]:
    """Find out how a server reads a filter's value, from its configuration, which needs no credential."""
    if server.cloud:
        return Dialect.CLICKHOUSE
    request = server.request("GET", "/config", credential=False)
    response = yield from _asked_if_there(request)
    if response is None:  # 2.16 to 2.20
        return Dialect.V2
    config = json_of(response)
    if not isinstance(config, dict):
        raise _unexpected(request, config)
    if "privateMode" not in config:  # before 2.16
        return Dialect.V2
    if config.get("sessionDeletionEnabled") is False:  # 3.3 and later say so where the database is ClickHouse
        return Dialect.CLICKHOUSE
    if "sessionDeletionEnabled" in config or "currentVersion" in config:
        return Dialect.POSTGRESQL
    return (yield from _dialect_of_3(server, website))


def _dialect_of_3(server: Server, website: str) -> Flow[Dialect]:
    """Tell 3.0 from later versions by a route that it lacks; later ones answer 400 without dates."""
    request = server.request("GET", f"{website}/events/stats")
    response = yield request
    if response.status_code in _NO_ROUTE:
        return Dialect.V3_0
    if response.status_code != 400:
        _checked(request, response)
    return Dialect.POSTGRESQL


def send(server: Server, encoded: bytes, user_agent: str) -> Flow[dict[str, Any]]:
    """Post one event and return the server's answer."""
    agent = agent_header(user_agent)  # the payload has it in full
    target = server.target
    headers = {**target.headers, "User-Agent": agent, "Content-Type": "application/json"}
    response = yield from _asked(Request("POST", target.send_url, headers, content=encoded))
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


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _listed(request: Request) -> Flow[list[dict[str, Any]]]:
    """Read a list page by page; 2.0 to 2.4 answer with all of it at once."""
    return (yield from _maybe_listed(request, there=True)) or []


def _maybe_listed(request: Request, *, there: bool = False) -> Flow[list[dict[str, Any]] | None]:
    """Read a list; None if the server has no such route, unless it must be there."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(2):  # 3.x does not sort some lists: a row may be on two pages, and another on no page
        for page in range(1, _MOST_PAGES):
            of_page = replace(request, params={"page": page, "pageSize": _PAGE_SIZE})
            response = yield of_page
            if response.status_code in _NO_ROUTE and not there:
                return None
            body = json_of(_checked(of_page, response))
            if isinstance(body, list):
                body = {"data": body, "count": len(body)}
            listed = _parsed(_Page.model_validate, body, of_page)
            before = len(found)
            found.update({row["id"]: row for row in listed.data})
            # A server that does not page answers every page alike.
            if page * _PAGE_SIZE >= listed.count or len(found) == before:
                break
        if len(found) >= listed.count:
            break
    return list(found.values())


def _asked(
    request: Request, *, filters: Mapping[str, str] | None = None, secrets: Sequence[str] = ()
) -> Flow["httpx.Response"]:
    """Make one request, and return the response; see `_checked`."""
    return _checked(request, (yield request), filters=filters, secrets=secrets)


def _asked_if_there(request: Request) -> Flow["httpx.Response | None"]:
    """Make one request, and return the response; None if the server has no such route."""
    response = yield request
    return None if response.status_code in _NO_ROUTE else _checked(request, response)


def _asked_in_private(request: Request, secrets: Sequence[str]) -> Flow[Any]:
    """Make a request that holds a credential, and return the decoded body of the answer."""
    response = yield from _asked(replace(request, private=True), secrets=secrets)
    return json_of(response, private=True)


def _checked(
    request: Request,
    response: "httpx.Response",
    *,
    filters: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> "httpx.Response":
    """Return a response.

    Args:
        request: What was asked.
        response: The response.
        filters: The filters of a query, for the text of an error.
        secrets: What the text of an error must not show, whatever the server answers.

    Raises:
        httpx.HTTPStatusError: It is not a 2xx. The text has the server's own words.
    """
    try:
        response.raise_for_status()
    except Exception as error:
        error.args = (_status_text(request, response, filters, secrets),)
        raise
    return response


def _status_text(
    request: Request, response: "httpx.Response", filters: Mapping[str, str] | None, secrets: Sequence[str]
) -> str:
    """Return the text of an error about a response's status."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    text = f"{request.method} {response.request.url} answered {status}"
    own = [*secrets_of(request.headers, {}), request.headers.get("x-umami-api-key", "")]
    said = without_secrets(words(response.content) or "", own)
    if response.status_code == 500 and filters is not None and response.content in _COULD_NOT_RUN:
        listed = ", ".join(f"{name}={given(value)}" for name, value in filters.items())
        asked = (
            f"with the filters {listed}: check their values" if listed else "about that website: check its id"
        )
        return f"{text}: Umami could not run the query {asked}."
    if said and said not in status and not any(secret in said for secret in secrets):
        text = f"{text}: {said}"
    return f"{text}. {request.hint}" if request.hint and response.status_code == 401 else text


class _Page(models.Model):
    """A page of a list. Only the ids are checked here."""

    data: list[dict[str, Any]]
    count: int

    @pydantic.field_validator("data")
    @classmethod
    def _have_ids(cls, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not all(isinstance(row.get("id"), str) for row in rows):
            raise ValueError("a row has no id")
        return rows


def _parsed(validate: Callable[[Any], T], body: Any, request: Request) -> T:
    try:
        return validate(body)
    except pydantic.ValidationError as error:
        raise _unexpected(request, body, error) from None


def _unexpected(request: Request, body: Any, error: pydantic.ValidationError | None = None) -> ResponseError:
    """Say what is wrong with an answer without repeating it: it may hold a token."""
    if error is not None and isinstance(body, (dict, list)):
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"its {'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    else:
        what = f"a JSON {type(body).__name__} in place of an object"
    return ResponseError(f"{request.method} {request.url} did not answer as Umami does: {what}.")

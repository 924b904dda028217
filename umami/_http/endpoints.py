"""The calls about an account, described once: their requests, and what their answers mean.

A call is a flow (see `messages.Flow`), which the sync and the async runner run alike.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pydantic

import umami.models as models  # noqa: PLR0402 - not by way of the package's __getattr__
from umami.errors import OperationNotAllowedError, ResponseError

from .asking import asked, asked_if_there, asked_in_private, checked, lacks_route, parsed, unexpected
from .messages import Flow, Request, json_of
from .server import Server, quoted

_PAGE_SIZE: Final = 100
_MOST_PAGES: Final = 10_000
_OTP_LENGTH: Final = 6
_LATE: Final = pydantic.ConfigDict(defer_build=True)
_COUNT: Final[pydantic.TypeAdapter[int]] = pydantic.TypeAdapter(models.Total, config=_LATE)
_WEBSITES: Final[pydantic.TypeAdapter[list[models.Website]]] = pydantic.TypeAdapter(
    list[models.Website], config=_LATE
)


def login(
    server: Server, username: str, password: str, code: str | None = None
) -> Flow[models.LoginResponse]:
    """Exchange a user name and a password, and a second factor where it is asked for, for a token."""
    request = server.request(
        "POST", "/auth/login", json={"username": username, "password": password}, credential=False
    )
    body = yield from asked_in_private(request, [password])
    if isinstance(body, dict) and body.get("requiresTwoFactor"):
        partial = body.get("partialToken")
        if code is None:
            raise OperationNotAllowedError(
                "The account has a second factor: call login(username, password, code=...) with the code "
                "that its authenticator app shows now, or with one of its backup codes."
            )
        if not isinstance(partial, str):
            raise unexpected(request, body)
        # From 3.2 or 3.3 on, by Umami's source and its OpenAPI document. It was not tried on a real server.
        answer = {"token" if len(code) == _OTP_LENGTH else "backupCode": code}
        request = server.request("POST", "/2fa/verify", json=answer, credential=False)
        request = replace(request, headers={**request.headers, "Authorization": f"Bearer {partial}"})
        body = yield from asked_in_private(request, [password, code, partial])
    user = body.get("user") if isinstance(body, dict) else None
    if isinstance(user, dict) and "id" not in user and "userId" in user:
        raise ResponseError(
            f"{request.url} is the route of an Umami 1, which is too old for this client: upgrade the server."
        )
    return parsed(models.LoginResponse.model_validate, body, request)


def logout(server: Server) -> Flow[None]:
    """Tell the server to forget the token."""
    yield from asked(server.request("POST", "/auth/logout"))


def verify_token(server: Server) -> Flow[bool]:
    """Ask whether the credential is valid. Any failure means that it is not."""
    try:
        response = None
        if server.api_key is None:  # an API key has no access to /auth
            response = yield from asked_if_there(server.request("POST", "/auth/verify"))
        if response is None:  # 2.16 and 2.17 have it for GET only; /me is everywhere since 2.0
            response = yield from asked(replace(server.request("GET", "/me"), once=True))
        body = json_of(response)
    except Exception:  # noqa: BLE001
        return False
    return isinstance(body, dict) and bool(body.get("user") or body.get("username"))


def heartbeat(server: Server) -> Flow[bool]:
    """Ask whether the server is there. Any failure means that it is not."""
    path = "/me" if server.cloud else "/heartbeat"
    try:
        request = server.request("GET", path, credential=server.cloud)
        response = yield from asked(replace(request, once=True))
        return isinstance(json_of(response), dict)
    except Exception:  # noqa: BLE001
        return False


def websites(server: Server) -> Flow[list[models.Website]]:
    """Read the account's websites, then those of its teams.

    The parameter `includeTeams` is not enough, by the source of each generation: 2.10 to 2.20 ignore it, and
    3.0 to 3.3 list only the teams that the account owns or manages, and leave out `user`. The list of each
    team is complete, and exists since 2.0.
    """
    own = server.request("GET", "/websites")
    found = yield from _listed(own)
    # 2.10 to 2.20 have the second route only, 2.0 to 2.3 the first.
    teams = yield from listed(server, "/teams", "/me/teams")
    for team in teams or ():
        for row in (yield from _listed(server.request("GET", f"/teams/{quoted(team['id'])}/websites"))):
            # Before 2.10 a website belongs to its user, who may share it with a team.
            website = row.get("website")
            found.append(website if isinstance(website, dict) and isinstance(website.get("id"), str) else row)
    once: dict[str, dict[str, Any]] = {}
    for row in found:
        once.setdefault(row["id"], row)
    return parsed(_WEBSITES.validate_python, list(once.values()), own)


def active_users(server: Server, website_id: str) -> Flow[int]:
    """Read how many visitors are on the website now."""
    request = server.request("GET", f"/websites/{quoted(website_id)}/active")
    body = json_of((yield from asked(request)))
    if isinstance(body, list) and len(body) == 1:  # before 2.12
        body = body[0]
    if not isinstance(body, dict):
        raise unexpected(request, body)
    visitors = body["visitors"] if "visitors" in body else body.get("x")
    return parsed(lambda _: _COUNT.validate_python(visitors), body, request)


def _listed(request: Request) -> Flow[list[dict[str, Any]]]:
    """Read a list page by page; 2.0 to 2.4 answer with all of it at once."""
    return (yield from _maybe_listed(request, there=True)) or []


def listed(
    server: Server, *paths: str, params: Mapping[str, Any] | None = None
) -> Flow[list[dict[str, Any]] | None]:
    """Read a list from the first of some routes that the server has; None if it has none of them."""
    for path in paths:
        found = yield from _maybe_listed(server.request("GET", path, params=params))
        if found is not None:
            return found
    return None


def _maybe_listed(request: Request, *, there: bool = False) -> Flow[list[dict[str, Any]] | None]:
    """Read a list; None if the server has no such route, unless it must be there."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(2):  # 3.x does not sort some lists: a row may be on two pages, and another on no page
        for page in range(1, _MOST_PAGES):
            of_page = replace(
                request, params={**(request.params or {}), "page": page, "pageSize": _PAGE_SIZE}
            )
            response = yield of_page
            if lacks_route(response) and not there:
                return None
            body = json_of(checked(of_page, response))
            if isinstance(body, list):
                body = {"data": body, "count": len(body)}
            listed = parsed(_Page.model_validate, body, of_page)
            before = len(found)
            found.update({row["id"]: row for row in listed.data})
            # A server that does not page answers every page alike.
            if page * _PAGE_SIZE >= listed.count or len(found) == before:
                break
        if len(found) >= listed.count:
            break
    return list(found.values())


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

"""Single steps of a flow: make a request, and read its answer or raise the error that it stands for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pydantic

from umami.errors import ResponseError

from .answers import is_error, words
from .messages import Flow, Request, json_of, secrets_of, without_secrets

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

# What Umami answers when the database refuses a query: since 2.16, and before.
_COULD_NOT_RUN: Final = frozenset((b"", b"Internal Server Error"))


def asked(
    request: Request, *, filters: Mapping[str, str] | None = None, secrets: Sequence[str] = ()
) -> Flow["httpx.Response"]:
    """Make one request, and return the response; see `checked`."""
    return checked(request, (yield request), filters=filters, secrets=secrets)


def asked_if_there(request: Request) -> Flow["httpx.Response | None"]:
    """Ask for what is there if the server has the route; return the response, and None if it has not."""
    response = yield request
    return None if response.status_code in (404, 405) else checked(request, response)


def lacks_route(response: "httpx.Response") -> bool:
    """Tell whether an answer says that the server has no such route.

    A 404 with an error of Umami's own means that what the route is asked about is not there.
    """
    return response.status_code == 405 or (response.status_code == 404 and not is_error(response.content))


def asked_in_private(request: Request, secrets: Sequence[str]) -> Flow[Any]:
    """Make a request that holds a credential, and return the decoded body of the answer."""
    response = yield from asked(replace(request, private=True), secrets=secrets)
    return json_of(response, private=True)


def checked(
    request: Request,
    response: "httpx.Response",
    *,
    filters: Mapping[str, str] | None = None,
    crash: str | None = None,
    secrets: Sequence[str] = (),
) -> "httpx.Response":
    """Return a response.

    Args:
        request: What was asked.
        response: The response.
        filters: The filters of a query, for the text of an error; None if it is no query.
        crash: What an empty 500 most likely means, if it is no query by filters.
        secrets: What the text of an error must not show, whatever the server answers.

    Raises:
        httpx.HTTPStatusError: It is not a 2xx. The text has the server's own words.
    """
    if response.is_success:
        return response
    from umami._status_error import ResponseStatusError

    status = f"{response.status_code} {response.reason_phrase}".strip()
    text = f"{request.method} {response.request.url} answered {status}"
    own = [*secrets_of(request.headers, {}), request.headers.get("x-umami-api-key", "")]
    said: str | None = without_secrets(words(response.content) or "", own) or None
    if said is not None and any(secret in said for secret in secrets):
        said = None
    hint = None
    if filters is not None:
        listed = ", ".join(f"{name}={value}" for name, value in filters.items())
        crash = (
            f"with the filters {listed}: check their values" if listed else "about that website: check its id"
        )
        crash = f"Umami could not run the query {crash}."
    if response.status_code == 500 and crash is not None and response.content in _COULD_NOT_RUN:
        hint = crash
        text, said = f"{text}: {hint}", None
    else:
        if said and said not in status:
            text = f"{text}: {said}"
        if request.hint and response.status_code == 401:
            hint = request.hint
            text = f"{text}. {hint}"
    raise ResponseStatusError(
        text, request=response.request, response=response, code=_code(response), message=said, hint=hint
    )


def status_of(error: Exception) -> int | None:
    """Return the status of the answer that an error is about, if it is."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _code(response: "httpx.Response") -> str | None:
    """Return Umami's own code of an error: 3.x has one in its object, 2.x sends nothing but words."""
    try:
        error = response.json()["error"]
    except (ValueError, LookupError, TypeError):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and code.isprintable() else None


def parsed(validate: Callable[[Any], T], body: Any, request: Request) -> T:
    """Return an answer's decoded body as `validate` reads it.

    Raises:
        ResponseError: It has another form.
    """
    try:
        return validate(body)
    except pydantic.ValidationError as error:
        raise unexpected(request, body, error) from None


def unexpected(request: Request, body: Any, error: pydantic.ValidationError | None = None) -> ResponseError:
    """Say what is wrong with an answer without repeating it: it may hold a token."""
    if error is not None and isinstance(body, (dict, list)):
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"its {'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    else:
        what = f"a JSON {type(body).__name__} in place of an object"
    return ResponseError(f"{request.method} {request.url} did not answer as Umami does: {what}.")

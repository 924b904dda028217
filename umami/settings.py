"""Every setting of a client: its type, its bounds, its default, and its name in the environment."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, from_json

from ._events.fields import given
from ._http.access import checked_cert, checked_headers, checked_proxy, checked_verify
from .errors import ValidationError
from .models import ErrorReport

SERVER_BODY_LIMIT: Final = 10 * 1024 * 1024
"""The largest body, in bytes, that Umami reads; it answers a larger one as if it were broken JSON."""


# What a page of Umami, its script or one of its routes has after the base URL. A base path may hold an `api`
# of its own, so that only known ends count.
_PAGE: Final = re.compile(
    r"/(?:api(?:/(?:send|batch|collect|heartbeat|me|config|version|auth/\w+|websites(?:/.*)?))?|script\.js"
    r"|umami\.js|login|logout|dashboard|(?:websites|settings|share|teams/[^/]+)(?:/.*)?)$",
    re.IGNORECASE,
)
_ESCAPES: Final = "# as %23, / as %2F, ? as %3F, @ as %40, [ as %5B, ] as %5D"


def checked_url(url: str | None) -> str:
    """Return a base URL without trailing slashes and blanks.

    Raises:
        ValidationError: It is empty, or cannot be a server's base URL; the message shows no password.
    """
    if url is None or (isinstance(url, str) and not url.strip()):
        raise ValidationError("URL must not be empty.")
    if not isinstance(url, str) or not url.strip().startswith(("http://", "https://")):
        raise ValidationError("The url must start with the HTTP scheme (http:// or https://).")
    url = url.strip().rstrip("/").strip()
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValidationError("The url must not have blanks, backslashes or control characters in it.")
    scheme, _, rest = url.partition("://")
    account, at, _ = rest.rpartition("@")
    if at and re.search(r"[/?#\[\]]", account):
        raise ValidationError(
            f"The url's user name and password must have these characters percent-encoded: {_ESCAPES}."
        )
    try:
        parts = urlsplit(url)
        named = _is_host(parts.hostname or "") and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise ValidationError(
            "The url must name a host, like https://analytics.example.com or http://localhost:3000."
        )
    base = f"{scheme}://{parts.netloc.rpartition('@')[2]}{_PAGE.sub('', parts.path).rstrip('/')}"
    if "?" in url or "#" in url:
        raise ValidationError(f"The url must not have a query or a fragment: set it to {base}.")
    if _PAGE.search(parts.path):
        raise ValidationError(
            f"The url must not have the path of a page, a script or a route: set it to {base}."
        )
    return url


def _is_host(name: str) -> bool:
    """Tell whether a name could be looked up: a part of it has 1 to 63 characters."""
    return all(0 < len(part) < 64 for part in name.removesuffix(".").split("."))


def checked_api_key(key: str | None) -> str:
    """Return a Cloud API key without blanks around it.

    Raises:
        ValidationError: It is empty, or cannot be sent.
    """
    if not isinstance(key, str) or not key.strip():
        raise ValidationError("API key must not be empty.")
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValidationError("API key must be of printable ASCII characters.")
    return key


def checked_region(region: str | None) -> str | None:
    """Return a Cloud region.

    Raises:
        ValidationError: It is neither 'us' nor 'eu' nor None.
    """
    if region not in (None, "us", "eu"):
        raise ValidationError("region must be 'us', 'eu', or None.")
    return region


def _checks(check: Callable[[Any], Any]) -> AfterValidator:
    """Have pydantic run a check of ours, so that its refusal is told with the setting's name."""

    def checked(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except ValidationError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(checked)


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


NoFlag = BeforeValidator(_no_flag)
Seconds = Annotated[float, NoFlag, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, NoFlag, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, NoFlag, Field(ge=1)]


class Settings(BaseModel):
    """One client's settings, complete and checked. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where to, and who.
    url_base: Annotated[str | None, _checks(checked_url), Field(repr=False)] = None
    website_id: str | None = None
    hostname: str | None = None
    api_key: Annotated[str | None, _checks(checked_api_key), Field(repr=False)] = None
    region: Annotated[str | None, _checks(checked_region)] = None

    # Whether and how.
    enabled: bool = True
    mode: Literal["queued", "direct"] = "queued"

    # The queue's bounds: a burst of 100,000 typical events takes about 40 MB.
    queue_size: Count = 100_000
    queue_bytes: Count = 64 * 1024 * 1024
    overflow: Literal["drop_newest", "drop_oldest", "block"] = "drop_newest"
    block_timeout: Seconds = 5.0

    # Batches: the server takes about 10 ms an item in series, so 50 items are half a second of its time.
    batch_size: Count = 50
    batch_bytes: Annotated[int, NoFlag, Field(ge=1024, le=SERVER_BODY_LIMIT - 1024)] = 1024 * 1024
    flush_interval: Seconds = 0.5
    senders: Annotated[int | None, NoFlag, Field(ge=1, le=64)] = None

    # Patience: connecting and answering, the server's time an item, and the waits between attempts.
    timeout: PositiveSeconds = 10.0
    item_timeout: Seconds = 0.2
    retry_wait: PositiveSeconds = 0.5
    retry_wait_max: PositiveSeconds = 30.0
    retry_after_max: Seconds = 120.0
    retry_limit: Annotated[int | None, NoFlag, Field(ge=0)] = None
    item_retry_limit: Annotated[int, NoFlag, Field(ge=0)] = 3
    at_most_once: bool = False
    shutdown_timeout: Seconds = 10.0
    flush_on_sigterm: bool = False

    # The disk, for those who ask for it.
    spool: str | None = None
    spool_max_bytes: Count = 1024 * 1024 * 1024

    # How servers are reached.
    headers: Annotated[Any, _checks(checked_headers), Field(repr=False)] = None
    verify: Annotated[Any, _checks(checked_verify)] = True
    cert: Annotated[Any, _checks(checked_cert), Field(repr=False)] = None
    proxy: Annotated[Any, _checks(checked_proxy), Field(repr=False)] = None

    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    on_error: Callable[[ErrorReport], object] | None = None


# A URL may hold a password.
_SECRET: Final = frozenset({"api_key", "url_base", "headers", "cert", "proxy"})
_CODE_ONLY: Final = frozenset({"before_send", "on_error"})
_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "url_base": ("UMAMI_URL", "UMAMI_URL_BASE"),
    "enabled": ("UMAMI_DISABLED",),
}


def environment_names(setting: str) -> tuple[str, ...]:
    """Return the environment variables that set `setting`, the one that wins first."""
    if setting in _CODE_ONLY:
        return ()
    return _ENVIRONMENT.get(setting, (f"UMAMI_{setting.upper()}",))


def _from_environment() -> dict[str, tuple[str, str]]:
    """Return what the environment sets: the variable's name and its text, by setting. Blank is not set."""
    found = {}
    for setting in Settings.model_fields:
        for name in environment_names(setting):
            text = os.environ.get(name, "").strip()
            if text:
                found[setting] = (name, text)
                break
    return found


def resolve(code: Mapping[str, Any]) -> Settings:
    """Return the settings of code over those of the environment over the defaults.

    Args:
        code: What the program set. A value of None is a value: it unsets what the environment sets.

    Raises:
        ValidationError: A setting is unknown or not valid; the message names it, and the variable if
            it came from the environment.
    """
    merged: dict[str, Any] = {}
    names = {}
    for setting, (name, text) in _from_environment().items():
        if setting not in code:
            names[setting] = name
            decode = _DECODE.get(setting)
            merged[setting] = text if decode is None else decode(name, text)
    disabled = merged.pop("enabled", None)
    if disabled is not None:
        merged["enabled"] = not _boolean(disabled)
    merged.update(code)
    try:
        return Settings.model_validate(merged)
    except pydantic.ValidationError as error:
        raise ValidationError(_explain(error, merged, names)) from None


def _from_json(name: str, text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        raise ValidationError(f"{name} must be JSON.") from None


def _json_or_path(name: str, text: str) -> Any:
    return _from_json(name, text) if text.startswith("[") else text


def _boolean_or_path(name: str, text: str) -> Any:  # noqa: ARG001
    try:
        return pydantic.TypeAdapter(bool).validate_python(text)
    except pydantic.ValidationError:
        return text


_DECODE: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "headers": _from_json,
    "verify": _boolean_or_path,
    "cert": _json_or_path,
}


def _boolean(text: str) -> bool:
    try:
        return pydantic.TypeAdapter(bool).validate_python(text)
    except pydantic.ValidationError:
        raise ValidationError(f"UMAMI_DISABLED must be 1 or 0, got {text!r}.") from None


def _explain(error: pydantic.ValidationError, values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say in one sentence which setting is wrong, what it may be, and what was given."""
    first = error.errors(include_url=False)[0]
    setting = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{setting} is not a setting. The settings are: {known}."
    name = names.get(setting, setting)
    if first["type"] == "value_error":
        return f"{name}: {first['ctx']['error']}"
    rule = first["msg"].removeprefix("Input should be ")
    value = values[setting]
    shown = type(value).__name__ if setting in _SECRET else given(value)
    return f"{name} must be {rule}, got {shown}."

"""Every setting of a client: type, bounds, default, environment variable, and what it does.

`Settings` is the one definition: tables and help texts are made of it. `SettingsDict` repeats the names
and types for type checkers and editors, which cannot derive them.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self, TypedDict

from ._checks import (
    checked_api_key,
    checked_cert,
    checked_common_data,
    checked_exporter,
    checked_folder,
    checked_headers,
    checked_mirror,
    checked_proxy,
    checked_region,
    checked_url,
    checked_verify,
    checked_version,
)
from ._environment import Environment, boolean_or_path, from_json_text, json_or_path, read_environment
from ._events.values import given
from ._models import ErrorReport
from .errors import ValidationError

if TYPE_CHECKING:
    import ssl

    from tenacity import RetryCallState

    from .queue.exporter import Exporter

    Folder = str | os.PathLike[str]
    Wait = float | Callable[[RetryCallState], float]
    Stop = int | Callable[[RetryCallState], bool]
    Headers = Mapping[str, str]
    CommonData = Mapping[str, Any]
    Verify = bool | str | os.PathLike[str] | ssl.SSLContext
    Cert = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    Destination = Exporter
else:
    # Checked by functions, and not imported for pydantic to look at.
    Folder = Wait = Stop = Headers = CommonData = Verify = Cert = Destination = Any

F = TypeVar("F", bound=Callable[..., Any])

SERVER_BODY_LIMIT: Final = 10 * 1024 * 1024
"""The largest body, in bytes, that Umami reads; it answers a larger one as if it were broken JSON."""


def _checks(check: Callable[[Any], Any], *, optional: bool = True) -> AfterValidator:
    """Have pydantic run one of our checks, so that the message names the setting."""

    def checked(value: Any) -> Any:
        try:
            return None if optional and value is None else check(value)
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
Limit = Annotated[int, NoFlag, Field(ge=0)]


def _or_strategy(number: Any, kind: str) -> PlainValidator:
    """Accept a number, or a strategy of tenacity: any function of a `RetryCallState`."""

    def checked(value: Any) -> Any:
        if callable(value) and not isinstance(value, type):
            return value
        try:
            return pydantic.TypeAdapter(number).validate_python(value)  # built here, as it is rarely needed
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] in ("greater_than", "greater_than_equal", "finite_number"):
                raise PydanticCustomError("number", first["msg"]) from None
            raise PydanticCustomError("strategy", "Input should be {kind}", {"kind": kind}) from None

    return PlainValidator(checked)


CODE_ONLY: Final = Environment(names=())


class Settings(BaseModel):
    """One client's settings, complete and checked. Times are in seconds, sizes in bytes.

    `repr=False` marks what may hold a secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where to, and who.
    url_base: Annotated[
        str | None, _checks(checked_url), Environment(names=("UMAMI_URL", "UMAMI_URL_BASE"))
    ] = Field(None, repr=False, description="A self-hosted server.")
    website_id: str | None = Field(None, description="The website, for calls that do not name one.")
    hostname: str | None = Field(None, description="The site's host name, for sends that do not name one.")
    api_key: Annotated[str | None, _checks(checked_api_key)] = Field(
        None,
        repr=False,
        description="An API key: of Umami Cloud, which is then used, or of a self-hosted server (`umami_…`).",
    )
    region: Annotated[str | None, _checks(checked_region)] = Field(
        None, description="`us` or `eu`, for Umami Cloud."
    )
    server_version: Annotated[str | None, _checks(checked_version)] = Field(
        None, description="The server's version for queries, such as `2.19`; unset: the client finds it out."
    )

    common_data: Annotated[
        CommonData | None, _checks(checked_common_data), Environment(decode=from_json_text, form="JSON")
    ] = Field(None, description="Custom data of every event; the event's own keys win. Page views have none.")

    # Whether and how.
    enabled: Annotated[bool, Environment(names=("UMAMI_ENABLED", "UMAMI_DISABLED"))] = Field(
        True,
        description="Send events; if off, sends only check their arguments. "
        "If both variables are set, off wins.",
    )
    mode: Literal["queued", "direct"] = Field(
        "queued", description="`queued`, or `direct`: each send makes a request."
    )

    # The queue's bounds: a burst of 100,000 typical events takes about 40 MB.
    queue_size: Count = Field(100_000, description="Maximum number of events in the queue.")
    queue_bytes: Count = Field(
        64 * 1024 * 1024, description="Maximum size of the events in the queue, in bytes."
    )
    overflow: Literal["drop_newest", "drop_oldest", "block"] = Field(
        "drop_newest",
        description="What a full queue does: `drop_newest`, `drop_oldest` or `block`.",
    )
    block_timeout: Seconds = Field(5.0, description='How long a send waits for room with `overflow="block"`.')

    # Batches: the server takes about 10 ms an item in series, so 50 items are half a second of its time.
    batch_size: Count = Field(
        50,
        description="Maximum number of events in a request, at most 500; Umami needs about 10 ms for each.",
    )
    batch_bytes: Annotated[int, NoFlag, Field(ge=1024, le=SERVER_BODY_LIMIT - 1024)] = Field(
        1024 * 1024, description="Maximum size of a request, in bytes; Umami reads at most 10 MiB."
    )
    flush_interval: Seconds = Field(0.5, description="How long an event waits for its batch to fill.")
    senders: Annotated[int, NoFlag, Field(ge=1, le=64)] | None = Field(
        None,
        description="Maximum number of sender threads, started as needed. Unset: 2, or 8 without batches.",
    )

    # Patience: connecting and answering, the server's time an item, and the waits between attempts.
    timeout: PositiveSeconds = Field(
        10.0, description="Time to connect, and for an answer; for a query or a direct send, both together."
    )
    query_timeout: PositiveSeconds = Field(
        60.0, description="Time for a query in total, including its retries."
    )
    item_timeout: Seconds = Field(0.2, description="Added to `timeout` for each event of a batch.")
    retry_wait: Annotated[Wait, _or_strategy(PositiveSeconds, "seconds or a tenacity wait")] = Field(
        0.5, description="The first backoff; it doubles with each failure. In code, also a tenacity wait."
    )
    retry_wait_max: PositiveSeconds = Field(30.0, description="The longest backoff.")
    retry_after_max: Seconds = Field(120.0, description="The longest `Retry-After` that is obeyed.")
    retry_limit: Annotated[Stop | None, _or_strategy(Limit | None, "a number or a tenacity stop")] = Field(
        None,
        description="Drop events after so many failed retries; unset: never. In code, also a tenacity stop.",
    )
    max_event_age: PositiveSeconds | None = Field(
        None, description="Drop events that are older than this, instead of sending them; unset: never."
    )
    item_retry_limit: Limit = Field(
        3,
        description="Retries for an event that fails for an unclear reason while others are accepted.",
    )
    at_most_once: bool = Field(
        False, description="Drop events that may have been stored, instead of sending them again."
    )
    shutdown_timeout: Seconds = Field(10.0, description="How long the process waits for deliveries at exit.")
    flush_on_sigterm: bool = Field(
        False, description="Flush on SIGTERM, before the signal takes effect; set it in the main thread."
    )

    # The disk, for those who ask for it.
    spool: Annotated[Folder | None, _checks(checked_folder)] = Field(
        None, description="A folder that keeps events on disk; unset: memory only."
    )
    spool_max_bytes: Count = Field(1024 * 1024 * 1024, description="Maximum size of the spool, in bytes.")
    spool_sync: Literal["never", "interval", "always"] = Field(
        "never", description="When the spool is synced to disk: `never`, `interval` or `always`."
    )
    spool_sync_interval: PositiveSeconds = Field(
        0.5, description='The time between syncs, with `spool_sync="interval"`.'
    )
    spool_required: bool = Field(
        True, description="If the spool cannot be used, raise an error; if off, warn and use memory only."
    )
    rejected: Annotated[Folder | None, _checks(checked_folder)] = Field(
        None,
        description="A folder that keeps rejected events as JSON lines; `umami spool send` sends them again.",
    )

    mirror: Annotated[str | None, _checks(checked_mirror)] = Field(
        None,
        description="The URL of a collector that gets a copy of what is delivered, best effort.",
    )

    # How servers are reached.
    headers: Annotated[
        Headers | None, _checks(checked_headers), Environment(decode=from_json_text, form="JSON")
    ] = Field(
        None, repr=False, description="Extra request headers, such as for a gateway in front of the server."
    )
    verify: Annotated[
        Verify, _checks(checked_verify, optional=False), Environment(decode=boolean_or_path)
    ] = Field(
        True,
        description="A file or folder of certificate authorities, an `ssl.SSLContext`, or `False`: no check.",
    )
    cert: Annotated[Cert | None, _checks(checked_cert), Environment(decode=json_or_path)] = Field(
        None,
        repr=False,
        description="A client certificate: a path, `(cert, key)` or `(cert, key, password)`.",
    )
    proxy: Annotated[str | None, _checks(checked_proxy)] = Field(
        None,
        repr=False,
        description="The proxy's URL; unset: from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.",
    )

    # Code only.
    before_send: Annotated[Callable[[dict[str, Any]], Mapping[str, Any] | None] | None, CODE_ONLY] = Field(
        None, description="`payload -> payload or None`: change an event, or drop it."
    )
    on_error: Annotated[Callable[[ErrorReport], object] | None, CODE_ONLY] = Field(
        None, description="Called with an `umami.models.ErrorReport` when events are rejected or dropped."
    )
    exporter: Annotated[Destination | None, _checks(checked_exporter), CODE_ONLY] = Field(
        None, description="Takes the batches in place of Umami: an `umami.exporters.Exporter`."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.exporter is not None and self.mode == "direct":
            raise ValueError("mode must be 'queued' with an exporter, which takes batches; got 'direct'.")
        if self.mirror is not None and self.mirror == self.url_base:
            raise ValueError(
                "mirror must be another server than url_base, which would store each event twice."
            )
        return self


class SettingsDict(TypedDict, total=False):
    """The settings as `configure` and `Client` take them; `Settings` describes them."""

    url_base: str | None
    website_id: str | None
    hostname: str | None
    api_key: str | None
    region: str | None
    server_version: str | None
    common_data: CommonData | None
    enabled: bool
    mode: Literal["queued", "direct"]
    queue_size: int
    queue_bytes: int
    overflow: Literal["drop_newest", "drop_oldest", "block"]
    block_timeout: float
    batch_size: int
    batch_bytes: int
    flush_interval: float
    senders: int | None
    timeout: float
    query_timeout: float
    item_timeout: float
    retry_wait: Wait
    retry_wait_max: float
    retry_after_max: float
    retry_limit: Stop | None
    max_event_age: float | None
    item_retry_limit: int
    at_most_once: bool
    shutdown_timeout: float
    flush_on_sigterm: bool
    spool: Folder | None
    spool_max_bytes: int
    spool_sync: Literal["never", "interval", "always"]
    spool_sync_interval: float
    spool_required: bool
    rejected: Folder | None
    mirror: str | None
    headers: Headers | None
    verify: Verify
    cert: Cert | None
    proxy: str | None
    before_send: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None
    on_error: Callable[[ErrorReport], object] | None
    exporter: Destination | None


@functools.cache
def _environments() -> dict[str, Environment]:
    """Return how the environment sets each setting."""
    return {
        name: next((each for each in field.metadata if isinstance(each, Environment)), Environment())
        for name, field in Settings.model_fields.items()
    }


def environment_names(setting: str) -> tuple[str, ...]:
    """Return the environment variables that set `setting`, the one that wins first."""
    return _environments()[setting].names_of(setting)


def environment_form(setting: str) -> str:
    """Return what the text of a variable must be, where that is not plain: `JSON`, say."""
    return _environments()[setting].form


def disabled_by_environment() -> bool:
    """Tell whether the environment turns sending off, whatever the program says."""
    _, enabled = read_environment(_environments()).get("enabled", ("", True))
    return not enabled


def is_secret(setting: str) -> bool:
    """Tell whether a setting may hold a secret: a URL, say, may hold a password."""
    return not Settings.model_fields[setting].repr


def resolve(code: Mapping[str, Any]) -> Settings:
    """Return the settings of code over those of the environment over the defaults.

    Args:
        code: What the program set. A value of None is a value: it unsets what the environment sets.

    Raises:
        ValidationError: A setting is unknown or not valid; the message names it, and the variable if
            it came from the environment.
    """
    values: dict[str, Any] = dict(code)
    names = {}
    for setting, (name, value) in read_environment(_environments()).items():
        if setting not in code:
            names[setting], values[setting] = name, value
    try:
        return Settings.model_validate(values)
    except pydantic.ValidationError as error:
        raise ValidationError(_explain(error, values, names)) from None


def _explain(error: pydantic.ValidationError, values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say in one sentence which setting is wrong, what it may be, and what was given."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # settings that do not agree
        return str(first["ctx"]["error"])
    setting = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{setting} is not a setting. The settings are: {known}."
    name = names.get(setting, setting)
    if first["type"] == "value_error":
        return f"{name}: {first['ctx']['error']}"
    rule = first["msg"].removeprefix("Input should be ")
    value = values[setting]
    shown = type(value).__name__ if is_secret(setting) else given(value)
    if value is None:
        shown += f"; leave it out for the default, {Settings.model_fields[setting].default}"
    return f"{name} must be {rule}, got {shown}."


def shown(settings: Settings) -> str:
    """Return the settings that are not the defaults, for a log: without secrets."""
    parts = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if value != field.default:
            parts.append(f"{name}={'***' if is_secret(name) else given(value)}")
    return ", ".join(parts) or "none"


def default_of(setting: str) -> str | None:
    """Return a setting's default as the tables write it; None if it has none."""
    default = Settings.model_fields[setting].default
    return None if default is None else str(default)


def with_settings(function: F) -> F:
    """Describe every setting in a docstring, below the line of `**settings`."""
    if function.__doc__ is None:
        return function  # python -OO
    lines = inspect.cleandoc(function.__doc__).splitlines()
    at = next(index for index, line in enumerate(lines) if line.lstrip().startswith("**settings:")) + 1
    indent = " " * 8
    table = []
    for name, field in Settings.model_fields.items():
        default = default_of(name)
        table.append(
            f"{indent}{name}: {field.description}{'' if default is None else f' Default: {default}.'}"
        )
    function.__doc__ = "\n".join((*lines[:at], *table, *lines[at:]))
    return function

"""Faults by HTTP: the body of ``POST /collector/faults``, and how faults are listed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Protocol

import pydantic
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from umami.collector.faults import Fault
from umami.collector.replies import Json

_Name = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
_Value = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e]*$")]


class Faulty(Protocol):
    """What is asked of a `Collector` here."""

    @property
    def fail(self) -> Callable[..., Fault]:
        """Makes the next requests fail."""

    def clear_faults(self) -> None:
        """Ends all faults."""

    def thaw(self) -> None:
        """Lets frozen requests go on."""

    def database_away(self) -> None:
        """Makes the server lose its database."""

    def database_back(self) -> None:
        """Makes the server find its database again."""


class WrongFaultError(Exception):
    """The body is not as it must be. The message says why."""


class _New(BaseModel):
    """The arguments of `Collector.fail`, as JSON."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[int, Field(ge=200, le=599)] | None = 503
    times: Annotated[int, Field(ge=1)] | None = 1
    path: str | None = None
    headers: dict[_Name, _Value] | None = None
    body: Any = None
    delay: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    freeze: bool = False
    cut: Literal["before", "after", "body"] | None = None
    store: bool = False
    items: dict[int, Json] | None = None


class _Other(BaseModel):
    """What can be asked for in place of a new fault."""

    model_config = ConfigDict(extra="forbid")

    clear: Literal[True] | None = None
    thaw: Literal[True] | None = None
    database: Literal["away", "back"] | None = None


_OTHER: Final = frozenset(_Other.model_fields)


def change(collector: Faulty, body: bytes) -> None:
    """Does what a request asks for.

    Args:
        collector: Whose faults to change.
        body: The arguments of `Collector.fail`, as a JSON object; or ``{"clear": true}``,
            ``{"thaw": true}``, ``{"database": "away"}`` or ``{"database": "back"}``.

    Raises:
        WrongFaultError: The body is none of these.
    """
    try:
        asked = pydantic.TypeAdapter(dict[str, Any]).validate_json(body or b"{}")
        if not _OTHER.isdisjoint(asked):
            _do(collector, _Other.model_validate(asked))
            return
        new = _New.model_validate(asked).model_dump()
        collector.fail(**new)
    except pydantic.ValidationError as error:
        raise WrongFaultError("; ".join(map(_words, error.errors(include_url=False)))) from None
    except ValueError as error:
        raise WrongFaultError(str(error)) from None


def _do(collector: Faulty, asked: _Other) -> None:
    if asked.clear:
        collector.clear_faults()
        collector.thaw()
        collector.database_back()
    if asked.thaw:
        collector.thaw()
    if asked.database == "away":
        collector.database_away()
    elif asked.database == "back":
        collector.database_back()


def _words(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    return re.sub("^: ", "", f"{where}: {error['msg']}")


def describe(fault: Fault) -> Json:
    """Returns a fault for a list of them."""
    return {"what": fault.describe(), "path": fault.path, "times": fault.times, "hits": fault.hits}

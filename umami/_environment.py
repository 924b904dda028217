"""How environment variables become settings: which set which, how their text is read, and misspelt ones."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pydantic
from pydantic_core import from_json

from ._events.values import given
from .errors import ValidationError

_logger: Final = logging.getLogger("umami")

# Environment variables that begin like ours, and are not settings: Kubernetes sets this one beside a service.
_OTHERS: Final = frozenset({"UMAMI_PORT"})
_looked_at: Final[set[str]] = set()


@dataclass(frozen=True)
class Environment:
    """How the environment sets a setting, where that is not simply by `UMAMI_` and its name.

    Attributes:
        names: The variables, the one that wins first; empty if only code sets it.
        decode: Called with the variable's name and its text; returns the value.
        form: What the text is, where that is not plain.
    """

    names: tuple[str, ...] | None = None
    decode: Callable[[str, str], Any] | None = None
    form: str = ""

    def names_of(self, setting: str) -> tuple[str, ...]:
        """Return the variables that set `setting`, the one that wins first."""
        return (f"UMAMI_{setting.upper()}",) if self.names is None else self.names


# How a variable's text is read: each takes the variable's name, for the error, and its text.


def from_json_text(name: str, text: str) -> Any:
    """Read JSON."""
    try:
        return from_json(text)
    except ValueError:
        raise ValidationError(f"{name} must be JSON.") from None


def json_or_path(name: str, text: str) -> Any:
    """Read a JSON array; any other text is a path."""
    return from_json_text(name, text) if text.startswith("[") else text


def boolean_or_path(name: str, text: str) -> Any:  # noqa: ARG001
    """Read a boolean; any other text is a path."""
    try:
        return pydantic.TypeAdapter(bool).validate_python(text)
    except pydantic.ValidationError:
        return text


def _boolean(name: str, text: str) -> bool:
    try:
        return pydantic.TypeAdapter(bool).validate_python(text)
    except pydantic.ValidationError:
        raise ValidationError(f"{name} must be 1 or 0, got {given(text)}.") from None


def read_environment(environments: Mapping[str, Environment]) -> dict[str, tuple[str, Any]]:
    """Return what the environment sets: the variable's name and its value, by setting. Blank is not set.

    Args:
        environments: How the environment sets each setting.

    Raises:
        ValidationError: A variable's text cannot be read.
    """
    texts = {name: text.strip() for name, text in os.environ.items() if name.startswith("UMAMI_")}
    found: dict[str, tuple[str, Any]] = {}
    if not texts:
        return found
    known: list[str] = []
    for setting, environment in environments.items():
        names, decode = environment.names_of(setting), environment.decode
        known += names
        for name in names:
            if text := texts.get(name):
                if setting == "enabled":
                    value = _boolean(name, text) is (name == "UMAMI_ENABLED")
                    if setting not in found or not value:  # the one that disables wins
                        found[setting] = (name, value)
                    continue
                found[setting] = (name, text if decode is None else decode(name, text))
                break
    _warn_of_unknown(texts.keys() - set(known) - _OTHERS, known)
    return found


def _warn_of_unknown(names: Iterable[str], known: Sequence[str]) -> None:
    """Name variables that look like misspelt ones of ours, each once."""
    for name in set(names) - _looked_at:
        _looked_at.add(name)
        near = min(known, key=lambda each: _edits(name, each))
        if _edits(name, near) <= 2 and name.isprintable():
            _logger.warning("The environment variable %s has no effect. Did you mean %s?", name, near)


def _edits(one: str, other: str) -> int:
    """Count the letters to insert, delete, replace, or swap with a neighbour, between two names."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and wanted == one[i - 2]:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return row[-1]

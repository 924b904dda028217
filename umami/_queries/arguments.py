"""What several queries check of their arguments."""

from collections.abc import Iterable
from typing import Any, get_args

from umami._events.fields import text
from umami._events.values import given
from umami.errors import ValidationError


def camel(name: str) -> str:
    """Return Umami's own name of a field."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def one_of(field: str, value: Any, kinds: Any) -> str:
    """Return a value, which must be one of a Literal's."""
    known = get_args(kinds)
    if value not in known:
        raise ValidationError(f"{field} must be one of {', '.join(known)}, got {given(value)}.")
    return str(value)


def text_or_none(field: str, value: Any) -> str | None:
    """Return a value, which must be a text or None."""
    return None if value is None else text(field, value)


def several(field: str, value: Any) -> list[Any]:
    """Return the members of a value, which must be a list or the like."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValidationError(f"{field} must be a list, got {given(value)}.")
    return list(value)


def whole(field: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number, which must be within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise ValidationError(f"{field} must be a whole number {bounds}, got {given(value)}.")
    return value

"""How a filter of a query is named and written, so that each Umami takes its value literally.

In a filter's value Umami reads operators, and each generation its own: 2.x the prefixes `!`, `~` and `!~`,
3.x `eq.`, `c.` and others before a dot, and from 3.1 on a comma between alternatives. A user's value must not
be read as one of them: `t.co` is a referrer, not "true".
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from umami._events.fields import given, text
from umami.errors import ValidationError

# 2.x and 3.x name some filters differently, and each ignores the other's names: so both are sent.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {"url": ("url", "path"), "host": ("host", "hostname")}
# The operators of every 3.x. The pattern with which it looks for them does not go over the end of a line.
_OPERATOR: Final = re.compile(r"(?:eq|neq|s|ns|c|dnc|re|nre|t|f|gt|lt|gte|lte|bf|af)\.[^\n\r\u2028\u2029]*\Z")
_LINE_END: Final = re.compile("[\n\r\u2028\u2029]")


class Dialect(Enum):
    """What a server reads in a filter's value."""

    V2 = "Umami 2"
    V3_0 = "Umami 3.0"
    POSTGRESQL = "Umami 3.1 or later"
    CLICKHOUSE = "Umami 3.1 or later on ClickHouse"


def checked(filters: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters that are given, their values as text.

    Raises:
        ValidationError: A value is no text.
    """
    return {name: text(name, value) for name, value in filters.items() if value is not None}


def need_a_dialect(filters: Mapping[str, str]) -> bool:
    """Tell whether some server reads more in a value than its text."""
    return any(
        "," in value or value[:1] in ("!", "~") or _OPERATOR.match(value) for value in filters.values()
    )


def parameters(filters: Mapping[str, str], dialect: Dialect | None) -> dict[str, str]:
    """Return the parameters of a query, literal for the server that reads them so.

    Args:
        filters: The filters, by the name that 2.x has for them.
        dialect: What the server reads; None if no value needs to know.

    Raises:
        ValidationError: The server has no way to say a value.
    """
    return {
        name: _literal(known, value, dialect)
        for known, value in filters.items()
        for name in _NAMES.get(known, (known,))
    }


def _literal(name: str, value: str, dialect: Dialect | None) -> str:
    if dialect is None:
        return value
    if dialect is Dialect.V2:
        if value.startswith(("!", "~")):
            raise _unspeakable(name, value, "Umami 2 reads a leading ! or ~ as an operator")
        return value
    if "," in value and dialect is not Dialect.V3_0:
        if _LINE_END.search(value):
            raise _unspeakable(
                name, value, "Umami 3.1 and later read a comma as 'or', before the end of a line too"
            )
        # No comma can be escaped in a list of alternatives; but a pattern of nothing but the value can be
        # matched, in which each of its databases is told to heed the case: Umami asks both not to.
        heed_case = "(?-i)" if dialect is Dialect.CLICKHOUSE else "(?c)"
        return f"re.{heed_case}^{re.escape(value)}$"
    return f"eq.{value}" if _OPERATOR.match(value) else value


def _unspeakable(name: str, value: str, why: str) -> ValidationError:
    return ValidationError(
        f"{name}={given(value)} cannot be asked of this server: {why}, and has no escape for it."
    )

"""How a filter of a query is named and written, so that each Umami takes its value literally.

Umami finds operators in a filter's value, and each generation has its own: 2.x the prefixes `!`, `~` and
`!~`; 3.x `eq.`, `c.` and others before a dot; from 3.1 on a comma between alternatives as well. A user's
value must not be read as one of them: `t.co` is a referrer, not "true".
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from umami._events.fields import text
from umami._events.values import given
from umami.errors import ValidationError

# 2.x and 3.x name some filters differently, and each ignores the other's names, so both are sent.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {"url": ("url", "path"), "host": ("host", "hostname")}
# The operators of every 3.x. Its own pattern for them does not match across the end of a line.
_OPERATOR: Final = re.compile(r"(?:eq|neq|s|ns|c|dnc|re|nre|t|f|gt|lt|gte|lte|bf|af)\.[^\n\r\u2028\u2029]*\Z")
_LINE_END: Final = re.compile("[\n\r\u2028\u2029]")


class Dialect(Enum):
    """How a server reads a filter's value."""

    V2 = "Umami 2"
    V3_0 = "Umami 3.0"
    POSTGRESQL = "Umami 3.1 or later"
    CLICKHOUSE = "Umami 3.1 or later on ClickHouse"


def checked(filters: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters that are given, their values as text.

    Raises:
        ValidationError: A value is not text.
    """
    return {name: text(name, value) for name, value in filters.items() if value is not None}


def need_a_dialect(filters: Mapping[str, str]) -> bool:
    """Tell whether some servers would not take one of the values literally."""
    return any(
        "," in value or value[:1] in ("!", "~") or _OPERATOR.match(value) for value in filters.values()
    )


def parameters(filters: Mapping[str, str], dialect: Dialect | None) -> dict[str, str]:
    """Return the parameters of a query such that the server takes each value literally.

    Args:
        filters: The filters, by their names in 2.x.
        dialect: How the server reads values; None if this makes no difference for these.

    Raises:
        ValidationError: The server has no way to express a value.
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
            raise _inexpressible(name, value, "Umami 2 reads a leading ! or ~ as an operator")
        return value
    if "," in value and dialect is not Dialect.V3_0:
        if _LINE_END.search(value):
            raise _inexpressible(name, value, "Umami 3.1 and later read a comma before a line break as 'or'")
        # A comma cannot be escaped in a list of alternatives, but in a regular expression it is literal.
        # Umami ignores case there; each of its databases has a prefix that makes it count.
        match_case = "(?-i)" if dialect is Dialect.CLICKHOUSE else "(?c)"
        return f"re.{match_case}^{re.escape(value)}$"
    return f"eq.{value}" if _OPERATOR.match(value) else value


def _inexpressible(name: str, value: str, why: str) -> ValidationError:
    return ValidationError(
        f"{name}={given(value)} cannot be used with this server: {why}, and cannot escape it."
    )

"""How a filter of a query is named and written, so that each Umami takes it as it is meant.

Umami finds operators in a filter's value, and each generation has its own: 2.x the prefixes `!`, `~` and
`!~`; 3.x `eq.`, `c.` and others before a dot; from 3.1 on a comma between alternatives as well. A user's
value must not be read as one of them: `t.co` is a referrer, not "true".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from umami._events.fields import text
from umami._events.values import given
from umami.errors import UnsupportedError, ValidationError
from umami.filters import Filter

from .versions import Version

Given = Mapping[str, tuple[Filter, ...]]
"""The filters of a query: for each, by its name here, what must hold."""

# 2.x and 3.x name some filters differently, and each ignores the other's names, so both are sent.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "url": ("url", "path"),
    "path": ("path", "url"),
    "host": ("host", "hostname"),
    "hostname": ("hostname", "host"),
    **{name: (name,) for name in ("referrer", "title", "query", "event", "os", "browser", "device")},
    **{name: (name,) for name in ("country", "region", "city", "language", "tag", "segment", "cohort")},
    "distinct_id": ("distinctId",),
    **{
        f"utm_{name}": (f"utm{name.title()}",) for name in ("source", "medium", "campaign", "content", "term")
    },
    "event_type": ("eventType",),
    "exclude_bounce": ("excludeBounce",),
    "match": ("match",),
}
_OF_3: Final = {"url": "path", "host": "hostname"}
# An older server ignores a filter that it does not know, and would answer for the whole website.
_SINCE: Final[Mapping[str, tuple[int, int]]] = {
    "host": (2, 12), "hostname": (2, 12), "tag": (2, 15), "language": (2, 16), "segment": (2, 19),
    "cohort": (2, 19), "event_type": (3, 0),
    **dict.fromkeys(("distinct_id", "exclude_bounce", "match"), (3, 1)),
    **{f"utm_{name}": (3, 1) for name in ("source", "medium", "campaign", "content", "term")},
}  # fmt: skip
_OPERATORS_SINCE: Final = (2, 11)
_LISTS_SINCE: Final = (3, 1)
# The operators of every 3.x. Its own pattern for them does not match across the end of a line.
_OPERATOR: Final = re.compile(r"(?:eq|neq|s|ns|c|dnc|re|nre|t|f|gt|lt|gte|lte|bf|af)\.[^\n\r\u2028\u2029]*\Z")
_LINE_END: Final = re.compile("[\n\r\u2028\u2029]")
_WILDCARD: Final = re.compile(r"[\\%_]")
_SIGNS: Final = {"ne": "!", "contains": "~", "excludes": "!~"}
_WORDS: Final = {"eq": "eq", "ne": "neq", "contains": "c", "excludes": "dnc", "matches": "re"}
_OPPOSITE: Final = {"ne": "nre", "excludes": "nre"}


def checked(filters: Mapping[str, Any]) -> Given:
    """Return the filters that are given, checked; those of None are left out.

    Raises:
        ValidationError: There is no such filter, or a value is not valid.
    """
    found: dict[str, tuple[Filter, ...]] = {}
    for name, value in filters.items():
        if name not in _NAMES:
            known = ", ".join(sorted(_NAMES.keys() - {"url", "host"}))
            raise ValidationError(f"{name} is not a filter. The filters are: {known}.")
        if value is not None:
            found[name] = _OWN[name](name, value) if name in _OWN else _filters(name, value)
    for one, other in (("url", "path"), ("host", "hostname")):
        if one in found and other in found:
            raise ValidationError(f"Give {one} or {other}, not both: they are one filter.")
    return found


def _filters(name: str, value: Any) -> tuple[Filter, ...]:
    if isinstance(value, Filter):
        return (value,)
    if isinstance(value, (list, tuple, set, frozenset)):
        own = tuple(each for each in value if isinstance(each, Filter))
        texts = tuple(text(name, each) for each in value if not isinstance(each, Filter))
        if not value:
            raise ValidationError(f"{name} must have at least one value.")
        return (*own, Filter("eq", texts)) if texts else own
    return (Filter("eq", (text(name, value),)),)


def _event_type(name: str, value: Any) -> tuple[Filter, ...]:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"{name} must be a positive number, got {given(value)}.")
    return (Filter("eq", (str(value),)),)


def _exclude_bounce(name: str, value: Any) -> tuple[Filter, ...]:
    if not isinstance(value, bool):
        raise ValidationError(f"{name} must be True or False, got {given(value)}.")
    return (Filter("eq", ("true",)),) if value else ()


def _match(name: str, value: Any) -> tuple[Filter, ...]:
    if value not in ("all", "any"):
        raise ValidationError(f"{name} must be 'all' or 'any', got {given(value)}.")
    return (Filter("eq", (value,)),)


def _id(name: str, value: Any) -> tuple[Filter, ...]:
    return (Filter("eq", (text(name, value),)),)


_OWN: Final[Mapping[str, Callable[[str, Any], tuple[Filter, ...]]]] = {
    "event_type": _event_type,
    "exclude_bounce": _exclude_bounce,
    "match": _match,
    "segment": _id,
    "cohort": _id,
}
"""The filters whose values Umami does not look into for operators."""


def shown(filters: Given) -> dict[str, str]:
    """Return the filters as a message shows them."""
    texts = {name: list(map(_shown, held)) for name, held in filters.items() if held}
    return {name: held[0] if len(held) == 1 else f"[{', '.join(held)}]" for name, held in texts.items()}


def _shown(condition: Filter) -> str:
    plain = condition.operator == "eq" and len(condition.values) == 1
    return given(condition.values[0]) if plain else repr(condition)


def need_the_version(filters: Given, *, but: Iterable[str] = ()) -> bool:
    """Tell whether some servers would not take the filters as they are meant.

    Args:
        filters: The filters.
        but: The names of those whose answer shows whether the server knows them.
    """
    return any(
        (name in _SINCE and name not in but) or (name not in _OWN and not _is_plain(held))
        for name, held in filters.items()
        if held
    )


def need_the_exact_version(filters: Given) -> bool:
    """Tell whether it matters which Umami before 2.16 a server is."""
    return any(
        name in _SINCE or any(each.operator != "eq" for each in held) for name, held in filters.items()
    )


def _is_plain(held: tuple[Filter, ...]) -> bool:
    if len(held) > 1 or held[0].operator != "eq" or len(held[0].values) > 1:
        return False
    value = held[0].values[0]
    return "," not in value and value[:1] not in ("!", "~") and not _OPERATOR.match(value)


def parameters(filters: Given, version: Version | None) -> dict[str, str]:
    """Return the parameters of a query such that the server takes each filter as it is meant.

    Args:
        filters: The filters.
        version: The server's version; None if this makes no difference for these.

    Raises:
        UnsupportedError: The server has no way to express one.
    """
    found: dict[str, str] = {}
    for known, held in filters.items():
        if version is not None and held and known in _SINCE:
            version.require(_SINCE[known], f"The filter {known}")
        if version is not None and len(held) > 1:
            version.require(_LISTS_SINCE, f"More than one condition for {known}")
        for number, condition in enumerate(held):
            value = condition.values[0] if known in _OWN else _written(known, condition, version)
            for name in _NAMES[known]:
                found[f"{name}{number or ''}"] = value
    return found


def stored(filters: Given, version: Version) -> dict[str, Any]:
    """Return filters as a segment holds them, where each has its operator beside its value.

    Raises:
        ValidationError: A segment cannot hold one.
        UnsupportedError: The server has no way to express one.
    """
    refused = filters.keys() & {"segment", "cohort", "event_type", "exclude_bounce"}
    if refused:
        raise ValidationError(f"A segment cannot have the filter {min(refused)}.")
    conditions = []
    for known, held in filters.items():
        for condition in held if known not in _OWN else ():
            written = _written(known, condition, version)
            operator, value = "eq", written
            if _OPERATOR.match(written):
                operator, _, value = written.partition(".")
            elif _LINE_END.search(written):
                raise _inexpressible(known, condition, "Umami finds no operator in a value of several lines")
            conditions.append(
                {"name": _OF_3.get(known, _NAMES[known][0]), "operator": operator, "value": value}
            )
    found: dict[str, Any] = {"filters": conditions}
    if "match" in filters:
        found["match"] = filters["match"][0].values[0]
    return found


def _written(name: str, condition: Filter, version: Version | None) -> str:
    if version is None:
        return condition.values[0]
    if len(condition.values) > 1:
        version.require(_LISTS_SINCE, f"A list of values, as in {name}={condition},")
    if condition.operator == "matches":
        version.require(_LISTS_SINCE, f"matches(), as in {name}={condition},")
    if version.is_2:
        return _written_for_2(name, condition, version)
    value = condition.values[0]
    if condition.operator != "eq" and any(map(_LINE_END.search, condition.values)):
        raise _inexpressible(name, condition, "Umami finds no operator in a value of several lines")
    if version.least >= _LISTS_SINCE:
        return _written_for_3(name, condition, version)
    if condition.operator == "eq":
        return f"eq.{value}" if _OPERATOR.match(value) else value
    return f"{_WORDS[condition.operator]}.{_escaped(value) if condition.operator != 'ne' else value}"


def _written_for_2(name: str, condition: Filter, version: Version) -> str:
    value, operator = condition.values[0], condition.operator
    if operator == "eq":
        if value.startswith(("!", "~")):
            raise _inexpressible(name, condition, "Umami 2 reads a leading ! or ~ as an operator")
        return value
    version.require(_OPERATORS_SINCE, f"{operator}(), as in {name}={condition},")
    if _LINE_END.search(value):
        raise _inexpressible(name, condition, "Umami finds no operator in a value of several lines")
    if operator == "ne":
        if value.startswith("~"):
            raise _inexpressible(name, condition, "Umami 2 reads a leading ~ as an operator")
        return f"!{value}"
    return _SIGNS[operator] + _escaped(value)


def _written_for_3(name: str, condition: Filter, version: Version) -> str:
    values, operator = condition.values, condition.operator
    value = values[0]
    if operator == "matches":
        return f"re.{value}"
    if operator in ("contains", "excludes"):
        if _WILDCARD.search(value):  # which a regular expression has no meaning for
            return f"{_OPPOSITE.get(operator, 're')}.{re.escape(value)}"
        return f"{_WORDS[operator]}.{value}"
    if not any("," in each for each in values):
        plain = operator == "eq" and len(values) == 1 and not _OPERATOR.match(value)
        if not plain and any(map(_LINE_END.search, values)):
            raise _inexpressible(name, condition, "Umami finds no operator in a value of several lines")
        return value if plain else f"{_WORDS[operator]}.{','.join(values)}"
    if any(map(_LINE_END.search, values)):
        raise _inexpressible(name, condition, "Umami 3.1 and later read a comma before a line break as 'or'")
    # A comma cannot be escaped in a list of alternatives, but in a regular expression it is literal.
    # Umami ignores case there; each of its databases has a prefix that makes it count.
    match_case = "(?-i)" if version.clickhouse else "(?c)"
    pattern = "|".join(map(re.escape, values))
    return f"{_OPPOSITE.get(operator, 're')}.{match_case}^{pattern if len(values) == 1 else f'({pattern})'}$"


def _escaped(value: str) -> str:
    """Return a text for a comparison in which `%` and `_` are wildcards."""
    return _WILDCARD.sub(r"\\\g<0>", value)


def _inexpressible(name: str, condition: Filter, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}={_shown(condition)} cannot be used with this server: {why}, and cannot escape it."
    )

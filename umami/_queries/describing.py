"""What the docstrings of the queries have in common: their range, their filters, their errors."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_ARGUMENTS: Final = {
    "start_at": "The first moment: a datetime, or a date for its midnight.",
    "end_at": "The last moment, likewise; by default now.",
    "website_id": "The website; by default that of `set_website_id()`.",
    "period": "In place of both moments: a number of m, h, d or w up to now, such as `7d`; or `today`, "
    "`yesterday`, `this_week`, `last_week`, `this_month`, `last_month`, `this_year`, `last_year`. Weeks "
    "begin on Monday.",
    "timezone": "The time zone of naive datetimes, dates and periods, such as `Europe/Berlin`; by default "
    "the local one.",
    "page_size": "How many rows to ask for at once.",
    "**filters": "Only what matches: `path`, `referrer`, `title`, `query`, `event`, `os`, `browser`, "
    "`device`, `country`, `region`, `city`, `language`, `hostname`, `tag`, `distinct_id`, `utm_source`, "
    "`utm_medium`, `utm_campaign`, `utm_content`, `utm_term`, `segment`, `cohort`, `event_type`, "
    "`exclude_bounce`, `match`. A plain value is literal, a list means any of its values, and "
    "`umami.filters` has the rest.",
}
_RAISES: Final = {
    "OperationNotAllowedError": "No server or no credential is set.",
    "ValidationError": "No website is set, or an argument is not valid.",
    "UnsupportedError": "The server's version does not have this, or cannot apply a filter.",
    "httpx.HTTPStatusError": "The server did not answer with 2xx, or could not run the query.",
    "ResponseError": "The answer is not Umami's.",
}
_WIDTH: Final = 108


def described(query: F) -> F:
    """Complete a query's docstring: describe the arguments that it leaves out, and what it raises."""
    if query.__doc__ is None:
        return query  # python -OO
    doc = inspect.cleandoc(query.__doc__)
    head, arguments, rest = _split(doc)
    written = {}
    for block in re.split(r"\n(?=    \S)", arguments):
        written[block.strip().partition(":")[0]] = block
    code = query.__code__  # inspect.signature takes ten times as long, and this runs for each query at import
    shown = list(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    if code.co_flags & inspect.CO_VARKEYWORDS:
        shown.append(f"**{code.co_varnames[len(shown) + 1]}")
    blocks = [written.get(name) or _block(name, _ARGUMENTS[name]) for name in shown]
    if "Raises:\n" not in rest:
        raises = "\n".join(_block(name, text) for name, text in _RAISES.items())
        rest = rest.replace("Example:\n", f"Raises:\n{raises}\n\nExample:\n")
    listed = "Args:\n" + "\n".join(blocks) + "\n\n" if blocks else ""
    query.__doc__ = f"{head}\n\n{listed}{rest}"
    return query


def _split(doc: str) -> tuple[str, str, str]:
    """Split a docstring into what comes before its arguments, these, and what comes after them."""
    head, found, rest = doc.partition("\n\nArgs:\n")
    if found:
        arguments, _, rest = rest.partition("\n\n")
        return head, arguments, rest
    head, _, rest = doc.partition("\n\nReturns:\n")
    if "\n\nReturns:\n" in doc:
        return head, "", f"Returns:\n{rest}"
    head, _, rest = doc.partition("\n\nExample:\n")
    return head, "", f"Example:\n{rest}"


@functools.cache
def _block(name: str, text: str) -> str:
    lines = [f"    {name}:"]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("       ")
        lines[-1] += f" {word}"
    return "\n".join(lines)

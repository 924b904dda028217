"""One request, as a line of a log tells of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Hit:
    """A request.

    Attributes:
        time: When it was, in epoch seconds.
        address: The visitor's address; blank if the log has none.
        method: `GET`, say; blank if the request was none of HTTP's.
        target: The path with its query, as in the request.
        status: 200, say.
        referrer: Where the visitor came from; blank if it is not known.
        ua: The User-Agent; blank if there was none.
        host: The site's host name; blank if the log does not say.
        purpose: Why a browser asked: its `Sec-Purpose` or `Purpose`, if the log has it.
        more: More arguments of the send, from logs that are none of a web server.
    """

    time: float
    address: str
    method: str
    target: str
    status: int
    referrer: str = ""
    ua: str = ""
    host: str = ""
    purpose: str = ""
    more: dict[str, Any] = field(default_factory=dict)


# Returns the request in a line, or None for a line that holds none, such as a header.
# Raises an exception of any kind if the line is malformed.
Parser = Callable[[str], "Hit | None"]

"""Reads error answers that are not Umami's, but a proxy's, a gateway's or a firewall's."""

import time
from collections.abc import Mapping, Sequence
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final

from umami.queue.exporter import Failure, Trouble

from .answers import words
from .messages import Reply

# A gateway that lost the server behind it, or gave up waiting for it, does not know what that server did.
_SERVER_SILENT: Final = frozenset((502, 504, 520, 522, 524))
_AWAY: Final = frozenset((408, 425, 503, 521, 523, 525, 526, 527, 530)) | _SERVER_SILENT


def failure(reply: Reply, url: str, events: Sequence[int], *, just_accepted: bool) -> Failure:
    """Judge a request by such an answer.

    Args:
        reply: The answer.
        url: What was asked.
        events: The indexes of the events that the request carried.
        just_accepted: Whether the server accepted another request a moment ago. A 503 then comes from a rate
            limit.
    """
    status = reply.status
    asked = retry_after(reply.headers)
    said = words(reply.body)
    message = f"{url} answered {status}, not as Umami does{_hint(status, reply.body or b'')}"
    if status == 429 or (status == 503 and (asked is not None or just_accepted)):
        trouble = Trouble.THROTTLED
    else:
        trouble = Trouble.AWAY if status in _AWAY else Trouble.REFUSED
    return Failure(
        f"{message} It said: {said}" if said else message,
        events,
        trouble,
        reason=str(status),
        stored_perhaps=status in _SERVER_SILENT,
        retry_after=asked,
        # A 404, 405 or 5xx may have a cause in the proxy, and a 408 or 425 asks to try again later. Other
        # refusals have their cause in the request.
        decisive=trouble is Trouble.REFUSED and 400 <= status < 500 and status not in (404, 405),
    )


def _hint(status: int, body: bytes) -> str:
    """Return what such an answer usually means, as the end of a message."""
    if status == 400 and b"HTTPS" in body:
        return ": it expects https, so url_base must begin with https://."
    if status == 400 and b"SSL certificate" in body:
        return ": it asks for a client certificate, see the setting cert."
    if status in (404, 405):
        return ": is the URL right, or is Umami restarting behind a proxy?"
    if status in (401, 403, 406):
        return ": a proxy or a firewall in front of it refuses the request."
    if status == 413:
        return ": a proxy in front of it refuses requests of this size."
    if status == 429:
        return ": a proxy in front of it limits the rate of requests."
    if 300 <= status < 400:
        return ": a redirect that cannot be followed."
    return "."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, in any of its forms, or None."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)  # as the form of C's asctime, which names none
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

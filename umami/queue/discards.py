"""Which waiting events are dropped instead of sent, and why: the one place for settings that ask for it."""

from collections.abc import Callable
from time import time
from typing import Final, NamedTuple

from pydantic_core import from_json

from umami.settings import Settings

from .reasons import EXPIRED, QUEUE_FULL


class Why(NamedTuple):
    """Why events are dropped: the reason that they are counted under, and a message for the log."""

    reason: str
    message: str


Rule = Callable[[bytes], Why | None]
"""Returns why an event must be dropped; None if it is to be sent."""

OVERFLOW: Final = Why(QUEUE_FULL, "The queue was full: the oldest events were dropped to make room.")


def discard_rule(settings: Settings) -> Rule | None:
    """Return the rule for waiting events, asked before each batch is cut; None if no setting needs one."""
    age = settings.max_event_age
    if age is None:
        return None
    before = time() - age
    expired = Why(EXPIRED, f"They were older than max_event_age ({age:g} s).")
    return lambda event: expired if _happened_before(event, before) else None


def _happened_before(event: bytes, before: float) -> bool:
    """Tell whether an event happened before a time, in epoch seconds, as its JSON says."""
    try:
        return bool(from_json(event)["payload"]["timestamp"] < before)
    except (ValueError, LookupError, TypeError):
        return False  # `before_send` took its time away

"""How much the buffer holds, and how it treats events."""

from dataclasses import dataclass
from typing import Literal

from .lane import Limits
from .retry import Policy

Overflow = Literal["drop_newest", "drop_oldest", "block"]


@dataclass(frozen=True)
class Bounds:
    """How much the buffer holds, and how it treats events.

    Attributes:
        events: The most events pending.
        bytes: The most bytes of pending events.
        overflow: What gives way when it is full.
        limits: How batches are cut.
        policy: When failed requests are tried again.
        item_retry_limit: How often an event is sent again that the server answered with an unclear error.
        at_most_once: Whether an event that may have been stored is dropped rather than sent again.
    """

    events: int
    bytes: int
    overflow: Overflow
    limits: Limits
    policy: Policy
    item_retry_limit: int
    at_most_once: bool

"""The time that one request may take, and how far it got. Only the network backends look here."""

import math
from contextvars import ContextVar
from typing import Final

import httpcore

from umami._clock import monotonic

_LEAST_WAIT: Final = 0.001
# Alerts that may have other causes than a refused handshake.
_UNCLEAR_ALERTS: Final = ("INTERNAL_ERROR", "BAD_RECORD_MAC", "UNEXPECTED_MESSAGE", "USER_CANCELLED")


class Attempt:
    """One request's time, and how far it got.

    httpcore bounds each wait of a request. This bounds their sum: an answer that trickles in byte by byte, or
    the interim answers of a server that sends such without end, are given up in time as well.

    Args:
        timeout: Seconds to connect and to write the request.
        patience: Seconds more for the whole of the answer.
        give_up: When all of it must be over, on the monotonic clock.

    Attributes:
        sent: The whole request was handed to the operating system.
        unprocessed: The server cannot have acted on it, although it was sent.
        status: The answer's, once its head has come.
        has_enough: Whether the rest of the answer is not wanted. The next read fails then, and httpcore
            closes the connection as after any other failure.
    """

    __slots__ = (
        "_answered",
        "_give_up",
        "_patience",
        "_read_late",
        "_until",
        "has_enough",
        "sent",
        "status",
        "unprocessed",
    )

    def __init__(self, timeout: float, patience: float, give_up: float = math.inf) -> None:
        self._give_up = give_up
        self._until = min(give_up, monotonic() + timeout)
        self._patience = patience
        self._answered = False
        self._read_late = False
        self.sent = False
        self.unprocessed = False
        self.has_enough = False
        self.status: int | None = None

    def left(self) -> float:
        """Return the seconds that the next wait may take: when the time is over, hardly any.

        So each of the few steps before the first read may still do what needs no wait.
        """
        return max(_LEAST_WAIT, self._until - monotonic())

    def left_to_read(self) -> float:
        """Return the seconds that the next read may take.

        Reads may go on as long as the peer sends, so the time ends them. One is left to do when it is over:
        in a process that stood still, the answer may have come meanwhile.

        Raises:
            httpcore.ReadError: The rest of the answer is not wanted.
            httpcore.ReadTimeout: The time is over.
        """
        if self.has_enough:
            raise httpcore.ReadError("the answer is too long")
        if monotonic() >= self._until:
            if self._read_late:
                raise httpcore.ReadTimeout("timed out")
            self._read_late = True
        return self.left()

    def wrote(self) -> None:
        """Note that the request was written."""
        self.sent = True
        self._until = min(self._give_up, monotonic() + self._patience)

    def received(self) -> None:
        """Note that something of the answer came."""
        self._answered = True

    def closed(self, unacknowledged: int) -> None:
        """Note that the connection ended.

        Its end acknowledges what had arrived before. If a part of the request had not, the server closed the
        connection before it could have read the request.

        Args:
            unacknowledged: How many of the sent bytes had not arrived.
        """
        if self.sent and not self._answered:
            self.unprocessed = unacknowledged > 0

    def broke(self, error: Exception) -> None:
        """Note that the connection broke."""
        reason = getattr(error.__cause__, "reason", None) or ""
        if not self._answered and "ALERT" in reason and not any(word in reason for word in _UNCLEAR_ALERTS):
            self.unprocessed = True  # it refused the handshake: a client certificate is missing, say

    @property
    def stored_perhaps(self) -> bool:
        """Whether the server may have acted on the request, if it did not answer."""
        return self.sent and not self.unprocessed


current: Final[ContextVar[Attempt]] = ContextVar("umami.attempt")
"""The attempt that this thread, or this task, is making."""

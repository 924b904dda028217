"""The `<title>` of a page, read from the first bytes of its HTML as they pass."""

from html import unescape
from typing import Any, Final

_MOST_BYTES: Final = 16_384
_ENDS_OF_A_NAME: Final = b"> \n\t\r/"


class TitleReader:
    """Looks at the body of a response, piece by piece, and delays none of them.

    Args:
        headers: The response's headers.
    """

    def __init__(self, headers: Any) -> None:
        kind, _, parameters = headers.get("content-type").lower().partition(";")
        # What is compressed is left alone: the middleware belongs inside of one that compresses.
        is_readable = kind.strip() == "text/html" and headers.get("content-encoding") in ("", "identity")
        self._room = _MOST_BYTES if is_readable else 0
        self._charset = parameters.partition("charset=")[2].strip().strip('"') or "utf-8"
        self._head = bytearray()

    def saw(self, piece: Any) -> None:
        """Take note of a piece of the body."""
        if self._room > 0:
            self._head += bytes(piece[: self._room])
            self._room = _MOST_BYTES - len(self._head)

    @property
    def title(self) -> str | None:
        """The title; None if the first bytes have none."""
        lower = self._head.lower()
        # With `find`, and not a pattern: whatever the page holds, this is linear.
        begin = lower.find(b"<title")
        while begin >= 0 and lower[begin + 6 : begin + 7] not in _ENDS_OF_A_NAME:
            begin = lower.find(b"<title", begin + 6)  # of another element, `<title-bar>` say
        begin = lower.find(b">", begin) + 1 if begin >= 0 else 0
        end = lower.find(b"</title", begin) if begin > 0 else -1
        if end < 0:
            return None
        try:
            text = self._head[begin:end].decode(self._charset, "replace")
        except LookupError:
            text = self._head[begin:end].decode("utf-8", "replace")
        return " ".join(unescape(text).split()) or None

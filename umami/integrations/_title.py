"""The `<title>` of a page, read from the first bytes of its HTML as they pass."""

import re
from html import unescape
from typing import Any, Final

_MOST_BYTES: Final = 16_384
# A comment, a declaration, or a tag with its attributes. An unclosed one matches to the end: this is linear.
_TAG: Final = re.compile(
    rb"""<!--(?:-?>|.*?(?:--!?>|\Z))
    |<[!?][^>]*
    |<(?P<close>/?)(?P<name>[a-z][^\s/>]*)(?:=\s*(?:"[^"]*(?:"|\Z)|'[^']*(?:'|\Z))|[^>])*(?:>|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_WITHOUT_TAGS: Final = frozenset(b"script style textarea noscript noframes noembed iframe xmp".split())
_WITH_OTHER_TITLES: Final = frozenset(b"svg math template".split())


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
        """The document's title; None if the first bytes have none."""
        begin, end = _title_in(bytes(self._head.lower()))
        if end < 0:
            return None
        try:
            text = self._head[begin:end].decode(self._charset, "replace")
        except LookupError:
            text = self._head[begin:end].decode("utf-8", "replace")
        return " ".join(unescape(text).split()) or None


def _title_in(page: bytes) -> tuple[int, int]:
    """Return where the document's own title begins and ends; -1 if it does not."""
    at = depth = 0
    while tag := _TAG.search(page, at):
        at, name = tag.end(), tag["name"]
        if tag["close"]:
            depth = max(0, depth - (name in _WITH_OTHER_TITLES))
        elif tag[0].endswith(b"/>") and (depth or name in _WITH_OTHER_TITLES):
            continue  # in an SVG, it ends the element
        elif name in _WITH_OTHER_TITLES:
            depth += 1
        elif name == b"title" and not depth:
            return at, page.find(b"</title", at)
        elif name in _WITHOUT_TAGS:
            end = re.compile(rb"</%b[\s/>]" % name).search(page, at)
            if end is None:
                break
            at = end.start()
    return -1, -1

"""How the lists of events and sessions are read page by page, so that each row comes once."""

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from itertools import takewhile
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel

from umami._events.values import given
from umami._http.messages import Flow
from umami.errors import ResponseError
from umami.models import Model, Total

from .ranges import Range

MayCut = Callable[[], Flow[bool]]
"""Tells whether the server may be one that lists no more than `MOST_OF_2` rows of a range."""

R = TypeVar("R", bound=BaseModel)

# The server counts all rows anew for each page, so that short pages cost it much.
PAGE_SIZE: Final = 2000
MOST_OF_2: Final = 1000
"""Umami 2.17 and older list no more rows of a range than these, and count no more either."""


class Page(Model, Generic[R]):
    """A page of a list."""

    data: list[R]
    count: Total


class Ask(Protocol[R]):
    """Asks for a page of a range, by the parameters `page` and `pageSize`."""

    def __call__(self, when: Range, page: Mapping[str, Any], /) -> Flow[Page[R]]: ...


class _Paged(Generic[R]):
    """What the two kinds of lists share.

    Args:
        ask: Asks for a page.
        when: The range of time.
        size: How many rows to ask for at once.
        may_cut: Asked if it matters.

    Attributes:
        count: How many rows the server counted at first; None before the first page.
        pages: How many pages were fetched.
    """

    def __init__(self, ask: Ask[R], when: Range, size: int, may_cut: MayCut) -> None:
        self._ask = ask
        self._when = when
        self._size = self._asked = size
        self._may_cut = may_cut
        self._is_over = False
        self.count: int | None = None
        self.pages = 0

    def _fetch(self, number: int) -> Flow[Page[R]]:
        """Fetch a page of the range."""
        page = yield from self._ask(self._when, {"page": number, "pageSize": self._asked})
        self.pages += 1
        if self.count is None:
            self.count = page.count
        return page

    def _end_range(self, until: int) -> bool:
        """Have the range end earlier; tell whether it did not end there already."""
        if until >= self._when.end:
            return False
        self._when, self._asked = self._when.ending(until), self._size
        return True

    def _finish(self, page: Page[R]) -> Flow[None]:
        """End the list with a page that shows nothing new, and whose range cannot end earlier.

        Raises:
            ResponseError: The server has more rows than those of the page.
        """
        length = len(page.data)
        if page.count > length or (length == MOST_OF_2 and (yield from self._may_cut())):
            raise ResponseError(
                f"The server returns no more than {length:,} of the rows that have the same time, so the "
                "list cannot be read to the end."
            )
        self._is_over = True


class ByTime(_Paged[R]):
    """A list that the server sorts by time, the newest first.

    The next page begins where the last one ended in time, not by a number: then no row is missing or doubled
    if others are stored meanwhile, and the last page costs the server no more than the first. Rows of the
    moment at which a page ends come again, and are left out by their ids. A page that holds nothing but rows
    of one moment, which have no order, is asked for anew, twice as long. If the server's longest page is too
    short for that, the list ends with an error: another request would return the same rows.

    A page may be shorter than what was asked for, and not the last one: something in front of the server may
    cut it. So the list ends when a page has all rows that the server counts, or, if it does not count them,
    when nothing new comes.

    Args:
        ask: Asks for a page.
        when: The range of time.
        size: How many rows to ask for at once.
        tell: Returns a row's id and its time.
        slack: How many milliseconds a row's time may be off.
        may_cut: Asked if it matters.
    """

    def __init__(
        self,
        ask: Ask[R],
        when: Range,
        size: int,
        tell: Callable[[R], tuple[str, str]],
        slack: int,
        may_cut: MayCut,
    ) -> None:
        super().__init__(ask, when, size, may_cut)
        self._tell = tell
        self._slack = slack
        self._seen: set[str] = set()

    def page(self) -> Flow[list[R]]:
        """Fetch the next page that has rows; an empty one at the end."""
        while not self._is_over:
            page = yield from self._fetch(1)
            data = page.data
            rows = [row for row in data if self._tell(row)[0] not in self._seen]
            is_short = len(data) < self._asked
            if not data or (is_short and 0 < page.count <= len(data) != MOST_OF_2):
                self._is_over = True
                return rows
            until = milliseconds(self._tell(data[-1])[1]) + self._slack
            boundary = self._ids_up_to(until, data)
            if self._end_range(until):
                self._seen = boundary
            elif is_short and not rows:
                yield from self._finish(page)
            else:
                self._seen |= boundary
                if not is_short:
                    self._asked *= 2
            if rows:
                return rows
        return []

    def _ids_up_to(self, until: int, rows: list[R]) -> set[str]:
        """Return the ids of a page's last rows, those up to a moment."""
        told = map(self._tell, reversed(rows))
        return {id_ for id_, _ in takewhile(lambda row: milliseconds(row[1]) <= until, told)}


class ByNumber(_Paged[R]):
    """A list that the server groups before it sorts it: sessions, the last seen first.

    A range that ends earlier lists the sessions again that were seen before, with other figures. So pages are
    asked for by their numbers, in one range. If a page repeats rows, or the server counts fewer than before,
    the list has changed, and rows may be missing between two pages. Then the client asks anew for the range
    that ends where the last good page did. A session that it has not returned yet has all its figures in that
    range; of those that it has returned it keeps the keys, and leaves them out.

    Args:
        ask: Asks for a page.
        when: The range of time.
        size: How many rows to ask for at once.
        key: Returns what tells a row from others.
        tell: Returns a row's time.
        may_cut: Asked if it matters.
    """

    def __init__(
        self,
        ask: Ask[R],
        when: Range,
        size: int,
        key: Callable[[R], object],
        tell: Callable[[R], str],
        may_cut: MayCut,
    ) -> None:
        super().__init__(ask, when, size, may_cut)
        self._key = key
        self._tell = tell
        self._seen: set[int] = set()  # of hashes: a million need about 70 MB
        self._number = 1
        self._last = 0  # the time of the last row of the page before
        self._counted = 0

    def page(self) -> Flow[list[R]]:
        """Fetch the next page that has rows; an empty one at the end."""
        while not self._is_over:
            page = yield from self._fetch(self._number)
            data = page.data
            if self._number > 1 and (page.count < self._counted or self._repeats(data)):
                if not self._begin_anew():
                    self._asked *= 2  # all of its sessions were last seen at the same moment
                continue
            rows = [row for row in data if hash(self._key(row)) not in self._seen]
            self._seen.update(hash(self._key(row)) for row in rows)
            read = self._asked * (self._number - 1) + len(data)
            if not data or 0 < page.count <= read != MOST_OF_2:
                self._is_over = True
                return rows
            self._last, self._counted = milliseconds(self._tell(data[-1])), page.count
            is_short = len(data) < self._asked
            if page.count > read and not is_short:
                self._number += 1
            elif not self._begin_anew():
                if not is_short:
                    self._asked *= 2
                elif not rows:
                    yield from self._finish(page)
            if rows:
                return rows
        return []

    def _repeats(self, data: list[R]) -> bool:
        """Tell whether a page begins with rows that an earlier one had."""
        first = takewhile(lambda row: milliseconds(self._tell(row)) >= self._last, data)
        return any(hash(self._key(row)) in self._seen for row in first)

    def _begin_anew(self) -> bool:
        """Have the next page be the first of the range that ends where the last page did.

        Returns:
            Whether that is another range.
        """
        self._number = 1
        return self._end_range(self._last + 1)  # a database may know microseconds


def milliseconds(moment: str) -> int:
    """Read a time of Umami's in epoch milliseconds; one without a zone, as ClickHouse has it, is in UTC."""
    try:
        read = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        raise ResponseError(f"The server returned a row whose time is {given(moment)}.") from None
    return int((read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp() * 1000)

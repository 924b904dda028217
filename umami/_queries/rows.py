"""Rows: a website's events and sessions, one by one, read in pages (see `_calls.listed`)."""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from itertools import takewhile
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, RootModel
from typing_extensions import Unpack

from umami._calls import Pages, both, listed
from umami._events.fields import text
from umami._events.values import given
from umami._http.messages import Flow
from umami.errors import ResponseError, ValidationError
from umami.filters import Filters
from umami.models import Event, EventData, Model, Property, Session, SessionActivity, Table, Total

from .arguments import whole
from .describing import described
from .query import Moment, Queries
from .ranges import Range, range_of

R = TypeVar("R", bound=BaseModel)

# The server counts all rows anew for each page, so that short pages cost it much.
PAGE_SIZE: Final = 2000


class Page(Model, Generic[R]):
    """A page of a list."""

    data: list[R]
    count: Total
    pageSize: Total = 0  # noqa: N815 - Umami's name


class Nothing(Model):
    """What Umami answers where there is no such session: an empty object."""

    model_config = ConfigDict(extra="forbid")


class Found(RootModel[Session | Nothing | None]):
    """A session, or what Umami answers in its place."""

    model_config = ConfigDict(defer_build=True)


class Ask(Protocol[R]):
    """Asks for a page of a range, by the parameters `page` and `pageSize`."""

    def __call__(self, when: Range, page: Mapping[str, Any], /) -> Flow[Page[R]]: ...


class ByTime(Generic[R]):
    """A list that the server sorts by time, the newest first.

    The next page begins where the last one ended in time, not by a number: then no row is missing or doubled
    if others are stored meanwhile, and the last page costs the server no more than the first. Rows of the
    moment at which a page ends come again, and are left out by their ids. A page that holds nothing but rows
    of one moment, which have no order, is asked for anew, twice as long. If the server's longest page is too
    short for that, the list ends with an error: another request would return the same rows.

    Args:
        ask: Asks for a page.
        when: The range of time.
        size: How many rows to ask for at once.
        tell: Returns a row's id and its time.
        slack: How many milliseconds a row's time may be off.
    """

    def __init__(
        self, ask: Ask[R], when: Range, size: int, tell: Callable[[R], tuple[str, str]], slack: int
    ) -> None:
        self._ask = ask
        self._when = when
        self._size = self._asked = size
        self._tell = tell
        self._slack = slack
        self._seen: set[str] = set()
        self._is_over = False
        self.count: int | None = None
        self.pages = 0

    def page(self) -> Flow[list[R]]:
        """Fetch the next page that has rows; an empty one at the end."""
        while not self._is_over:
            page = yield from self._ask(self._when, {"page": 1, "pageSize": self._asked})
            self.pages += 1
            if self.count is None:
                self.count = page.count
            rows = [row for row in page.data if self._tell(row)[0] not in self._seen]
            size = page.pageSize or self._asked
            if len(page.data) < size:
                self._is_over = True
            else:
                until = _milliseconds(self._tell(page.data[-1])[1]) + self._slack
                boundary = self._ids_up_to(until, page.data)
                if until < self._when.end:
                    self._when = Range(self._when.start, until, self._when.timezone)
                    self._seen, self._asked = boundary, self._size
                elif page.count <= size < self._asked:
                    self._is_over = True
                elif size < self._asked:
                    raise ResponseError(
                        f"The server returns at most {size} rows a page, and more have the time "
                        f"{given(self._tell(page.data[-1])[1])}, so the list cannot be read any further."
                    )
                else:
                    self._seen |= boundary
                    self._asked *= 2
            if rows:
                return rows
        return []

    def _ids_up_to(self, until: int, rows: list[R]) -> set[str]:
        """Return the ids of a page's last rows, those up to a moment."""
        told = map(self._tell, reversed(rows))
        return {id_ for id_, _ in takewhile(lambda row: _milliseconds(row[1]) <= until, told)}


class ByNumber(Generic[R]):
    """A list that can be read by the numbers of its pages only.

    Rows are known by a key, so none comes twice. If fewer came than the server counts, because its order
    changed between two pages, the list is read anew in longer pages: at last in a single one.

    Args:
        ask: Asks for a page.
        when: The range of time.
        size: How many rows to ask for at once.
        key: Returns what tells a row from others.
    """

    def __init__(self, ask: Ask[R], when: Range, size: int, key: Callable[[R], object]) -> None:
        self._ask = ask
        self._when = when
        self._size = size
        self._key = key
        self._seen: set[int] = set()  # of hashes: a million need about 70 MB
        self._next = 1
        self._is_over = False
        self.count: int | None = None
        self.pages = 0

    def page(self) -> Flow[list[R]]:
        """Fetch the next page that has rows; an empty one at the end."""
        while not self._is_over:
            page = yield from self._ask(self._when, {"page": self._next, "pageSize": self._size})
            self.pages += 1
            self.count = page.count
            rows = [row for row in page.data if hash(self._key(row)) not in self._seen]
            self._seen.update(hash(self._key(row)) for row in rows)
            size = page.pageSize or self._size  # the server may have a maximum
            if page.data and self._next * size < page.count:
                self._next += 1
            else:
                self._is_over = len(self._seen) >= page.count or self._size >= page.count or size < self._size
                self._size, self._next = self._size * 4, 1
            if rows:
                return rows
        return []


class RowQueries(Queries):
    """The lists of a client, and what is known of one session."""

    @described
    def _events(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        search: str | None = None,
        page_size: int = PAGE_SIZE,
        **filters: Unpack[Filters],
    ) -> Pages[Event]:
        """Iterate over a website's page views and custom events, the newest first. Filters need Umami 3.0.

        Args:
            search: Only events of this name and pages of this path. Umami 3 compares the whole text; a `%` in
                it stands for any text.

        Returns:
            An iterator that fetches a page when it needs it. It has `count`, `done`, `to_csv()` and more; see
            `umami.models.Rows`.

        Example:
            ```python
            for row in umami.events(period="24h", path="/pricing"):
                print(row.createdAt, row.sessionId, row.eventName)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        ask = self._pages(
            "events()", "/events", Page[Event], website_id, filters, search, since=(2, 13),
            filters_since=(3, 0),
        )  # fmt: skip
        size = whole("page_size", page_size, 1)
        # A database may know microseconds.
        return ByTime(ask, when, size, lambda row: (row.id, row.createdAt), slack=1)

    @described
    def _sessions(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        search: str | None = None,
        page_size: int = PAGE_SIZE,
        **filters: Unpack[Filters],
    ) -> Pages[Session]:
        """Iterate over the sessions of a website, the last seen first. Filters need Umami 3.0.

        The figures of a session are those of the range of time. The client keeps about 70 bytes for each
        session that it has returned, to return none twice.

        Args:
            search: Only sessions whose distinct id, city, browser, system or device contains this text.

        Returns:
            An iterator that fetches a page when it needs it. It has `count`, `done`, `to_csv()` and more; see
            `umami.models.Rows`.

        Example:
            ```python
            for row in umami.sessions(period="today", country="DE"):
                print(row.firstAt, row.browser, row.views)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        ask = self._pages(
            "sessions()", "/sessions", Page[Session], website_id, filters, search, since=(2, 13),
            filters_since=(3, 0),
        )  # fmt: skip
        return ByNumber(ask, when, whole("page_size", page_size, 1), lambda row: (row.id, row.hostname))

    @described
    def _event_data(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        page_size: int = PAGE_SIZE,
        **filters: Unpack[Filters],
    ) -> Pages[EventData]:
        """Iterate over the custom data of a website's events. This needs Umami 3.1 or later.

        Returns:
            An iterator that fetches a page when it needs it. It has `count`, `done`, `to_csv()` and more; see
            `umami.models.Rows`.

        Example:
            ```python
            for row in umami.event_data(period="7d", event="signup"):
                print(row.eventId, {each.dataKey: each.stringValue for each in row.eventProperties})
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        ask = self._pages(
            "event_data()", "/event-data", Page[EventData], website_id, filters, since=(3, 1),
        )  # fmt: skip
        size = whole("page_size", page_size, 1)
        # The data of an event that Umami 2 stored may be a little later than the event.
        return ByTime(ask, when, size, lambda row: (row.eventId, _time_of(row)), slack=1000)

    def _pages(
        self,
        name: str,
        route: str,
        kind: type[Page[R]],
        website_id: str | None,
        filters: Mapping[str, Any],
        search: str | None = None,
        *,
        since: tuple[int, ...],
        filters_since: tuple[int, ...] = (2, 0),
    ) -> Ask[R]:
        """Return what asks for a page of a list."""
        self._check(website_id, filters)

        def ask(when: Range, page: Mapping[str, Any]) -> Flow[Page[R]]:
            return self._get(
                name, route, kind, website_id=website_id, when=when, filters=filters,
                params={"search": search, **page}, since=since, filters_since=filters_since,
            )  # fmt: skip

        return ask

    @described
    def _session(self, session_id: str, website_id: str | None = None) -> Flow[Session]:
        """Return a session.

        Args:
            session_id: The session's id, such as an event's `sessionId`.

        Returns:
            The session, with its distinct id and the total time in seconds.

        Example:
            ```python
            print(umami.session(event.sessionId).distinctId)
            ```
        """
        found = yield from self._get(
            "session()", f"/sessions/{session_id_of(session_id)}", Found, website_id=website_id, since=(2, 13)
        )
        if found.root is None or isinstance(found.root, Nothing):
            raise ValidationError(f"session_id: the website has no session {given(session_id)}.")
        return found.root

    @described
    def _session_activity(
        self,
        session_id: str,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
    ) -> Flow[Table[SessionActivity]]:
        """Return what a session did, the latest first: 500 page views and events at most.

        Args:
            session_id: The session's id.

        Returns:
            A table of page views and events.

        Example:
            ```python
            for row in umami.session_activity(event.sessionId, period="30d"):
                print(row.createdAt, row.urlPath, row.eventName)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        return (
            yield from self._get(
                "session_activity()", f"/sessions/{session_id_of(session_id)}/activity",
                Table[SessionActivity], website_id=website_id, when=when, since=(2, 13),
            )
        )  # fmt: skip

    @described
    def _session_properties(self, session_id: str, website_id: str | None = None) -> Flow[Table[Property]]:
        """Return the data that `identify` stored for a session.

        Args:
            session_id: The session's id.

        Returns:
            A table of keys and values.

        Example:
            ```python
            for row in umami.session_properties(event.sessionId):
                print(row.dataKey, row.stringValue)
            ```
        """
        return (
            yield from self._get(
                "session_properties()", f"/sessions/{session_id_of(session_id)}/properties", Table[Property],
                website_id=website_id, since=(2, 13),
            )
        )  # fmt: skip

    # Each description's two functions.

    events, events_async = listed(_events)
    sessions, sessions_async = listed(_sessions)
    event_data, event_data_async = listed(_event_data)
    session, session_async = both(_session)
    session_activity, session_activity_async = both(_session_activity)
    session_properties, session_properties_async = both(_session_properties)


def session_id_of(session_id: Any) -> str:
    """Return a session's id. Umami answers another text with an empty 500."""
    try:
        return str(uuid.UUID(text("session_id", session_id)))
    except ValueError:
        raise ValidationError(f"session_id must be a UUID, got {given(session_id)}.") from None


def _time_of(row: EventData) -> str:
    """Return when an event happened, as its properties say, of which each event in the list has some."""
    return next((each.createdAt for each in reversed(row.eventProperties) if each.createdAt), "")


def _milliseconds(moment: str) -> int:
    """Read a time of Umami's in epoch milliseconds; one without a zone, as ClickHouse has it, is in UTC."""
    try:
        read = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        raise ResponseError(f"The server returned a row whose time is {given(moment)}.") from None
    return int((read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp() * 1000)

"""Rows: a website's events and sessions, one by one, read in pages (see `_calls.listed`)."""

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, RootModel
from typing_extensions import Unpack

from umami._calls import Pages, both, listed
from umami._events.fields import text
from umami._events.values import given
from umami._http.messages import Flow
from umami.errors import ValidationError
from umami.filters import Filters
from umami.models import Event, EventData, Model, Property, Session, SessionActivity, Table

from .arguments import text_or_none, whole
from .describing import described
from .paging import PAGE_SIZE, Ask, ByNumber, ByTime, MayCut, Page
from .query import Moment, Queries
from .ranges import Range, range_of

R = TypeVar("R", bound=BaseModel)


class Nothing(Model):
    """What Umami answers where there is no such session: an empty object."""

    model_config = ConfigDict(extra="forbid")


class Found(RootModel[Session | Nothing | None]):
    """A session, or what Umami answers in its place."""

    model_config = ConfigDict(defer_build=True)


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
        return ByTime(ask, when, size, lambda row: (row.id, row.createdAt), 1, self._may_cut(website_id))

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
        size = whole("page_size", page_size, 1)
        # A session has a row for each host name; on the Cloud, without filters, only one, with the host name
        # that was the last.
        by_host = bool(filters) or not self._state.server().cloud
        return ByNumber(
            ask,
            when,
            size,
            lambda row: (row.id, by_host and row.hostname),
            lambda row: row.lastAt or "",
            self._may_cut(website_id),
        )

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
        may_cut = self._may_cut(website_id)
        return ByTime(ask, when, size, lambda row: (row.eventId, _time_of(row)), 1000, may_cut)

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
        searched = text_or_none("search", search)

        def ask(when: Range, page: Mapping[str, Any]) -> Flow[Page[R]]:
            return self._get(
                name, route, kind, website_id=website_id, when=when, filters=filters,
                params={"search": searched, **page}, since=since, filters_since=filters_since,
            )  # fmt: skip

        return ask

    def _may_cut(self, website_id: str | None) -> MayCut:
        def may_cut() -> Flow[bool]:
            return (yield from self._version_for(website_id)).is_2

        return may_cut

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
        route = f"/sessions/{session_id_of(session_id)}"
        found = yield from self._get(
            "session()", route, Found, website_id=website_id, since=(2, 13),
            crash="The website has no such session, or there is no such website: check both ids.",
        )  # fmt: skip
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

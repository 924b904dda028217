"""Figures of custom events, of their data, and of sessions (see `_calls.both`)."""

from typing_extensions import Unpack

from umami._calls import both
from umami._events.fields import text
from umami._http.messages import Flow
from umami.filters import Filters, FiltersButEvent
from umami.models import (
    EventPoint,
    EventProperty,
    EventStats,
    Model,
    PropertyValue,
    SessionStats,
    Table,
    ValueStats,
)

from .arguments import one_of, whole
from .describing import described
from .figures import Compare, Unit
from .query import Moment, Queries
from .ranges import range_of


class EventStatsAnswer(Model):
    """How the sums of events are wrapped."""

    data: EventStats


class EventFigures(Queries):
    """The figures of a client that are about events and sessions."""

    @described
    def _event_series(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        unit: Unit = "day",
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Table[EventPoint]]:
        """Return how often each event happened over time. Filter by `event` for one of them.

        Args:
            unit: The unit of time: `year`, `month`, `day`, `hour` or `minute`.
            limit: Only so many events, the most frequent; from Umami 3.1 on.

        Returns:
            A table of points: the event's name `x`, the time `t`, the number `y`.

        Example:
            ```python
            for point in umami.event_series(period="24h", unit="hour", event="signup"):
                print(point.t, point.y)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        params = {
            "unit": one_of("unit", unit, Unit),
            "timezone": when.zone,
            "limit": None if limit is None else whole("limit", limit, 1),
        }
        return (
            yield from self._get(
                "event_series()", "/events/series", Table[EventPoint], website_id=website_id, when=when,
                filters=filters, params=params, since=(2, 13),
            )
        )  # fmt: skip

    @described
    def _event_stats(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        compare: Compare | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[EventStats]:
        """Return the sums of custom events. This needs Umami 3.1 or later.

        Args:
            compare: What `comparison` is about: `prev`, the period before, as by default; or `yoy`, the same
                period a year before.

        Returns:
            How many events there were, of how many names, and by how many visitors in how many visits.

        Example:
            ```python
            print(umami.event_stats(period="this_month").events)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        params = {"compare": None if compare is None else one_of("compare", compare, Compare)}
        answer = yield from self._get(
            "event_stats()", "/events/stats", EventStatsAnswer, website_id=website_id, when=when,
            filters=filters, params=params, since=(3, 1),
        )  # fmt: skip
        return answer.data

    @described
    def _event_properties(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Table[EventProperty]]:
        """Return the keys in the custom data of events, and how often each occurs. Filters need Umami 3.0.

        Returns:
            A table of events' names, keys and numbers: 500 at most.

        Example:
            ```python
            for row in umami.event_properties(period="30d"):
                print(row.eventName, row.propertyName, row.total)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        return (
            yield from self._get(
                "event_properties()", "/event-data/properties", Table[EventProperty], website_id=website_id,
                when=when, filters=filters, since=(2, 13), filters_since=(3, 0),
            )
        )  # fmt: skip

    @described
    def _event_values(
        self,
        property_name: str,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        event: str,
        **filters: Unpack[FiltersButEvent],
    ) -> Flow[Table[PropertyValue]]:
        """Return the values of a key in the custom data of an event, and how often each occurs.

        Args:
            property_name: The key.
            event: The event's name.
            **filters: See `event_properties`; `event` apart.

        Returns:
            A table of values and numbers, the most frequent first: 100 at most.

        Example:
            ```python
            for row in umami.event_values("plan", period="30d", event="signup"):
                print(row.value, row.total)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        name = text("event", event)
        params = {"propertyName": text("property_name", property_name), "event": name, "eventName": name}
        return (
            yield from self._get(
                "event_values()", "/event-data/values", Table[PropertyValue], website_id=website_id,
                when=when, filters=filters, params=params, since=(2, 13), filters_since=(3, 0),
            )
        )  # fmt: skip

    @described
    def _event_value_stats(
        self,
        property_name: str,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        event: str,
        **filters: Unpack[FiltersButEvent],
    ) -> Flow[ValueStats]:
        """Return the sum, average, median, minimum and maximum of a number in the custom data of an event.

        This needs Umami 3.3 or later. It was not tried on a real server.

        Args:
            property_name: The key.
            event: The event's name.

        Returns:
            The five figures.

        Example:
            ```python
            print(umami.event_value_stats("items", period="30d", event="checkout").average)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        params = {"propertyName": text("property_name", property_name), "eventName": text("event", event)}
        return (
            yield from self._get(
                "event_value_stats()", "/event-data-pivot/numeric-stats", ValueStats, website_id=website_id,
                when=when, filters=filters, params=params, since=(3, 3),
            )
        )  # fmt: skip

    @described
    def _session_stats(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[SessionStats]:
        """Return the sums of sessions: visitors, visits, page views, events, and how many countries.

        Returns:
            The sums.

        Example:
            ```python
            print(umami.session_stats(period="7d").countries, "countries")
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        return (
            yield from self._get(
                "session_stats()", "/sessions/stats", SessionStats, website_id=website_id, when=when,
                filters=filters, since=(2, 13),
            )
        )  # fmt: skip

    @described
    def _weekly_sessions(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[list[list[int]]]:
        """Return how many visitors come at which hour of which day of the week. Filters need Umami 3.0.

        Returns:
            Seven lists, of Sunday to Saturday, of 24 numbers each.

        Example:
            ```python
            monday = umami.weekly_sessions(period="30d")[1]
            print(monday[9], "visitors on Mondays between nine and ten")
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        params = {"timezone": when.zone}
        return (
            yield from self._get(
                "weekly_sessions()", "/sessions/weekly", list[list[int]], website_id=website_id, when=when,
                filters=filters, params=params, since=(2, 13), filters_since=(3, 0),
            )
        )  # fmt: skip

    # Each description's two functions.

    event_series, event_series_async = both(_event_series)
    event_stats, event_stats_async = both(_event_stats)
    event_properties, event_properties_async = both(_event_properties)
    event_values, event_values_async = both(_event_values)
    event_value_stats, event_value_stats_async = both(_event_value_stats)
    session_stats, session_stats_async = both(_session_stats)
    weekly_sessions, weekly_sessions_async = both(_weekly_sessions)

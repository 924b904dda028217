"""The query routes of a website, and what computes and checks each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from umami.collector.figures import data, metrics, realtime, rows, series, totals
from umami.collector.figures.query import (
    Check,
    check_activity,
    check_event_data,
    check_event_numbers,
    check_event_rows,
    check_event_values,
    check_metrics,
    check_pageviews,
    check_range,
    check_rows,
    check_series,
    check_session_values,
    check_values,
    check_weekly,
)
from umami.collector.generations import Generation

_WEBSITE: Final = "/api/websites/{website_id}"


@dataclass(frozen=True)
class Figure:
    """One route.

    Attributes:
        path: Its path, below the website's.
        compute: Called with the database, the website's id, the query, and the ids in the path. Returns the
            answer, or None for a 400.
        check: Checks the query; None if it has no parameters.
    """

    path: str
    compute: Callable[..., Any]
    check: Check | None = None

    @property
    def route(self) -> str:
        """The whole path."""
        return self.path if self.path.startswith("/") else f"{_WEBSITE}/{self.path}"


_FIGURES: Final = (
    Figure("daterange", totals.date_range),
    Figure("metrics", metrics.metrics, check_metrics),
    Figure("metrics/expanded", metrics.expanded_metrics, check_metrics),
    Figure("pageviews", series.pageviews, check_pageviews),
    Figure("values", metrics.values, check_values),
    Figure("events", rows.events, check_rows),
    Figure("events/series", series.event_series, check_series),
    Figure("events/stats", totals.event_stats, check_range),
    Figure("event-data", data.event_data, check_event_rows),
    Figure("event-data/events", data.event_data_events, check_event_data),
    Figure("event-data/fields", data.event_data_fields, check_event_data),
    Figure("event-data/properties", data.event_data_properties, check_event_data),
    Figure("event-data/values", data.event_data_values, check_event_values),
    Figure("event-data/stats", data.event_data_stats, check_event_data),
    Figure("event-data/{item_id}", data.event_data_of),
    Figure("event-data-pivot/numeric-stats", data.event_data_numbers, check_event_numbers),
    Figure("sessions", rows.sessions, check_rows),
    Figure("sessions/stats", totals.session_stats, check_event_data),
    Figure("sessions/weekly", series.weekly_sessions, check_weekly),
    Figure("sessions/{item_id}", rows.session),
    Figure("sessions/{item_id}/activity", rows.session_activity, check_activity),
    Figure("sessions/{item_id}/properties", data.session_data),
    Figure("session-data/properties", data.session_data_properties, check_event_data),
    Figure("session-data/values", data.session_data_values, check_session_values),
    Figure("/api/realtime/{website_id}", realtime.realtime),
)


def figures_of(generation: Generation) -> list[Figure]:
    """Returns the figures that a version of Umami has."""
    return [figure for figure in _FIGURES if figure.path not in generation.missing_figures]

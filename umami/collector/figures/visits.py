"""The five figures of each value in expanded metrics, computed from visits."""

from __future__ import annotations

from typing import Final

from umami.collector.replies import Json

VISITS: Final = (
    "sum(views) as pageviews, count(distinct session_id) as visitors, count(distinct visit_id) as visits,"
    " sum(views = 1) as bounces, sum(cast(last - first as integer)) as totaltime"
)
"""The SQL of the figures, over the rows of `VIEWS`."""

VIEWS: Final = (
    "event.session_id, event.visit_id, count(*) as views,"
    " min(event.timestamp) as first, max(event.timestamp) as last"
)
"""The SQL of a visit's columns. The rows are grouped by session and visit."""


def as_texts(figures: list[Json]) -> list[Json]:
    """Makes texts of two sums, as Umami's driver of the database does."""
    return [each | {name: str(each[name]) for name in ("pageviews", "totaltime")} for each in figures]

"""Segments: stored filters that a query names."""

from __future__ import annotations

from collections import Counter

from umami.collector.figures.query import CrashError, Query, canonical_uuid
from umami.collector.store import Store


def use_segment(store: Store, website_id: str, query: Query) -> None:
    """Adds the filters of the segment that a query names. They replace its own filters of the same name.

    Raises:
        CrashError: There is no such segment.
    """
    segment_id = query.pop("segment", None)
    if not segment_id:
        return
    found = store.segments(website_id, "id = :p2", canonical_uuid(segment_id))
    if not found:
        raise CrashError
    parameters = found[0]["parameters"]
    if query.generation.early_figures:
        query.update({name: value for name, value in parameters.items() if isinstance(value, str)})
        return
    counts: Counter[str] = Counter()
    for each in parameters.get("filters", ()):
        name, count = each["name"], counts[each["name"]]
        query[f"{name}{count}" if count else name] = f"{each['operator']}.{each['value']}"
        counts[name] += 1
    if parameters.get("match") and query.generation.has_late_filters:
        query["match"] = parameters["match"]

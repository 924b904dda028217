"""Segments: stored filters of a website, which every figure takes as `segment=` or `cohort=`."""

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import Unpack

from umami._calls import both
from umami._events import fields
from umami._http import filters as filtering
from umami._http.messages import Flow
from umami.errors import ValidationError
from umami.filters import Filters
from umami.models import Segment, Table

from .arguments import one_of
from .changes import Changes, below
from .describing import described
from .query import V3

Kind = Literal["segment", "cohort"]


class Segments(Changes):
    """The segments of a client's websites."""

    @described
    def _segments(
        self,
        type: Kind = "segment",  # noqa: A002
        website_id: str | None = None,
    ) -> Flow[Table[Segment]]:
        """Return a website's segments or cohorts. This needs Umami 3.0 or later.

        Args:
            type: `segment` or `cohort`.

        Returns:
            A table of segments, whose `id` the filters `segment` and `cohort` take.

        Example:
            ```python
            for row in umami.segments():
                print(row.name, umami.website_stats(period="7d", segment=row.id).visitors)
            ```
        """
        params = {"type": one_of("type", type, Kind)}
        return (yield from self._listing("segments()", Table[Segment], self._path(website_id), params=params))

    @described
    def _segment(self, segment_id: str, website_id: str | None = None) -> Flow[Segment]:
        """Return a segment or a cohort. This needs Umami 3.0 or later.

        Args:
            segment_id: Its id.

        Returns:
            The segment, with its filters in `parameters`.

        Example:
            ```python
            print(umami.segment(segment_id).parameters["filters"])
            ```
        """
        path = self._path(website_id)
        return (yield from self._found("segment", path, segment_id, Segment, since=V3))

    @described
    def _create_segment(
        self, name: str, website_id: str | None = None, **filters: Unpack[Filters]
    ) -> Flow[Segment]:
        """Store filters as a segment. This needs Umami 3.0 or later.

        Args:
            name: Its name, at most 200 characters.
            **filters: The filters, as the figures take them, but `segment`, `cohort`, `event_type` and
                `exclude_bounce`.

        Returns:
            The segment, whose `id` the filter `segment` takes.

        Example:
            ```python
            readers = umami.create_segment("Readers in the Alps", country=["AT", "CH"], path="/blog")
            print(umami.website_stats(period="7d", segment=readers.id).visitors)
            ```
        """
        body = {
            "type": "segment",
            "name": fields.limited("name", name, 200),
            "parameters": (yield from self._stored("create_segment()", website_id, filters)),
        }
        path = self._path(website_id)
        return (yield from self._changed("create_segment()", "POST", path, body, Segment, since=V3))

    @described
    def _update_segment(
        self,
        segment_id: str,
        website_id: str | None = None,
        *,
        name: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Segment]:
        """Change a segment's name or its filters. This needs Umami 3.0 or later.

        Args:
            segment_id: Its id.
            name: The new name.
            **filters: The new filters, in place of all that it had; see `create_segment`.

        Returns:
            The segment.

        Example:
            ```python
            umami.update_segment(readers.id, country=["AT", "CH", "DE"], path="/blog")
            ```
        """
        if name is None and not filters:
            raise ValidationError("Give what to change: name or filters.")
        body: dict[str, Any] = {} if name is None else {"name": fields.limited("name", name, 200)}
        if filters:
            body["parameters"] = yield from self._stored("update_segment()", website_id, filters)
        now = yield from self._segment(segment_id, website_id)
        path = below(self._path(website_id), "segment_id", now.id)
        body = {"type": now.type, "name": now.name, "parameters": now.parameters, **body}
        return (yield from self._changed("update_segment()", "POST", path, body, Segment, since=V3))

    @described
    def _delete_segment(self, segment_id: str, website_id: str | None = None, *, confirm: str) -> Flow[None]:
        """Delete a segment or a cohort. This needs Umami 3.0 or later.

        Args:
            segment_id: Its id.
            confirm: Its name, or its id if it has none, so that no other one is
                deleted by mistake.

        Example:
            ```python
            umami.delete_segment(readers.id, confirm="Readers in the Alps")
            ```
        """
        yield from self._deleted("segment", self._path(website_id), segment_id, confirm, Segment, since=V3)

    def _path(self, website_id: str | None) -> str:
        return f"{self._website_path(website_id)}/segments"

    def _stored(self, call: str, website_id: str | None, filters: Mapping[str, Any]) -> Flow[dict[str, Any]]:
        """Return filters as a segment of the server's version stores them."""
        given = filtering.checked(filters)
        if not given.keys() - {"match"}:
            raise ValidationError(f"{call} needs a filter, such as country='DE'.")
        version = yield from self._version_for(website_id)
        version.require(V3, call)
        return filtering.stored(given, version)

    # Each description's two functions.

    segments, segments_async = both(_segments)
    segment, segment_async = both(_segment)
    create_segment, create_segment_async = both(_create_segment)
    update_segment, update_segment_async = both(_update_segment)
    delete_segment, delete_segment_async = both(_delete_segment)

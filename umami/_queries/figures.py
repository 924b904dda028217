"""Figures: a website's sums, series and rankings, each described once (see `_calls.both`)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, overload

from typing_extensions import Unpack

import umami.models as models  # noqa: PLR0402 - not by way of the package's __getattr__
from umami._calls import both
from umami._http import endpoints
from umami._http import filters as filtering
from umami._http.asking import asked, parsed, status_of
from umami._http.messages import Flow, json_of
from umami._http.server import Server
from umami._http.versions import V2_16, note, version_of, version_of_3
from umami.errors import UnsupportedError
from umami.filters import Filters, OtherFilters, Value
from umami.models import (
    DateRange,
    ExpandedMetric,
    Metric,
    Realtime,
    Series,
    Table,
    WebsiteStats,
)

from .arguments import camel, one_of, text_or_none, whole
from .describing import described
from .query import Moment, Queries
from .ranges import local_timezone, range_of

T = TypeVar("T")

Unit = Literal["year", "month", "day", "hour", "minute"]
Compare = Literal["prev", "yoy"]
MetricType = Literal[
    "path", "entry", "exit", "referrer", "domain", "title", "query", "event", "tag", "hostname",
    "utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term", "distinct_id", "browser", "os",
    "device", "screen", "language", "country", "region", "city", "channel",
]  # fmt: skip
Filterable = Literal[
    "path", "referrer", "title", "query", "event", "os", "browser", "device", "country", "region", "city",
    "language", "hostname", "tag", "distinct_id", "utm_source", "utm_medium", "utm_campaign", "utm_content",
    "utm_term",
]  # fmt: skip

_OF_2: Final = {"path": "url", "hostname": "host"}
"""What Umami 2 calls the types of metrics and values that it names otherwise."""
_SINCE: Final[Mapping[str, tuple[int, ...]]] = {
    "path": (2, 0), "hostname": (2, 12), "tag": (2, 15), "domain": (3, 0), "channel": (2, 19),
    **dict.fromkeys(("distinct_id", *(name for name in get_args(MetricType) if "utm_" in name)), (3, 1)),
}  # fmt: skip
"""The types that Umami 2 names otherwise, or that came later, and since when they are there."""


class MetricOptions(Filters, total=False):
    """What `metrics` takes beside its own arguments, for type checkers."""

    period: str | None
    timezone: str | None
    limit: int | None
    offset: int | None
    search: str | None


class Figures(Queries):
    """The figures of a client."""

    @described
    def _active_users(self, website_id: str | None = None) -> Flow[int]:
        """Return how many visitors were on a website in the last five minutes.

        Returns:
            Their number.

        Raises:
            OperationNotAllowedError: No server or no credential is set.
            ValidationError: No website is set.
            httpx.HTTPStatusError: The server did not answer with 2xx.
            ResponseError: The answer is not Umami's.

        Example:
            ```python
            print(umami.active_users(), "visitors right now")
            ```
        """
        server = self._state.server(login=True)
        return (yield from endpoints.active_users(server, self._website_id(website_id)))

    @described
    def _website_stats(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        url: Value | None = None,
        referrer: Value | None = None,
        title: Value | None = None,
        query: Value | None = None,
        event: Value | None = None,
        host: Value | None = None,
        os: Value | None = None,
        browser: Value | None = None,
        device: Value | None = None,
        country: Value | None = None,
        region: Value | None = None,
        city: Value | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        compare: Compare | None = None,
        **filters: Unpack[OtherFilters],
    ) -> Flow[WebsiteStats]:
        """Return a website's sums over a range of time.

        Args:
            url: Only this URL path; `path` is the same. This and all filters below are literal on every
                Umami: neither `t.co` nor `a,b` is an operator. A list means any of its values, and
                `umami.filters` has what else Umami can do.
            referrer: Only from this referrer.
            title: Only pages of this title.
            query: Only this query string.
            event: Only with this event.
            host: Only this host name; from Umami 2.12 on. `hostname` is the same.
            os: Only this operating system.
            browser: Only this browser.
            device: Only this kind of device.
            country: Only from this country.
            region: Only from this region.
            city: Only from this city.
            compare: What `comparison` is about: `prev`, the period before, as by default; or `yoy`, the same
                period a year before; the latter from Umami 3.1 on.
            **filters: Also `path`, `hostname`, `language`, `tag`, `distinct_id`, `utm_source`, `utm_medium`,
                `utm_campaign`, `utm_content`, `utm_term`, `segment`, `cohort`, `event_type`, `exclude_bounce`
                and `match`.

        Returns:
            Page views, visitors, visits, bounces and the total time in seconds, and the same for the
            period before. Custom events do not count as page views.

        Example:
            ```python
            now = datetime.now()
            stats = umami.website_stats(now - timedelta(days=7), now)
            print(stats.pageviews, stats.visitors)
            ```
        """
        server = self._state.server(login=True)
        website = self._website_path(website_id)
        when = range_of(start_at, end_at, period, timezone)
        given = filtering.checked(
            {
                "url": url, "referrer": referrer, "title": title, "query": query, "event": event,
                "host": host, "os": os, "browser": browser, "device": device, "country": country,
                "region": region, "city": city, **filters,
            }
        )  # fmt: skip
        known = self._state.versions
        but = ("host", "hostname")  # the answer shows whether the server has the filter
        version, written = yield from self._translated(server, website, given, but=but)
        params = when.parameters | (
            {} if compare is None else {"compare": one_of("compare", compare, Compare)}
        )
        if compare == "yoy":
            version = version or (yield from version_of(server, website, known, exact=False))
            version.require((3, 1), 'compare="yoy"')
        try:
            stats, is_2 = yield from self._stats(server, website, given, params | written)
            if version is not None and is_2 != version.is_2 and not version.is_set:
                # It is another server than the one that was asked: it was upgraded, or a proxy answered.
                version = V2_16 if is_2 else (yield from version_of_3(server, website))
                written = filtering.parameters(given, version)
                stats, _ = yield from self._stats(server, website, given, params | written)
                note(server, version, known)
        except Exception:
            known.pop(server.url_base or "", None)
            raise
        return stats

    def _stats(
        self, server: Server, website: str, given: filtering.Given, params: Mapping[str, Any]
    ) -> Flow[tuple[WebsiteStats, bool]]:
        """Read the sums; tell also whether they came in the form of 2.x."""
        request = server.request("GET", f"{website}/stats", params=params)
        body = json_of((yield from asked(request, filters=filtering.shown(given))))
        stats = parsed(models.WebsiteStats.model_validate, body, request)
        views = body["pageviews"]
        host = "host" if "host" in given else "hostname"
        if host in given and isinstance(views, dict) and "change" in views:
            raise UnsupportedError(
                f"{host} cannot be used with this server: Umami before 2.12 ignores it, and answers for the "
                "whole website."
            )
        return stats, isinstance(views, dict)

    @described
    def _metrics(
        self,
        type: MetricType,  # noqa: A002
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        search: str | None = None,
        expanded: bool = False,
        **filters: Unpack[Filters],
    ) -> Flow[Table[Any]]:
        """Return which values of a field occur in a range of time, and how often, the most frequent first.

        Args:
            type: The field: `path`, `entry`, `exit`, `referrer`, `domain`, `title`, `query`, `event`, `tag`,
                `hostname`, `utm_source`, `utm_medium`, `utm_campaign`, `utm_content`, `utm_term`,
                `distinct_id`, `browser`, `os`, `device`, `screen`, `language`, `country`, `region`, `city`
                or `channel`. Older servers do not have all of them.
            limit: How many values; by default Umami's limit of 500.
            offset: How many of the first to leave out.
            search: Only values that contain this text.
            expanded: Return page views, visitors, visits, bounces and total time of each; from Umami 3.0 on.

        Returns:
            A table of `umami.models.Metric`, or of `umami.models.ExpandedMetric`.

        Example:
            ```python
            for row in umami.metrics("path", period="yesterday", limit=10):
                print(row.x, row.y)
            ```
        """
        name = one_of("type", type, MetricType)
        when = range_of(start_at, end_at, period, timezone)
        params = {
            "limit": None if limit is None else whole("limit", limit, 1),
            "offset": None if offset is None else whole("offset", offset, 0),
            "search": text_or_none("search", search),
        }
        route, since = ("/metrics/expanded", (3, 0)) if expanded else ("/metrics", (2, 0))
        kind: Any = Table[ExpandedMetric] if expanded else Table[Metric]

        def ask(called: str) -> Flow[Table[Any]]:
            return self._get(
                f"metrics({'expanded=True' * expanded})", route, kind, website_id=website_id, when=when,
                filters=filters, params={"type": called, **params}, since=since,
            )  # fmt: skip

        return (yield from self._by_field_name("metrics", name, ask, website_id))

    @described
    def _pageviews(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        unit: Unit = "day",
        compare: Compare | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Series]:
        """Return page views and sessions over time.

        Args:
            unit: The unit of time: `year`, `month`, `day`, `hour` or `minute`. Where it is too fine for the
                range, Umami takes a coarser one: hours up to 30 days, minutes up to an hour.
            compare: Also return the series of the period before, `prev`, or of the year before, `yoy`; from
                Umami 3.0 on.

        Returns:
            Two tables of points, in the order of time; a unit without any is left out.

        Example:
            ```python
            for point in umami.pageviews(period="7d").pageviews:
                print(point.x, point.y)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        params = {"unit": one_of("unit", unit, Unit), "timezone": when.zone}
        if compare is not None:
            params["compare"] = one_of("compare", compare, Compare)
        return (
            yield from self._get(
                "pageviews()",
                "/pageviews",
                Series,
                website_id=website_id,
                when=when,
                filters=filters,
                params=params,
            )
        )

    @described
    def _realtime(self, website_id: str | None = None) -> Flow[Realtime]:
        """Return what happened in the last half hour.

        Returns:
            The latest events, at most 100, the sums, and the countries, paths and referrers.

        Example:
            ```python
            print(umami.realtime().totals.visitors, "visitors in the last half hour")
            ```
        """
        params = {"timezone": local_timezone()}  # Umami 2 requires it
        return (
            yield from self._get(
                "realtime()", "", Realtime, website_id=website_id, params=params, root="/realtime"
            )
        )

    @described
    def _date_range(self, website_id: str | None = None) -> Flow[DateRange]:
        """Return when a website's first and last event happened.

        Returns:
            Both times, None without events.

        Example:
            ```python
            print("data since", umami.date_range().startDate)
            ```
        """
        return (yield from self._get("date_range()", "/daterange", DateRange, website_id=website_id))

    @described
    def _filter_values(
        self,
        type: Filterable,  # noqa: A002
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        search: str | None = None,
    ) -> Flow[Table[models.Value]]:
        """Return the values that a filter can have, the most frequent first: ten at most.

        Args:
            type: The filter's name, such as `country`.
            search: Only values that contain this text.

        Returns:
            A table of values and their numbers of events.

        Example:
            ```python
            umami.filter_values("path", period="7d", search="blog")
            ```
        """
        name = one_of("type", type, Filterable)
        when = range_of(start_at, end_at, period, timezone)
        searched = text_or_none("search", search)

        def ask(called: str) -> Flow[Table[models.Value]]:
            return self._get(
                "filter_values()", "/values", Table[models.Value], website_id=website_id, when=when,
                params={"type": called, "search": searched}, since=(2, 6),
            )  # fmt: skip

        return (yield from self._by_field_name("filter_values", name, ask, website_id))

    def _by_field_name(
        self, function: str, name: str, ask: Callable[[str], Flow[T]], website_id: str | None
    ) -> Flow[T]:
        """Ask for a field by its name in the server's version: Umami 2 calls some otherwise, or lacks it."""
        if name not in _SINCE:
            return (yield from ask(camel(name)))
        server = self._state.server(login=True)
        version = self._known_version(server)
        if version is None:
            try:
                return (yield from ask(camel(name)))
            except Exception as error:
                if status_of(error) != 400:
                    raise
                website = self._website_path(website_id)
                version = yield from version_of(server, website, self._state.versions, exact=True)
                if version.least >= (3,) and version.least >= _SINCE[name]:
                    raise
        version.require(_SINCE[name], f"{function}({name!r})")
        return (yield from ask(_OF_2.get(name, name) if version.is_2 else camel(name)))

    # Each description's two functions.

    active_users, active_users_async = both(_active_users)
    website_stats, website_stats_async = both(_website_stats)
    pageviews, pageviews_async = both(_pageviews)
    realtime, realtime_async = both(_realtime)
    date_range, date_range_async = both(_date_range)
    filter_values, filter_values_async = both(_filter_values)

    if TYPE_CHECKING:  # the rows of `metrics` depend on `expanded`, which only overloads can say

        @overload
        def metrics(
            self,
            type: MetricType,
            start_at: Moment | None = None,
            end_at: Moment | None = None,
            website_id: str | None = None,
            *,
            expanded: Literal[False] = False,
            **more: Unpack[MetricOptions],
        ) -> Table[Metric]: ...

        @overload
        def metrics(
            self,
            type: MetricType,
            start_at: Moment | None = None,
            end_at: Moment | None = None,
            website_id: str | None = None,
            *,
            expanded: Literal[True],
            **more: Unpack[MetricOptions],
        ) -> Table[ExpandedMetric]: ...

        def metrics(self, type: MetricType, *args: Any, **kwargs: Any) -> Any: ...  # noqa: A002

        @overload
        async def metrics_async(
            self,
            type: MetricType,
            start_at: Moment | None = None,
            end_at: Moment | None = None,
            website_id: str | None = None,
            *,
            expanded: Literal[False] = False,
            **more: Unpack[MetricOptions],
        ) -> Table[Metric]: ...

        @overload
        async def metrics_async(
            self,
            type: MetricType,
            start_at: Moment | None = None,
            end_at: Moment | None = None,
            website_id: str | None = None,
            *,
            expanded: Literal[True],
            **more: Unpack[MetricOptions],
        ) -> Table[ExpandedMetric]: ...

        async def metrics_async(self, type: MetricType, *args: Any, **kwargs: Any) -> Any: ...  # noqa: A002

    else:
        metrics, metrics_async = both(_metrics)

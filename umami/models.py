"""What the calls return: Umami's records, and the counts of the queue.

Fields have Umami's own names. Unknown fields are ignored, and dates are the strings that the server sent.
"""

from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, model_validator

from ._models import ErrorReport as ErrorReport  # noqa: PLC0414 - public names
from ._models import Model as Model  # noqa: PLC0414
from ._models import QueueStats as QueueStats  # noqa: PLC0414
from ._rows import AsyncRows as AsyncRows  # noqa: PLC0414
from ._rows import Rows as Rows  # noqa: PLC0414
from ._table import Table as Table  # noqa: PLC0414


def _total(value: Any) -> Any:
    """Read a sum as each Umami writes it: a number, `null` without rows, 2.x's `{"value", "prev"}`."""
    if isinstance(value, dict):
        value = value.get("value")
    return 0 if value is None else value


def _text(value: Any) -> Any:
    return "" if value is None else value


Total = Annotated[int, BeforeValidator(_total)]
Amount = Annotated[float, BeforeValidator(_total)]
Text = Annotated[str, BeforeValidator(_text)]


class User(Model):
    """The account that logged in. `role` is empty if the server does not send it, as Umami 2.0 does not."""

    id: str
    username: str
    role: str = ""
    createdAt: str | None = None
    isAdmin: bool = False


class LoginResponse(Model):
    """What `login()` returns. The client stores the token; a repr does not show it."""

    token: str = Field(repr=False)
    user: User


class WebsiteUser(Model):
    """The owner or creator of a website, in short."""

    username: str
    id: str


class Website(Model):
    """A website registered with the server. A team's listing has `createUser` in place of `user`."""

    id: str
    domain: str | None = None
    createdAt: str | None = None
    updatedAt: str | None = None
    name: str | None = None
    shareId: Any = None
    resetAt: Any = None
    deletedAt: Any = None
    userId: str | None = None
    teamId: str | None = None
    user: WebsiteUser | None = None
    createUser: WebsiteUser | None = None


class WebsitesResponse(Model):
    """One page of the websites listing; built from the wire's `data`, read as `websites`."""

    websites: list[Website] = Field(alias="data")
    count: int
    page: int
    pageSize: int
    orderBy: str | None = None


class WebsiteStatsCmp(Model):
    """The same five sums as `WebsiteStats`, for the period before."""

    pageviews: Total = 0
    visitors: Total = 0
    visits: Total = 0
    bounces: Total = 0
    totaltime: Total = 0


class WebsiteStats(Model):
    """A website's sums over a range of time. `totaltime` is in seconds. Custom events do not count here.

    `comparison` has the same sums for the period before. Umami before 2.11 counts no visits: they are 0.
    """

    pageviews: Total
    visitors: Total
    visits: Total
    bounces: Total
    totaltime: Total
    comparison: WebsiteStatsCmp | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_2(cls, sums: Any) -> Any:
        """Read 2.x's form: `{"value", "prev"}` each, and before 2.12 `{"value", "change"}`."""
        if not isinstance(sums, dict) or not isinstance(sums.get("pageviews"), dict):
            return sums
        sums = {"visits": {"value": 0, "prev": 0}, **sums}
        if "uniques" in sums:  # the name of visitors before 2.11
            sums.setdefault("visitors", sums["uniques"])
        before = {name: _before(figure) for name, figure in sums.items() if isinstance(figure, dict)}
        return {"comparison": before, **sums}


def _before(figure: dict[str, Any]) -> Any:
    if "prev" in figure:
        return figure["prev"]
    value, change = figure.get("value"), figure.get("change")
    return value - change if isinstance(value, (int, float)) and isinstance(change, (int, float)) else None


class Metric(Model):
    """A value and how often it occurs, as `metrics()` returns it.

    Attributes:
        x: The value; empty where the server has none.
        y: Its visitors; of events, how often they happened.
        country: The country of a city or region.
    """

    x: Text
    y: Total
    country: str | None = None


class ExpandedMetric(Model):
    """A value and its sums, as `metrics(…, expanded=True)` returns it. `totaltime` is in seconds."""

    name: Text
    pageviews: Total
    visitors: Total
    visits: Total
    bounces: Total
    totaltime: Total
    country: str | None = None


class Point(Model):
    """A point of a series.

    Attributes:
        x: The beginning of the hour, day or other unit, in the query's time zone.
        y: The number.
    """

    x: str
    y: Total


class SeriesBefore(Model):
    """The series of the period before, or of the year before."""

    pageviews: Table[Point]
    sessions: Table[Point]


class Series(SeriesBefore):
    """Page views and sessions over time, as `pageviews()` returns them; `compare` if it was asked for."""

    compare: SeriesBefore | None = None


class EventPoint(Model):
    """How often an event happened in a unit of time.

    Attributes:
        x: The event's name.
        t: The beginning of the hour, day or other unit, in the query's time zone.
        y: The number.
    """

    x: Text
    t: str
    y: Total


class EventStatsCmp(Model):
    """The sums of `EventStats`, for the period before."""

    events: Total = 0
    visitors: Total = 0
    visits: Total = 0
    uniqueEvents: Total = 0


class EventStats(EventStatsCmp):
    """The sums of a website's custom events, as `event_stats()` returns them."""

    comparison: EventStatsCmp | None = None


class ValueStats(Model):
    """The statistics of a number in custom data, as `event_value_stats()` returns them; 0 without any."""

    total: Amount = 0.0
    average: Amount = 0.0
    median: Amount = 0.0
    min: Amount = 0.0
    max: Amount = 0.0


class DateRange(Model):
    """The first and the last event of a website; None without events."""

    startDate: str | None = Field(None, validation_alias=AliasChoices("startDate", "mindate"))
    endDate: str | None = Field(None, validation_alias=AliasChoices("endDate", "maxdate"))


class Value(Model):
    """A value of a filter, and the number of events that have it."""

    value: Text
    count: Total = 0


class EventProperty(Model):
    """A key in the custom data of an event, and how often it occurs."""

    eventName: Text = ""
    propertyName: str
    total: Total


class PropertyValue(Model):
    """A value in the custom data, and how often it occurs."""

    value: Text
    total: Total


class SessionStats(Model):
    """The sums of a website's sessions, as `session_stats()` returns them."""

    pageviews: Total = 0
    visitors: Total = 0
    visits: Total = 0
    countries: Total = 0
    events: Total = 0


class Event(Model):
    """A page view, `eventType` 1, or a custom event, 2, as `events()` returns it."""

    id: str
    websiteId: str | None = None
    sessionId: str
    createdAt: str
    hostname: str | None = None
    urlPath: str | None = None
    urlQuery: str | None = None
    referrerPath: str | None = None
    referrerQuery: str | None = None
    referrerDomain: str | None = None
    country: str | None = None
    city: str | None = None
    device: str | None = None
    os: str | None = None
    browser: str | None = None
    pageTitle: str | None = None
    eventType: int | None = None
    eventName: str | None = None
    hasData: bool | None = None


class Session(Model):
    """A session, as `sessions()` and `session()` return it; `totaltime` and `distinctId` of the latter alone.

    `totaltime` is in seconds. A session that was seen on several host names is listed once for each.
    """

    id: str
    websiteId: str | None = None
    hostname: str | None = None
    distinctId: str | None = None
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    screen: str | None = None
    language: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    firstAt: str | None = None
    lastAt: str | None = None
    visits: Total = 0
    views: Total = 0
    events: Total = 0
    totaltime: Total = 0


class SessionActivity(Model):
    """A page view or event of a session, as `session_activity()` returns it."""

    createdAt: str
    urlPath: str | None = None
    urlQuery: str | None = None
    referrerDomain: str | None = None
    eventId: str | None = Field(None, validation_alias=AliasChoices("eventId", "id"))
    eventType: int | None = None
    eventName: str | None = None
    visitId: str | None = None
    hostname: str | None = None
    hasData: bool | None = None


class Property(Model):
    """A key and value of custom data. `dataType` is 1 for texts, 2 numbers, 3 booleans, 4 dates, 5 lists."""

    dataKey: str
    dataType: int | None = None
    stringValue: str | None = None
    numberValue: float | None = None
    dateValue: str | None = None
    createdAt: str | None = None


class EventData(Model):
    """An event's custom data, as `event_data()` returns it."""

    eventId: str
    websiteId: str | None = None
    eventName: str | None = None
    eventProperties: Table[Property]


class RealtimeEvent(Model):
    """A page view, event or new session of the last half hour. `type` is `pageview`, `event` or `session`."""

    type: str = Field("", validation_alias="__type")
    sessionId: str | None = None
    eventName: str | None = None
    createdAt: str | None = None
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    country: str | None = None
    urlPath: str | None = None
    referrerDomain: str | None = None
    hostname: str | None = None


class RealtimeSeries(Model):
    """Page views and visitors a minute."""

    views: Table[Point]
    visitors: Table[Point]


class RealtimeTotals(Model):
    """The sums of the last half hour."""

    views: Total = 0
    visitors: Total = 0
    events: Total = 0
    countries: Total = 0


class Realtime(Model):
    """What happened in the last half hour, as `realtime()` returns it; at most 100 events.

    `timestamp` is the server's time in epoch milliseconds.
    """

    countries: dict[str, Total]
    urls: dict[str, Total]
    referrers: dict[str, Total]
    events: Table[RealtimeEvent]
    series: RealtimeSeries
    totals: RealtimeTotals
    timestamp: int | None = None


class Team(Model):
    """A team. `accessCode` lets others join it."""

    id: str
    name: str | None = None
    accessCode: str | None = Field(None, repr=False)
    createdAt: str | None = None


class Member(Model):
    """A member of a team. `user` has the name where a list of members is read."""

    id: str
    teamId: str
    userId: str
    role: str
    createdAt: str | None = None
    user: WebsiteUser | None = None


class Share(Model):
    """A public page of a website, link or pixel, at `/share/` and its `slug`."""

    id: str
    entityId: str
    name: str | None = None
    slug: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    createdAt: str | None = None
    updatedAt: str | None = None


class Link(Model):
    """A short link that Umami counts and forwards to `url`. Its `id` is the website id of its figures."""

    id: str
    name: str | None = None
    url: str | None = None
    slug: str | None = None
    userId: str | None = None
    teamId: str | None = None
    createdAt: str | None = None
    updatedAt: str | None = None


class Pixel(Model):
    """An image whose views Umami counts. Its `id` is the website id of its figures."""

    id: str
    name: str | None = None
    slug: str | None = None
    userId: str | None = None
    teamId: str | None = None
    createdAt: str | None = None
    updatedAt: str | None = None


class Segment(Model):
    """A saved set of filters, `segment`, or of visitors, `cohort`.

    The filters of these names take its `id`.
    """

    id: str
    name: str | None = None
    type: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    websiteId: str | None = None
    createdAt: str | None = None
    updatedAt: str | None = None


class FunnelStep(Model):
    """A step of a funnel.

    Attributes:
        type: `path` or `event`.
        value: The path or the event's name.
        visitors: How many took it, after the steps before it.
        previous: How many took the step before.
        dropped: How many of those did not take this one.
        dropoff: The share of `dropped`; None if there were none before.
        remaining: The share of the first step's visitors; None if there were none.
    """

    type: str
    value: str
    visitors: Total = 0
    previous: Total = 0
    dropped: Total = 0
    dropoff: float | None = None
    remaining: float | None = None


class RetentionRow(Model):
    """How many of the visitors of `date` came back `day` days later; `percentage` of all that day."""

    date: str
    day: int
    visitors: Total
    returnVisitors: Total
    percentage: Amount


class Journey(Model):
    """A way through a website: paths and events, None where there was no further step."""

    items: list[str | None]
    count: Total


class GoalResult(Model):
    """How many visitors reached a goal, `num`, of how many, `total`."""

    num: Total
    total: Total


class UtmValue(Model):
    """A campaign parameter's value and its page views."""

    utm: Text
    views: Total


class Utm(Model):
    """The values of the campaign parameters."""

    utm_source: Table[UtmValue]
    utm_medium: Table[UtmValue]
    utm_campaign: Table[UtmValue]
    utm_content: Table[UtmValue]
    utm_term: Table[UtmValue]


class NamedValue(Model):
    """A name, and its visitors or its revenue."""

    name: Text
    value: Amount


class RegionValue(NamedValue):
    """A region, its country, and its revenue."""

    country: str | None = None


class AttributionTotal(Model):
    """The sums of an attribution."""

    pageviews: Total = 0
    visitors: Total = 0
    visits: Total = 0


class Attribution(Model):
    """Which origins led to a goal: visitors, or revenue if a currency was asked for."""

    referrer: Table[NamedValue]
    paidAds: Table[NamedValue]
    utm_source: Table[NamedValue]
    utm_medium: Table[NamedValue]
    utm_campaign: Table[NamedValue]
    utm_content: Table[NamedValue]
    utm_term: Table[NamedValue]
    total: AttributionTotal


class Breakdown(Model):
    """The sums of a combination of values.

    These are attributes too, by Umami's names: `row.path`, `row.country`.
    """

    model_config = ConfigDict(extra="allow")

    views: Total = 0
    visitors: Total = 0
    visits: Total = 0
    bounces: Total = 0
    totaltime: Total = 0


class RevenuePoint(Model):
    """The revenue `y` of an event `x` in a unit of time that begins at `t`, and the number of payments."""

    x: Text
    t: str
    y: Amount
    count: Total = 0


class RevenueTotalCmp(Model):
    """The sums of `RevenueTotal`, for the period before. `arpu` is the revenue a session."""

    sum: Amount = 0.0
    count: Total = 0
    average: Amount = 0.0
    unique_count: Total = 0
    arpu: Amount = 0.0
    total_sessions: Total = 0


class RevenueTotal(RevenueTotalCmp):
    """The sums of the revenue."""

    comparison: RevenueTotalCmp | None = None


class Revenue(Model):
    """The revenue in a currency. Umami 3.0 has `chart` and `total` alone."""

    chart: Table[RevenuePoint]
    total: RevenueTotal
    country: Table[NamedValue] = Field(default_factory=Table)
    region: Table[RegionValue] = Field(default_factory=Table)
    referrer: Table[NamedValue] = Field(default_factory=Table)
    channel: Table[NamedValue] = Field(default_factory=Table)


class Percentiles(Model):
    """Half, three quarters and 95 % of visitors saw at most this: milliseconds, but for `cls`."""

    p50: Amount = 0.0
    p75: Amount = 0.0
    p95: Amount = 0.0


class VitalsPoint(Percentiles):
    """The percentiles in a unit of time that begins at `t`."""

    t: str


class VitalsRow(Percentiles):
    """The percentiles of a page, title, device or browser."""

    name: Text
    count: Total = 0


class VitalsSummary(Model):
    """The percentiles of all measures, and how often they were measured."""

    lcp: Percentiles
    inp: Percentiles
    cls: Percentiles
    fcp: Percentiles
    ttfb: Percentiles
    count: Total = 0


class WebVitals(Model):
    """How fast pages were for visitors."""

    chart: Table[VitalsPoint]
    summary: VitalsSummary
    pages: Table[VitalsRow]
    pageTitles: Table[VitalsRow]
    devices: Table[VitalsRow]
    browsers: Table[VitalsRow]

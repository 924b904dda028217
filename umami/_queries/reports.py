"""Reports: what visitors do one after another, and what it is worth (see `_calls.both`)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from typing_extensions import Unpack

from umami._calls import both
from umami._events import fields as event_fields
from umami._events.values import given
from umami._http.messages import Flow
from umami.errors import UnsupportedError, ValidationError
from umami.filters import Filters, Step
from umami.models import (
    Attribution,
    Breakdown,
    FunnelStep,
    GoalResult,
    Journey,
    RetentionRow,
    Revenue,
    Table,
    Utm,
    WebVitals,
)

from .arguments import camel, one_of, several, text_or_none, whole
from .describing import described
from .figures import Filterable, Unit
from .query import Moment
from .ranges import range_of
from .report import ReportQueries

Model = Literal["first-click", "last-click"]
Vital = Literal["lcp", "inp", "cls", "fcp", "ttfb"]


class Reports(ReportQueries):
    """The reports of a client. They need Umami 3.0 or later."""

    @described
    def _funnel(
        self,
        steps: Sequence[Step],
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        window: timedelta = timedelta(hours=1),
        **filters: Unpack[Filters],
    ) -> Flow[Table[FunnelStep]]:
        """Return how many visitors took one step after another. This needs Umami 3.0 or later.

        Args:
            steps: Two to eight of `umami.filters.path()` and `umami.filters.event()`.
            window: How long a visitor may take from one step to the next, in whole minutes.

        Returns:
            A table with each step's visitors, and those who went no further.

        Example:
            ```python
            steps = [filters.path("/pricing"), filters.event("signup")]
            for row in umami.funnel(steps, period="30d"):
                print(row.value, row.visitors, row.dropped)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        taken = [{"type": step.type, "value": step.value} for step in map(_step, several("steps", steps))]
        if not 2 <= len(taken) <= 8:
            raise ValidationError(f"steps must be two to eight, got {len(taken)}.")
        if not isinstance(window, timedelta) or window < timedelta(minutes=1):
            raise ValidationError(f"window must be a timedelta of a minute or more, got {given(window)}.")
        parameters = {"steps": taken, "window": window // timedelta(minutes=1)}
        return (
            yield from self._report(
                "funnel()", "funnel", Table[FunnelStep], when, website_id, filters, parameters
            )
        )

    @described
    def _retention(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Table[RetentionRow]]:
        """Return how many of a day's visitors came back after so many days. This needs Umami 3.0 or later.

        Returns:
            A table of days and the visitors that came back, up to 31 days later.

        Example:
            ```python
            for row in umami.retention(period="last_month"):
                print(row.date, row.day, row.percentage)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        parameters = {"timezone": when.zone}
        return (
            yield from self._report(
                "retention()", "retention", Table[RetentionRow], when, website_id, filters, parameters
            )
        )

    @described
    def _journeys(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        steps: int = 5,
        start_step: str | None = None,
        end_step: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Table[Journey]]:
        """Return the most frequent ways through a website. This needs Umami 3.0 or later.

        Args:
            steps: How many steps to look at, two to seven.
            start_step: Only ways that begin with this path or event.
            end_step: Only ways that end with this path or event.

        Returns:
            A table of ways and their numbers, 100 at most. A step that was not taken is None.

        Example:
            ```python
            for row in umami.journeys(period="7d", steps=3):
                print(row.count, row.items)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        parameters = {
            "steps": whole("steps", steps, 2, 7),
            "startStep": text_or_none("start_step", start_step),
            "endStep": text_or_none("end_step", end_step),
        }
        return (
            yield from self._report(
                "journeys()", "journey", Table[Journey], when, website_id, filters, parameters
            )
        )

    @described
    def _goal(
        self,
        step: Step,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[GoalResult]:
        """Return how many visitors reached a goal. This needs Umami 3.0 or later.

        Args:
            step: The goal: `umami.filters.path()` or `umami.filters.event()`.

        Returns:
            How many reached it, and how many there were.

        Example:
            ```python
            goal = umami.goal(filters.event("signup"), period="7d")
            print(goal.num, "of", goal.total)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        parameters = {"type": _step(step).type, "value": step.value}
        return (yield from self._report("goal()", "goal", GoalResult, when, website_id, filters, parameters))

    @described
    def _utm(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Utm]:
        """Return the page views of each campaign parameter. This needs Umami 3.0 or later.

        Returns:
            A table for each of `utm_source`, `utm_medium`, `utm_campaign`, `utm_content` and `utm_term`.

        Example:
            ```python
            for row in umami.utm(period="30d").utm_campaign:
                print(row.utm, row.views)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        return (yield from self._report("utm()", "utm", Utm, when, website_id, filters, {}))

    @described
    def _attribution(
        self,
        step: Step,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        model: Model = "first-click",
        currency: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Attribution]:
        """Return which referrers and campaigns led to a goal. This needs Umami 3.0 or later.

        Args:
            step: The goal: `umami.filters.path()` or `umami.filters.event()`.
            model: Which visit counts: the `first-click` or the `last-click`.
            currency: Sum up the revenue in this currency, instead of counting visitors. Umami 3.0 alone can.

        Returns:
            A table for each kind of origin.

        Example:
            ```python
            paid = umami.attribution(filters.event("checkout"), period="30d", currency="EUR")
            for row in paid.utm_campaign:
                print(row.name, row.value)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        if currency is not None:
            version = yield from self._version_for(website_id)
            if version.least >= (3, 1):  # they take the parameter, and count visitors nevertheless
                raise UnsupportedError(
                    f"currency cannot be used with this server: {version} counts visitors anyway. Leave "
                    "it out, and ask revenue() for sums."
                )
        parameters = {
            "model": one_of("model", model, Model),
            "type": _step(step).type,
            "step": step.value,
            "currency": None if currency is None else event_fields.currency(currency),
        }
        return (
            yield from self._report(
                "attribution()", "attribution", Attribution, when, website_id, filters, parameters
            )
        )

    @described
    def _breakdown(
        self,
        fields: Sequence[Filterable],
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        **filters: Unpack[Filters],
    ) -> Flow[Table[Breakdown]]:
        """Return the sums of each combination of some fields' values. This needs Umami 3.0 or later.

        Args:
            fields: The fields, such as `["path", "country"]`.

        Returns:
            A table with the sums, and the fields by Umami's names: 500 rows at most.

        Example:
            ```python
            umami.breakdown(["path", "country"], period="7d").to_csv("breakdown.csv")
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        names = [camel(one_of("fields", field, Filterable)) for field in several("fields", fields)]
        if not names:
            raise ValidationError("fields must have at least one field.")
        return (
            yield from self._report(
                "breakdown()", "breakdown", Table[Breakdown], when, website_id, filters, {"fields": names}
            )
        )

    @described
    def _revenue(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        currency: str = "USD",
        unit: Unit = "day",
        **filters: Unpack[Filters],
    ) -> Flow[Revenue]:
        """Return the revenue in a currency. This needs Umami 3.0 or later.

        Args:
            currency: The currency, as `new_revenue_event` sent it.
            unit: The unit of time of `chart`.

        Returns:
            The sum, the number of payments, their average, and the revenue over time; from Umami 3.1 on also
            by country, region, referrer and channel.

        Example:
            ```python
            print(umami.revenue(period="this_month", currency="EUR").total.sum)
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        parameters = {
            "currency": event_fields.currency(currency),
            "unit": one_of("unit", unit, Unit),
            "timezone": when.zone,
        }
        return (
            yield from self._report("revenue()", "revenue", Revenue, when, website_id, filters, parameters)
        )

    @described
    def _web_vitals(
        self,
        start_at: Moment | None = None,
        end_at: Moment | None = None,
        website_id: str | None = None,
        *,
        period: str | None = None,
        timezone: str | None = None,
        metric: Vital = "lcp",
        unit: Unit = "day",
        **filters: Unpack[Filters],
    ) -> Flow[WebVitals]:
        """Return how fast pages were for visitors. This needs Umami 3.1 or later.

        Args:
            metric: The measure of `chart` and the tables: `lcp`, `inp`, `cls`, `fcp` or `ttfb`.
            unit: The unit of time of `chart`.

        Returns:
            The 50th, 75th and 95th percentile over time, in sum, and by page, title, device and browser.

        Example:
            ```python
            print(umami.web_vitals(period="7d").summary.lcp.p75, "ms")
            ```
        """
        when = range_of(start_at, end_at, period, timezone)
        parameters = {
            "metric": one_of("metric", metric, Vital),
            "unit": one_of("unit", unit, Unit),
            "timezone": when.zone,
        }
        return (
            yield from self._report(
                "web_vitals()", "performance", WebVitals, when, website_id, filters, parameters, since=(3, 1)
            )
        )

    # Each description's two functions.

    funnel, funnel_async = both(_funnel)
    retention, retention_async = both(_retention)
    journeys, journeys_async = both(_journeys)
    goal, goal_async = both(_goal)
    utm, utm_async = both(_utm)
    attribution, attribution_async = both(_attribution)
    breakdown, breakdown_async = both(_breakdown)
    revenue, revenue_async = both(_revenue)
    web_vitals, web_vitals_async = both(_web_vitals)


def _step(step: Any) -> Step:
    if not isinstance(step, Step):
        raise ValidationError(
            f"A step must be umami.filters.path(…) or umami.filters.event(…), got {given(step)}."
        )
    return step

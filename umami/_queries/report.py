"""One report: asked for by POST, or by the routes that newer servers have for its parts."""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, TypeVar

from pydantic_core import to_json

from umami._http import filters as filtering
from umami._http.asking import checked, lacks_route, status_of
from umami._http.messages import Flow, json_of
from umami._http.versions import version_of

from .query import V3, Queries, read_as, read_rows, require_route
from .ranges import Range

T = TypeVar("T")


class Part(NamedTuple):
    """A part of a report that has a route of its own.

    Attributes:
        route: The route below the website's own.
        member: The report's member that its answer is; None if the answer holds the members.
        type: Its parameter `type`, if it has one.
    """

    route: str
    member: str | None = None
    type: str | None = None


# By Umami's OpenAPI document of 3.3.1.
_PARTS: Final[Mapping[str, tuple[Part, ...]]] = {
    "funnel": (Part("/funnels/stats"),),
    "retention": (Part("/retention"),),
    "journey": (Part("/journeys"),),
    "goal": (Part("/goals/stats"),),
    "attribution": (Part("/attribution"),),
    "breakdown": (Part("/breakdown"),),
    "utm": tuple(
        Part("/utm/metrics", name, name)
        for name in ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
    ),
    "revenue": (
        Part("/revenue/chart"),
        Part("/revenue/stats", "total"),
        *(Part("/revenue/metrics", name, name) for name in ("country", "region", "referrer", "channel")),
    ),
    "performance": (
        Part("/performance/chart"),
        Part("/performance/stats", "summary"),
        Part("/performance/metrics", "pages", "path"),
        Part("/performance/metrics", "pageTitles", "title"),
        Part("/performance/metrics", "devices", "device"),
        Part("/performance/metrics", "browsers", "browser"),
    ),
}


class ReportQueries(Queries):
    """What the reports are asked with."""

    def _report(
        self,
        call: str,
        type_: str,
        kind: type[T],
        when: Range,
        website_id: str | None,
        filters: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        since: tuple[int, ...] = V3,
    ) -> Flow[T]:
        """Ask for a report.

        Args:
            call: The call, for errors: `funnel()`.
            type_: The report's name at the server.
            kind: What the answer is read as.
            when: The range of time.
            website_id: The website.
            filters: The filters as the caller gave them.
            parameters: The report's own parameters; those of None are left out.
            since: The first version that has it.
        """
        server = self._state.server(login=True)
        website = self._website_id(website_id)
        held = filtering.checked(filters)
        path = self._website_path(website_id)
        version, written = yield from self._translated(server, path, held, since=since, name=call)
        own = {name: value for name, value in parameters.items() if value is not None}
        body = {
            "websiteId": website,
            "type": type_,
            "filters": written,
            "parameters": {"startDate": _iso(when.start), "endDate": _iso(when.end), **own},
        }
        request = server.request("POST", f"/reports/{type_}", json=body)
        response = yield request
        if lacks_route(response):
            asked = {**when.parameters, **written, **own}
            return (yield from self._report_by_get(call, type_, kind, path, asked, held, since))
        try:
            checked(request, response, filters=filtering.shown(held))
        except Exception as error:
            if status_of(error) == 400 and version is None:  # Umami 2 has some reports, by other parameters
                found = yield from version_of(server, path, self._state.versions, exact=False)
                found.require(since, call)
            raise
        return read_as(kind, request, response)

    def _report_by_get(
        self,
        call: str,
        type_: str,
        kind: type[T],
        path: str,
        parameters: Mapping[str, Any],
        held: filtering.Given,
        since: tuple[int, ...],
    ) -> Flow[T]:
        """Ask for a report by the routes that Umami 3.3 has beside POST, which a later one may not have."""
        texts = {
            name: to_json(value).decode() if isinstance(value, list) else value
            for name, value in parameters.items()
        }
        report: Any = {}
        for part in _PARTS[type_]:
            params = texts if part.type is None else {**texts, "type": part.type}
            request = self._state.server(login=True).request("GET", path + part.route, params=params)
            response = yield request
            require_route(call, request, since, response)
            answer = json_of(checked(request, response, filters=filtering.shown(held)))
            if part.member is not None:
                report[part.member] = answer
            else:
                report = {**report, **answer} if isinstance(answer, dict) else answer
        return read_rows(kind, report, request)


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

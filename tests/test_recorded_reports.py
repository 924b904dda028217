"""Reports as a real Umami 3.1.0 answered them, over 20,000 events of 500 visitors in three months.

The client makes each request as it was recorded, and its models have every figure of the answer.
"""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from old_umami import Answer, OldUmami, Seen, served
from pydantic import BaseModel

import umami
from umami import filters

SITE = "11111111-2222-4333-8444-555555555555"
VITALS = "978435e2-7ba1-4337-9860-ec31ece2db60"  # a website of which browsers sent web vitals
RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recordings" / "reports-3.1.0.json").read_text("utf-8")
)
BERLIN = {"timezone": "Europe/Berlin"}
ALL: dict[str, Any] = {
    "start_at": datetime(2025, 8, 29, tzinfo=timezone.utc),
    "end_at": datetime(2025, 11, 29, tzinfo=timezone.utc),
    **BERLIN,
}
WEEK: dict[str, Any] = {
    "start_at": datetime(2025, 11, 3, tzinfo=timezone.utc),
    "end_at": datetime(2025, 11, 10, tzinfo=timezone.utc),
    **BERLIN,
}
PRICING, BLOG, SIGNUP = filters.path("/pricing"), filters.path("/blog*"), filters.event("signup")
REVENUE = filters.event("revenue")
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("funnel", ([PRICING, BLOG, SIGNUP],), {**ALL, "window": timedelta(minutes=30)}),
    ("funnel", ([PRICING, REVENUE],), {**ALL, "browser": "chrome"}),
    ("goal", (SIGNUP,), ALL),
    ("goal", (BLOG,), {**ALL, "browser": ["chrome", "firefox"]}),
    ("journeys", (), {**WEEK, "steps": 3, "start_step": "/pricing"}),
    ("retention", (), WEEK),
    ("utm", (), ALL),
    ("utm", (), {**ALL, "path": filters.contains("shop")}),
    ("attribution", (SIGNUP,), ALL),
    ("attribution", (REVENUE,), {**ALL, "model": "last-click"}),
    ("breakdown", (["browser", "os"],), ALL),
    ("breakdown", (["tag", "event"],), {**ALL, "device": "mobile"}),
    ("revenue", (), {**ALL, "currency": "EUR", "unit": "month"}),
    ("revenue", (), {**ALL, "currency": "USD", "unit": "month", "language": "fr"}),
    ("web_vitals", (), {**ALL, "metric": "lcp", "unit": "month", "website_id": VITALS}),
]


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[name for name, _, _ in CALLS])
def test_a_report_is_asked_for_and_read_as_recorded(number: int) -> None:
    recorded = RECORDED[number]

    def answer(seen: Seen) -> Answer | None:
        return Answer(200, recorded["answer"]) if seen.method == "POST" else None

    name, args, kwargs = CALLS[number]
    server = OldUmami("3.1", answer)
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        report = getattr(client, name)(*args, **kwargs)
    assert server.seen[-1].path == f"/api/reports/{recorded['request']['type']}"
    assert server.seen[-1].body == recorded["request"]
    has_all(report, recorded["answer"])


def has_all(read: Any, answer: Any) -> None:
    """Check that what was read has all that was answered. Umami sends sums as texts, and null for 0."""
    if isinstance(answer, dict):
        assert isinstance(read, BaseModel)
        for name, value in answer.items():
            has_all(getattr(read, name), value)
    elif isinstance(answer, list):
        assert len(read) == len(answer)
        for each, value in zip(read, answer, strict=True):
            has_all(each, value)
    elif answer is None:
        assert not read
    else:
        assert read == (float(answer) if isinstance(read, int | float) else answer)

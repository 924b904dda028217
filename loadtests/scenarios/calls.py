"""The cost of a call, from one and from several threads, the memory of an event, and the import."""

from typing import Final

from loadtests.model import Case, Column, Goal, Metrics, Scenario
from loadtests.sink import Behaviour
from loadtests.subjects import SITE

BUFFERED_PEERS: Final = ("posthog", "segment", "sentry-logs", "otel-logs", "statsig", "snowplow")
"""The peers that queue events, as this client does."""

_KINDS: Final = {"event": "new_event", "page_view": "new_page_view", "revenue": "new_revenue_event"}


def enqueue(quick: bool) -> Scenario:
    """What does one send cost its caller?"""
    events = 4_000 if quick else 20_000
    cases: list[Case] = []
    goals = []
    for kind, function in _KINDS.items():
        options = {"events": events, "kind": kind}
        floor, ours = f"floor, {function}", f"ours, {function}"
        cases += [Case(floor, "floor", "enqueue", options), Case(ours, "ours", "enqueue", options)]
        goals.append(Goal(f"{function} ÷ floor", "cpu_us", (ours,), (floor,), at_most=2.5))
    cases.append(Case("ours, new_event, spool", "ours-spooled", "enqueue", {"events": events}))
    cases += [Case(peer, peer, "enqueue", {"events": events}) for peer in (*BUFFERED_PEERS, "umami-1.0.0")]
    send = ("ours, new_event",)

    def derive(measured: dict[str, Metrics]) -> None:
        """Add what a spool adds to a send."""
        plain, spooled = (measured.get(f"ours, new_event{spool}", {}) for spool in ("", ", spool"))
        if "cpu_us" in plain and "cpu_us" in spooled:
            spooled["spool_us"] = spooled["cpu_us"] - plain["cpu_us"]

    return Scenario(
        "enqueue",
        "What does one send cost its caller?",
        f"CPU of the calling thread over {events:,} sends in chunks of 500, each chunk flushed before the "
        "next, which is not counted; p50 and p99 of single calls, without the cost of reading the clock. "
        "With a spool, each event is written to a file in the temporary folder.",
        tuple(cases),
        (
            Column("cpu_us", "CPU µs a send", 2),
            Column("p50_us", "p50 µs", 2),
            Column("p99_us", "p99 µs", 2),
        ),
        (
            *goals,
            Goal("what a spool adds, µs", "spool_us", ("ours, new_event, spool",), at_most=5),
            Goal("cheapest peer ÷ new_event", "cpu_us", BUFFERED_PEERS, send, at_least=3),
            Goal("PostHog ÷ new_event", "cpu_us", ("posthog",), send, at_least=12),
        ),
        derive,
    )


def enqueue_async(quick: bool) -> Scenario:
    """How much more does an async send cost than a sync one?"""
    events = 4_000 if quick else 20_000
    return Scenario(
        "enqueue-async",
        "How much more does an async send cost than a sync one?",
        f"CPU of the event loop's thread over {events:,} sends in a coroutine, in chunks of 500.",
        (
            Case("new_event", "ours", "enqueue-async", {"events": events, "awaited": False}),
            Case("new_event_async", "ours", "enqueue-async", {"events": events, "awaited": True}),
        ),
        (Column("cpu_us", "CPU µs a send", 2),),
        (Goal("async ÷ sync", "cpu_us", ("new_event_async",), ("new_event",), at_most=1.25),),
    )


def enqueue_threads(quick: bool) -> Scenario:
    """Do threads that send at once slow each other down?"""
    events = 40_000 if quick else 90_000
    cases = [
        Case(
            f"{subject}, {threads} thread{'s' * (threads > 1)}",
            subject,
            "enqueue-threads",
            {"events": events, "threads": threads},
        )
        for subject in ("floor", "ours")
        for threads in (1, 2, 4, 16)
    ]
    return Scenario(
        "enqueue-threads",
        "Do threads that send at once slow each other down?",
        f"{events:,} sends in total, from several threads at once; wall-clock times of single calls.",
        tuple(cases),
        (
            Column("rate", "events/s", 0),
            Column("p50_us", "p50 µs", 1),
            Column("p999_us", "p99.9 µs", 0),
            Column("worst_ms", "worst ms", 1),
        ),
        (
            Goal(
                "events/s with 16 threads ÷ with one",
                "rate",
                ("ours, 16 threads",),
                ("ours, 1 thread",),
                at_least=0.8,
            ),
        ),
    )


def memory(quick: bool) -> Scenario:
    """How much memory does a queued event take?"""
    silent = Behaviour(silent=True)
    events = 20_000 if quick else 50_000
    held = {"posthog": 9_000, "segment": 9_000, "sentry-logs": 900, "otel-logs": 2_000, "statsig": 9_000}
    return Scenario(
        "memory",
        "How much memory does a queued event take, and the whole agent with a full queue?",
        "Growth of the process's resident memory while a server accepts the connection but never answers. "
        f"This client and the floor hold {events:,} events, each peer as many as its queue can hold. Full "
        "queues have the default limits: 100,000 events, or 64 MiB of large ones.",
        (
            Case("floor", "floor", "memory", {"events": events}, silent),
            Case("ours", "ours", "memory", {"events": events}, silent),
            Case("ours, queue full", "ours", "memory", {"events": 101_000}, silent),
            Case("ours, queue full of 5 KB", "ours", "memory", {"events": 20_000, "size": 4_800}, silent),
            *(Case(peer, peer, "memory", {"events": count}, silent) for peer, count in held.items()),
        ),
        (
            Column("bytes_event", "bytes an event", 0),
            Column("agent_mb", "whole agent, MiB", 1),
            Column("pending", "queued", 0),
            Column("dropped", "dropped", 0),
        ),
        (
            Goal("bytes of a typical event", "bytes_event", ("ours",), at_most=450),
            Goal("agent with 100,000 events, MiB", "agent_mb", ("ours, queue full",), at_most=64),
            Goal(
                "agent with 64 MiB of large events, MiB, 10 of them for its client and threads",
                "agent_mb",
                ("ours, queue full of 5 KB",),
                at_most=74,
            ),
        ),
    )


def import_time(quick: bool) -> Scenario:  # noqa: ARG001
    """What does it cost to import the package?"""
    modules = {
        "httpx, pydantic": ("floor", "httpx,pydantic"),
        # Both import most of their modules at the first use. A program that uses them imports these.
        "httpx, pydantic, in use": ("floor", "httpx,httpcore,pydantic.main"),
        "ours": ("ours", "umami"),
        "umami-1.0.0": ("umami-1.0.0", "umami"),
        "posthog": ("posthog", "posthog"),
        "sentry-logs": ("sentry-logs", "sentry_sdk"),
        "otel-logs": (
            "otel-logs",
            "opentelemetry.sdk._logs,opentelemetry.exporter.otlp.proto.http._log_exporter",
        ),
    }
    ready = (
        f"import umami; umami.configure(url_base='http://127.0.0.1:9', website_id={SITE!r}, hostname='a.b')"
    )
    then = {"ours": f"{ready}; umami.new_event('first')"}
    imports = tuple(
        Case(name, subject, "import", {"modules": names, "then": then.get(name, "")}, None)
        for name, (subject, names) in modules.items()
    )
    return Scenario(
        "import",
        "What do the import and the first event cost?",
        "A process that has imported nothing else. Ready: after the import, `configure` (imports httpx) "
        "and the first send. The first two sends are wall-clock times, from another process.",
        (*imports, Case("ours, sends", "ours", "first-call")),
        (
            Column("import_cpu_ms", "import, CPU ms", 0),
            Column("import_ms", "import, ms", 0),
            Column("ready_cpu_ms", "ready, CPU ms", 0),
            Column("first_ms", "first event, ms", 2),
            Column("second_ms", "second event, ms", 3),
        ),
        (
            Goal(
                "import, configure and first send ÷ httpx + pydantic in use",
                "ready_cpu_ms",
                ("ours",),
                ("httpx, pydantic, in use",),
                at_most=1.25,
                to_metric="import_cpu_ms",
            ),
            Goal(
                "import umami ÷ httpx + pydantic",
                "import_cpu_ms",
                ("ours",),
                ("httpx, pydantic",),
                at_most=1.25,
            ),
        ),
    )

"""The effect on a web service: bursts of sends in its event loop, and its throughput under load."""

from typing import Final

from loadtests.model import Case, Column, Goal, Metrics, Scenario
from loadtests.sink import Behaviour

from .calls import BUFFERED_PEERS

_SERVERS: Final[dict[str, Behaviour | None]] = {
    "healthy": Behaviour(),
    "slow": Behaviour(latency=0.5),
    "dead": None,
}


def burst(quick: bool) -> Scenario:
    """How long does a burst of sends block an event loop?"""
    cases: list[Case] = []
    goals: list[Goal] = []
    for events in (1_000, 10_000):
        options = {"events": events, "bursts": 3 if quick else 7, "room": events + 100}
        floor, ours = f"floor, {events:,}", f"ours, {events:,}"
        cases += [Case(floor, "floor", "burst", options), Case(ours, "ours", "burst", options)]
        goals.append(Goal(f"{events:,} sends: block ÷ floor", "block_ms", (ours,), (floor,), at_most=2.5))
    peer_options = {"events": 1_000, "bursts": 3 if quick else 7}
    cases += [Case(f"{peer}, 1,000", peer, "burst", peer_options) for peer in BUFFERED_PEERS]
    cases += [
        Case("ours, first event", "ours", "first-event"),
        Case("ours, first event, https", "ours", "first-event", {"scheme": "https"}, None),
    ]
    one = ("ours, 1,000",)
    return Scenario(
        "burst",
        "How long does a burst of sends block an event loop, and how late are its timers afterwards?",
        "A timer is due every millisecond. Its delay is measured in wall-clock time, when idle and while the "
        "worker drains the queue. First event: the longest delay in the 1.2 s after the process's first send "
        "and after later ones; with https the server refuses connections, but the client and its TLS context "
        "are still created.",
        tuple(cases),
        (
            Column("block_ms", "block, ms", 2),
            Column("idle_p99_ms", "tick late, idle, p99 ms", 2),
            Column("draining_p99_ms", "draining, p99 ms", 2),
            Column("first_ms", "first event, worst ms", 2),
            Column("later_ms", "later event, worst ms", 2),
        ),
        (
            *goals,
            Goal(
                "best peer's block ÷ ours",
                "block_ms",
                tuple(f"{peer}, 1,000" for peer in BUFFERED_PEERS),
                one,
                at_least=3,
            ),
            *(
                Goal(
                    f"tick's p99 draining ÷ idle, {size}",
                    "draining_p99_ms",
                    (f"ours, {size}",),
                    (f"ours, {size}",),
                    at_most=1.2,
                    to_metric="idle_p99_ms",
                )
                for size in ("1,000", "10,000")
            ),
            *(
                Goal(
                    f"first event's stall ÷ a later one's{note}",
                    "first_ms",
                    (case,),
                    (case,),
                    1.2,
                    None,
                    "later_ms",
                )
                for case, note in (("ours, first event", ""), ("ours, first event, https", ", https"))
            ),
        ),
    )


def service(quick: bool) -> Scenario:
    """How much does tracking slow down a web service?"""
    options = {"seconds": 2 if quick else 10, "connections": 16}
    cases = [Case("ours, one page view", "ours", "enqueue", {"events": 4_000, "kind": "visit"})]
    for state, sink in _SERVERS.items():
        cases += [
            Case(f"{name}, {state}", subject, "service", options, sink)
            for name, subject in (
                ("no tracking", "none"),
                ("ours", "ours"),
                ("posthog", "posthog"),
                ("umami-1.0.0 async", "umami-1.0.0"),
            )
        ]

    cases.insert(3, Case("floor, healthy", "floor-serving", "service", options, _SERVERS["healthy"]))

    def derive(measured: dict[str, Metrics]) -> None:
        """Add the requests/s of an untracked service whose requests each took the CPU time of a send more."""
        send = measured.get("ours, one page view", {}).get("cpu_us")
        for state in _SERVERS:
            untracked = measured.get(f"no tracking, {state}", {})
            if send is not None and "rps" in untracked:
                untracked["rps_less_send"] = 1 / (1 / untracked["rps"] + send / 1e6)

    goals = [
        goal
        for state in _SERVERS
        for goal in (
            Goal(
                f"requests/s ÷ (untracked less the send's CPU), server {state}",
                "rps",
                (f"ours, {state}",),
                (f"no tracking, {state}",),
                at_least=0.97,
                to_metric="rps_less_send",
            ),
            Goal(
                f"p99 ÷ untracked, server {state}",
                "p99_ms",
                (f"ours, {state}",),
                (f"no tracking, {state}",),
                at_most=1.05,
            ),
        )
    ]
    return Scenario(
        "service",
        "How much does tracking slow down a web service?",
        "uvicorn and Starlette in one process, one page view per request, load from wrk with "
        f"{options['connections']} connections for {options['seconds']} s after a warm-up. The analytics "
        "server is healthy, slow (half a second per answer) or dead (it refuses connections). The floor here "
        "has a thread that posts each full batch of 50.",
        tuple(cases),
        (
            Column("rps", "requests/s", 0),
            Column("p50_ms", "p50 ms", 2),
            Column("p99_ms", "p99 ms", 2),
            Column("p999_ms", "p99.9 ms", 2),
            Column("cpu_us", "CPU µs a request", 1),
            Column("errors", "errors", 0),
        ),
        tuple(goals),
        derive,
    )


def middleware(quick: bool) -> Scenario:
    """What does the middleware add to a request, at the rates at which services run?"""
    cases: list[Case] = []
    goals: list[Goal] = []
    rates = (200, 1_000)
    for rate in rates:
        for state, sink in _SERVERS.items():
            case = f"{rate:,}/s, {state}"
            for name, tracking in (
                ("no tracking", "none"),
                ("by hand", "by hand"),
                ("middleware", "middleware"),
                ("no tracking again", "none"),
            ):
                options = {"rate": rate, "seconds": 3 if quick else 10, "tracking": tracking}
                cases.append(Case(f"{name}, {case}", "ours", "paced", options, sink))
            goals += [
                Goal(
                    f"middleware's CPU ÷ a page view by hand, {case}",
                    "cpu_us",
                    (f"middleware, {case}",),
                    (f"by hand, {case}",),
                    at_most=1.3,
                ),
                Goal(
                    f"middleware's p99 ÷ the 95th percentile of the untracked runs', {case}",
                    "p99_ms",
                    (f"middleware, {case}",),
                    (f"no tracking, {case}", f"no tracking again, {case}"),
                    at_most=1,
                    spread=True,
                ),
            ]

    return Scenario(
        "middleware",
        "What does the middleware add to a request, at the rates at which services run?",
        "uvicorn and Starlette in one process, and requests at a fixed rate, whether earlier ones are "
        f"answered or not, for {3 if quick else 10} s after a warm-up. A page view is sent by the handler, "
        "by the middleware, or not at all. Times count from when a request was due. The analytics server is "
        "healthy, slow (half a second per answer) or dead (it refuses connections). A p99 differs from "
        "run to run, so the middleware's median is compared with the 95th percentile of the runs without "
        "tracking, of which each round has one before and one after it. If that is over twice their median, "
        "the machine was too busy for a verdict.",
        tuple(cases),
        (
            Column("cpu_us", "CPU µs a request", 1),
            Column("p50_ms", "p50 ms", 2),
            Column("p99_ms", "p99 ms", 2),
            Column("errors", "errors", 0),
        ),
        tuple(goals),
    )

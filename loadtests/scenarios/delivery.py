"""The cost of delivering events: in batches, one by one, to a server as slow as Umami, and at exit."""

from typing import Any, Final

from loadtests.model import Case, Column, Goal, Scenario
from loadtests.sink import Behaviour

from .calls import BUFFERED_PEERS

_BATCHES: Final = (50, 100, 500)
# The batch size of sentry-logs cannot be set. The others are measured with their default and with 500.
_SIZED_PEERS: Final = ("posthog", "segment", "otel-logs", "statsig", "snowplow")


def drain(quick: bool) -> Scenario:
    """What does an event cost the whole process until it is delivered?"""
    events = 10_000 if quick else 50_000
    cases: list[Case] = []
    for batch in _BATCHES:
        options = {"events": events, "batch": batch, "room": events + 1000}
        cases += [
            Case(f"floor, batch {batch}", "floor", "drain", options),
            Case(f"ours, batch {batch}", "ours", "drain", options),
        ]
    peer_events = {"events": min(events, 20_000), "room": events + 1000}
    cases += [Case(f"{peer}, as it comes", peer, "drain", peer_events) for peer in BUFFERED_PEERS]
    cases += [
        Case(f"{peer}, batch 500", peer, "drain", {**peer_events, "batch": 500}) for peer in _SIZED_PEERS
    ]
    cases.append(Case("umami-1.0.0, as it comes", "umami-1.0.0", "drain", peer_events))
    peers = tuple(case.name for case in cases if case.subject in BUFFERED_PEERS)
    return Scenario(
        "drain",
        "What does an event cost the whole process until it is delivered?",
        f"CPU of the process over {events:,} sends and a flush, after a warm-up that opens the connection. "
        "If a peer's queue has a fixed size, sends wait for room.",
        tuple(cases),
        (
            Column("cpu_us", "CPU µs an event", 2),
            Column("rate", "events/s", 0),
            Column("delivered", "delivered %", 1),
            Column("sink_share", "sink, % of a core", 0),
        ),
        (
            *(
                Goal(
                    f"batch {batch} ÷ floor",
                    "cpu_us",
                    (f"ours, batch {batch}",),
                    (f"floor, batch {batch}",),
                    at_most=1.3,
                )
                for batch in _BATCHES
            ),
            Goal("cheapest peer ÷ ours at batch 500", "cpu_us", peers, ("ours, batch 500",), at_least=3),
        ),
    )


def single(quick: bool) -> Scenario:
    """How fast is it without batches?"""
    rounds = 40 if quick else 150
    cases: list[Case] = []
    goals: list[Goal] = []
    for milliseconds in (20, 50, 100):
        sink = Behaviour(latency=milliseconds / 1000, batched=False)
        events = {"events": 8 * rounds * (1 if milliseconds == 100 else 2)}
        ours, bare = f"ours, {milliseconds} ms", f"httpx on 8 threads, {milliseconds} ms"
        cases += [
            Case(bare, "floor-threads", "drain", {**events, "batch": 1}, sink),
            Case(ours, "ours", "drain", events, sink),
        ]
        goals += [
            Goal(
                f"events/s ÷ (8 senders ÷ {milliseconds} ms)",
                "share",
                (ours,),
                at_least=0.9,
            ),
            Goal(f"CPU an event ÷ bare httpx, {milliseconds} ms", "cpu_us", (ours,), (bare,), at_most=1.3),
        ]

    def derive(measured: dict[str, dict[str, float]]) -> None:
        for name, metrics in measured.items():
            metrics["share"] = metrics["rate"] / (8 / (int(name.split()[-2]) / 1000))

    return Scenario(
        "single",
        "How fast is it without batches, as on Umami Cloud?",
        "The server has no /api/batch, and answers after the latency. Both clients have 8 threads.",
        tuple(cases),
        (
            Column("rate", "events/s", 0),
            Column("share", "of 8 ÷ latency", 3),
            Column("cpu_us", "CPU µs an event", 0),
            Column("sink_connections", "connections", 0),
        ),
        tuple(goals),
        derive,
    )


def umami_paced(quick: bool) -> Scenario:
    """Does it reach the throughput of a real Umami?"""
    sink = Behaviour(item_seconds=(0.008, 0.010))
    options = {"events": 400 if quick else 3_000}
    return Scenario(
        "umami-paced",
        "Does it reach the throughput of a real Umami?",
        "The server takes 8 to 10 ms per item, one after another, two thirds of it on its only processor, as "
        "a real Umami does: about 110 events/s over one connection and 165 over more. The bare loops post "
        "pre-encoded batches of 50 over one connection and over two.",
        (
            Case("bare loop, 1 connection", "floor", "drain", options, sink),
            Case("bare loop, 2 connections", "floor-pair", "drain", options, sink),
            Case("ours", "ours", "drain", options, sink),
        ),
        (
            Column("rate", "events/s", 1),
            Column("sink_connections", "connections", 0),
            Column("cpu_us", "CPU µs an event", 0),
        ),
        (
            Goal(
                "events/s ÷ bare loop over two",
                "rate",
                ("ours",),
                ("bare loop, 2 connections",),
                at_least=0.97,
            ),
            Goal("connections", "sink_connections", ("ours",), at_most=2),
        ),
    )


def exit_time(quick: bool) -> Scenario:  # noqa: ARG001
    """How long does a process take to end?"""
    cases: list[Case] = []
    goals: list[Goal] = []
    for events in (0, 1_000, 10_000):
        options: dict[str, Any] = {"events": events}
        bare, ours = f"bare posting, {events:,}", f"ours, {events:,}"
        cases += [Case(bare, "floor", "exit", options), Case(ours, "ours", "exit", options)]
        goals.append(
            Goal(
                f"(exit less 20 ms) ÷ bare posting, {events:,} queued",
                "exit_ms",
                (ours,),
                (bare,),
                at_most=1.2,
                less=20,
            )
        )
    peers = ("posthog", "segment", "sentry-logs", "otel-logs", "statsig", "snowplow")
    cases += [Case(f"{peer}, 1,000", peer, "exit", {"events": 1_000}) for peer in peers]
    return Scenario(
        "exit",
        "How long does a process take to end with events in the queue, and are they delivered?",
        "From the last send to the end of the process. The process only sends, and calls no flush. Bare "
        "posting is the floor in batches of 50, with its HTTP client created before.",
        tuple(cases),
        (Column("exit_ms", "last event to end, ms", 0), Column("delivered", "delivered %", 1)),
        tuple(goals),
    )

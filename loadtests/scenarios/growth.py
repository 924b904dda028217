"""Whether the cost of an event grows with the number of events."""

from typing import Any, Final

from loadtests.model import Case, Column, Goal, Metrics, Scenario
from loadtests.sink import Behaviour

_PACED: Final = Behaviour(item_seconds=(0.008, 0.010))


def growth(quick: bool) -> Scenario:
    """Does the cost of an event grow with their number?"""
    least = 200 if quick else 1_000
    probes: dict[str, tuple[str, int, dict[str, Any], Behaviour, str]] = {
        "enqueue": ("enqueue", least, {}, Behaviour(), "cpu_us"),
        "enqueue, 16 threads": ("enqueue-threads", 4 * least, {"threads": 16}, Behaviour(), "p50_us"),
        "drain": ("drain", least, {}, Behaviour(), "cpu_us"),
        "burst": ("burst", least, {"bursts": 3}, Behaviour(), "block_us"),
        "memory": ("memory", least, {}, Behaviour(silent=True), "bytes_event"),
        "exit": ("exit", least, {}, Behaviour(), "exit_us"),
        "single, 20 ms": ("drain", 160, {}, Behaviour(latency=0.02, batched=False), "cpu_us"),
        "umami-paced": ("drain", 100, {}, _PACED, "cpu_us"),
    }
    steps = {"single, 20 ms": (1, 10), "umami-paced": (1, 10)}
    cases = []
    goals = []
    counts: dict[str, int] = {}
    for name, (probe, events, options, sink, metric) in probes.items():
        factors = steps.get(name, (1, 10, 100))
        for factor in factors:
            case = Case(
                f"{name}, {events * factor:,}",
                "ours",
                probe,
                {"events": events * factor, "room": 2 * 100 * 4 * least, **options},
                sink,
                300,
            )
            counts[case.name] = events * factor
            cases.append(case)
        goals.append(
            Goal(
                f"{name}: an event of {factors[-1]} times as many ÷ of the least",
                metric,
                (f"{name}, {events * factors[-1]:,}",),
                (f"{name}, {events:,}",),
                at_most=1.1,
            )
        )

    def derive(measured: dict[str, Metrics]) -> None:
        """Add the times per event."""
        for case, metrics in measured.items():
            for whole, part in (("block_ms", "block_us"), ("exit_ms", "exit_us")):
                if whole in metrics:
                    metrics[part] = 1000 * metrics[whole] / counts[case]

    return Scenario(
        "growth",
        "Does an event's cost grow with the number of events?",
        "This client in the scenarios above, with 1, 10 and 100 times as many events; with 1 and 10 times if "
        "the server is slow.",
        tuple(cases),
        (
            Column("cpu_us", "CPU µs an event", 2),
            Column("p50_us", "p50 µs", 2),
            Column("block_us", "block, µs an event", 2),
            Column("bytes_event", "bytes an event", 0),
            Column("exit_us", "exit, µs an event", 1),
            Column("rate", "events/s", 0),
        ),
        tuple(goals),
        derive,
    )

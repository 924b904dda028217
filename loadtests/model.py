"""A scenario as data: its cases, the columns of its table, and its goals.

A case is one measurement. A goal is usually a ratio of two cases that were measured in the same round. On a
machine that also does other work, absolute times say little.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .sink import Behaviour

Metrics: TypeAlias = dict[str, float]
"""The results of one measurement, by name."""


@dataclass(frozen=True)
class Case:
    """One measurement: a probe of a subject, in a new process, with a sink of its own.

    Attributes:
        name: The name of its row.
        subject: The client to measure.
        probe: The probe: one of `probes.PROBES` or `harness.OUTSIDE`.
        options: The probe's arguments.
        behaviour: The sink's behaviour; None for a port that refuses connections.
        seconds: The time limit.
    """

    name: str
    subject: str
    probe: str
    options: dict[str, Any] = field(default_factory=dict)
    behaviour: Behaviour | None = field(default_factory=Behaviour)
    seconds: float = 120.0


@dataclass(frozen=True)
class Column:
    """One metric in the table.

    Attributes:
        metric: Its name in the results.
        title: Its title in the table, with the unit.
        digits: The number of decimals.
    """

    metric: str
    title: str
    digits: int = 1


@dataclass(frozen=True)
class Goal:
    """A bound for a figure: (`of` - `less`) / `to`, or `of` - `less` if `to` is empty.

    Attributes:
        text: The goal in words.
        metric: The metric to compare.
        of: The cases it is about. The lowest value counts.
        to: The cases to compare with. The lowest value counts.
        at_most: The upper bound.
        at_least: The lower bound.
        to_metric: The metric of `to`, if it is a different one.
        less: What to subtract from `of` first, in its unit.
        spread: Compare the median of all rounds with the 95th percentile of all rounds of all cases in `to`.
            For figures that differ from one run of the same case to the next by more than what is looked for,
            such as a p99. With 7 rounds of two cases, a subject that adds nothing fails in 1 of 40 at most.
    """

    text: str
    metric: str
    of: tuple[str, ...]
    to: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None
    to_metric: str | None = None
    less: float = 0.0
    spread: bool = False


Rounds: TypeAlias = list[dict[str, Metrics]]
"""The results of each round, by case."""


@dataclass(frozen=True)
class Scenario:
    """A question, and the measurements that answer it.

    Attributes:
        name: Its name on the command line.
        question: The question.
        method: How it is measured.
        cases: The measurements of a round, in order.
        columns: The metrics in the table.
        goals: The goals.
        derive: Adds metrics to a round that are computed from several cases.
    """

    name: str
    question: str
    method: str
    cases: tuple[Case, ...]
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...] = ()
    derive: Callable[[dict[str, Metrics]], None] | None = None


class MeasurementError(Exception):
    """A measurement failed. The message says why."""

"""What a scenario is, as data: its cases, the columns of its table, and its goals.

A case is one measurement; a goal sets a figure of one case against that of others, measured in the
same round, since only ratios mean anything on a machine that does other things too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .sink import Behaviour

Metrics: TypeAlias = dict[str, float]
"""What one measurement found, by name."""


@dataclass(frozen=True)
class Case:
    """One measurement: a probe that drives a subject in a fresh process against a sink of its own.

    Attributes:
        name: What its row is called.
        subject: Who is measured.
        probe: How; see `probes.PROBES`, and `harness.OUTSIDE` for those that need a process around.
        options: The probe's arguments.
        behaviour: How the sink behaves; None for no sink at all: its port refuses connections.
        seconds: The most that it may take.
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
        title: What the table calls it, unit included.
        digits: How many decimals it is shown with.
    """

    metric: str
    title: str
    digits: int = 1


@dataclass(frozen=True)
class Goal:
    """A figure that is to be reached: (`of` - `less`) / `to`, or `of` alone where `to` is empty.

    Attributes:
        text: The goal in words.
        metric: The metric that is compared.
        of: The case it is about; of several, the one with the least.
        to: The case it is compared with; of several, the one with the least.
        at_most: The most that the figure may be.
        at_least: The least that it may be.
        to_metric: The metric of `to`, if it is another.
        less: What is taken off `of` first, in its unit.
    """

    text: str
    metric: str
    of: tuple[str, ...]
    to: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None
    to_metric: str | None = None
    less: float = 0.0


Rounds: TypeAlias = list[dict[str, Metrics]]
"""What each round found, by the cases' names."""


@dataclass(frozen=True)
class Scenario:
    """One question, and how it is answered.

    Attributes:
        name: Its name on the command line.
        question: The question.
        method: How it is measured, for the reader of the table.
        cases: Its measurements, in the order that each round takes them.
        columns: The metrics that the table shows.
        goals: What issue 4 wants.
        derive: Adds metrics that follow from several cases to a round.
    """

    name: str
    question: str
    method: str
    cases: tuple[Case, ...]
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...] = ()
    derive: Callable[[dict[str, Metrics]], None] | None = None


class MeasurementError(Exception):
    """A measurement that came to nothing, and why."""

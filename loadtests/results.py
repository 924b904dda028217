"""The result of a scenario, as plain JSON: medians with their deviation, and which goals are met."""

import json
import re
import statistics
from typing import Any, Final, TypeAlias

from .model import Goal, Metrics, Rounds, Scenario

_NUMBERS: Final = re.compile(r"\[([\d\s.,eE+-]+)\]")

# The 95th percentile by the median.
_WIDEST_SPREAD: Final = 2.0

Result: TypeAlias = dict[str, Any]
"""A scenario's result, as in the JSON file."""


def as_json(results: dict[str, Any]) -> str:
    """Return results as JSON, with each list of numbers on one line."""
    indented = json.dumps(results, indent=1, ensure_ascii=False)
    return (
        _NUMBERS.sub(lambda numbers: f"[{', '.join(numbers[1].split())}]".replace(",,", ","), indented) + "\n"
    )


def summary(scenario: Scenario, rounds: Rounds, left_out: dict[str, str]) -> Result:
    """Sum up the rounds of a scenario.

    Args:
        scenario: What was measured.
        rounds: The results of each round.
        left_out: Why a case is missing, by its name.
    """
    if scenario.derive is not None:
        for measured in rounds:
            scenario.derive(measured)
    rows = []
    for case in scenario.cases:
        found = [measured[case.name] for measured in rounds if case.name in measured]
        if found:
            rows.append({"case": case.name, "subject": case.subject, "metrics": _spread(found)})
    return {
        "question": scenario.question,
        "method": scenario.method,
        "rounds": len(rounds),
        "columns": [vars(column) for column in scenario.columns],
        "rows": rows,
        "goals": [judged(goal, rounds) for goal in scenario.goals],
        "left_out": left_out,
    }


def _spread(found: list[Metrics]) -> dict[str, dict[str, Any]]:
    return {
        metric: {
            "median": _short(statistics.median(values)),
            "mad": _short(deviation(values)),
            "values": [_short(value) for value in values],
        }
        for metric in found[0]
        if (values := [metrics[metric] for metrics in found if metric in metrics])
    }


def _short(value: float) -> float:
    """Round a value to five significant digits."""
    return float(f"{value:.5g}")


def deviation(values: list[float]) -> float:
    """Return the median absolute deviation from the median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


def judged(goal: Goal, rounds: Rounds) -> dict[str, Any]:
    """Judge a goal by the median of its figure over all rounds."""
    if goal.spread:
        figures = _within_spread(goal, rounds)
    else:
        figures = [figure for measured in rounds if (figure := _figure(goal, measured)) is not None]
    verdict: dict[str, Any] = {"text": goal.text, "at_most": goal.at_most, "at_least": goal.at_least}
    if not figures:
        return verdict | {"figure": None, "met": None}
    figure = statistics.median(figures)
    met = (goal.at_most is None or figure <= goal.at_most) and (
        goal.at_least is None or figure >= goal.at_least
    )
    return verdict | {"figure": round(figure, 4), "mad": round(deviation(figures), 4), "met": met}


def _within_spread(goal: Goal, rounds: Rounds) -> list[float]:
    """Return what each round is of the 95th percentile of all that it is compared with.

    There is none if those differ too much among themselves: the machine was busy, and any figure would pass.
    """
    of, to = (
        [measured[case][goal.metric] for measured in rounds for case in cases if case in measured]
        for cases in (goal.of, goal.to)
    )
    if len(to) < 2:
        return []
    upper_end = statistics.quantiles(to, n=20, method="inclusive")[-1]
    if upper_end > _WIDEST_SPREAD * statistics.median(to):
        return []
    return [figure / upper_end for figure in of]


def _figure(goal: Goal, measured: dict[str, Metrics]) -> float | None:
    of = _least(goal.of, goal.metric, measured)
    if of is None:
        return None
    if not goal.to:
        return of - goal.less
    to = _least(goal.to, goal.to_metric or goal.metric, measured)
    return (of - goal.less) / to if to else None


def _least(cases: tuple[str, ...], metric: str, measured: dict[str, Metrics]) -> float | None:
    found = [measured[case][metric] for case in cases if metric in measured.get(case, {})]
    return min(found, default=None)

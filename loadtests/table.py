"""A scenario's result as text: a table with medians and deviations, and the goals."""

from collections.abc import Sequence
from typing import Any

from .results import Result


def cells(result: Result) -> list[list[str]]:
    """Return the rows of the table, with the header first. Metrics are shown as median ± deviation."""
    shown = [
        column
        for column in result["columns"]
        if any(column["metric"] in row["metrics"] for row in result["rows"])
    ]
    rows = [["", *(column["title"] for column in shown)]]
    for row in result["rows"]:
        rows.append([row["case"], *(_cell(row["metrics"].get(c["metric"]), c["digits"]) for c in shown)])
    return rows


def _cell(metric: dict[str, Any] | None, digits: int) -> str:
    if metric is None:
        return "-"
    text = f"{metric['median']:,.{digits}f}"
    return f"{text} ± {metric['mad']:,.{digits}f}" if len(metric["values"]) > 1 and metric["mad"] else text


def goal_line(goal: dict[str, Any]) -> tuple[str, str]:
    """Return whether a goal is met, and its text with the figure."""
    if goal["met"] is None:
        return "not measured", goal["text"]
    bound = f"≤ {goal['at_most']:g}" if goal["at_most"] is not None else f"≥ {goal['at_least']:g}"
    spread = f" ± {goal['mad']:,.2f}" if goal.get("mad") else ""
    return ("met" if goal["met"] else "MISSED"), f"{goal['text']}: {goal['figure']:,.2f}{spread} ({bound})"


def sink_share(result: Result) -> float | None:
    """Return the largest part of a core that the sink of a case used, in percent."""
    shares = [
        row["metrics"]["sink_share"]["median"] for row in result["rows"] if "sink_share" in row["metrics"]
    ]
    return max(shares, default=None)


def text(name: str, result: Result) -> str:
    """Return a scenario's result for the terminal."""
    lines = [f"{name}: {result['question']}", *_aligned(cells(result))]
    share = sink_share(result)
    if share is not None:
        lines.append(f"  the sink used at most {share:.0f} % of a core")
    for case, reason in result["left_out"].items():
        lines.append(f"  left out: {case} ({reason})")
    for goal in result["goals"]:
        verdict, sentence = goal_line(goal)
        lines.append(f"  {verdict:>12}  {sentence}")
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]

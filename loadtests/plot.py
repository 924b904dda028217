"""The chart: CPU time of a send, and of a delivered event, for all clients."""

import importlib
from pathlib import Path
from typing import Any, Final

from .results import Result

_OURS: Final = "#0b7285"
_FLOOR: Final = "#adb5bd"
_OTHERS: Final = "#e8590c"
_PANELS: Final = (
    ("enqueue", "CPU of a send, µs", (", new_event", "")),
    ("drain", "CPU of the process, µs a delivered event", (", batch 500", ", as it comes")),
)


def draw(scenarios: dict[str, Result], file: Path) -> bool:
    """Draw the chart. Return False if matplotlib is not installed or there is nothing to draw."""
    panels = [(title, bars) for name, title, ends in _PANELS if (bars := _bars(scenarios.get(name), ends))]
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("svg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    if not panels:
        return False
    # Without date and random ids, the same numbers give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "umami", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 3.4 * len(panels)), squeeze=False)
    for axis, (title, bars) in zip(axes[:, 0], panels, strict=True):
        names = [name for name, _, _ in bars]
        values = [value for _, value, _ in bars]
        drawn = axis.barh(
            names, values, xerr=[spread for _, _, spread in bars], color=[_color(name) for name in names]
        )
        axis.bar_label(drawn, labels=[f"{value:,.1f}" for value in values], padding=4)
        axis.set_xscale("log")
        axis.set_xlim(right=max(values) * 3)
        axis.set_title(title, loc="left")
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    return True


def _bars(result: Result | None, ends: tuple[str, ...]) -> list[tuple[str, float, float]]:
    """Return name, median and deviation of each subject, sorted. Of several cases, the lowest counts."""
    found: dict[str, tuple[float, float]] = {}
    for row in result["rows"] if result else ():
        name, metric = row["subject"], row["metrics"].get("cpu_us")
        if metric is None or not any(row["case"] == f"{name}{end}" for end in ends):
            continue
        bar = (metric["median"], metric["mad"])
        found[name] = min(bar, found.get(name, bar))
    return sorted(((name, *bar) for name, bar in found.items()), key=lambda bar: bar[1])


def _color(name: str) -> str:
    return {"ours": _OURS, "floor": _FLOOR}.get(name, _OTHERS)

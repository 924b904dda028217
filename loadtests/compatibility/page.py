"""Writes the tables of docs/compatibility.md from the results."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from loadtests.environments import ROOT

PAGE: Final = ROOT / "docs" / "compatibility.md"
_TABLE: Final = re.compile(r"(?<=<!-- \[start:table\] -->\n).*?(?=<!-- \[end:table\] -->)", re.DOTALL)
_FRONTS: Final = {
    "mixed": "a proxy that answers 404 while the server is down",
    "429": "nginx, 5 requests/s, 429",
    "503": "nginx, 5 requests/s, 503",
}
_COLUMNS: Final = (
    "Umami",
    "sent",
    "stored, of browsers",
    "copies (bound)",
    "rejected, of crawlers",
    "lost",
    "requests",
    "seconds",
)

Json = dict[str, Any]


def main(folder: Path) -> int:
    """Combine the results of a folder in docs/compatibility.json, and write the page's tables."""
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    if not results:
        print(f"there are no results in {folder}: run python -m loadtests compatibility", file=sys.stderr)
        return 1
    results.sort(
        key=lambda result: (list(_FRONTS).index(result["scenario"]), not result["real"], _order(result))
    )
    PAGE.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = PAGE.read_text()
    PAGE.write_text(_TABLE.sub(lambda _: tables(results), text))
    print(f"wrote {PAGE}", file=sys.stderr)
    return 0


def tables(results: list[Json]) -> str:
    """Return a table for each scenario, with real servers first."""
    parts = []
    for scenario, front in _FRONTS.items():
        rows = [_row(result) for result in results if result["scenario"] == scenario]
        if rows:
            parts.append(f"Behind {front}:\n\n{_table(rows)}\n")
    return "\n" + "\n".join(parts) + "\n"


def line(result: Json) -> str:
    """Return a result in one line."""
    return "  ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, _row(result), strict=True))


def complaints(result: Json) -> list[str]:
    """Return the failed checks, in words."""
    wrong = [f"does not hold: {name}" for name, holds in result["holds"].items() if not holds]
    if not result["complete"]:
        wrong.append(f"given up: {result['pending']} pending, {result['last_error']}")
    if wrong:
        wrong += [
            f"{count} {kind}: {result['samples'].get(kind, '')}" for kind, count in result["reports"].items()
        ]
    return wrong


def _row(result: Json) -> list[str]:
    return [
        result["name"] if result["real"] else f"{result['name']} (collector)",
        f"{result['sent']:,}",
        f"{result['stored']:,} of {result['browsers']:,}",
        f"{result['duplicates']:,} ({result['bound']:,})",
        f"{result['rejected']:,} of {result['crawlers']:,}",
        f"{result['lost']:,}",
        f"{result['requests']:,}",
        f"{result['seconds']:,.0f}",
    ]


def _table(rows: Iterable[list[str]]) -> str:
    lines = [_COLUMNS, ["---", *["---:"] * (len(_COLUMNS) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _order(result: Json) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", result["name"])]

"""Writes the README's table of settings from their definitions: `python tests/settings_table.py`."""

from pathlib import Path
from typing import Final

from umami.settings import Settings, default_of, environment_form, environment_names

README: Final = Path(__file__).parent.parent / "README.md"
START: Final = "<!-- --8<-- [start:settings] -->\n"
NONE: Final = "\N{EN DASH}"
END: Final = "<!-- --8<-- [end:settings] -->\n"


def table() -> str:
    """Return the table, as Markdown."""
    rows = ["| setting | environment | default | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variables = ", ".join(f"`{variable}`" for variable in environment_names(name))
        if form := environment_form(name):
            variables += f" ({form})"
        default = default_of(name)
        shown = NONE if default is None else f"`{default}`"
        rows.append(f"| `{name}` | {variables or NONE} | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def written(text: str) -> str:
    """Return the README's text with the table of today."""
    before, _, rest = text.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(written(README.read_text()))

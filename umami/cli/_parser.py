"""How help is laid out, and the types of arguments that several commands have."""

import argparse
import shutil
import textwrap
from typing import Any, Final

_MOST_COLUMNS: Final = 100


class Formatter(argparse.HelpFormatter):
    """Wraps each paragraph of a description to the terminal, and keeps the lines of the examples."""

    def __init__(self, prog: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS) - 2
        super().__init__(prog, **{"max_help_position": 28, "width": width, **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:\n"):
            head, *lines = text.splitlines()
            return "\n".join([head, *(f"  {line}" for line in lines)])
        return "\n\n".join(
            textwrap.fill(" ".join(each.split()), width, initial_indent=indent) for each in text.split("\n\n")
        )

"""Tables: lists of rows that can be written and handed to other libraries."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast, get_args

from pydantic import BaseModel
from pydantic_core import CoreSchema, core_schema, to_json

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

T = TypeVar("T", bound=BaseModel)

_SHOWN: Final = 20


class Writable(Protocol):
    """A file that takes text."""

    def write(self, text: str, /) -> object:
        """Write a text."""


class Table(list[T]):
    """A list of rows, such as `metrics()` returns. A notebook shows it as a table.

    Example:
        ```python
        table = umami.metrics("path", period="7d")
        print(table[0].x, table[0].y)
        table.to_csv("pages.csv")
        ```
    """

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts.

        Returns:
            One dict a row, with the fields' own names.

        Example:
            ```python
            umami.metrics("country", period="7d").to_dicts()
            ```
        """
        return [row.model_dump() for row in self]

    def to_csv(self, target: "str | os.PathLike[str] | Writable") -> int:
        """Write the rows as CSV, below a line with the fields' names.

        Args:
            target: A path, which is overwritten, or an open text file.

        Returns:
            The number of rows.

        Example:
            ```python
            umami.metrics("country", period="7d").to_csv("countries.csv")
            ```
        """
        return write_csv(self, target)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a `pandas.DataFrame`. It needs pandas: `pip install 'umami-analytics[pandas]'`.

        Returns:
            One row each, with the fields' own names as columns.

        Raises:
            ImportError: pandas is not installed.

        Example:
            ```python
            frame = umami.metrics("path", period="7d").to_pandas()
            ```
        """
        import pandas as pd

        return pd.DataFrame(self.to_dicts(), columns=self._columns() or None)

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a `polars.DataFrame`. It needs polars: `pip install 'umami-analytics[polars]'`.

        Returns:
            One row each, with the fields' own names as columns.

        Raises:
            ImportError: polars is not installed.

        Example:
            ```python
            frame = umami.metrics("path", period="7d").to_polars()
            ```
        """
        import polars as pl

        return pl.DataFrame(self.to_dicts(), infer_schema_length=None)

    def _columns(self) -> list[str]:
        return list(self[0].model_dump()) if self else []

    def __repr__(self) -> str:
        shown = [*map(repr, self[:_SHOWN])]
        if len(self) > _SHOWN:
            shown.append(f"… {len(self) - _SHOWN} more")
        return f"Table([{', '.join(shown)}])"

    def _repr_html_(self) -> str:
        """Show the first rows as a table in a notebook."""
        import html

        columns = self._columns()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        lines = [f"<tr>{head}</tr>"]
        for row in self[:_SHOWN]:
            cells = "".join(f"<td>{html.escape(_cell(getattr(row, name)))}</td>" for name in columns)
            lines.append(f"<tr>{cells}</tr>")
        rest = f"<p>{len(self)} rows</p>" if len(self) > _SHOWN else ""
        return f"<table>{''.join(lines)}</table>{rest}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        rows = handler(list[get_args(source)[0]])  # type: ignore[misc]
        return core_schema.no_info_after_validator_function(cls, rows)


def write_csv(rows: Iterable[BaseModel], target: "str | os.PathLike[str] | Writable") -> int:
    """Write rows as CSV to a path or an open file, and return their number."""
    count = 0
    with opened(target) as file:
        write = csv_writer(file)
        for row in rows:
            write(row)
            count += 1
    return count


def csv_writer(file: Writable, *, head: bool = True) -> Callable[[BaseModel], None]:
    """Return a function that writes a row as CSV, the first one below its fields' names if `head`."""
    import csv

    writer = csv.writer(cast("Any", _Lines(file)))
    names: list[str] = []

    def write(row: BaseModel) -> None:
        values = row.model_dump()
        if not names:
            names.extend(values)
            if head:
                writer.writerow(names)
        writer.writerow([_cell(values[name]) for name in names])

    return write


class _Lines:
    """Ends lines with a newline alone.

    As the writer's own `lineterminator` it would leave a carriage return unquoted on Python 3.10.
    """

    def __init__(self, file: Writable) -> None:
        self._file = file

    def write(self, line: str) -> object:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict, BaseModel)):
        return to_json(value).decode()
    return str(value)


@contextmanager
def opened(target: "str | os.PathLike[str] | Writable") -> Iterator[Writable]:
    """Open a path for text, or use an open file and leave it open."""
    if isinstance(target, (str, os.PathLike)):
        with open(target, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a path of any kind
            yield file
    else:
        yield target

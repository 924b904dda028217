"""Rows that are fetched a page at a time, as they are asked for: for long lists, in constant memory."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from typing_extensions import Self

from ._table import Table, Writable, csv_writer, opened, write_csv

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

T = TypeVar("T", bound=BaseModel)


class Progress(Protocol):
    """What is known of a list while it is read."""

    @property
    def count(self) -> int | None:
        """How many rows the server said there are."""

    @property
    def pages(self) -> int:
        """How many pages were fetched."""


class _Counted:
    """How far a list is read.

    Attributes:
        done: How many rows were returned.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.done = 0

    @property
    def count(self) -> int | None:
        """How many rows there are in all, by the server's count; None before the first page."""
        return self._progress.count

    @property
    def pages(self) -> int:
        """How many pages were fetched."""
        return self._progress.pages

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.done} of {'?' if self.count is None else self.count} rows>"


class Rows(_Counted, Iterator[T], Generic[T]):
    """Rows such as `events()` returns: an iterator that fetches the next page when it needs it.

    It can be read once. Each row comes once, also if new ones are stored meanwhile.

    Attributes:
        done: How many rows were returned.

    Example:
        ```python
        rows = umami.events(period="30d")
        for event in rows:
            print(event.createdAt, event.urlPath, f"{rows.done} of {rows.count}")
        ```
    """

    def __init__(self, progress: Progress, fetch: Callable[[], list[T]]) -> None:
        super().__init__(progress)
        self._fetch = fetch
        self._page: Iterator[T] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        row = next(self._page, None)
        while row is None:
            page = self._fetch()
            if not page:
                raise StopIteration
            self._page = iter(page)
            row = next(self._page, None)
        self.done += 1
        return row

    def to_csv(self, target: "str | os.PathLike[str] | Writable") -> int:
        """Write the rows that are left as CSV, as they come.

        Args:
            target: A path, which is overwritten, or an open text file.

        Returns:
            The number of rows.

        Example:
            ```python
            umami.events(period="30d").to_csv("events.csv")
            ```
        """
        return write_csv(self, target)

    def to_table(self) -> Table[T]:
        """Read the rows that are left into memory.

        Returns:
            A table of them.

        Example:
            ```python
            sessions = umami.sessions(period="today").to_table()
            ```
        """
        return Table(self)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows that are left as a `pandas.DataFrame`; see `Table.to_pandas`.

        Returns:
            One row each.

        Example:
            ```python
            frame = umami.events(period="7d").to_pandas()
            ```
        """
        return self.to_table().to_pandas()

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows that are left as a `polars.DataFrame`; see `Table.to_polars`.

        Returns:
            One row each.

        Example:
            ```python
            frame = umami.events(period="7d").to_polars()
            ```
        """
        return self.to_table().to_polars()


class AsyncRows(_Counted, AsyncIterator[T], Generic[T]):
    """Rows such as `events_async()` returns, for `async for`; see `Rows`.

    Attributes:
        done: How many rows were returned.

    Example:
        ```python
        async for event in umami.events_async(period="30d"):
            print(event.createdAt, event.urlPath)
        ```
    """

    def __init__(self, progress: Progress, fetch: Callable[[], Awaitable[list[T]]]) -> None:
        super().__init__(progress)
        self._fetch = fetch
        self._page: Iterator[T] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        row = next(self._page, None)
        while row is None:
            page = await self._fetch()
            if not page:
                raise StopAsyncIteration
            self._page = iter(page)
            row = next(self._page, None)
        self.done += 1
        return row

    async def to_csv(self, target: "str | os.PathLike[str] | Writable") -> int:
        """Write the rows that are left as CSV, as they come.

        Args:
            target: A path, which is overwritten, or an open text file.

        Returns:
            The number of rows.

        Example:
            ```python
            await umami.events_async(period="30d").to_csv("events.csv")
            ```
        """
        before = self.done
        with opened(target) as file:
            write = csv_writer(file)
            async for row in self:
                write(row)
        return self.done - before

    async def to_table(self) -> Table[T]:
        """Read the rows that are left into memory.

        Returns:
            A table of them.

        Example:
            ```python
            sessions = await umami.sessions_async(period="today").to_table()
            ```
        """
        table: Table[Any] = Table([row async for row in self])
        return table

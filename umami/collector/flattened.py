"""The custom data of events and sessions, one row a value, as in Umami's ``event_data`` and ``session_data``.

Storing an event must be quick, so the rows are made by the first query that needs them, for the events that
came since the last one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from umami.collector.javascript import iso
from umami.collector.records import Property, flatten

_TYPES: Final = {"string": 1, "number": 2, "boolean": 3, "date": 4, "array": 5}
_SCHEMA: Final = """
    pragma temp_store = memory;
    create temp table event_data (event integer, key, type, text, number, date, timestamp);
    create index temp.event_data_by_event on event_data (event);
    create temp table session_data (
        website_id, session_id, key, type, text, number, date, timestamp, primary key (session_id, key)
    );
"""
_ADD_EVENT_DATA: Final = "insert into event_data values (?, ?, ?, ?, ?, ?, ?)"
_SET_SESSION_DATA: Final = "insert or replace into session_data values (?, ?, ?, ?, ?, ?, ?, ?)"


class Flattened:
    """Keeps the two tables, which live as long as the connection.

    Args:
        connection: The connection to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.executescript(_SCHEMA)
        self._last_event = 0
        self._last_identity = 0

    def update(self) -> None:
        """Adds the rows of the events and identities that were stored since the last call."""
        events = self._connection.execute(
            "select rowid, timestamp, data from event where rowid > ? order by rowid", (self._last_event,)
        ).fetchall()
        identities = self._connection.execute(
            "select rowid, timestamp, data, website_id, session_id from identity"
            " where rowid > ? order by rowid",
            (self._last_identity,),
        ).fetchall()
        if not events and not identities:
            return
        self._connection.execute("begin")
        try:
            self._connection.executemany(
                _ADD_EVENT_DATA,
                ((rowid, *row, at) for rowid, at, data in events if data is not None for row in _rows(data)),
            )
            self._connection.executemany(
                _SET_SESSION_DATA,
                ((*ids, *row, at) for _, at, data, *ids in identities for row in _rows(data)),
            )
            self._connection.execute("commit")
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._last_event = events[-1][0] if events else self._last_event
        self._last_identity = identities[-1][0] if identities else self._last_identity

    def clear(self) -> None:
        """Forgets all rows."""
        for table in ("event_data", "session_data"):
            self._connection.execute(f"delete from {table}")  # noqa: S608
        self._last_event = self._last_identity = 0


def _rows(data: str) -> Iterator[tuple[Any, ...]]:
    for prop in flatten(json.loads(data)):
        date = None if prop.date is None else iso(prop.date)
        yield prop.key, _TYPES[prop.type], prop.text, _number(prop), date


def _number(prop: Property) -> str | None:
    """Returns a number as text without zeros at its end, as Umami's driver of the database does."""
    if prop.number is None:
        return None
    return f"{prop.number:.4f}".rstrip("0").rstrip(".")

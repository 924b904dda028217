"""The database: websites, sessions and events in SQLite, in memory or in a file."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from umami.collector import sql_functions
from umami.collector.flattened import Flattened
from umami.collector.javascript import calendar, iso
from umami.collector.records import EventType, Identity, StoredEvent

if TYPE_CHECKING:
    import os

Row = dict[str, Any]

USER_ID = "41e2b680-648e-4b09-bcd7-3e2b10c06264"
"""The id of the first user, ``admin``, of every new Umami."""

UTM_COLUMNS = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_EVENT_COLUMNS = (*(column.name for column in fields(StoredEvent)), *UTM_COLUMNS)
_IDENTITY_COLUMNS = tuple(column.name for column in fields(Identity))
_SESSION_COLUMNS = (
    "session_id",
    "website_id",
    "browser",
    "os",
    "device",
    "screen",
    "language",
    "distinct_id",
)

_LOCK_SECONDS: Final = 1.0
"""How long to wait while another program writes to the file. Meanwhile no request is answered."""

_SEGMENT_COLUMNS: Final = ("id", "website_id", "type", "name", "parameters", "created_at", "updated_at")
_WEBSITES: Final = (
    "select website.*, reset_at, share_id from website left join website_change on website_id = website.id"
)
_KEPT_QUERIES: Final = 8
"""How many results are kept for further pages."""

_SCHEMA = f"""
    pragma journal_mode = wal;
    pragma synchronous = off;
    create table if not exists website (
        id text primary key, name text, domain text, created_at text, updated_at text
    );
    create table if not exists website_change (website_id text primary key, reset_at text, share_id text);
    create table if not exists segment (
        id text primary key, website_id text, type text, name text, parameters text, created_at text,
        updated_at text
    );
    create table if not exists thing (id text primary key, kind text, body text);
    create table if not exists session ({", ".join(_SESSION_COLUMNS)}, primary key (session_id));
    create table if not exists event ({", ".join(_EVENT_COLUMNS)});
    create index if not exists event_by_website on event (website_id, timestamp);
    create table if not exists identity ({", ".join(_IDENTITY_COLUMNS)});
"""


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"insert or ignore into {table} values ({', '.join(':' + column for column in columns)})"  # noqa: S608


_INSERT_SESSION = _insert("session", _SESSION_COLUMNS)
_INSERT_EVENT = _insert("event", _EVENT_COLUMNS)
_INSERT_IDENTITY = _insert("identity", _IDENTITY_COLUMNS)


@dataclass(frozen=True)
class Rows:
    """New rows, by table. Of sessions with the same id, the first one is kept."""

    sessions: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    identities: list[Row] = field(default_factory=list)


def now_text() -> str:
    """Returns the current time as Umami formats it: ISO 8601, in UTC, with milliseconds."""
    return iso(datetime.fromtimestamp(time.time(), timezone.utc))


def moment_text(timestamp: float | None) -> str | None:
    """Returns a time in epoch seconds as Umami formats it. None stays None."""
    if timestamp is None:
        return None
    year, moment = calendar(round(timestamp * 1000))
    return f"{year:04}{iso(moment)[4:]}"


class Store:
    """The collector's database. Thread-safe.

    Args:
        path: An SQLite file, created if needed; None for memory.

    Attributes:
        is_away: Whether to answer as if the database were down. `events` and the like still work.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path or ":memory:", timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        # The events stay readable after the server has stopped, so the connection lives as long as the store.
        self._finalizer = weakref.finalize(self, self._connection.close)
        self._connection.row_factory = sqlite3.Row
        sql_functions.register(self._connection)
        self._connection.executescript(_SCHEMA)
        self._flattened = Flattened(self._connection)
        self._kept: dict[tuple[Any, ...], list[sqlite3.Row]] = {}
        self._kept_at = 0
        self._websites = {row["id"] for row in self.query("select id from website")}
        self.user_created_at = now_text()
        self.is_away = False

    def keep_open(self, *, at_exit: bool) -> None:
        """Sets whether the database is needed while the process exits, because a client may flush then."""
        self._finalizer.atexit = not at_exit

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Runs a query, whose parameters are `:p1`, `:p2` and so on, and returns all rows."""
        values = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def query_kept(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Does the same as `query`, and keeps the rows until something is written.

        The pages of a list share what is computed over all its rows.
        """
        with self._lock:
            changes = self._connection.total_changes
            if changes != self._kept_at or len(self._kept) >= _KEPT_QUERIES:
                self._kept.clear()
                self._kept_at = changes
            key = (sql, *parameters)
            if key not in self._kept:
                self._kept[key] = self.query(sql, parameters)
            return self._kept[key]

    def flatten_data(self) -> None:
        """Brings the tables of custom data, ``event_data`` and ``session_data``, up to date."""
        with self._lock:
            self._flattened.update()

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """Yields an empty `Rows`. At the end of the block, its rows are written in one transaction.

        Raises:
            sqlite3.Error: They cannot be written: the disk is full, or another program has locked the file.
        """
        with self._lock:
            rows = Rows()
            yield rows
            with self._transaction():
                self._connection.executemany(_INSERT_SESSION, rows.sessions)
                self._connection.executemany(_INSERT_EVENT, rows.events)
                self._connection.executemany(_INSERT_IDENTITY, rows.identities)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            # Some errors have already ended the transaction.
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise

    def events(self, last: int | None = None) -> tuple[StoredEvent, ...]:
        """Returns the events in the order they were stored: all, or the `last` ones."""
        limit = -1 if last is None else last
        rows = self.query("select * from event order by rowid desc limit :p1", (limit,))
        return tuple(_event(row) for row in reversed(rows))

    def count_events(self) -> int:
        """Returns the number of stored events."""
        count: int = self.query("select count(*) from event")[0][0]
        return count

    def identities(self) -> tuple[Identity, ...]:
        """Returns all identify calls in the order they were stored."""
        rows = self.query("select * from identity order by rowid")
        return tuple(Identity(**{**dict(row), "data": json.loads(row["data"])}) for row in rows)

    def clear(self) -> None:
        """Deletes all events, sessions and identities. Websites are kept."""
        with self._lock, self._transaction():
            for table in ("session", "event", "identity"):
                self._connection.execute(f"delete from {table}")  # noqa: S608
            self._flattened.clear()

    def has_website(self, website_id: str) -> bool:
        """Whether a website is registered."""
        return website_id.lower() in self._websites

    def has_session(self, session_id: str) -> bool:
        """Whether a session is stored."""
        return bool(self.query("select 1 from session where session_id = :p1", (session_id,)))

    def add_website(self, name: str, domain: str, website_id: str | None = None) -> str:
        """Registers a website.

        Args:
            name: The website's name.
            domain: Its domain.
            website_id: Its UUID. By default, a new one.

        Returns:
            The website's id, in lower case.

        Raises:
            ValueError: There is a website with this id.
        """
        website_id = (website_id or str(uuid.uuid4())).lower()
        now = now_text()
        with self._lock:
            if website_id in self._websites:
                raise ValueError(f"There is already a website with the id {website_id}.")
            self._connection.execute(
                "insert into website values (?, ?, ?, ?, ?)", (website_id, name, domain, now, now)
            )
            self._websites.add(website_id)
        return website_id

    def website(self, website_id: str) -> Row | None:
        """Returns a website as in Umami's API, or None."""
        rows = self.query(f"{_WEBSITES} where id = :p1", (website_id.lower(),))
        return _website(rows[0]) if rows else None

    def websites(self, search: str = "", limit: int = -1, offset: int = 0) -> tuple[list[Row], int]:
        """Returns a page of the websites whose name or domain contains `search`, and their total number."""
        found = "where name || char(10) || domain like '%' || :p1 || '%'"
        page = self.query(f"{_WEBSITES} {found} order by id limit :p2 offset :p3", (search, limit, offset))
        count: int = self.query(f"select count(*) from website {found}", (search,))[0][0]  # noqa: S608
        return [_website(row) for row in page], count

    def update_website(self, website_id: str, changes: Row) -> None:
        """Sets the `name`, the `domain` or the `share_id` of a website, or any of them."""
        with self._lock, self._transaction():
            execute = self._connection.execute
            for name in ("name", "domain"):
                if name in changes:
                    execute(f"update website set {name} = ? where id = ?", (changes[name], website_id))  # noqa: S608
            if changes.keys() & {"name", "domain"}:
                execute("update website set updated_at = ? where id = ?", (now_text(), website_id))
            if "share_id" in changes:
                self._change(website_id, "share_id", changes["share_id"])

    def reset_website(self, website_id: str) -> None:
        """Deletes the events, sessions and identities of a website."""
        with self._lock, self._transaction():
            self._delete_rows(website_id, ("event", "session", "identity"))
            self._change(website_id, "reset_at", now_text())
            self._connection.execute(
                "update website set updated_at = ? where id = ?", (now_text(), website_id)
            )

    def delete_session(self, website_id: str, session_id: str) -> None:
        """Deletes a session, with its events and identities."""
        with self._lock, self._transaction():
            for table in ("event", "session", "identity"):
                self._connection.execute(
                    f"delete from {table} where website_id = ? and session_id = ?",  # noqa: S608
                    (website_id, session_id),
                )
            self._flattened.clear()

    def delete_website(self, website_id: str) -> None:
        """Deletes a website, with all that belongs to it."""
        with self._lock, self._transaction():
            self._delete_rows(website_id, ("event", "session", "identity", "segment", "website_change"))
            self._connection.execute("delete from website where id = ?", (website_id,))
            self._websites.discard(website_id)

    def _delete_rows(self, website_id: str, tables: Sequence[str]) -> None:
        for table in tables:
            self._connection.execute(f"delete from {table} where website_id = ?", (website_id,))  # noqa: S608
        self._flattened.clear()

    def _change(self, website_id: str, column: str, value: str | None) -> None:
        self._connection.execute(
            f"insert into website_change (website_id, {column}) values (?, ?)"  # noqa: S608
            f" on conflict (website_id) do update set {column} = excluded.{column}",
            (website_id, value),
        )

    def things(self, kind: str) -> list[Row]:
        """Returns the things of a kind, such as links, as in Umami's API."""
        found = self.query("select body from thing where kind = :p1 order by rowid", (kind,))
        return [json.loads(row["body"]) for row in found]

    def set_thing(self, kind: str, thing: Row) -> None:
        """Stores a thing, or replaces the one with its id."""
        with self._lock:
            self._connection.execute(
                "insert into thing values (?, ?, ?) on conflict (id) do update set body = excluded.body",
                (thing["id"], kind, json.dumps(thing)),
            )

    def delete_thing(self, thing_id: str) -> None:
        """Deletes a thing."""
        with self._lock:
            self._connection.execute("delete from thing where id = ?", (thing_id,))

    def set_segment(self, segment: Row) -> None:
        """Stores a segment, or replaces the one with its id."""
        columns = ", ".join(f":{name}" for name in _SEGMENT_COLUMNS)
        with self._lock:
            self._connection.execute(
                f"insert or replace into segment values ({columns})",  # noqa: S608
                {**segment, "parameters": json.dumps(segment["parameters"])},
            )

    def segments(self, website_id: str, condition: str = "1", *values: str) -> list[Row]:
        """Returns the segments of a website for which a condition holds. Its parameters begin with `:p2`."""
        rows = self.query(
            f"select * from segment where website_id = :p1 and {condition} order by rowid",  # noqa: S608
            (website_id, *values),
        )
        return [{**dict(row), "parameters": json.loads(row["parameters"])} for row in rows]

    def delete_segment(self, segment_id: str) -> None:
        """Deletes a segment."""
        with self._lock:
            self._connection.execute("delete from segment where id = ?", (segment_id,))


def _website(row: sqlite3.Row) -> Row:
    return {
        "id": row["id"],
        "name": row["name"],
        "domain": row["domain"],
        "resetAt": row["reset_at"],
        "userId": USER_ID,
        "teamId": None,
        "createdBy": USER_ID,
        "createdAt": row["created_at"],
        "updatedAt": row["updated_at"],
        "deletedAt": None,
        "replayEnabled": False,
        "replayConfig": None,
        "shareId": row["share_id"],
    }


def _event(row: sqlite3.Row) -> StoredEvent:
    values = {column.name: row[column.name] for column in fields(StoredEvent)}
    data = values.pop("data")
    kind = EventType(values.pop("type"))
    return StoredEvent(**values, type=kind, data=None if data is None else json.loads(data))

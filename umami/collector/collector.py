"""The class `Collector`: puts the server together from its parts, and has the methods that tests use."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread

from umami.collector.app import CollectorApp
from umami.collector.auth import Auth
from umami.collector.faults import Fault, FaultPlan
from umami.collector.feed import Feed
from umami.collector.generations import find
from umami.collector.ingest import Ingest
from umami.collector.ingest_routes import IngestRoutes
from umami.collector.journal import Journal
from umami.collector.page import Page
from umami.collector.query_routes import QueryRoutes
from umami.collector.server import ServerThread
from umami.collector.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

    from typing_extensions import Self

    from umami.collector.faults import ItemFaults
    from umami.collector.records import Identity, Request, StoredEvent


class Collector:
    """A server that answers as Umami does, for tests and development.

    It has Umami's routes, checks, answers and errors. It runs in a thread, and is a sync and an async context
    manager. After `stop`, `start` brings it back on the same port, with its events. The attribute `umami` is
    the name of the version that it answers as.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        database: An SQLite file to keep websites and events in; None for memory.
        auto_register: Register an unknown website when its first event arrives. If False, the event is
            answered with "Website not found.".
        username: The user name for the login. There is one user.
        password: The password for the login.
        umami: The version of Umami to answer as, such as ``'2.15'`` or ``'3.0.1'``, or ``'cloud'``.
        api_key: An API key of the user, such as ``'umami_…'``. Only for Umami 3.4 and later, and the Cloud.
        second_factor: The code that a login asks for after the password. Only for Umami 3.3 and later.
        node: The version of Node.js to answer as. On 24, Umami 2.17 to 3.0.1 answer every batch with 500.
        item_delay: Seconds that each event takes. Events of a batch are stored one by one, as in Umami.
        geo_database: Whether to have a GeoIP database. Without one, events with a public address get a 500.
        keep_alive: Seconds until an idle connection is closed.
        keep_requests: How many requests to keep in `requests`; None for all. With a number, the oldest are
            also discarded when the bodies exceed 64 MiB.
        allow_hosts: Further host names under which the page of events may be opened, such as a service's name
            in Docker Compose. IP addresses, ``localhost`` and `host` are always allowed. Other names get a
            403, because the owner of such a name could read the page through a visitor's browser.

    Raises:
        TypeError: `allow_hosts` is a string.
        ValueError: `umami` is not a version of Umami, or this version has no API keys or second factors.

    Example:
        ```python
        with Collector() as collector:
            umami.set_url_base(collector.url)
            umami.new_event("signup")
            collector.wait_for(events=1)
            assert collector.events[0].name == "signup"
        ```
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        database: str | os.PathLike[str] | None = None,
        auto_register: bool = True,
        username: str = "admin",
        password: str = "umami",  # noqa: S107
        umami: str = "3.1",
        node: int = 22,
        item_delay: float = 0.0,
        *,
        api_key: str | None = None,
        second_factor: str | None = None,
        geo_database: bool = True,
        keep_alive: int = 5,
        keep_requests: int | None = None,
        allow_hosts: Collection[str] = (),
    ) -> None:
        if isinstance(allow_hosts, str):
            raise TypeError(f"allow_hosts must be a list of host names, such as [{allow_hosts!r}].")
        generation = find(umami)
        if api_key is not None and not generation.has_api_keys:
            raise ValueError(f"Umami {umami} has no API keys: use umami='3.4' or umami='cloud'.")
        if second_factor is not None and not generation.has_second_factor:
            raise ValueError(f"Umami {umami} has no second factor: use umami='3.3' or later.")
        self.host = host
        self.port = port
        self.umami = generation.name
        self._keep_alive = keep_alive
        self._store = Store(database)
        self._journal = Journal(keep_requests, events=self._store.count_events())
        self._feed = Feed()
        self._faults = FaultPlan()
        self._auth = Auth(username, password, self._store.user_created_at, second_factor, api_key)
        secret = hashlib.sha512(f"{username}:{password}".encode()).hexdigest()
        ingest = Ingest(
            self._store,
            secret=secret,
            generation=generation,
            auto_register=auto_register,
            geo_database=geo_database,
        )
        ingest_routes = IngestRoutes(
            self._store,
            self._journal,
            self._feed,
            ingest,
            generation=generation,
            node=node,
            item_delay=item_delay,
        )
        page = Page(self, self._store, self._faults, self._feed, [host, *allow_hosts])
        routes = [
            *ingest_routes.routes,
            *QueryRoutes(
                self._store, self._auth, generation=generation, version=umami.removeprefix("v")
            ).routes,
            *page.routes,
        ]
        self._app = CollectorApp(
            routes, self._journal, self._feed, page, self._faults, generation, keep_alive=keep_alive
        )
        self._server: ServerThread | None = None

    def __repr__(self) -> str:
        state = "running" if self._server else "stopped"
        return f"<Collector {self.url} {state}, {self._journal.event_count} events>"

    @property
    def url(self) -> str:
        """Its address, such as ``http://127.0.0.1:40123``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """The stored events, in order. They stay available after `stop`."""
        return self._store.events()

    @property
    def event_count(self) -> int:
        """How many events were stored since the start or the last `clear`."""
        return self._journal.event_count

    @property
    def request_count(self) -> int:
        """How many requests arrived since the start or the last `clear`."""
        return self._journal.request_count

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The stored ``identify`` calls, in order."""
        return self._store.identities()

    @property
    def requests(self) -> tuple[Request, ...]:
        """The received requests, in order, without those of the page of events."""
        return self._journal.requests

    def start(self) -> None:
        """Starts the server, and returns when it is listening. Does nothing if it is running.

        Raises:
            OSError: The port is in use, or `host` is not an address of this machine.
        """
        if self._server is None:
            try:
                self._server = ServerThread(self._app, self.host, self.port, keep_alive=self._keep_alive)
                self._server.start()
                self.port = self._server.port
                self._store.keep_open(at_exit=True)
            except BaseException:  # a Ctrl-C, say
                self.stop()
                raise

    def stop(self, *, finish: bool = False) -> None:
        """Stops the server at once, as if it were killed: requests in progress get no answer.

        Returns when the server's thread has ended. Does nothing if the server is not running.

        Args:
            finish: Stop as Umami does on SIGTERM: refuse new connections, close idle ones, and serve the
                others until the client closes them or leaves them idle for `keep_alive` seconds. A client
                that keeps a connection busy keeps the server running. Another `stop` then ends it at once.
        """
        server = self._server
        if server is not None:
            server.stop(finish=finish)
            if self._server is server:  # no other thread has stopped it, and started another
                self._server = None
                self._store.keep_open(at_exit=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def wait_for(self, events: int | None = None, requests: int | None = None, timeout: float = 30.0) -> None:
        """Blocks until enough events are stored and enough requests have arrived.

        Both are counted since the start, or since the last `clear`.

        Args:
            events: The least number of events; None for any number.
            requests: The least number of requests, answered or not; None for any number.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: The time is up. The message says how many have arrived.
        """
        self._journal.wait_for(events, requests, timeout)

    def add_website(self, name: str, domain: str, id: str | None = None) -> str:  # noqa: A002
        """Registers a website.

        Args:
            name: The website's name.
            domain: Its domain.
            id: Its UUID. By default, a new one.

        Returns:
            The website's id.

        Raises:
            ValueError: There is a website with this id.
        """
        return self._store.add_website(name, domain, id)

    def clear(self) -> None:
        """Deletes events, requests and faults, and ends `database_away`. Websites are kept."""
        self.clear_faults()
        self.database_back()
        self._store.clear()
        self._journal.clear()
        self._feed.clear()

    def fail(
        self,
        status: int | None = 503,
        *,
        times: int | None = 1,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        delay: float = 0.0,
        freeze: bool = False,
        cut: Literal["before", "after", "body"] | None = None,
        store: bool = False,
        items: ItemFaults | None = None,
    ) -> Fault:
        """Makes the next requests fail.

        A request takes the first fault that is left for its path, in the order in which they were added. The
        events of the request are not stored, unless `status` is None, or `store` or `cut="after"` is set.

        Args:
            status: The status of the answer; None for the normal answer.
            times: How many requests it applies to; None for all, until `clear_faults`.
            path: The path it applies to, in which ``*`` matches anything. None for the routes for events,
                ``/api/send`` and ``/api/batch``.
            headers: Headers to add, such as ``Retry-After``.
            body: The body of the answer: bytes, text, or a value that is sent as JSON. None for a body as
                Umami's.
            delay: Seconds until the answer.
            freeze: Do not answer until `thaw` or `stop`. With ``status=None`` the events are stored after
                the thaw, as with a database that was frozen.
            cut: Close the connection: ``'before'`` or ``'after'`` the events are stored, without an answer,
                or in the middle of the answer's ``'body'``.
            store: Store the events, although the request fails, and do so before `delay` and `freeze`.
            items: The events of a batch that fail: a mapping of index to ``errorObject``, or a function that
                is called with index and item and returns an ``errorObject`` or None. If the object's
                ``meta.modelName`` is ``EventData`` or ``Revenue``, the event is stored, as in Umami. An
                object with a member ``error`` is used as the whole reply for the event.

        Returns:
            The fault. Its `Fault.hits` says how many requests it has applied to.

        Raises:
            ValueError: `items` needs ``status=None``.

        Example:
            ```python
            collector.fail(429, headers={"Retry-After": "2"})
            collector.fail(None, items={3: {"code": "P1001"}})
            ```
        """
        fault = Fault(
            status=status,
            times=times,
            path=path,
            headers=headers or {},
            body=body,
            delay=delay,
            freeze=freeze,
            cut=cut,
            store=store,
            items=items,
        )
        self._faults.add(fault)
        self._feed.changed()
        return fault

    def thaw(self) -> None:
        """Continues the frozen requests, and ends the faults that freeze."""
        self._faults.thaw()
        self._feed.changed()

    def clear_faults(self) -> None:
        """Removes all faults. Frozen requests stay frozen until `thaw`."""
        self._faults.clear()
        self._feed.changed()

    def database_away(self) -> None:
        """Answers as an Umami whose database is down, until `database_back`.

        Events, logins and queries fail as they do in this version of Umami: a single event with a 500 or 400,
        a batch with a 200 in which every item is an error. Of a batch in progress, the events that are not
        yet stored fail. The heartbeat still works.

        Example:
            ```python
            collector.database_away()
            umami.new_event("signup")
            collector.database_back()
            collector.wait_for(events=1)
            ```
        """
        self._store.is_away = True
        self._feed.changed()

    def database_back(self) -> None:
        """Ends `database_away`."""
        self._store.is_away = False
        self._feed.changed()

    def revoke_tokens(self) -> None:
        """Invalidates all tokens issued so far. Queries with them are answered with 401."""
        self._auth.revoke()

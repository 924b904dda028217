"""The collector itself: its parts put together, and what a test or a program may ask of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread

from umami.collector.app import CollectorApp
from umami.collector.auth import Auth
from umami.collector.faults import Fault, FaultPlan
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
    """An Umami server for tests and development: same routes, same answers, same traps.

    It runs on a thread and is a context manager, sync and async. It can be stopped and started again; it then
    listens on the same port and still has its events. Its `umami` is the generation that it answers as.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        database: An SQLite file to keep websites and events in; None for memory.
        auto_register: Register an unknown website when its first event comes; off, the answer is
            "Website not found.".
        username: The name of its one user.
        password: The password of its one user.
        umami: The version of Umami that it answers as, such as ``'2.15'`` or ``'3.0.1'``, or ``'cloud'``.
        api_key: A key that its user has, such as ``'umami_…'``, from Umami 3.4 on and in the Cloud.
        second_factor: The code that a login asks for besides the password, from Umami 3.3 on.
        node: The version of Node.js that it runs on. On 24, batches are a 500 as a whole from 2.17 to 3.0.1.
        item_delay: Seconds that each event takes, one after another within a request, as in a real Umami.
        geo_database: Whether it has a GeoIP database; without one, an event with a public address is a 500.
        keep_alive: Seconds until an idle connection is closed.
        keep_requests: How many requests to remember; None for all. If it is given, the oldest are also
            forgotten when the bodies exceed 64 MiB.
        allow_hosts: Host names under which its page may be opened, such as a service's name in Docker
            Compose. Addresses, ``localhost`` and `host` always are; under any other name the page would be
            open to whoever owns that name.

    Raises:
        TypeError: `allow_hosts` is a string.
        ValueError: `umami` is no version of Umami, or one without API keys or second factors.

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
            raise TypeError(f"allow_hosts is a list of names: give [{allow_hosts!r}]")
        generation = find(umami)
        if api_key is not None and not generation.has_api_keys:
            raise ValueError(f"Umami {umami} has no API keys: give umami='3.4', or 'cloud'")
        if second_factor is not None and not generation.has_second_factor:
            raise ValueError(f"Umami {umami} has no second factor: give umami='3.3' or later")
        self.host = host
        self.port = port
        self.umami = generation.name
        self._keep_alive = keep_alive
        self._store = Store(database)
        self._journal = Journal(keep_requests, events=self._store.count_events())
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
            self._store, self._journal, ingest, generation=generation, node=node, item_delay=item_delay
        )
        routes = [
            *ingest_routes.routes,
            *QueryRoutes(
                self._store, self._auth, generation=generation, version=umami.removeprefix("v")
            ).routes,
            *Page(self._store, self._journal, [host, *allow_hosts]).routes,
        ]
        self._app = CollectorApp(routes, self._journal, self._faults, generation, keep_alive=keep_alive)
        self._server: ServerThread | None = None

    def __repr__(self) -> str:
        state = "running" if self._server else "stopped"
        return f"<Collector {self.url} {state}, {self._journal.event_count} events>"

    @property
    def url(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:40123``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """The events it stored, in order. Also there after it has stopped."""
        return self._store.events()

    @property
    def event_count(self) -> int:
        """How many events it stored, since the start or the last `clear`."""
        return self._journal.event_count

    @property
    def request_count(self) -> int:
        """How many requests it got, since the start or the last `clear`."""
        return self._journal.request_count

    @property
    def identities(self) -> tuple[Identity, ...]:
        """What ``identify`` stored, in order."""
        return self._store.identities()

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests it got, in order, those of its own page aside."""
        return self._journal.requests

    def start(self) -> None:
        """Starts the server and returns once it listens. Does nothing if it runs.

        Raises:
            OSError: The port is taken, or the host is not an address of this machine.
        """
        if self._server is None:
            self._server = ServerThread(self._app, self.host, self.port, keep_alive=self._keep_alive)
            self.port = self._server.port
            self._store.keep_open(at_exit=True)

    def stop(self, *, finish: bool = False) -> None:
        """Stops the server at once: requests under way end as if it had been killed, with no answer.

        Returns when its thread has ended. Does nothing if it does not run.

        Args:
            finish: Stop as Umami does on SIGTERM instead: refuse new connections and close idle ones from now
                on, and serve the others until the client closes them or leaves them idle for `keep_alive`
                seconds. A client that keeps one busy keeps the server from ending; another `stop` ends it.
        """
        if self._server is not None:
            self._server.stop(finish=finish)
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
        """Blocks until at least so many events are stored and so many requests have come.

        Both are counted since the start, or since the last `clear`.

        Args:
            events: At least so many events; None for any number.
            requests: At least so many requests, answered or not; None for any number.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: They are not there in time; says what is.
        """
        self._journal.wait_for(events, requests, timeout)

    def add_website(self, name: str, domain: str, id: str | None = None) -> str:  # noqa: A002
        """Registers a website.

        Args:
            name: What it is called.
            domain: Where it is.
            id: Its UUID; a new one when left out.

        Returns:
            The website's id.

        Raises:
            ValueError: The id is taken.
        """
        return self._store.add_website(name, domain, id)

    def clear(self) -> None:
        """Forgets the events, the requests and the faults, and gives the database back. The websites stay."""
        self.clear_faults()
        self.database_back()
        self._store.clear()
        self._journal.clear()

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
        """Scripts a fault for the next requests.

        Faults are used up in the order in which they were scripted: a request takes the first one that is
        for its path. Nothing is stored unless `status` is None or `store` or `cut` says so.

        Args:
            status: The status to answer with; None for the normal answer.
            times: For how many requests; None for every one until the faults are cleared.
            path: For which path, ``*`` standing for anything; None for ``/api/send`` and ``/api/batch``.
            headers: Headers to add, such as ``Retry-After``.
            body: A body in place of the usual one: bytes, text, or anything that JSON can say.
            delay: Seconds until the answer.
            freeze: No answer until `thaw`, or until the collector stops. A normal answer stores when it is
                thawed, like a database that was frozen.
            cut: Close the connection with no answer, ``'before'`` or ``'after'`` the events are stored, or
                half-way through the ``'body'``.
            store: Store the events all the same, and before any delay or freeze.
            items: Which items fail, each for itself: a mapping of index to ``errorObject``, or a function of
                index and item that returns one, or None. With a ``meta.modelName`` of ``EventData`` or
                ``Revenue`` the item's event is stored, as in Umami. An object with an ``error`` member stands
                for the whole reply instead.

        Returns:
            The fault, which counts its `Fault.hits`.

        Raises:
            ValueError: There are `items`, but the answer is not to be the normal one.

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
        return fault

    def thaw(self) -> None:
        """Lets the frozen requests go on, and freezes no more."""
        self._faults.thaw()

    def clear_faults(self) -> None:
        """Forgets the faults. What is frozen stays so until `thaw`."""
        self._faults.clear()

    def database_away(self) -> None:
        """Takes the database away, until `database_back`.

        Every event, login and query fails as it does with this version of Umami while its database is down: a
        single event with a 500 or a 400, a batch with a 200 in which every item is an error. A request under
        way fails from its next event on. The heartbeat goes on.

        Example:
            ```python
            collector.database_away()
            umami.new_event("signup")
            collector.database_back()
            collector.wait_for(events=1)
            ```
        """
        self._store.is_away = True

    def database_back(self) -> None:
        """Gives the database back."""
        self._store.is_away = False

    def revoke_tokens(self) -> None:
        """Makes every token issued so far invalid: queries with them answer 401."""
        self._auth.revoke()

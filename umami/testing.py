"""For tests of code that sends events: keeps what was sent, without a server and without configuration.

`capture` works with any test framework. With pytest, use the fixture `umami_outbox`, which needs no import.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Final, Literal

from pydantic_core import from_json

from ._events.fields import FIELDS
from ._state import capturing
from ._user_agents import BROWSER_USER_AGENT

__all__ = ["Outbox", "SentEvent", "capture"]

_MOST_SHOWN: Final = 5


@dataclass(frozen=True)
class SentEvent:
    """One event, as it would have gone to Umami.

    Attributes:
        kind: `event`, `page_view` or `identify`.
        name: The event's name; blank for the other kinds.
        url: The page.
        title: Its title.
        hostname: The site's host name.
        website_id: The website.
        referrer: Where the visitor came from.
        language: The visitor's language.
        screen: The size of the visitor's screen.
        ip_address: The visitor's address; None if it was not given.
        ua: The visitor's User-Agent; that of a browser if it was not given.
        distinct_id: Your own id for the visitor; None if it was not given.
        tag: The tag; None if it was not given.
        browser: The visitor's browser; None if it was not given.
        os: The visitor's operating system; None if it was not given.
        device: The kind of device; None if it was not given.
        data: The custom data.
        revenue: The amount of money; None if it is no revenue.
        currency: Its currency; None if it is no revenue.
        at: When it happened.
        payload: All of the payload, as Umami calls it.
    """

    kind: Literal["event", "page_view", "identify"]
    name: str = ""
    url: str = ""
    title: str = ""
    hostname: str = ""
    website_id: str = ""
    referrer: str = ""
    language: str = ""
    screen: str = ""
    ip_address: str | None = None
    ua: str = BROWSER_USER_AGENT
    distinct_id: str | None = None
    tag: str | None = None
    browser: str | None = None
    os: str | None = None
    device: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    revenue: float | None = None
    currency: str | None = None
    at: datetime | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)


_NAMES: Final = {"ip": "ip_address", "userAgent": "ua", "id": "distinct_id", "website": "website_id"}
_FIELDS: Final = frozenset(each.name for each in fields(SentEvent)) - {"kind", "payload"}
_EXPECTED: Final = _FIELDS | FIELDS.keys() - _NAMES.keys() - {"timestamp"}
"""What `assert_event` compares: also the fields of a payload that `SentEvent` has no attribute for."""


def _sent(encoded: bytes) -> SentEvent:
    body = from_json(encoded)
    payload = body["payload"]
    values = {name: payload[key] for key in payload if (name := _NAMES.get(key, key)) in _FIELDS}
    data = values.setdefault("data", {})
    if isinstance(data.get("revenue"), (int, float)) and "name" in payload:
        values["revenue"], values["currency"] = data["revenue"], data.get("currency")
    kind: Any = "identify" if body["type"] == "identify" else "event" if "name" in payload else "page_view"
    at = datetime.fromtimestamp(payload["timestamp"], timezone.utc) if "timestamp" in payload else None
    return SentEvent(kind, at=at, payload=payload, **values)


class Outbox:
    """The events that were sent in a `capture`, oldest first. An event is here as soon as its send returns.

    Example:
        ```python
        with umami.testing.capture() as outbox:
            buy("pro")
        outbox.assert_event("purchase", url="/checkout", data={"plan": "pro"})
        ```
    """

    def __init__(self) -> None:
        self._encoded: list[bytes] = []

    def __repr__(self) -> str:
        return f"<umami.testing.Outbox with {len(self._encoded)} sent>"

    def _take(self, encoded: bytes) -> bool:
        self._encoded.append(encoded)
        return True

    @property
    def all(self) -> list[SentEvent]:
        """Everything that was sent."""
        return [_sent(encoded) for encoded in self._encoded.copy()]

    @property
    def events(self) -> list[SentEvent]:
        """The custom events, revenue included."""
        return [sent for sent in self.all if sent.kind == "event"]

    @property
    def page_views(self) -> list[SentEvent]:
        """The page views."""
        return [sent for sent in self.all if sent.kind == "page_view"]

    @property
    def revenue(self) -> list[SentEvent]:
        """The events with revenue."""
        return [sent for sent in self.all if sent.revenue is not None]

    @property
    def identifies(self) -> list[SentEvent]:
        """What `identify` sent."""
        return [sent for sent in self.all if sent.kind == "identify"]

    def clear(self) -> None:
        """Forget what was sent so far."""
        self._encoded.clear()

    def one(self, name: str) -> SentEvent:
        """Return the only event of a name.

        Args:
            name: The event's name.

        Raises:
            AssertionError: There is none, or more than one. The message shows what was sent.

        Example:
            ```python
            assert outbox.one("purchase").revenue == 19.99
            ```
        """
        found = [sent for sent in self.events if sent.name == name]
        if len(found) == 1:
            return found[0]
        shown = "".join(f"\n  {_line(sent)}" for sent in found or self.events)
        raise AssertionError(f"Expected one event {name!r}, got {len(found)}.{_heading(found, shown)}")

    def assert_event(self, name: str, **expected: Any) -> SentEvent:
        """Assert that an event was sent.

        Args:
            name: Its name.
            **expected: Values of its fields, by the names that `SentEvent` has. `data` need not be complete:
                the event may have more.

        Returns:
            The first such event.

        Raises:
            AssertionError: There is none. The message shows how the nearest ones differ.
            TypeError: There is no such field.

        Example:
            ```python
            outbox.assert_event("purchase", url="/checkout", data={"plan": "pro"})
            ```
        """
        _check_fields(expected)
        misses = []
        for sent in self.events:
            differences = [f"name: {sent.name!r}, not {name!r}"] if sent.name != name else []
            differences += _differences(sent, expected)
            if not differences:
                return sent
            misses.append((len(differences) + 100 * (sent.name != name), sent, differences))
        misses.sort(key=lambda miss: miss[0])
        wanted = "".join(f"\n  {key}={value!r}" for key, value in expected.items())
        shown = "".join(
            f"\n{_line(sent)}" + "".join(f"\n  {difference}" for difference in differences)
            for _, sent, differences in misses[:_MOST_SHOWN]
        )
        nearest = f"\nThe nearest of {len(misses)}:{shown}" if misses else "\nNo event was sent."
        raise AssertionError(f"No event {name!r} was sent{' with' * bool(expected)}{wanted}{nearest}")

    def assert_no_event(self, name: str | None = None, **expected: Any) -> None:
        """Assert that no such event was sent.

        Args:
            name: Its name; None for any.
            **expected: As with `assert_event`: events that differ do not count.

        Raises:
            AssertionError: There is one. The message shows it.
            TypeError: There is no such field.

        Example:
            ```python
            outbox.assert_no_event("purchase")
            ```
        """
        _check_fields(expected)
        for sent in self.events:
            if name in (None, sent.name) and not _differences(sent, expected):
                raise AssertionError(f"An event was sent: {_line(sent)}")


def _check_fields(expected: Mapping[str, Any]) -> None:
    for name in expected:
        if name not in _EXPECTED:
            shown = ", ".join(sorted(_EXPECTED))
            raise TypeError(f"An event has no field {name!r}. The fields are: {shown}.")


def _differences(sent: SentEvent, expected: Mapping[str, Any]) -> list[str]:
    return [
        difference
        for name, value in expected.items()
        for difference in _unlike(name, getattr(sent, name, sent.payload.get(name)), value)
    ]


def _unlike(name: str, found: Any, expected: Any) -> Iterator[str]:
    """Yield how a value differs. A mapping may have more keys than expected."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key, value in expected.items():
            if key in found:
                yield from _unlike(f"{name}[{key!r}]", found[key], value)
            else:
                yield f"{name}[{key!r}]: missing, not {value!r}"
    elif found != expected:
        yield f"{name}: {found!r}, not {expected!r}"


def _line(sent: SentEvent) -> str:
    data = f", data={dict(sent.data)!r}" if sent.data else ""
    return f"{sent.name!r}, url={sent.url!r}{data}"


def _heading(found: list[SentEvent], shown: str) -> str:
    if not shown:
        return " No event was sent."
    return f" {'They are' if found else 'These were sent'}:{shown}"


class _Capturing:
    """The context manager that `capture` returns."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._open: list[Any] = []

    def __enter__(self) -> Outbox:
        block = capturing(self._outbox._take)  # noqa: SLF001
        block.__enter__()
        self._open.append(block)
        return self._outbox

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.pop().__exit__(None, None, None)

    async def __aenter__(self) -> Outbox:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def capture() -> _Capturing:
    """Keep the events of all clients, threads and modes in memory, even if sending is disabled.

    Sends check their arguments as usual and return `{'queued': True}`. Nothing leaves the process. A website
    and a host name need not be set. At the end, each client has the same settings, login and counts as
    before.

    Returns:
        A context manager, for `with` and `async with`, that yields an `Outbox`.

    Example:
        ```python
        def test_checkout():
            with umami.testing.capture() as outbox:
                client.post("/checkout")
            outbox.assert_event("purchase", data={"plan": "pro"})
        ```
    """
    return _Capturing()

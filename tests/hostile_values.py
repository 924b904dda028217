"""Random arguments for sends: ordinary, odd, huge and endless ones, and types with unusual methods."""

import math
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from itertools import count, repeat
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pydantic

ALPHABET = "abcXYZ019 .-_/%&=?#:;,@[]{}\"'\\<>\x00\n\t\x7fé漢\ud800\udfff\u0130\u202e\N{ROCKET}"
SPECIAL = (
    *(
        "",
        " ",
        "%00",
        "%",
        "__proto__",
        "a.b",
        "null",
        "NaN",
        "2026-99-99T99:99:99",
        "http://",
        "//",
        "utm_source",
    ),
    *("https://[", "x" * 51, "x" * 501, "\N{ROCKET}" * 251, "\x00" * 600, "\\u0000", "constructor", "cache"),
)
NUMBERS = (
    *(0, -1, True, 10**15, -(10**15), 2**63, 2**64, 10**400, 10**5000, sys.maxsize),
    *(math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e300, 1e15, 999999999999999.9, 1e-7),
    *(Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), Decimal("1E+999999"), Decimal("0.1")),
)


class RevoltError(Exception):
    """What the types below raise."""


def refuse(*_: Any, **__: Any) -> Any:
    raise RevoltError("\ud800 no")


class Level(IntEnum):
    LOW = 1


class Kind(Enum):
    NESTED = ("a", "b")
    ITSELF = object()


@dataclass
class Order:
    value: Any


class Model(pydantic.BaseModel):
    value: Any


class Lists(list):  # type: ignore[type-arg]
    """A list without an end."""

    def __iter__(self) -> Iterator[Any]:
        return repeat("again")


class Lying(Mapping):  # type: ignore[type-arg]
    """A mapping whose parts contradict each other, as the given ones do."""

    def __init__(self, **ways: Callable[..., Any]) -> None:
        self._ways = ways

    def __getitem__(self, key: Any) -> Any:
        return self._ways.get("getitem", str)(key)

    def __iter__(self) -> Iterator[Any]:
        return self._ways.get("iter", lambda: iter(("a", "b")))()

    def __len__(self) -> int:
        return self._ways.get("len", lambda: 2)()

    def keys(self) -> Any:
        return self._ways.get("keys", lambda: ["a", 5, None])()

    def items(self) -> Any:
        return self._ways.get("items", lambda: [("a", 1), ("b", 2)])()


LIES: tuple[dict[str, Callable[..., Any]], ...] = (
    *({"items": refuse}, {"getitem": refuse}, {"len": refuse}, {"iter": refuse}, {"keys": refuse}),
    {"items": lambda: [("a", 1), ("a", 2)]},
    {"items": lambda: [("a", 1, 2)]},
    {"items": lambda: 5},
    {"items": lambda: zip(count(), repeat(1))},
    {"items": lambda: ((str(number), 1) for number in count())},
    {"items": lambda: repeat(("a", 1))},
    {"iter": count},
    {"keys": count},
    {"len": lambda: -1},
)


def with_ways(base: type, **ways: Any) -> type:
    """Make a subclass that overrides some of its methods."""
    return type(f"Own{base.__name__}", (base,), ways)


WAYS = {
    "__str__": (refuse, lambda self: 5, lambda self: "other"),
    "__repr__": (refuse, lambda self: 5, lambda self: "x" * 10_000),
    "__len__": (refuse, lambda self: 0, lambda self: 10**9),
    "__iter__": (refuse, lambda self: iter(("a", "b")), lambda self: repeat("a"), lambda self: 5),
    "__eq__": (refuse, lambda self, other: True, lambda self, other: False),
    "__bool__": (refuse, lambda self: False),
    "__format__": (refuse,),
    "__float__": (refuse, lambda self: math.nan),
    "__int__": (refuse, lambda self: 10**400),
    "__lt__": (refuse, lambda self, other: True),
    "__class__": (property(refuse), property(lambda self: str), property(lambda self: dict)),
    "__getattribute__": (refuse,),
    "keys": (refuse, lambda self: count(), lambda self: "ab"),
    "items": (refuse, lambda self: repeat(("a", 1)), lambda self: [(object(), 1)]),
    "strip": (refuse, lambda self: 5),
    "isascii": (refuse, lambda self: True),
    "encode": (refuse, lambda self, *_: b"\xff"),
    "tzinfo": (property(refuse),),
    "isoformat": (refuse, lambda self, **_: "other"),
    "value": (property(refuse),),
    "model_dump": (refuse, lambda self, **_: 5),
}
HASHES = (refuse, lambda self: 5, lambda self: hash("example.com"))
BASES: tuple[tuple[type, tuple[Any, ...]], ...] = (
    *((str, (text,)) for text in ("own", "", "example.com", "x" * 600)),
    *((dict, ({"a": 1},)), (list, ([1, 2],)), (tuple, ((1, 2),)), (int, (5,)), (float, (0.5,))),
    *((bytes, (b"ab",)), (Decimal, ("1.5",)), (datetime, (2026, 1, 1)), (deque, ((1,),)), (set, ((1,),))),
    *(
        (object, ()),
        (Lying, ()),
        (UUID, ("978435e2-7ba1-4337-9860-ec31ece2db60",)),
        (OrderedDict, ({"a": 1},)),
    ),
)
VISITORS = ("url", "referrer", "title", "language", "screen", "ip_address", "ua")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHOSEN = ("event_name", "hostname", "distinct_id", "tag", "timestamp")


class Values:
    """Draws values.

    Args:
        seed: What they follow from.
    """

    def __init__(self, seed: int) -> None:
        self._luck = random.Random(seed)

    def arguments(self) -> dict[str, Any]:
        """Return arguments for `new_event`, one or two of them odd."""
        luck = self._luck
        fields = luck.choices(("custom_data", *VISITORS, *CHOSEN), (20, *(1,) * 12), k=luck.choice((1, 1, 2)))
        arguments = {field: self.data() if field == "custom_data" else self.argument() for field in fields}
        ua = arguments.get("ua")
        if issubclass(type(ua), str):
            odd = "".join(letter for letter in str.__str__(ua) if not " " < letter <= "~")
            arguments["ua"] = f"{BROWSER} {odd}"  # with any other text it might be a bot's
        return arguments

    def argument(self) -> Any:
        """Return a value for a field that is to be a text."""
        return self.text() if self._luck.random() < 0.7 else self.value(3)

    def data(self) -> Any:
        """Return custom data, usually a mapping."""
        draw = self._luck.random()
        if draw < 0.8:
            return self.mapping(5, 0)
        if draw < 0.9:
            return Lying(**self._luck.choice(LIES))
        return self.value(0)

    def mapping(self, most: int, depth: int) -> dict[Any, Any]:
        """Return a mapping of so many items at most."""
        mapping = {}
        for _ in range(self._luck.randrange(most + 1)):
            key = self.text() if self._luck.random() < 0.8 else self.value(3)
            with suppress(Exception):  # it has no hash, or does not want to be compared
                mapping[key] = self.value(depth)
        return mapping

    def text(self) -> str:
        """Return a text."""
        luck = self._luck
        draw = luck.random()
        if draw < 0.3:
            return luck.choice(SPECIAL)
        text = "".join(luck.choices(ALPHABET, k=luck.randrange(30)))
        return text * luck.randrange(1, 60) if draw > 0.9 else text

    def own(self) -> Any:
        """Return an instance of a type that does as it likes."""
        luck = self._luck
        base, given = luck.choice(BASES)
        ways = {
            name: luck.choice(WAYS[name]) for name in luck.sample(tuple(WAYS), k=luck.choice((1, 1, 2, 4)))
        }
        # A type with an __eq__ of its own has no hash otherwise.
        ways["__hash__"] = base.__hash__ if luck.random() < 0.6 else luck.choice(HASHES)
        try:
            return with_ways(base, **ways)(*given)
        except Exception:  # noqa: BLE001 - some cannot even be made
            return object()

    def value(self, depth: int) -> Any:
        """Return a value of any kind, nested as deep as luck will have it."""
        luck = self._luck
        draw = luck.random() + depth * 0.05
        if draw < 0.15:
            return self.mapping(4, depth + 1)
        if draw < 0.25:
            return [self.value(depth + 1) for _ in range(luck.randrange(5))]
        if draw < 0.30:
            wrap = luck.choice(
                (tuple, deque, Order, iter, lambda value: Model(value=value), MappingProxyType)
            )
            return (
                wrap({"in": self.value(depth + 1)})
                if wrap is MappingProxyType
                else wrap([self.value(depth + 1)])
            )
        if draw < 0.36:
            return self.knot()
        if draw < 0.50:
            return self.own()
        if draw < 0.65:
            return luck.choice(NUMBERS)
        if draw < 0.75:
            return luck.choice(
                (
                    None,
                    object(),
                    print,
                    5j,
                    b"\xff",
                    Level.LOW,
                    Kind.NESTED,
                    Kind.ITSELF,
                    Lists("ab"),
                    int,
                    ...,
                )
            )
        if draw < 0.80:
            return luck.choice(
                (
                    date.min,
                    datetime.max,  # noqa: DTZ901
                    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
                    timedelta.max,
                )
            )
        return self.text()

    def knot(self) -> Any:
        """Return something that is nested very deeply, or holds itself."""
        luck = self._luck
        kind = luck.randrange(5)
        if kind == 0:
            itself: Any = {}
            itself["in"] = [itself]
            return itself
        if kind == 1:
            array: list[Any] = []
            array.append({"in": array})
            return array
        if kind == 2:
            order = Order(None)
            order.value = order
            return order
        value: Any = 1
        for _ in range(luck.choice((10, 49, 50, 51, 500, 5000))):
            value = {"in": value} if kind == 3 else [value]
        return value

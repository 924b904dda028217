"""Turns `custom_data` into plain JSON values that Umami can store.

Umami flattens nested objects to dotted keys, and stores each value as text of at most 500 characters. For one
value that is too long, or a number that is too large, it drops all of the event's data. So values are cut or
rewritten here. A value that JSON cannot express raises an error that names its key.
"""

import dataclasses
import math
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Final

from pydantic_core import to_json, to_jsonable_python

from umami.errors import ValidationError

from .fields import NUMBER_LIMIT, Note, date_text, scrubbed
from .values import WRITTEN_AS_THEY_ARE, decimal_text, given, is_a, is_missing, native, plain, written

TEXT_LIMIT: Final = 500
DEPTH_LIMIT: Final = 50
_WALKS: Final = ("__iter__", "__len__", "items", "keys")
_COLLECTIONS: Final = (list, tuple, set, frozenset, deque)
_WRITTEN_AS_THEY_ARE: Final = (date, PurePath, *WRITTEN_AS_THEY_ARE)
_MOST_KEYS: Final = 100_000  # each is a row in the server's database; and a mapping may have no end
_LEAST_NUMBER: Final = -NUMBER_LIMIT
_INTEGER_LIMIT: Final = int(NUMBER_LIMIT)  # an integer is compared with an integer twice as fast
# JavaScript, which writes an array's text, spells out a millionth: 0.000001 for 1e-6.
_MILLIONTHS: Final = re.compile(r"e-6(?!\d)")
_LONGER_IN_JAVASCRIPT: Final = 4


# What Umami takes for a date. It answers one that is not in the calendar with 500, after storing the event.
_DATE_LIKE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}(?:Z|\+\d\d:\d\d)?)?", re.ASCII)


def is_plain(data: dict[str, Any]) -> bool:
    """Tell in one quick look whether `data` has only short texts, flags, null and modest numbers.

    Then the sole thing that can be wrong with it is a text that is not printable, which shows in the encoded
    event's backslashes.
    """
    for key, value in data.items():
        if type(key) is not str or len(key) > TEXT_LIMIT:
            return False
        kind = type(value)
        if kind is str:
            if len(value) > 18 and (
                len(value) > TEXT_LIMIT or (value[10] == "T" and _DATE_LIKE.fullmatch(value))
            ):
                return False
        elif kind is int:
            # Python compares integers below 2**30 faster, and most are.
            if not -1_000_000_000 < value < 1_000_000_000 and not -_INTEGER_LIMIT < value < _INTEGER_LIMIT:
                return False
        elif kind is float:
            if not _LEAST_NUMBER < value < NUMBER_LIMIT:
                return False
        elif kind is not bool and value is not None:
            return False
    return True


def copied(data: Any) -> dict[str, Any]:
    """Return a copy of `custom_data` to add to.

    Raises:
        ValidationError: It is not a mapping.
    """
    if type(data) is dict:
        return data.copy()
    if data is None:
        return {}
    try:
        return dict(items_of(_mapping(data, "custom_data")))
    except ValidationError:
        raise
    except Exception as error:  # noqa: BLE001 - a mapping of the caller's own may raise anything
        raise ValidationError(f"custom_data could not be read ({type(error).__name__}).") from None


def fit(data: Any, note: Note, *, field: str = "custom_data") -> dict[str, Any]:
    """Return `data` as plain JSON values within Umami's limits.

    Args:
        data: Any mapping; dataclasses, pydantic models, datetimes, Decimals, UUIDs and Enums within it
            are welcome.
        note: Called with the kind of each repair.
        field: What to call it in an error.

    Raises:
        ValidationError: It is not a mapping, or something in it cannot be encoded.
    """
    return _Fitting(note, field).mapping(_mapping(data, field), "", 0)


def _mapping(data: Any, field: str) -> Any:
    if is_a(data, Mapping):
        return data
    stood_for = native(data)
    if not is_a(stood_for, Mapping):
        raise ValidationError(f"{field} must be a mapping, got {type(data).__name__}.")
    return stood_for


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def items_of(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the items of a mapping of any kind, whose code may raise anything."""
    kind = type(mapping)
    if kind.items is dict.items and kind.__iter__ is dict.__iter__:
        mapping = dict.copy(mapping)  # type: ignore[arg-type]  # in one step: another thread may be changing it
    items = [(key, value) for key, value in islice(mapping.items(), _MOST_KEYS + 1)]
    if len(items) > _MOST_KEYS:
        raise OverflowError
    return items


def _value_of(member: Enum) -> Any:
    return member.value


def _key_text(key: Any) -> str:
    if is_a(key, _WRITTEN_AS_THEY_ARE):
        return str(key)
    text = written(key)
    if text is None:
        ((text, _),) = to_jsonable_python({native(key): None}).items()
    return str(text)


def _is_panic(error: BaseException) -> bool:
    """Tell whether pydantic's Rust code panicked. Its exception is not derived from `Exception`."""
    return type(error).__name__ == "PanicException"


def _model() -> Any:
    """Return pydantic's base of models; nothing unless somebody has imported it, and so may have one."""
    main = sys.modules.get("pydantic.main")
    return () if main is None else main.BaseModel


def _may_not_end(value: Any, seen: set[int]) -> bool:
    """Tell whether pydantic might go through a value for ever, or take all memory for it."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    kind = type(value)
    if issubclass(kind, _model()) or dataclasses.is_dataclass(kind):
        parts: Iterable[Any] = (*getattr(value, "__dict__", {}).values(), *_beside_the_dict(value))
    elif issubclass(kind, dict):
        base: type = OrderedDict if issubclass(kind, OrderedDict) else dict
        if any(getattr(kind, name) is not getattr(base, name) for name in _WALKS):
            return True
        parts = dict.values(value)
    elif issubclass(kind, _COLLECTIONS):
        base = next(base for base in _COLLECTIONS if issubclass(kind, base))
        # By its length pydantic makes room for what it holds.
        if kind.__iter__ is not base.__iter__ or kind.__len__ is not base.__len__:
            return True
        parts = value
    else:
        return False
    return any(_may_not_end(part, seen) for part in parts)


def _beside_the_dict(value: Any) -> Iterator[Any]:
    """Yield what a model or dataclass holds but in its `__dict__`: extra, in slots, computed."""
    yield from (getattr(value, "__pydantic_extra__", None) or {}).values()
    kind = type(value)
    for names in (getattr(kind, "__dataclass_fields__", ()), getattr(kind, "model_computed_fields", ())):
        for name in names:
            yield getattr(value, name, None)


def _field_names(kind: type) -> list[str] | None:
    """Return the names of the fields of a dataclass or a class of attrs; None for any other."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    return [attribute.name for attribute in attributes] if is_a(attributes, tuple) else None


class _Fitting:
    """One walk over one event's data."""

    def __init__(self, note: Note, field: str) -> None:
        self._note = note
        self._field = field
        self._open: set[int] = set()

    def mapping(self, data: Any, path: str, depth: int) -> dict[str, Any]:
        fitted: dict[str, Any] = {}
        with self._inside(data, path, depth):
            for key, value in self._items(data, path):
                name = self._key(key, path)
                dotted = f"{path}.{name}" if path else name
                if len(dotted) > TEXT_LIMIT:
                    self._note("custom_data_key")
                    dotted = dotted[:TEXT_LIMIT]
                    name = dotted[len(path) + 1 :] if path else dotted
                    if not name:
                        continue
                fitted[name] = self.value(value, dotted, depth)
        return fitted

    def value(self, value: Any, path: str, depth: int) -> Any:
        if value is None or is_a(value, bool):
            return value
        if is_a(value, Enum):
            return self.value(self._convert(_value_of, value, path), path, depth)
        value = plain(value)
        if is_a(value, str):
            return self._text(value)
        if is_a(value, (int, float, Decimal)):
            return self._number(value)
        if is_missing(value):
            return None
        if is_a(value, datetime):
            return self._convert(date_text, value, path)
        if is_a(value, _WRITTEN_AS_THEY_ARE):
            return self._convert(str, value, path)
        if is_a(value, Mapping):
            return self.mapping(value, path, depth + 1)
        if is_a(value, (list, tuple, AbstractSet, deque)):
            return self._array(value, path, depth + 1)
        return self._object(value, path, depth)

    def _object(self, value: Any, path: str, depth: int) -> Any:
        names = self._convert(_field_names, type(value), path)
        if names is not None:
            fields = self._convert(
                lambda each: {name: getattr(each, name) for name in names or ()}, value, path
            )
        elif is_a(value, _model()):
            if self._convert(lambda model: _may_not_end(model, set()), value, path):
                raise self._refusal(value, path, "holds a collection that iterates in a way of its own")
            fields = self._convert(type(value).model_dump, value, path)
        else:
            return self._foreign(value, path, depth)
        with self._inside(value, path, depth):
            return self.mapping(fields, path, depth + 1)

    def _foreign(self, value: Any, path: str, depth: int) -> Any:
        stood_for = native(value)
        if stood_for is not value:
            with self._inside(value, path, depth):
                return self.value(stood_for, path, depth + 1)
        text: Any = written(value)
        if text is None and not is_a(value, Iterator):  # which might never end
            # The rest of what pydantic can encode (bytes, times…) comes out as text.
            text = self._convert(to_jsonable_python, value, path)
        if not is_a(text, str):
            raise self._refusal(value, path, "cannot be encoded as JSON")
        return self._text(text)

    def _array(self, values: Any, path: str, depth: int) -> list[Any]:
        """An array is stored as its JSON text: keep as many elements as fit."""
        fitted: list[Any] = []
        room = TEXT_LIMIT - 2
        with self._inside(values, path, depth):
            # One of these more than fit, whatever they are: an array may have no end.
            first = self._convert(lambda array: list(islice(array, room // 2 + 1)), values, path)
            for index, value in enumerate(first):
                element = self.value(value, f"{path}[{index}]", depth)
                encoded = self._convert(to_json, element, path).decode()
                length = len(encoded) + _LONGER_IN_JAVASCRIPT * len(_MILLIONTHS.findall(encoded))
                if length > room:
                    self._note("custom_data_array")
                    break
                fitted.append(element)
                room -= length + 1
        return fitted

    def _text(self, value: str) -> str:
        if len(value) > TEXT_LIMIT:
            self._note("custom_data_text")
            value = value[:TEXT_LIMIT]
        fitted = scrubbed(value)
        if fitted != value:
            self._note("unprintable")
        if _DATE_LIKE.fullmatch(fitted) and not _is_date(fitted):
            self._note("custom_data_date")
            fitted = fitted.replace("T", " ")
        return fitted

    def _number(self, value: float | Decimal) -> Any:
        if isinstance(value, int):
            if -NUMBER_LIMIT < value < NUMBER_LIMIT:
                return value
            self._note("large_number")
            return decimal_text(value)[:TEXT_LIMIT]
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            self._note("not_finite")
            return None
        number = float(value)
        if abs(number) < NUMBER_LIMIT:
            return number
        self._note("large_number")
        return str(value)[:TEXT_LIMIT]

    def _key(self, key: Any, path: str) -> str:
        key = plain(key)
        if not is_a(key, str):
            key = self._convert(_key_text, key, path, "is a key, and a key must be a string")
        key = key[: TEXT_LIMIT + 1]  # one more than fits, so that `mapping` sees that it is cut
        name = scrubbed(key)
        if name != key:
            self._note("unprintable")
        return name

    def _items(self, data: Any, path: str) -> Any:
        return self._convert(items_of, data, path)

    def _convert(self, convert: Callable[[Any], Any], value: Any, path: str, why: str | None = None) -> Any:
        """Run code that belongs to the caller's own types, which may raise anything at all."""
        try:
            return convert(value)
        except BaseException as error:
            if not (isinstance(error, Exception) or _is_panic(error)):
                raise
            why = why or f"cannot be encoded as JSON ({type(error).__name__})"
            raise self._refusal(value, path, why) from None

    def _refusal(self, value: Any, path: str, why: str) -> ValidationError:
        where = f"{self._field}.{path}" if path else self._field
        return ValidationError(f"{where[:TEXT_LIMIT]}: {given(value)} {why}.")

    @contextmanager
    def _inside(self, value: Any, path: str, depth: int) -> Iterator[None]:
        """Mark a container as being walked, to catch one that contains itself."""
        if id(value) in self._open:
            raise self._refusal(value, path, "contains itself")
        if depth > DEPTH_LIMIT:
            raise self._refusal(value, path, f"is nested deeper than {DEPTH_LIMIT} levels")
        self._open.add(id(value))
        try:
            yield
        finally:
            self._open.discard(id(value))

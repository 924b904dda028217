"""Values as Python's own: subclasses, and what other libraries hand over in place of a text or a number.

Other libraries' types are known by what they offer; no library is imported for it. Their code may raise
anything, and may lie about its class.
"""

import copy
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final
from uuid import UUID

# pydantic encodes addresses and networks since 2.12 only.
WRITTEN_AS_THEY_ARE: Final = (UUID, IPv4Address, IPv4Network, IPv6Address, IPv6Network)
_EXACT: Final = frozenset((bool, str, int, float, bytes, list, dict, tuple, type(None)))
_PLAIN: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Decimal, Decimal),
)
_NUMPY_UNITS: Final = {"M": "datetime64[us]", "m": "timedelta64[us]"}
_MISSING: Final = frozenset(("NAType", "NaTType"))


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Tell whether a value is of a type, whatever it says of its own `__class__`."""
    return issubclass(type(value), kinds)


def is_missing(value: Any) -> bool:
    """Tell whether this is what pandas has for a missing value: `NaT` says that it is a datetime."""
    return type(value).__name__ in _MISSING


def plain(value: Any) -> Any:
    """Return a subclass's value as a plain str, int, float or Decimal: an Enum member's, for example."""
    if type(value) in _EXACT:
        return value
    for kind, convert in _PLAIN:
        if is_a(value, kind):
            return convert(value)
    return value


def native(value: Any) -> Any:
    """Return the value of Python's own that a value stands for; the value itself if it stands for none.

    These stand for one: scalars of numpy, missing values of pandas, proxies (Django's `SimpleLazyObject`,
    Werkzeug's `LocalProxy`), and lazy texts (Django's `gettext_lazy`, Babel's, `UserString`).
    """
    value = plain(value)
    if type(value) in _EXACT:
        return value
    try:
        return _native(value)
    except Exception:  # noqa: BLE001 - the value's own code may raise anything
        return value


def _native(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "dtype") and hasattr(kind, "item") and value.shape == ():
        item = value.item()
        if type(item) is int and value.dtype.kind in _NUMPY_UNITS:
            item = value.astype(_NUMPY_UNITS[value.dtype.kind]).item()  # it counted nanoseconds
        return float(item) if type(item) is kind else item  # a longdouble's item is itself
    if is_missing(value):
        return None
    claimed = value.__class__
    if claimed is not kind and hasattr(kind, "__copy__"):
        # A proxy says that it is of the class of what it stands for, and its copy is a copy of that. Without
        # a way of its own to be copied, a list whose iterator has no end would be copied for ever.
        copied = copy.copy(value)
        if issubclass(type(copied), claimed):
            return plain(copied)
    if hasattr(value, "casefold") and _has_own_text(value):
        return str.__str__(str(value))
    return value


def written(value: Any) -> str | None:
    """Return the text of what is usually passed as a text; None if this is nothing of the kind.

    That is any text that `native` knows, a UUID, an IP address or network, and a URL object (of Starlette,
    yarl, Werkzeug, httpx, pydantic, `urllib.parse`).
    """
    value = native(value)
    if type(value) is str:
        return value
    try:
        if is_a(value, WRITTEN_AS_THEY_ARE):
            return str.__str__(str(value))
        if hasattr(value, "scheme") and hasattr(value, "path"):
            if _has_own_text(value):
                return str.__str__(str(value))
            return str.__str__(value.geturl())
    except Exception:  # noqa: BLE001
        return None
    return None


def _has_own_text(value: Any) -> bool:
    own: Any = type(value).__str__
    return own is not object.__str__


def given(value: Any) -> str:
    """Describe a refused value for an error's text: short, and never the whole of it."""
    value = plain(value)
    if type(value) is int:
        text = decimal_text(value)
    elif type(value) in (str, bytes):
        text = repr(value[:61])
    elif type(value) in (float, bool, type(None)):
        text = repr(value)
    else:
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def decimal_text(value: int) -> str:
    """Write an integer of any size."""
    try:
        return int.__repr__(value)
    except ValueError:  # CPython refuses to print integers of thousands of digits in decimal
        return hex(value)


def described(error: BaseException) -> str:
    """Describe an exception of the user's code on one line; its own code may raise anything."""
    try:
        text = str.__str__(str(error))[:300]
    except Exception:  # noqa: BLE001
        text = "its text cannot be read"
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"{type(error).__name__}: {text}"

"""International host names, as the URL standard and Node read them: UTS 46, by the library `idna`."""

import unicodedata
from typing import Final

HOST_LIMIT: Final = 253
_LABEL_LIMIT: Final = 63
_ENCODED: Final = "xn--"
_JOINERS: Final = frozenset("\u200c\u200d")
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))


def labels(host: str) -> list[str]:
    """Return the labels of a host name, in lower case and decoded from Punycode.

    Plain ASCII labels are not checked: the URL standard takes `a_b`, `ab--c`, `-a` and empty ones. Lengths
    are checked before anything that takes more than linear time, since visitors choose host names.

    Raises:
        ValueError: The URL standard does not take the name, or it is too long to be looked up.

    Example:
        ```python
        labels("B\u00fccher.Example")  # ["b\u00fccher", "example"]
        ```
    """
    if host.isascii() and _ENCODED not in host.lower():
        return host.lower().split(".")
    _check_length(host, HOST_LIMIT)
    import idna  # late: few programs ever need it, and its tables are large

    names = idna.uts46_remap(host, std3_rules=False).split(".")
    for name in names:
        _check_length(name, _LABEL_LIMIT)
    decoded = [_decoded(name) if name.startswith(_ENCODED) else name for name in names]
    for label in decoded:
        if not label.isascii():
            _check_length(_encoded(label), _LABEL_LIMIT)
            idna.check_initial_combiner(label)
            if not all(idna.valid_contextj(label, at) for at, char in enumerate(label) if char in _JOINERS):
                raise ValueError("A label has a joiner where none may be.")
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for label in decoded for char in label):
        for label in filter(None, decoded):
            idna.check_bidi(label, check_ltr=True)
    return decoded


def to_ascii(host: str) -> str:
    """Return a host name as it is looked up: in lower case, labels beyond ASCII in Punycode.

    Raises:
        ValueError: As with `labels`.
    """
    return ".".join(label if label.isascii() else _encoded(label) for label in labels(host))


def _check_length(name: str, limit: int) -> None:
    if len(name) > limit:
        raise ValueError(f"A host name has at most {HOST_LIMIT} characters, and {_LABEL_LIMIT} in a label.")


def _encoded(label: str) -> str:
    return _ENCODED + label.encode("punycode").decode()


def _decoded(name: str) -> str:
    import idna

    label = name.removeprefix(_ENCODED).encode().decode("punycode")
    if label.isascii() or _encoded(label) != name or idna.uts46_remap(label, std3_rules=False) != label:
        raise ValueError("A label is not what UTS 46 makes of a name.")
    return label

"""Visitors' texts: they take linear time, whatever they contain; no regular expression backtracks."""

import ast
import contextlib
import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any

import pytest

import umami
from umami import _user_agents
from umami.collector import urls, visitors

pytestmark = pytest.mark.slow  # it imports every module, and all that these need

PACKAGE = Path(umami.__file__).parent

OTHERS = {
    "_http/access.py": "settings",
    "_http/filters.py": "a query's filters",
    "_http/exchange.py": "servers' answers",
    "_http/proxies.py": "settings",
    "_http/verdicts.py": "servers' answers",
    "_queries/describing.py": "docstrings",
    "_queries/ranges.py": "a query's range",
    "_spool/records.py": "the spool's files",
    "_spool/segment.py": "file names",
    "settings.py": "settings",
}
"""Modules whose patterns see no visitor's text, and what they see."""

METHODS = frozenset(("search", "match", "fullmatch", "sub", "split", "finditer", "findall"))


def uses(path: Path) -> dict[str, Callable[[str], object]]:
    """Return each use of a pattern in a module, as it is made there."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    module = importlib.import_module(name)
    found: dict[str, Callable[[str], object]] = {}
    text = path.read_text()
    if not any(f".{method}" in text for method in METHODS):
        return found  # reading its nodes would take longer than most tests
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if not isinstance(node, ast.Attribute) or node.attr not in METHODS:
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and isinstance(getattr(module, owner.id, None), re.Pattern):
            found[f"{owner.id}.{node.attr}"] = use_of(getattr(module, owner.id), node.attr)
    for node in nodes:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        function, arguments = node.func, node.args
        if not (isinstance(function.value, ast.Name) and function.value.id == "re"):
            continue
        if function.attr in METHODS and isinstance(arguments[0], ast.Constant):
            pattern = re.compile(arguments[0].value)
            found[f"line {node.lineno}"] = use_of(pattern, function.attr)
    return found


def use_of(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    function = getattr(pattern, "search" if method in ("split", "finditer", "findall") else method)
    call = functools.partial(function, "") if method == "sub" else function
    if isinstance(pattern.pattern, bytes):
        return lambda text: call(text.encode("utf-8", "surrogatepass"))
    return call


MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).as_posix() not in OTHERS
]
PATTERNS = {path.relative_to(PACKAGE).as_posix(): uses(path) for path in MODULES}
PATTERNS["collector/visitors.py"] |= {
    f"rule {index}": part.search
    for index, part in enumerate(
        part for rule in (*visitors._BROWSERS, *visitors._SYSTEMS, *visitors._DEVICES) for part in rule[1]
    )
}
PATTERNS = {name: found for name, found in PATTERNS.items() if found}

PIECES = (
    *(
        "a",
        "1",
        " ",
        ".",
        "-",
        "_",
        "/",
        ":",
        ";",
        "(",
        ")",
        "[",
        "%2",
        "%41",
        "\x00",
        "é",
        "\ud800",
        "a.",
        "a-",
        "a ",
    ),
    *(
        "1.",
        "/1",
        "@a",
        "; a",
        ";a;",
        "xn--a.",
        "//",
        "e-6",
        "Chrome/1",
        "wv)",
        "Version/1",
        "Trident/7.0",
        "rv:1",
    ),
    *(
        "MSIE 7.0;",
        "AppleWebKit/1",
        "Android 1",
        "droid ",
        "; a bui",
        "mobile ",
        "apple",
        "ipad [",
        "/iphone",
        "aft",
    ),
    *(
        "bravia ",
        "roku",
        "quest",
        "Opera Mini",
        "BB10; Touch",
        "KAKAOTALK 1",
        "Mozilla/5.0 (a) ",
        "00000000-",
    ),
)
STARTS = ("", "Mozilla/5.0 (", "Mozilla/5.0 (X11) AppleWebKit/1 (KHTML, like Gecko) ", "http://", "a/", "1")
ENDS = ("", "\n!")
SIZES = (256, 1024, 4096)
NOISE = 50e-6
"""Seconds below which a measurement says nothing."""


def cost(call: Callable[[str], object], text: str, tries: int) -> float:
    """Return the least processor time that a call took."""
    least = float("inf")
    for _ in range(tries):
        start = thread_time()
        call(text)
        least = min(least, thread_time() - start)
    return least


def grows_too_fast(call: Callable[[str], object], make: Callable[[int], str]) -> bool:
    """Whether four times the text takes clearly more than four times as long: sixteen is quadratic."""
    before = cost(call, make(SIZES[0]), 1)
    for size in SIZES[1:]:
        now = cost(call, make(size), 1)
        tries = 2
        while now > 8 * max(before, NOISE):
            if tries > 30:
                return True
            # A busy machine, perhaps.
            now = min(now, cost(call, make(size), tries))
            before = max(before, cost(call, make(size // 4), tries))
            tries *= 2
        before = now
    return False


FAMILIES: tuple[Callable[[int], str], ...] = tuple(
    lambda size, start=start, piece=piece, end=end: start + piece * (size // len(piece)) + end
    for start in STARTS
    for piece in PIECES
    for end in ENDS
)


def test_the_patterns_are_found() -> None:
    assert {
        "_events/fields.py",
        "_events/data.py",
        "_user_agents.py",
        "_http/learned.py",
        "collector/urls.py",
    } <= PATTERNS.keys()
    assert sum(map(len, PATTERNS.values())) > 60


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_backtracks(name: str) -> None:
    slow = [
        (use, make(20))
        for use, call in PATTERNS[name].items()
        for make in FAMILIES
        if grows_too_fast(call, make)
    ]
    assert slow == []


@pytest.mark.parametrize(
    "judge",
    [
        _user_agents._reads_as_browser.__wrapped__,
        _user_agents._reads_as_bot.__wrapped__,
        visitors._client.__wrapped__,
        urls.parse.__wrapped__,
    ],
    ids=lambda judge: judge.__name__,
)
def test_what_uses_them_is_linear_too(judge: Callable[[str], object]) -> None:
    def call(text: str) -> None:
        with contextlib.suppress(urls.InvalidURLError):
            judge(text)

    assert [make(20) for make in FAMILIES if grows_too_fast(call, make)] == []


def test_a_quadratic_pattern_is_found() -> None:
    for pattern, text in ((r"a+$", "a"), (r"Version/1.*Safari", "Version/1")):
        search = re.compile(pattern).search
        make = lambda size, text=text: text * (size // len(text)) + "\n!"  # noqa: E731
        # A busy machine hides it now and then.
        assert any(grows_too_fast(search, make) for _ in range(10))

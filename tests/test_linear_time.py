"""A visitor's text costs time in proportion to its length, whatever it is: no pattern backtracks."""

import ast
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import pytest

import umami
from umami import data, fields, user_agents
from umami._http import endpoints, messages
from umami.collector import ingest, javascript, queries, rules, urls, visitors

PACKAGE = Path(umami.__file__).parent

PATTERNS: dict[str, tuple[Callable[[str], object], ...]] = {
    "_http/endpoints.py": (endpoints._NO_HEADER.search,),
    "_http/messages.py": (messages._PERHAPS_SECRET.search,),
    "collector/app.py": (re.compile("/{2,}").search,),
    "collector/ingest.py": (ingest._DECIMAL.fullmatch,),
    "collector/javascript.py": (
        javascript._LONE_SURROGATE.search,
        javascript._ESCAPES.search,
        javascript._MALFORMED_ESCAPE.search,
        javascript._NUMBER.fullmatch,
        javascript._RADIX_NUMBER.fullmatch,
        javascript._DATE_TIME.fullmatch,
    ),
    "collector/queries.py": (queries._OPERATOR.fullmatch, queries._UUID.fullmatch),
    "collector/rules.py": (rules._UUID.fullmatch, rules._DATE.fullmatch),
    "collector/urls.py": (
        urls._SCHEME.match,
        urls._FORBIDDEN_IN_DOMAIN.search,
        urls._FORBIDDEN_IN_OPAQUE_HOST.search,
        urls._NUMERIC_LABEL.fullmatch,
        re.compile('["#<>?`{}]').search,
        re.compile('["#<>]').search,
        re.compile('["<>`]').search,
        re.compile("[\t\n\r]").search,
        re.compile(r"[/\\]{2}").match,
        re.compile(r"[^/\\?#]*").match,
        re.compile("%2[eE]").search,
        re.compile("%2[eE]").search,
        re.compile(r"(\[[^\]]*\])(?::0*([0-9]{0,5}))?").fullmatch,
        re.compile(r"([^:\[\]]*)(?::0*([0-9]{0,5}))?").fullmatch,
        re.compile("[.\u3002\uff0e\uff61]").search,
        re.compile(r":\d*$").search,
    ),
    "collector/visitors.py": (
        re.compile(r"^([\d.]+):\d+$").search,
        *(
            part.search
            for rule in (*visitors._BROWSERS, *visitors._SYSTEMS, *visitors._DEVICES)
            for part in rule[1]
        ),
    ),
    "data.py": (data._MILLIONTHS.search, data._DATE_LIKE.fullmatch),
    "fields.py": (
        fields._PLAIN_ORIGIN.match,
        fields._SCHEME.match,
        fields._AUTHORITY.match,
        fields._OPAQUE_HOST.match,
        fields._UNPRINTABLE.search,
    ),
    "user_agents.py": (
        user_agents._FORM.fullmatch,
        user_agents._WORD.search,
        user_agents._LONG_NUMBER.search,
    ),
}
"""Every use of a pattern that may see a visitor's text, but for is-bot's patterns, which are tried as one."""

OTHERS = {
    "queue/delivery.py": "servers' answers, with the secrets in them",
    "queue/records.py": "the spool's files",
}

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


def uses_of_re(path: Path) -> int:
    """Count the calls that compile a pattern, which is not a variable's value alone."""
    count = 0
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in {"re", "regex"}:
                count += node.func.attr != "escape"
    return count


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_every_pattern_is_listed_here(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    if name in OTHERS:
        return
    listed = len(PATTERNS.get(name, ()))
    if name == "collector/visitors.py":
        listed = 2  # its rules' are compiled in one place
    if name == "user_agents.py":
        listed += 1  # and so are is-bot's
    assert uses_of_re(path) == listed, f"list the patterns of {name} in this test"


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_backtracks(name: str) -> None:
    slow = [
        (search, make(20)) for search in PATTERNS[name] for make in FAMILIES if grows_too_fast(search, make)
    ]
    assert slow == []


@pytest.mark.parametrize(
    "judge",
    [
        user_agents._reads_as_browser.__wrapped__,
        user_agents._reads_as_bot.__wrapped__,
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
    for pattern, text in ((r"a+$", "a"), (r"Version/1.*Safari", "Version/1"), (r"\d+\.?\d*", "1")):
        search = re.compile(pattern).search if "d" not in pattern else re.compile(pattern).fullmatch
        assert grows_too_fast(search, lambda size, text=text: text * (size // len(text)) + "\n!")

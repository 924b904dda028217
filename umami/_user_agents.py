"""What a User-Agent says about its sender: surely a browser, a bot by Umami's own rule, or neither."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

BROWSER_USER_AGENT: Final = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
"""The User-Agent of sends that name none. Umami takes less than a browser's whole string for a bot's."""

BOT_CHECK_VARIABLE: Final = "DISABLE_BOT_CHECK"
"""The variable, set to 1, that makes an Umami server of any version since 1.38 keep what bots send."""

_REMEMBERED: Final = 4096
_LONGEST_BROWSER: Final = 512  # characters; a bound on what is remembered, too
_LONGEST_JUDGED: Final = 2048

# Nothing but this form passes, with a comment only where browsers have one. No two of its repetitions can
# take the same character, so that it takes linear time.
_FORM: Final = re.compile(
    r"""
    Mozilla/5\.0\ \([\w\ ;:.,/+-]+(?:\(\d\w*\)[\w\ ;:.,/+-]*)*\)  # "(Linux; Android 11; moto g(60)s)"
    (?:
        \ AppleWebKit/[\d.]+\ \(KHTML,\ like\ Gecko\)(?:\ [A-Za-z]+(?:[/ ]\d[\w.]*)?)+
        | \ Gecko/[\d.]+(?:\ [A-Za-z]+/[\d.]+)+
        | \ like\ Gecko
    )
    (?:\ \([\w\ ;:.,/=-]+\)|\ ?\[[\w\ ;:.,/-]+\])?  # in-app browsers say more, and Opera "(Edition std-1)"
    """,
    re.ASCII | re.VERBOSE,
)

# Every run of three letters or more must be a known word, or a code of three capitals as models and builds
# have it ("CPH2451", "VOG-L29"). The rest of what isbot takes for a bot's has no such run.
_WORD: Final = re.compile("[A-Za-z]{3,}")
_NO_CODES: Final = frozenset(("API", "BIT", "BOT", "COM", "DLC", "GPT", "ORT", "PHP", "RSS", "SEO", "URL"))
_ODD: Final = ("24x7", "bw/", ".ai", "/1.0;")
_LONG_NUMBER: Final = re.compile(r"\d{13}")
_WORDS: Final = frozenset(
    """
    Mozilla Gecko KHTML like AppleWebKit
    Windows Win Macintosh Intel Mac PPC Linux Ubuntu Fedora Android CrOS arm armv aarch amd iPhone iPad iPod
    touch iOS CPU Tizen SMART Web SmartTV PlayStation Nintendo Switch Xbox One Series
    Mobile Tablet Build Trident Touch
    SAMSUNG samsung Galaxy Pixel Pro Fold Flip Nexus Redmi Note POCO Xiaomi moto Moto power play plus stylus
    edge vivo realme HUAWEI HONOR OnePlus ONEPLUS Nokia Infinix TECNO itel OPPO HTC LGE ZTE TCL ASUS Lenovo
    Sony motorola Max Ultra Lite Plus Prime Neo Turbo
    Chrome Chromium Safari Version Firefox Focus Edge Edg EdgA EdgiOS OPR OPT OPX OPiOS Opera Edition std
    SamsungBrowser CriOS FxiOS GSA Ddg DuckDuckGo Brave Vivaldi YaBrowser Yowser Whale Silk Quark Ecosia
    MiuiBrowser HeyTapBrowser VivoBrowser HuaweiBrowser UCBrowser Epiphany SeaMonkey Waterfox
    Instagram scale dpi qcom exynos Barcelona Snapchat Line
    IAB FBAN FBAV FBBV FBDV FBMD FBSN FBSV FBSS FBID FBCR FBLC FBOP FBRV FBIOS phone tablet
    """.split()  # noqa: SIM905 - it reads better
)


def is_surely_browser(user_agent: str) -> bool:
    """Tell whether a User-Agent is so plainly a browser's that Umami, whatever its version, keeps its events.

    It errs on the safe side: an unusual browser is not surely one.

    Args:
        user_agent: The User-Agent of an event; for an empty one the answer is False.

    Example:
        ```python
        is_surely_browser("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")  # True
        is_surely_browser("curl/8.5.0")  # False
        ```
    """
    return len(user_agent) <= _LONGEST_BROWSER and _reads_as_browser(user_agent)


def is_bot(user_agent: str) -> bool:
    """Tell whether Umami drops what a User-Agent sends, by the rule that it uses itself, npm's isbot.

    It needs the `bots` extra: `pip install 'umami-analytics[bots]'`.

    Args:
        user_agent: The visitor's User-Agent, of which 2,048 characters are read; an empty one is not a bot's.

    Raises:
        ModuleNotFoundError: The extra is not installed.

    Example:
        ```python
        is_bot("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")  # True
        ```
    """
    return _reads_as_bot(user_agent[:_LONGEST_JUDGED])


@lru_cache(maxsize=_REMEMBERED)
def _reads_as_browser(user_agent: str) -> bool:
    if _FORM.fullmatch(user_agent) is None or _LONG_NUMBER.search(user_agent):
        return False
    lower = user_agent.lower()
    if any(odd in lower for odd in _ODD):
        return False
    unknown = set(_WORD.findall(user_agent)) - _WORDS
    return all(len(word) == 3 and word.isupper() and word not in _NO_CODES for word in unknown)


@lru_cache(maxsize=_REMEMBERED)
def _reads_as_bot(user_agent: str) -> bool:
    searches = _bot_searches()
    return bool(user_agent) and any(search(user_agent) for search in searches)


@lru_cache(maxsize=1)
def _bot_searches() -> list[Callable[[str], Any]]:
    """Compile is-bot's patterns one by one: joined in one, as it does itself, they take four times longer."""
    try:
        import regex
        from is_bot import Bots
    except ModuleNotFoundError as error:
        message = f"Telling bots needs {error.name}: pip install 'umami-analytics[bots]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    # ASCII, as JavaScript reads \w and \b.
    flags = regex.IGNORECASE | regex.ASCII
    return [regex.compile(pattern, flags).search for pattern in sorted(Bots().patterns)]

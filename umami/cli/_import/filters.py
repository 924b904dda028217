"""Which requests of a log are page views, and why the others are left out."""

from collections.abc import Callable, Collection, Mapping
from fnmatch import translate
from ipaddress import ip_address, ip_network
from re import compile as compiled
from typing import Any, Final, Literal

from umami._user_agents import is_bot

from .hits import Hit

ASSETS: Final = frozenset(
    [
        "avi",
        "avif",
        "bmp",
        "bz2",
        "css",
        "csv",
        "eot",
        "flac",
        "gif",
        "gz",
        "ico",
        "jpeg",
        "jpg",
        "js",
        "json",
        "m3u8",
        "map",
        "mjs",
        "mov",
        "mp3",
        "mp4",
        "ogg",
        "otf",
        "pdf",
        "png",
        "rar",
        "rss",
        "svg",
        "tar",
        "tgz",
        "tif",
        "tiff",
        "ts",
        "ttf",
        "txt",
        "wasm",
        "wav",
        "webm",
        "webmanifest",
        "webp",
        "woff",
        "woff2",
        "xml",
        "zip",
    ]
)
"""The endings of paths that are no pages."""

_SERVED: Final = frozenset((*range(200, 300), 304))


class Filter:
    """Says why a request is left out.

    Args:
        assets: Keep files such as images and scripts.
        errors: Keep answers other than 2xx and 304.
        methods: Keep methods other than GET.
        prefetches: Keep what browsers asked for in advance.
        bots: `skip` leaves bots out, by the rule that Umami uses itself.
        exclude: Patterns of paths, such as `/admin/*`.
        include: Patterns of the only paths to keep.
        exclude_ip: Addresses and networks.
        exclude_ua: Patterns of User-Agents.
        since: The first moment, in epoch seconds.
        until: The last moment, in epoch seconds.
        sites: The websites by their host names; hosts that are not in it are left out, unless it is empty.

    Attributes:
        skips_bots: Whether bots are left out.

    Raises:
        ValueError: A network is not valid.
        ModuleNotFoundError: Bots are to be told, and the extra `bots` is not installed.
    """

    def __init__(
        self,
        *,
        assets: bool = False,
        errors: bool = False,
        methods: bool = False,
        prefetches: bool = False,
        bots: Literal["skip", "tag", "keep"] = "skip",
        exclude: Collection[str] = (),
        include: Collection[str] = (),
        exclude_ip: Collection[str] = (),
        exclude_ua: Collection[str] = (),
        since: float | None = None,
        until: float | None = None,
        sites: Mapping[str, str] | None = None,
    ) -> None:
        if bots != "keep":
            is_bot("")
        self._assets, self._errors, self._methods, self._prefetches = assets, errors, methods, prefetches
        self.skips_bots = bots == "skip"
        self._excluded = _matcher(exclude)
        self._included = _matcher(include) if include else None
        self._networks = [ip_network(each, strict=False) for each in exclude_ip]
        self._agents = _matcher([each.lower() for each in exclude_ua])
        self._since, self._until = since, until
        self._sites = sites or {}

    def reason(self, hit: Hit) -> str | None:
        """Return why a request is left out; None if it is a page view to send."""
        if hit.method != "GET" and not (self._methods and hit.method):
            return "other methods"
        if hit.status not in _SERVED and not self._errors:
            return "errors and redirects"
        path = hit.target.partition("?")[0]
        if not self._assets and path.rpartition(".")[2].lower() in ASSETS:
            return "assets"
        if self._since is not None and hit.time < self._since:
            return "before --since"
        if self._until is not None and hit.time > self._until:
            return "after --until"
        if self._sites and hit.host.lower() not in self._sites:
            return "other sites"
        if self._excluded(path) or (self._included is not None and not self._included(path)):
            return "excluded paths"
        if hit.purpose and not self._prefetches and "prefetch" in hit.purpose.lower():
            return "prefetches"
        if self._networks and self._is_excluded(hit.address):
            return "excluded addresses"
        if self._agents(hit.ua.lower()):
            return "excluded User-Agents"
        if self.skips_bots and (not hit.ua or is_bot(hit.ua)):
            return "bots"
        return None

    def _is_excluded(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _matcher(patterns: Collection[str]) -> Callable[[str], Any]:
    return compiled("|".join(map(translate, patterns)) or "(?!)").match

"""The generations of Umami, that is the versions that behave alike, and how they differ.

``docs/collector.md`` says where the facts come from: measured on a real server, from Umami's source, or from
the OpenAPI document of the official client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

_PERFORMANCE_FIELDS: Final = frozenset({"lcp", "inp", "cls", "fcp", "ttfb"})
_CLIENT_FIELDS: Final = frozenset({"browser", "os", "device"})
_OTHER_SOURCES: Final = frozenset({"link", "pixel"})


@dataclass(frozen=True)
class Generation:
    """One generation of Umami. The defaults are the facts of Umami 3.1."""

    name: str
    """Its name, as the argument ``umami`` of `Collector`."""
    since: tuple[int, ...]
    """The first version of this generation."""

    # Routes.

    send_path: str = "/api/send"
    """The route for one event."""
    has_batch: bool = True
    """Whether there is ``/api/batch``. If not, the Cloud answers 405, and others a page with 404."""
    is_cloud: bool = False
    """Whether it is Umami Cloud, which has no batches, no login and no heartbeat."""
    batch_runs_on_node_24: bool = True
    """Whether ``/api/batch`` works on Node.js 24. If not, it answers 500."""
    batch_has_cache: bool = True
    """Whether a batch's answer has the key ``cache``."""
    max_batch: int | None = None
    """The largest number of items in a batch; None for no limit."""

    # Bodies.

    reads_by_content_type: bool = False
    """Whether a body is read as JSON only if the request's Content-Type is JSON."""
    max_body: int = 10 * 1024 * 1024
    """The longest body, in bytes. A longer one is refused as invalid JSON, or with 413 if the
    Content-Type matters."""

    # What is accepted.

    types: tuple[str, ...] = ("event", "identify", "performance")
    """The types of events."""
    validates: bool = True
    """Whether the fields of an event are checked. If not, long values are cut, or storing them fails."""
    ignored_fields: frozenset[str] = frozenset()
    """Fields of the payload that it ignores, because they came later."""
    null_is_absent: frozenset[str] = frozenset()
    """Fields that may be null."""
    hostname_pattern: re.Pattern[str] | None = None
    """What a host name must match."""
    max_text: int | None = None
    """The longest ``title``, ``url`` and ``referrer``."""
    needs_url: bool = False
    """Whether ``url`` is required, also in ``identify``."""
    needs_identify_data: bool = False
    """Whether ``identify`` without ``data`` is refused."""
    checks_ip: bool = False
    """Whether ``ip`` must be an address."""
    refuses_formulas: bool = False
    """Whether ``name`` and ``tag`` must not begin like a formula of a spreadsheet."""
    checks_commerce: bool = False
    """Whether ``data.commerce`` is checked."""

    # Bots.

    judges_header_first: bool = False
    """Whether only the header's User-Agent decides what is a bot, before anything else is checked."""
    beeps: bool = True
    """Whether the answer to a bot is ``{"beep": "boop"}``; otherwise ``{}``."""
    clients_are_bots: bool = False
    """Whether a User-Agent with "client" in it is a bot's, as in isbot 3."""

    # What is stored.

    sessions_by_host: bool = False
    """Whether a visitor has a session for each host name."""
    sessions_end: bool = True
    """Whether a visitor without an id gets a new session each month."""
    drops_tag: bool = False
    """Whether ``tag`` is checked, but not stored."""
    puts_user_agent_into_country: bool = False
    """Whether ``payload.userAgent`` goes into the column for the country, which has two characters."""
    splits_url: bool = False
    """Whether ``url`` is only split at its question mark, not parsed. An absolute URL is stored whole."""
    device_by_screen: bool = False
    """Whether the screen and the operating system tell the kind of device; otherwise the User-Agent does."""
    max_currency: int = 10
    """The longest currency of a revenue."""
    reads_campaigns: bool = True
    """Whether ``utm_*`` and click ids are stored in columns of their own, of 255 characters."""
    cuts_title: bool = True
    """Whether a long ``title`` is cut."""
    stores_booleans: bool = True
    """Whether custom data may hold true and false."""
    stores_before_data: bool = True
    """Whether an event stays stored if storing its custom data fails."""

    # Answers.

    accepted: Literal["token", "cache", "ids"] = "ids"
    """The answer to a stored event: the token as text, ``{"cache": token}``, or that with the ids."""
    errors: Literal["text", "zod", "bare", "object"] = "object"
    """The form of errors. ``text``: plain text. ``zod``, ``bare``: ``{"error": …}`` with a string, an
    exception, and a ZodError or a list of messages. ``object``: with ``message``, ``code`` and ``status``."""
    unknown_website: int = 400
    """The status for an event of an unknown website; 0 if the server's process crashes."""
    session_failure: int = 500
    """The status if the database fails before the event is stored; 0 if the server's process crashes."""

    # Access.

    login_user: tuple[str, ...] = ("id", "username", "role", "createdAt", "isAdmin", "teams")
    """The members of the user in the answer to a login."""
    tells_wrong_password: bool = True
    """Whether a wrong password has an error code of its own."""
    verify_methods: tuple[str, ...] = ("POST",)
    """The methods of ``/api/auth/verify``."""
    verify_wraps_user: bool = False
    """Whether ``/api/auth/verify`` answers with the user and the token, as ``/api/me`` does."""
    me: Literal["user", "auth"] | None = "auth"
    """The answer of ``/api/me``: the user, or the user and the token. None if there is no such route."""
    has_api_keys: bool = False
    """Whether users may have API keys (``umami_…``), which are sent as Bearer tokens."""
    has_second_factor: bool = False
    """Whether a login may ask for a second factor."""

    # Queries.

    says_ok: bool = True
    """Whether the heartbeat and the logout answer ``{"ok": true}``; otherwise ``{}``."""
    config: tuple[str, ...] = (
        *("cloudMode", "privateMode", "telemetryDisabled", "updatesDisabled"),
        "currentVersion",
    )
    """The members of ``/api/config``. If there are none, there is no such route."""
    tells_version: bool = False
    """Whether there is ``/api/version``."""
    page_size: int | None = 20
    """The number of websites in a page; None if the answer is a plain list of all."""
    pages_tell_order: bool = False
    """Whether a page of websites has the key ``orderBy``."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Parameters that have another name than in 3.1: the name here, and the name in 3.1, which is ignored. An
    empty name: there is no such parameter."""
    names_operators: bool = True
    """Whether operators in filters are names (``neq.``, ``c.``); otherwise signs (``!``, ``~``, ``!~``)."""
    separates_values: bool = True
    """Whether a comma in a filter separates alternative values."""
    has_late_filters: bool = True
    """Whether there are the filters of 3.1: numbered ones, ``match``, ``excludeBounce``, campaigns,
    ``distinctId`` and regular expressions."""
    own_referrer_has_www: bool = False
    """Whether a referrer must be equal to the host name, ``www.`` included, to count as the site's own."""
    counts_empty_values: bool = False
    """Whether metrics count the rows without a value, too."""
    hour_unit_hours: int = 743
    """The most hours of a period that a series may divide into hours."""
    day_unit_months: int = 7
    """The most months of a period that a series may divide into days."""
    early_figures: bool = False
    """Whether figures are those of 2.x: lists and custom data cannot be filtered, rows have other keys."""
    counts_session_events: bool = True
    """Whether the list of sessions has the key ``events``."""
    most_rows: int | None = None
    """How many events or sessions a list has at most, whose count is no higher; None if there is no limit."""
    missing_figures: frozenset[str] = frozenset({"event-data-pivot/numeric-stats"})
    """The query routes of a website that it does not have."""
    stats: Literal["change", "prev", "sum"] = "sum"
    """The form of statistics. ``change``, ``prev``: each figure is an object, with its change or its previous
    value. ``sum``: plain figures, and a ``comparison``."""
    counts_visits: bool = True
    """Whether there are visits. If not, visitors are called ``uniques``."""
    active: Literal["rows", "x", "visitors"] = "visitors"
    """The form of active visitors: ``[{"x": …}]``, ``{"x": …}`` or ``{"visitors": …}``."""
    stats_need_website: bool = False
    """Whether the statistics of an unknown website are answered with 500."""
    referrer_filter_fails: bool = False
    """Whether the filter ``referrer`` is answered with 500."""


_HOST_LABELS: Final = (
    r"[A-Za-z0-9](?:[A-Za-z0-9{0}-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9{0}-]*[A-Za-z0-9])?)*"
)

_3_1: Final = Generation("3.1", (3, 1))

_3_4: Final = replace(
    _3_1,
    name="3.4",
    since=(3, 4),
    max_batch=500,
    refuses_formulas=True,
    checks_commerce=True,
    has_api_keys=True,
    has_second_factor=True,
    config=(*_3_1.config, "sessionDeletionEnabled"),
    missing_figures=frozenset(),
)
_3_3: Final = replace(_3_4, name="3.3", since=(3, 3), checks_commerce=False, has_api_keys=False)
_3_0_3: Final = replace(
    _3_1,
    name="3.0.3",
    since=(3, 0, 2),
    max_body=64 * 1024 * 1024,  # the collector's own limit; Umami has none
    types=("event", "identify"),
    ignored_fields=_PERFORMANCE_FIELDS,
    login_user=("id", "username", "role", "createdAt", "isAdmin"),
    config=("cloudMode", "privateMode", "telemetryDisabled", "updatesDisabled"),
    separates_values=False,
    has_late_filters=False,
    own_referrer_has_www=True,
    counts_empty_values=True,
    hour_unit_hours=48,
    day_unit_months=6,
    counts_session_events=False,
    missing_figures=_3_1.missing_figures | {"events/stats", "event-data"},
)
_3_0_1: Final = replace(
    _3_0_3,
    name="3.0.1",
    since=(3,),
    batch_runs_on_node_24=False,
    batch_has_cache=False,
    ignored_fields=_3_0_3.ignored_fields | _CLIENT_FIELDS,
)
_2_19: Final = replace(
    _3_0_1,
    name="2.19",
    since=(2, 18),
    ignored_fields=_3_0_1.ignored_fields | _OTHER_SOURCES,
    checks_ip=True,
    device_by_screen=True,
    max_currency=100,
    errors="bare",
    config=(),
    page_size=10,
    pages_tell_order=True,
    parameters=(("url", "path"), ("host", "hostname")),
    names_operators=False,
    early_figures=True,
    missing_figures=_3_0_1.missing_figures | {"metrics/expanded", "event-data/{item_id}"},
    stats="prev",
)
_2_17: Final = replace(
    _2_19,
    name="2.17",
    since=(2, 17),
    ignored_fields=_2_19.ignored_fields | {"id"},
    most_rows=1000,
    missing_figures=_2_19.missing_figures | {"segments"},
    needs_identify_data=True,
    judges_header_first=True,
    reads_campaigns=False,
    stores_before_data=False,
    verify_methods=("GET",),
)
_2_16: Final = replace(
    _2_17,
    name="2.16",
    since=(2, 16),
    has_batch=False,
    ignored_fields=_2_17.ignored_fields | {"timestamp"},
    hostname_pattern=re.compile(
        r"localhost(?::[1-9][0-9]{0,4})?|(?:[a-z0-9_-]{1,63}\.)+(?:xn--)?[a-z0-9_-]{2,63}"
    ),
    needs_url=True,
    sessions_end=False,
    puts_user_agent_into_country=True,
    accepted="cache",
    errors="zod",
    tells_wrong_password=False,
    tells_version=True,
    referrer_filter_fails=True,
)
_2_15: Final = replace(
    _2_16,
    name="2.15",
    since=(2, 12),
    reads_by_content_type=True,
    max_body=1024 * 1024,
    ignored_fields=_2_16.ignored_fields | {"userAgent"},
    null_is_absent=frozenset({"tag"}),
    hostname_pattern=re.compile(_HOST_LABELS.format("_")),
    needs_url=False,
    sessions_by_host=True,
    puts_user_agent_into_country=False,
    splits_url=True,
    accepted="token",
    errors="text",
    unknown_website=404,
    session_failure=400,
    tells_wrong_password=True,
    verify_methods=("GET", "POST"),
    me="user",
    says_ok=False,
    config=("telemetryDisabled", "uiDisabled", "updatesDisabled"),
    active="x",
    stats_need_website=True,
    referrer_filter_fails=False,
)
_2_11: Final = replace(
    _2_15,
    name="2.11",
    since=(2, 10),
    hostname_pattern=re.compile(_HOST_LABELS.format("")),
    beeps=False,
    drops_tag=True,
    unknown_website=403,
    parameters=(("url", "path"), ("", "hostname")),
    stats="change",
    stats_need_website=False,
)
_2_6: Final = replace(
    _2_11,
    name="2.6",
    since=(2, 6),
    ignored_fields=_2_11.ignored_fields | {"ip", "tag"},
    max_text=500,
    clients_are_bots=True,
    cuts_title=False,
    unknown_website=400,
    login_user=("id", "username", "role", "createdAt"),
    verify_wraps_user=True,
    tells_version=False,
    counts_visits=False,
    active="rows",
)
_2_0: Final = replace(
    _2_6,
    name="2.0",
    since=(2,),
    types=("event",),
    validates=False,
    hostname_pattern=None,
    max_text=None,
    stores_booleans=False,
    unknown_website=0,
    session_failure=0,
    login_user=("id", "username", "createdAt"),
    config=("cloudMode", "telemetryDisabled", "updatesDisabled"),
    page_size=None,
)
_1_40: Final = replace(
    _2_0,
    name="1.40",
    since=(1,),
    send_path="/api/collect",
    unknown_website=500,
    session_failure=500,
    login_user=("userId", "username", "isAdmin", "accountUuid"),
    tells_wrong_password=False,
    verify_wraps_user=False,
    me=None,
    config=("telemetryDisabled", "updatesDisabled"),
    parameters=(("url", "path"), ("", "hostname"), ("start_at", "startAt"), ("end_at", "endAt")),
)
_CLOUD: Final = replace(_3_4, name="cloud", since=(), has_batch=False, is_cloud=True, has_second_factor=False)

GENERATIONS: Final = (
    *(_1_40, _2_0, _2_6, _2_11, _2_15, _2_16, _2_17, _2_19, _3_0_1, _3_0_3, _3_1, _3_3, _3_4),
    _CLOUD,
)
"""All generations, oldest first, then the Cloud."""


def find(version: str) -> Generation:
    """Finds the generation that a version belongs to.

    Args:
        version: A version, such as ``2.15.1`` or ``v3.1``, or ``cloud``.

    Returns:
        The newest generation that is not newer than the version.

    Raises:
        ValueError: It is not a version of Umami.

    Example:
        ```python
        find("2.16.1").name  # "2.16"
        ```
    """
    if version == _CLOUD.name:
        return _CLOUD
    if not re.fullmatch(r"v?[0-9]{1,4}(\.[0-9]{1,4}){0,2}", version):
        raise ValueError(f"{version!r} is not a version of Umami: use '2.15', '3.1' or the like, or 'cloud'.")
    numbers = tuple(int(number) for number in version.removeprefix("v").split("."))
    if numbers[0] < 1:
        raise ValueError(f"Umami {version} is not supported. The oldest supported version is 1.40.")
    return max(
        (each for each in GENERATIONS if each.since and each.since <= numbers),
        key=lambda each: each.since,
    )

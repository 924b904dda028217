"""The events of a campaign: the mixed traffic of a website. Each event has a unique mark."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from umami import Client

WEBSITE: Final = "978435e2-7ba1-4337-9860-ec31ece2db60"
CRAWLER_EVERY: Final = 10
IDENTIFY_SINCE: Final = (2, 11)

_FOLDER: Final = Path(__file__).parent
BROWSERS: Final = tuple((_FOLDER / "browsers.txt").read_text().splitlines())
CRAWLERS: Final = tuple((_FOLDER / "crawlers.txt").read_text().splitlines())
"""User-Agents of bots, for every version of isbot that Umami has used."""


_LANGUAGES: Final = ("en-US", "de-DE", "fr", "pt-BR", "ja")
_SCREENS: Final = ("1920x1080", "390x844", "1440x900", "412x915")


@dataclass(frozen=True)
class Event:
    """One event to send.

    Attributes:
        mark: What identifies its row: the event's name, or the path of a page view. None for an `identify`,
            which stores no event.
        crawler: Whether its User-Agent is a crawler's.
        send: The function that sends it.
    """

    mark: str | None
    crawler: bool
    send: Callable[[Client], dict[str, Any]]


def events(count: int, run: str, version: tuple[int, ...]) -> Iterator[Event]:
    """Yield the events of a campaign. The same arguments give the same events.

    Args:
        count: The number of events.
        run: The beginning of their marks, which distinguishes the rows of different runs.
        version: The server's version. Versions before 2.11 get no `identify`.
    """
    dice = random.Random(f"{run} {count}")
    crawlers = _cycle(dice, CRAWLERS)
    for number in range(count):
        crawler = number % CRAWLER_EVERY == CRAWLER_EVERY - 1
        visitor: dict[str, Any] = {
            # Addresses are private: an Umami without a geo database answers 500 to a public one.
            "ip_address": f"10.{dice.randrange(4)}.{dice.randrange(50)}.{dice.randrange(1, 255)}",
            "ua": next(crawlers) if crawler else dice.choice(BROWSERS),
        }
        yield _event(f"{run}-{number:05}", number, visitor, dice, crawler=crawler, version=version)


def _event(
    mark: str,
    number: int,
    visitor: dict[str, Any],
    dice: random.Random,
    *,
    crawler: bool,
    version: tuple[int, ...],
) -> Event:
    described = {**visitor, "language": dice.choice(_LANGUAGES), "screen": dice.choice(_SCREENS)}
    data = {"number": number, "plan": dice.choice(("free", "pro")), "steps": [1, 2, 3], "ratio": 0.25}
    kind = dice.random()
    if kind < 0.05 and not crawler and version >= IDENTIFY_SINCE:
        # A unique address: Umami 2.13 to 2.15 never answers an event whose session exists without events.
        visitor["ip_address"] = f"10.9.{number // 250}.{number % 250}"
        return Event(None, crawler, lambda client: client.identify(f"user-{number % 97}", data, **visitor))
    if kind < 0.15:
        if dice.random() < 0.5:
            described["distinct_id"] = f"user-{number % 97}"
        price = round(dice.uniform(1, 300), 2)
        return Event(
            mark,
            crawler,
            lambda client: client.new_revenue_event(price, "EUR", mark, custom_data=data, **described),
        )
    if kind < 0.5:
        return Event(
            mark,
            crawler,
            lambda client: client.new_event(
                mark, url=f"/shop/{number % 31}", custom_data=data, tag="campaign", **described
            ),
        )
    return Event(
        f"/{mark}",
        crawler,
        lambda client: client.new_page_view(
            f"Page {number}", f"/{mark}", referrer="https://www.example.org/", **described
        ),
    )


def _cycle(dice: random.Random, choices: tuple[str, ...]) -> Iterator[str]:
    """Yield all choices in random order, again and again."""
    while True:
        yield from dice.sample(choices, len(choices))

"""What is learnt of one Umami server from its answers: its generation, and what it takes."""

import logging
import re
from collections.abc import Callable, Iterable
from typing import Final

from umami._clock import monotonic

from .generations import NOT_STORED, Generation
from .messages import log, without_secrets

MOST_EVENTS: Final = 500
"""The most events that Umami takes in a batch, since 3.3."""
MOST_BYTES: Final = 10 * 1024 * 1024
"""The largest request that is tried."""
BATCH_AGAIN_SECONDS: Final = 600.0
"""How long a batch route that does not work is left alone."""

_LARGER_AGAIN_SECONDS: Final = 600.0
_MOST_AGENTS: Final = 2048
_LIMITED_SECONDS: Final = 60.0
_JUST_NOW_SECONDS: Final = 2.0
_WARN_AGAIN_SECONDS: Final = 60.0
_MOST_WARNINGS: Final = 100
# What every version of isbot takes for a bot's.
_BOT: Final = re.compile(r"googlebot|bingbot|crawler|spider|^curl/|^python-requests/", re.IGNORECASE)


class Learned:
    """What is learnt of one server.

    The threads that send to the server share it without a lock. Each value is read and written on its own,
    and an outdated one costs at most one more request.

    Args:
        url: The server's route for one event.
        given: Its generation, if it is known beforehand.
        secrets: Returns what no log line may repeat.

    Attributes:
        generation: What its answers since the last outage show.
        in_trouble: Whether the last request failed.
        answers_unclearly: Whether its last answer was a 2xx that is not of Umami's form.
        batch_works: Whether a batch was answered as Umami does since the last outage.
        asked_about_bots: Whether it was asked if its answer to a batch shows that bots' events were dropped.
        fell_back: Whether the log says that the batch route does not work.
        checks_bots: Whether it drops the events of bots.
    """

    def __init__(self, url: str, given: Generation, secrets: Callable[[], Iterable[str]]) -> None:
        self._url = url
        self._given = given
        self._secrets = secrets
        self._shown = given  # unlike `generation`, kept through outages
        self._accepted_at = -_JUST_NOW_SECONDS
        self._limited_until = 0.0
        self._most_events = MOST_EVENTS
        self._most_events_at = 0.0
        self._warned: dict[str, float] = {}
        self.in_trouble = False
        self.answers_unclearly = False
        self.fell_back = False
        self._forget()

    def _forget(self) -> None:
        """Forget what may differ after an outage: it may be another server then, or set up otherwise."""
        self.generation = self._given
        self.asked_about_bots = False
        self.batch_works = False
        self.checks_bots = True
        self._single_until = 0.0
        self._most_bytes = MOST_BYTES
        self._accepted_bytes = 0
        self._bots: dict[str, bool] = {}

    # Whether the server is well.

    def accepted(self, generation: Generation = Generation.UNKNOWN) -> None:
        """Note an answer that is Umami's own, and what kind of server gives such an answer."""
        self._accepted_at = monotonic()
        self.in_trouble = self.answers_unclearly = False
        self.learn(generation)

    def learn(self, generation: Generation) -> None:
        """Note what kind of server answered."""
        if self._given is not Generation.UNKNOWN or generation <= self.generation:
            return
        self.generation = generation
        if generation is self._shown or (generation is Generation.V2_17 and self._shown > generation):
            return  # one event's answer does not tell 2.17 from 3.0.2; a batch's will
        self._shown = generation
        log(logging.INFO, "%s is %s.", self._url, generation)
        if generation in NOT_STORED:
            self.warn(
                f"{self._url} is {generation}: {NOT_STORED[generation]}. Upgrade the server to keep them."
            )

    def away(self) -> None:
        """Note that the server did not answer, or is not well."""
        self.in_trouble = True
        self._forget()

    @property
    def just_accepted(self) -> bool:
        """Whether the server accepted a request a moment ago."""
        return monotonic() - self._accepted_at < _JUST_NOW_SECONDS

    def rate_limited(self) -> None:
        """Note that something limits the rate of requests."""
        self._limited_until = monotonic() + _LIMITED_SECONDS

    @property
    def is_rate_limited(self) -> bool:
        """Whether the rate of requests was limited in the last minute."""
        return monotonic() < self._limited_until

    def describe(self, *, batches: bool) -> str | None:
        """Return the kind of server in words; None if it is not known yet.

        Args:
            batches: Whether events go there in batches.
        """
        if self._shown is Generation.UNKNOWN:
            return None
        batches = batches and self._shown >= Generation.V2_17
        return f"{self._shown}, {'in batches' if batches else 'one event a request'}"

    # What a request may carry.

    @property
    def uses_batches(self) -> bool:
        """Whether the batch route may be tried."""
        return monotonic() >= self._single_until

    def pause_batches(self) -> None:
        """Send events one by one for a while."""
        self._single_until = monotonic() + BATCH_AGAIN_SECONDS

    def resume_batches(self) -> None:
        """Try the batch route again."""
        self._single_until = 0.0

    @property
    def most_events(self) -> int:
        """The most events of a batch. It doubles every ten minutes after batches were too slow."""
        quiet = monotonic() - self._most_events_at
        doubled = min(10, int(quiet / _LARGER_AGAIN_SECONDS))
        return min(MOST_EVENTS, self._most_events << doubled)

    @property
    def most_bytes(self) -> int:
        """The most bytes of a batch."""
        return self._most_bytes

    def too_slow(self, count: int) -> None:
        """Make batches smaller for a while: one of so many events took longer than the timeout."""
        if count > 1:
            self._most_events = min(self.most_events, count // 2)
            self._most_events_at = monotonic()

    def accepted_bytes(self, size: int) -> None:
        """Note that a request of so many bytes was accepted."""
        self._accepted_bytes = max(self._accepted_bytes, size)

    def too_large(self, url: str, size: int, count: int) -> None:
        """Note that a request was called too large: halve the distance to the largest accepted size.

        Args:
            url: What refused it.
            size: How many bytes it had.
            count: How many events it had.
        """
        if count == 1 or size <= self._accepted_bytes:
            self._most_bytes = MOST_BYTES  # as large ones are accepted, the cause is not the size
            return
        self._most_bytes = (size + self._accepted_bytes) // 2
        self.warn(f"{url} refuses requests of {size} bytes: the client sends smaller batches.")

    # Which User-Agents it takes for bots'.

    def is_bot(self, agent: str) -> bool | None:
        """Return whether the server drops the events of a User-Agent; None if this is not known."""
        return self._bots.get(agent)

    def note_agent(self, agent: str, *, is_bot: bool) -> None:
        """Note whether the server drops the events of a User-Agent."""
        if len(self._bots) >= _MOST_AGENTS:
            self._bots.clear()
        self._bots[agent] = is_bot
        if not is_bot and _BOT.search(agent):
            self.checks_bots = False  # DISABLE_BOT_CHECK is set

    def forget_agents(self) -> None:
        """Forget which User-Agents the server takes for bots'."""
        self._bots.clear()

    # The log.

    def warn(self, message: str) -> None:
        """Log a warning, the same one once a minute at most."""
        now = monotonic()
        if now - self._warned.get(message, -_WARN_AGAIN_SECONDS) >= _WARN_AGAIN_SECONDS:
            if len(self._warned) > _MOST_WARNINGS:
                self._warned.clear()
            self._warned[message] = now
            log(logging.WARNING, "%s", without_secrets(message, self._secrets()))

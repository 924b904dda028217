"""A client's connections for events: made at the first use, and shared by its exporters."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from umami import _threads
from umami.settings import Settings

from .mirror import Mirror


@dataclass
class Connections:
    """A client's connections for events, which its exporters share.

    Attributes:
        new_poster: Makes the connections, at the first use; see `poster.Poster`.
        settings: Returns the settings of now.
    """

    new_poster: Callable[[], Any]
    settings: Callable[[], Settings]
    _poster: Any = field(default=None, init=False)
    _mirror: Mirror | None = field(default=None, init=False)
    _lock: Any = field(default_factory=_threads.RLock, init=False)

    @property
    def poster(self) -> Any:
        """The connections."""
        if self._poster is None:
            poster = self.new_poster()
            with self._lock:  # two threads that start at once use the same one
                self._poster = self._poster or poster
        return self._poster

    def copy(self, events: Sequence[bytes]) -> None:
        """Send a copy of events to the mirror, best effort; see `mirror.Mirror`."""
        with suppress(Exception):  # the events themselves are delivered already
            with self._lock:
                mirror = self._mirror = self._mirror or Mirror(self.settings)
            mirror.copy(events)

    def finish_copies(self) -> None:
        """Wait a moment for copies that are being sent."""
        if self._mirror is not None:
            self._mirror.finish()

    def leave(self) -> None:
        """Close this thread's connections."""
        self.finish_copies()
        if self._poster is not None:
            self._poster.leave()

    def after_fork(self) -> None:
        """Start clean in a fork's child."""
        # Kept alive: if the parent's connections were collected here, this would close them with warnings.
        self._inherited = self._poster, self._mirror
        self._poster = self._mirror = None
        self._lock = _threads.RLock()

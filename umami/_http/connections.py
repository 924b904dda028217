"""A client's connections for events: made at the first use, and shared by its exporters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from umami import _threads
from umami.settings import Settings


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
    _lock: Any = field(default_factory=_threads.RLock, init=False)

    @property
    def poster(self) -> Any:
        """The connections."""
        if self._poster is None:
            poster = self.new_poster()
            with self._lock:  # two threads that start at once use the same one
                self._poster = self._poster or poster
        return self._poster

    def leave(self) -> None:
        """Close this thread's connections."""
        if self._poster is not None:
            self._poster.leave()

    def after_fork(self) -> None:
        """Start clean in a fork's child."""
        # Kept alive: if the parent's connections were collected here, this would close them with warnings.
        self._inherited, self._poster = self._poster, None
        self._lock = _threads.RLock()

"""A client's connections for events: made at the first use, and shared by its exporters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from umami import _threads


@dataclass
class Connections:
    """A client's connections for events, which its exporters share, and how long these wait.

    Attributes:
        new_poster: Makes the connections, at the first use; see `poster.Poster`.
        headers: Returns the extra headers of each request, which may be secret.
        user_agent: The User-Agent of a request whose events have none of their own.
        timeout: Seconds to connect, to write, and to wait for the answer to one event.
        item_timeout: Seconds more to wait for each event, which the server takes one after another.
    """

    new_poster: Callable[[], Any]
    headers: Callable[[], Mapping[str, str]]
    user_agent: str
    timeout: float = 10.0
    item_timeout: float = 0.2
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

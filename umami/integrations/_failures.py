"""What becomes of a failure to track: it is logged once, and nothing else fails for it."""

import logging
from typing import Final

_logger: Final = logging.getLogger("umami")


class Failures:
    """Logs the first failure of a kind with all that helps to find it, and the others for debugging.

    Args:
        what: What has failed, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._level = logging.ERROR

    def note(self, error: Exception) -> None:
        """Log a failure."""
        level, self._level = self._level, logging.DEBUG
        _logger.log(level, "%s: %s: %s", self._what, type(error).__name__, error, exc_info=error)

"""What `late` imports: `Poster` for the queue, and `Session` for what goes straight through."""

from .poster import Poster
from .session import Session

__all__ = ["Poster", "Session"]

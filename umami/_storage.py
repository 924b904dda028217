"""The folders that a client's settings name: the spool, and the rejected events."""

from pathlib import Path

from ._spool.rejected import Rejected
from ._spool.spool import Spool
from .errors import ValidationError
from .queue.agent import Agent
from .queue.store import RejectedEvents
from .settings import Settings


class Storage:
    """What one client keeps on disk.

    Attributes:
        spool: Its spool, once one is open.
    """

    def __init__(self) -> None:
        self.spool: Spool | None = None

    def open(self, agent: Agent, settings: Settings) -> None:
        """Open the folders that the settings name, or change them as they say.

        Args:
            agent: What uses the folders.
            settings: The settings.

        Raises:
            ValidationError: A folder cannot be used, or another spool is open. Then nothing is changed.
        """
        rejected = _rejected(agent, settings)
        path = None if settings.spool is None else Path(settings.spool)
        if self.spool is not None and path != self.spool.path:
            raise ValidationError(
                f"spool is {self.spool.path} and cannot be changed, because it may contain events. "
                "Use another Client."
            )
        is_new = self.spool is None and path is not None
        if is_new and path is not None:
            self.spool = _new_spool(agent, path, required=settings.spool_required)
        if self.spool is not None:
            self.spool.configure(settings.spool_max_bytes, settings.spool_sync, settings.spool_sync_interval)
            if is_new:
                agent.use_store(self.spool)
        agent.queue.rejected = rejected
        if rejected is not None:
            rejected.max_bytes = settings.spool_max_bytes


def _rejected(agent: Agent, settings: Settings) -> RejectedEvents | None:
    if settings.rejected is None:
        return None
    path = Path(settings.rejected)
    if agent.queue.rejected is not None and agent.queue.rejected.folder == path:
        return agent.queue.rejected
    try:
        return Rejected(path, agent.report_trouble)
    except OSError as error:
        raise ValidationError(f"rejected must be a folder that can be written to: {error}.") from None


def _new_spool(agent: Agent, path: Path, *, required: bool) -> Spool | None:
    try:
        return Spool(path, agent.report_trouble)
    except OSError as error:
        if required:
            raise ValidationError(
                f"spool must be a folder that can be written to: {error}. To start without one, "
                "set spool_required=False."
            ) from None
        message = f"The spool {path} cannot be used: {error}. Events are kept in memory only."
        agent.report_trouble("spool", message)
        return None

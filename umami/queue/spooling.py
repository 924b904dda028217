"""An agent's dealings with the spool: it is opened once, and what others left there is taken over."""

from collections.abc import Callable
from typing import Final

from umami import threads
from umami.errors import ValidationError

from .buffer import Buffer
from .lane import Lane
from .spool import Spool, SpoolPlan

_SPOOL_SECONDS: Final = 5.0


class Spooling:
    """Has events written to disk, and takes over those of processes that are gone.

    Without a plan for a spool it does nothing.

    Args:
        buffer: What the events are in.
        staff: Called with each lane that has got events of others.
        report: Called with what goes wrong.
    """

    def __init__(
        self,
        buffer: Buffer,
        staff: Callable[[Lane], object],
        report: Callable[[str, str, str, list[bytes]], None],
    ) -> None:
        self._buffer = buffer
        self._staff = staff
        self._report = report
        self._spool: Spool | None = None
        self._watcher: threads.Thread | None = None

    def open(self, plan: SpoolPlan | None) -> bool:
        """Open the spool, if there is to be one; whether it was opened just now.

        Raises:
            ValidationError: It cannot be used, or there is another one already.
        """
        if self._spool is None:
            if plan is None:
                return False
            try:
                self._spool = Spool(plan, self._report)
            except OSError as error:
                raise ValidationError(f"spool must be a folder that can be written to: {error}.") from None
            self._buffer.use_spool(self._spool)
            return True
        if plan is None or plan.folder != self._spool.folder:
            raise ValidationError(
                f"spool is {self._spool.folder} and cannot be changed, as events may lie there: "
                "use another Client."
            )
        self._spool.resize(plan.max_bytes)
        return False

    def adopt(self) -> bool:
        """Take over what processes that are gone left in the spool, as much as this one may at a time.

        Returns:
            Whether there was anything.
        """
        lanes = self._buffer.adopt()
        for lane in lanes:
            self._staff(lane)
        return bool(lanes)

    def has_more(self) -> bool:
        """Take over more of what others left in the spool, if there was too much of it before."""
        if self._spool is None or not self._spool.is_busy:
            return False
        return self.adopt() or bool(self._buffer.unsettled_lanes())

    def watch(self) -> None:
        """Look after what other processes leave in the spool while this one lives."""
        if self._spool is None or self._watcher is not None:
            return
        watcher = threads.Thread("umami-spool")
        try:
            self._watcher = watcher
            watcher.start(self._keep_adopting)
        except BaseException as error:
            if watcher.call_off():
                self._watcher = None
                if isinstance(error, RuntimeError):  # too many threads, or the interpreter is shutting down
                    return
            raise

    def _keep_adopting(self) -> None:
        try:
            while not self._buffer.wait_stopped(_SPOOL_SECONDS):
                self.adopt()
        finally:
            self._watcher = None  # the next sender starts another

    def after_fork(self) -> None:
        """Start clean in a fork's child: it has the spool, but not the thread."""
        self._watcher = None

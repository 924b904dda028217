"""The common part of the task queues: the visitor in a message, and the outcomes of tasks as events."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import umami
from umami.errors import ValidationError

from ._failures import Failures

KEY: Final = "umami"
"""The visitor's place in the headers, options or metadata of a message."""

_OUTCOMES: Final = ("success", "failure", "retry")


class Tasks:
    """What becomes of the tasks of an application.

    Args:
        events: The outcomes that are sent as events.
        client: The client that sends them; None for the module's functions.

    Raises:
        ValidationError: There is no such outcome.
    """

    def __init__(self, events: Collection[str], client: "umami.Client | None" = None) -> None:
        if isinstance(events, str) or not set(events) <= set(_OUTCOMES):
            raise ValidationError(f"events must be a list of {', '.join(_OUTCOMES)}, got {events!r}.")
        self.events = frozenset(events)
        self._client: Any = umami if client is None else client
        self._failures = Failures("A task was not tracked")
        self._running: dict[str, AbstractContextManager[None]] = {}  # the visitors' blocks, by the tasks' ids

    def visitor(self, carried: Any) -> AbstractContextManager[None]:
        """Return the block to run a task in, for the visitor that its message names. It never raises.

        Args:
            carried: What the message has under `KEY`; None if nothing.
        """
        if isinstance(carried, dict):
            try:
                return umami.visitor(**carried)
            except (TypeError, ValidationError) as error:  # of a newer version, or of somebody else
                self._failures.note(error)
        return nullcontext()

    def begin(self, task_id: str, carried: Any) -> None:
        """Begin the block of a task, where one call begins it and another ends it."""
        block = self._running[task_id] = self.visitor(carried)
        block.__enter__()

    def end(self, task_id: str) -> None:
        """End the block of a task, if it was begun."""
        block = self._running.pop(task_id, None)
        if block is not None:
            block.__exit__(None, None, None)

    def send_outcome(self, task: str, outcome: str, error: BaseException | None = None) -> None:
        """Send the outcome of a task, if it is to be an event. It never raises."""
        if outcome in self.events:
            data = {"task": task} if error is None else {"task": task, "error": type(error).__name__}
            try:
                self._client.new_event(f"task {outcome}", custom_data=data)
            except Exception as failed:  # noqa: BLE001 - no task fails for it
                self._failures.note(failed)

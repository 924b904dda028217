"""Celery: a task's sends know the visitor who caused it, and its outcome may be an event."""

from collections.abc import Collection
from typing import Any, Final

from celery import Celery, signals

import umami
from umami.errors import ValidationError

from ._failures import Failures

__all__ = ["install"]

_HEADER: Final = "umami"
_OUTCOMES: Final = ("success", "failure", "retry")


def install(app: Celery, *, events: Collection[str] = (), client: "umami.Client | None" = None) -> None:
    """Carry the visitor to the tasks of an application, in the headers of their messages.

    Call it where the application is made, which the worker imports too. What a task sends, and the tasks that
    it queues, belong to the visitor of the code that queued it. The visitor's address and User-Agent pass
    through the broker.

    Args:
        app: The application.
        events: The outcomes that are sent as events: `success`, `failure`, `retry`. Their names are `task
            success` and so on, and their data name the task.
        client: The client that sends these events; by default the module's functions.

    Raises:
        ValidationError: There is no such outcome.

    Example:
        ```python
        app = Celery("shop")
        umami.integrations.celery.install(app, events=["failure"])
        ```
    """
    if isinstance(events, str) or not set(events) <= set(_OUTCOMES):
        raise ValidationError(f"events must be a list of {', '.join(_OUTCOMES)}, got {events!r}.")
    tasks = _Tasks(app, umami if client is None else client)
    for name, receiver in (
        ("before_task_publish", tasks.published),
        ("task_prerun", tasks.begins),
        ("task_postrun", tasks.ended),
        *((f"task_{outcome}", getattr(tasks, outcome)) for outcome in events),
    ):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=("umami", id(app), name))


class _Tasks:
    """The receivers of Celery's signals, for the tasks of one application."""

    def __init__(self, app: Celery, client: Any) -> None:
        self._app = app
        self._client = client
        self._running: dict[str, Any] = {}  # the visitors' blocks, by the tasks' ids
        self._failures = Failures("A task was not tracked")

    def published(self, headers: dict[str, Any] | None = None, **_: Any) -> None:
        """Put the visitor into the headers of a message."""
        visitor = umami.current_visitor()
        if visitor and headers is not None:
            headers[_HEADER] = visitor

    def begins(self, task_id: str, task: Any, **_: Any) -> None:
        """Begin the visitor's block, if the message names one."""
        visitor = task.request.get(_HEADER)
        if task.app is self._app and isinstance(visitor, dict):
            try:
                block = umami.visitor(**visitor)
            except (TypeError, ValidationError) as error:  # of a newer version, or of somebody else
                self._failures.note(error)
            else:
                block.__enter__()
                self._running[task_id] = block

    def ended(self, task_id: str, **_: Any) -> None:
        """End the visitor's block."""
        block = self._running.pop(task_id, None)
        if block is not None:
            block.__exit__(None, None, None)

    def success(self, sender: Any, **_: Any) -> None:
        """Send the event of a task that has succeeded."""
        self._send("success", sender)

    def failure(self, sender: Any, exception: BaseException | None = None, **_: Any) -> None:
        """Send the event of a task that has failed."""
        self._send("failure", sender, error=type(exception).__name__)

    def retry(self, sender: Any, **_: Any) -> None:
        """Send the event of a task that will be tried again."""
        self._send("retry", sender)

    def _send(self, outcome: str, task: Any, **data: str) -> None:
        if task.app is self._app:
            try:
                self._client.new_event(f"task {outcome}", custom_data={"task": task.name, **data})
            except Exception as error:  # noqa: BLE001 - no task fails for it
                self._failures.note(error)

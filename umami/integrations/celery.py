"""Celery: a task's sends know the visitor who caused it, and its outcome may be an event."""

from collections.abc import Collection
from typing import Any

from celery import Celery, signals

import umami

from ._tasks import KEY, Tasks

__all__ = ["install"]


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
    receivers = _Receivers(app, Tasks(events, client))
    for name, receiver in (
        ("before_task_publish", receivers.published),
        ("task_prerun", receivers.begins),
        ("task_postrun", receivers.ended),
        *((f"task_{outcome}", getattr(receivers, outcome)) for outcome in events),
    ):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=("umami", id(app), name))


class _Receivers:
    """The receivers of Celery's signals, for the tasks of one application."""

    def __init__(self, app: Celery, tasks: Tasks) -> None:
        self._app = app
        self._tasks = tasks

    def published(self, headers: dict[str, Any] | None = None, **_: Any) -> None:
        """Put the visitor into the headers of a message."""
        visitor = umami.current_visitor()
        if visitor and headers is not None:
            headers[KEY] = visitor

    def begins(self, task_id: str, task: Any, **_: Any) -> None:
        """Begin the visitor's block."""
        if task.app is self._app:
            self._tasks.begin(task_id, task.request.get(KEY))

    def ended(self, task_id: str, **_: Any) -> None:
        """End the visitor's block."""
        self._tasks.end(task_id)

    def success(self, sender: Any, **_: Any) -> None:
        """Send the event of a task that has succeeded."""
        self._send("success", sender)

    def failure(self, sender: Any, exception: BaseException | None = None, **_: Any) -> None:
        """Send the event of a task that has failed."""
        self._send("failure", sender, exception)

    def retry(self, sender: Any, **_: Any) -> None:
        """Send the event of a task that will be tried again."""
        self._send("retry", sender)

    def _send(self, outcome: str, task: Any, error: BaseException | None = None) -> None:
        if task.app is self._app:
            self._tasks.send_outcome(task.name, outcome, error)

"""Dramatiq: an actor's sends know the visitor who caused the message, and its outcome may be an event."""

from collections.abc import Collection
from typing import Any

from dramatiq import Broker, Message, MessageProxy, Middleware
from dramatiq.middleware import Retries

import umami

from ._tasks import KEY, Tasks

__all__ = ["install"]


def install(broker: Broker, *, events: Collection[str] = (), client: "umami.Client | None" = None) -> None:
    """Carry the visitor to the actors of a broker, in the options of their messages.

    Call it where the broker is made, which the worker imports too. What an actor sends, and the messages that
    it sends, belong to the visitor of the code that sent its own message. The visitor's address and
    User-Agent pass through the broker.

    Args:
        broker: The broker.
        events: The outcomes that are sent as events: `success`, `failure`, `retry`. Their names are `task
            success` and so on, and their data name the actor.
        client: The client that sends these events; by default the module's functions.

    Raises:
        ValidationError: There is no such outcome.

    Example:
        ```python
        broker = RedisBroker(url="redis://localhost")
        umami.integrations.dramatiq.install(broker, events=["failure"])
        ```
    """
    # The first one begins before all others, and ends after them: what they enqueue has the visitor too.
    first = type(broker.middleware[0]) if broker.middleware else None
    broker.add_middleware(_Middleware(Tasks(events, client)), before=first)


class _Middleware(Middleware):
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def before_enqueue(self, _: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """Put the visitor into the options of a message, unless it is one that is tried again."""
        visitor = umami.current_visitor()
        if visitor:
            message.options.setdefault(KEY, visitor)

    def before_process_message(self, _: Broker, message: MessageProxy) -> None:
        """Begin the visitor's block."""
        self._tasks.begin(message.message_id, message.options.get(KEY))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """Send the outcome, and end the visitor's block."""
        if exception is None:
            self._tasks.send_outcome(message.actor_name, "success")
        elif message.failed or not any(isinstance(each, Retries) for each in broker.middleware):
            self._tasks.send_outcome(message.actor_name, "failure", exception)
        else:
            self._tasks.send_outcome(message.actor_name, "retry")
        self.after_skip_message(broker, message)

    def after_skip_message(self, _: Broker, message: MessageProxy) -> None:
        """End the visitor's block."""
        self._tasks.end(message.message_id)

"""AWS Lambda and other handlers whose process is frozen between two calls: flush before each returns."""

import logging
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar, cast

import umami
from umami.errors import ValidationError

__all__ = ["flush_after"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

_logger: Final = logging.getLogger("umami")


def flush_after(
    timeout: float = 2.0, *, client: "umami.Client | None" = None
) -> Callable[[Handler], Handler]:
    """Deliver the queued events at the end of each call of a handler, sync or async.

    The handler's result or exception is passed on when the events are delivered, or at the timeout. What is
    not delivered by then stays queued, is logged, and is sent during the next call, if the process lives on.

    Args:
        timeout: Seconds to wait at most. They add to the duration of a call while the server is away.
        client: The client; by default the module's functions.

    Returns:
        A decorator.

    Raises:
        ValidationError: The timeout is not a number of seconds.

    Example:
        ```python
        @flush_after(timeout=2)
        def handler(event, context):
            umami.new_event("order received")
            return {"statusCode": 200}
        ```
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValidationError(
            f"timeout must be a number of seconds, got {timeout!r}. Write @flush_after() or "
            "@flush_after(timeout=2)."
        )
    flushing: Any = umami if client is None else client

    def check(is_flushed: bool) -> None:
        if not is_flushed:
            _logger.warning(
                "After %g s, %d events are not delivered. They are sent during the next call.",
                timeout,
                flushing.queue_stats().pending,
            )

    def decorate(handler: Handler) -> Handler:
        if iscoroutinefunction(handler):

            @wraps(handler)
            async def flushed_async(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await handler(*args, **kwargs)
                finally:
                    check(await flushing.flush_async(timeout))

            return cast("Handler", flushed_async)

        @wraps(handler)
        def flushed(*args: Any, **kwargs: Any) -> Any:
            try:
                return handler(*args, **kwargs)
            finally:
                check(flushing.flush(timeout))

        return cast("Handler", flushed)

    return decorate

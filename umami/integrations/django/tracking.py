"""The decorator `@track`: an event for each request that a view has answered."""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.db import transaction

import umami
from umami.errors import ValidationError
from umami.integrations._failures import Failures

View = TypeVar("View", bound=Callable[..., Any])
Data = Mapping[str, Any] | Callable[[Any, Any], Mapping[str, Any] | None] | None


def track(
    event_name: str,
    *,
    data: Data = None,
    when: Callable[[Any, Any], bool] | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> Callable[[View], View]:
    """Send an event when a view has answered a request. The view may be sync or async.

    The event knows the visitor and the page if the middleware is installed. A failure to send it is logged
    once, and no request fails for it.

    Args:
        event_name: The event's name, at most 50 characters.
        data: Its custom data; or a function that is called with the request and the response, and returns it.
        when: Called with the request and the response; returns whether to send. By default an event is sent
            if the status is below 400.
        on_commit: Send when the transaction around the view is committed, and not if it is rolled back. That
            is for sync views with `ATOMIC_REQUESTS` or in `transaction.atomic`.
        using: The database of that transaction, if it is not the default one.

    Returns:
        A decorator.

    Raises:
        ValidationError: The name is no text; or `on_commit` is set for an async view.

    Example:
        ```python
        @track("signup", when=lambda request, response: response.status_code == 302)
        def signup(request): ...
        ```
    """
    if not isinstance(event_name, str) or not event_name.strip():
        raise ValidationError('track needs the name of an event: @track("signup").')
    failures = Failures(f"The event {event_name!r} was not sent")

    def event(arguments: tuple[Any, ...], response: Any) -> dict[str, Any] | None:
        """Return the event as the arguments of its send; None if there is none."""
        request = next(each for each in arguments if hasattr(each, "META"))
        if not (when(request, response) if when else response.status_code < 400):
            return None
        return {
            "event_name": event_name,
            "custom_data": data(request, response) if callable(data) else data,
        }

    def send(arguments: tuple[Any, ...], response: Any) -> None:
        try:
            found = event(arguments, response)
            if found and on_commit:
                new_event = partial(umami.new_event, **found)
                transaction.on_commit(partial(_attempt, new_event, failures), using=using)
            elif found:
                umami.new_event(**found)
        except Exception as error:  # noqa: BLE001 - of a function of the user's
            failures.note(error)

    async def send_async(arguments: tuple[Any, ...], response: Any) -> None:
        try:
            found = event(arguments, response)
            if found:
                await umami.new_event_async(**found)
        except Exception as error:  # noqa: BLE001 - of a function of the user's
            failures.note(error)

    def decorate(view: View) -> View:
        if not iscoroutinefunction(view):

            @wraps(view)
            def tracked(*args: Any, **kwargs: Any) -> Any:
                response = view(*args, **kwargs)
                send(args, response)
                return response

            return cast("View", tracked)
        if on_commit:
            raise ValidationError(
                "on_commit has no effect on async views, as Django has no async transactions."
            )

        @wraps(view)
        async def tracked_async(*args: Any, **kwargs: Any) -> Any:
            response = await view(*args, **kwargs)
            await send_async(args, response)
            return response

        return cast("View", tracked_async)

    return decorate


def _attempt(event: Callable[[], Any], failures: Failures) -> None:
    try:
        event()
    except Exception as error:  # noqa: BLE001
        failures.note(error)

"""The exceptions that umami raises."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._status_error import ResponseStatusError as ResponseStatusError  # noqa: PLC0414 - a public name
else:

    def __getattr__(name: str) -> object:
        if name != "ResponseStatusError":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._status_error import ResponseStatusError  # it imports httpx

        return ResponseStatusError


class ValidationError(Exception):
    """An argument, a setting or a field of an event is not valid.

    Raised by the call that was given it, before anything is queued or sent. The message names the field, the
    limit and the value.

    Example:
        ```python
        try:
            umami.new_event("x" * 80)
        except umami.errors.ValidationError as error:
            print(error)  # event_name must have at most 50 characters, got 80.
        ```
    """


class OperationNotAllowedError(ValidationError):
    """The call needs something that is not set up yet: a URL base, a login or an API key.

    The message names the function that sets it up.
    """


class ResponseError(ValueError):
    """A server answered with 2xx, but not as Umami does.

    Usually `url_base` points at something else: a proxy's login page, another service, a website. The message
    says what came back and from where. It is a `ValueError`, as the JSON decoder's own error is.
    """


class UnsupportedError(OperationNotAllowedError):
    """The server cannot do what the call asks for: its version of Umami is too old, or has no way to say it.

    The message names the version that is needed, or the reason.
    """

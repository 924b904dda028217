"""The exceptions that umami raises: a small tree, caught whole by its root."""


class ValidationError(Exception):
    """An argument, a setting or an event's field is not what Umami takes.

    Raised at the call that passed it, before anything is queued or sent. The message names the
    field, the limit and what was given.

    Example:
        ```python
        try:
            umami.new_event("x" * 80)
        except umami.errors.ValidationError as error:
            print(error)  # event_name must have at most 50 characters, got 80.
        ```
    """


class OperationNotAllowedError(ValidationError):
    """Something that the call needs is not set up yet: a URL base, a login, an API key.

    The message names the function that sets it up. Being a `ValidationError`, it is caught with it.
    """


class ResponseError(ValueError):
    """A server answered 2xx with something that is not Umami's answer.

    Usually `url_base` points at something else: a proxy's login page, another service, a website.
    The message says what came back and from where. Being a `ValueError`, it is caught by code that
    expected the JSON decoder's own error.
    """

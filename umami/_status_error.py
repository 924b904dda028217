"""The error of an answer that is not a 2xx. It is apart from `errors`, which does not import httpx."""

import httpx


class ResponseStatusError(httpx.HTTPStatusError):
    """A server did not answer with 2xx. It is an `httpx.HTTPStatusError`, with its `request` and `response`.

    Attributes:
        code: Umami's own code for the error, such as `unauthorized`; None if the answer has none.
        message: The server's own words; None if the answer has none.
        hint: What to check; None if nothing is known.

    Example:
        ```python
        try:
            umami.website_stats(period="7d")
        except umami.errors.ResponseStatusError as error:
            print(error.response.status_code, error.code, error.message)
        ```
    """

    def __init__(
        self,
        text: str,
        *,
        request: httpx.Request,
        response: httpx.Response,
        code: str | None = None,
        message: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(text, request=request, response=response)
        self.code = code
        self.message = message
        self.hint = hint


ResponseStatusError.__module__ = "umami.errors"

"""What the log says of fields: those that were made to fit, and those to warn of."""

from typing import Final, Protocol

from .fields import Note


class Reporter(Protocol):
    """Takes what is to be logged."""

    def count_repair(self, kind: str, message: str) -> None:
        """Count a field that was made to fit, and say so."""

    def warn_once(self, key: str, message: str) -> None:
        """Warn, once for each key."""


def noting(reporter: Reporter) -> Note:
    """Return what checks of fields call: it looks up the text, and hands it to a reporter."""

    def note(kind: str, detail: str = "", /) -> None:
        warning = WARNINGS.get(kind)
        if warning is None:
            reporter.count_repair(kind, REPAIRS.get(kind, f"a {kind} did not fit Umami's limits"))
        else:
            reporter.warn_once(f"{kind} {detail}", warning.format(detail))

    return note


WARNINGS: Final = {
    "data_commerce": "custom_data has the key `commerce`, which newer Umami servers reserve.",
    "formula_event_name": "An event_name begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
    "formula_tag": "A tag begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
    "ip_address_list": (
        "ip_address is a list, as in X-Forwarded-For, and visitors can forge parts of it. The last public "
        "address in it is sent. Find out the visitor's address with umami's middleware and its setting "
        "trusted_proxies, or with your framework's proxy middleware (uvicorn's --proxy-headers, ProxyFix)."
    ),
    "website_id": (
        "website_id {} is not a UUID, and Umami will reject its events. Copy the website's id from Umami's "
        "settings. (Ids of tests are sent as they are.)"
    ),
}
"""What is logged once, with a value in it or without."""

REPAIRS: Final = {
    "browser": "a browser over 20 characters was omitted",
    "custom_data_array": "an array in custom_data was cut to 500 characters",
    "custom_data_date": "an invalid date in custom_data was sent with a space in place of its T",
    "custom_data_key": "a key in custom_data was cut to 500 characters",
    "custom_data_text": "a text in custom_data was cut to 500 characters",
    "device": "a device over 20 characters was omitted",
    "distinct_id": "a distinct_id over 50 characters was replaced by its digest",
    "ip_address": "an ip_address that is not a valid IP address was omitted",
    "language": "a language was cut to its first tag",
    "large_number": "a number of 1e15 or more in custom_data was sent as text",
    "not_finite": "NaN or infinity in custom_data was sent as null",
    "os": "an os over 20 characters was omitted",
    "referrer": "a referrer is not a valid URL and was omitted, or was too long and was cut",
    "screen": "a screen over 11 characters was omitted",
    "title": "U+0000 in a title was replaced, or a title was too long and was cut",
    "ua": "a ua was too long and was cut",
    "unprintable": "U+0000 or a lone surrogate was replaced",
    "url": "a url was percent-encoded, or it or a campaign value in it was too long and was cut",
}
"""What each key of `QueueStats.repaired` means."""

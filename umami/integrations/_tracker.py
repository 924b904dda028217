"""The HTML that loads Umami's own script, which tracks in the browser."""

from html import escape
from typing import Any
from urllib.parse import urlsplit

from umami.settings import Settings

_CLOUD = "https://cloud.umami.is"


def script(settings: Settings, attributes: dict[str, Any]) -> str:
    """Return the `<script>` element; blank if sending is disabled, or no server or website is set.

    Args:
        settings: The client's settings, which name the server and the website.
        attributes: `src` and `nonce`, and others by their names without `data-` and with `_` in place of `-`:
            `tag`, `domains`, `auto_track` and the like. Those that are None are left out.
    """
    website = attributes.pop("website_id", None) or settings.website_id
    src = attributes.pop("src", None) or _source(settings)
    if not (settings.enabled and website and src):
        return ""
    values = {"src": src, "nonce": attributes.pop("nonce", None), "data-website-id": website}
    values |= {f"data-{name.replace('_', '-')}": value for name, value in attributes.items()}
    written = "".join(
        f' {name}="{escape(str(value).lower() if isinstance(value, bool) else str(value))}"'
        for name, value in values.items()
        if value is not None
    )
    return f"<script defer{written}></script>"


def _source(settings: Settings) -> str | None:
    """Return the script's URL, without the user and password that the server's may hold."""
    if settings.api_key is not None and not settings.api_key.startswith("umami_"):
        return f"{_CLOUD}/script.js"
    if settings.url_base is None:
        return None
    parts = urlsplit(settings.url_base)
    return f"{parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()}/script.js"

"""The template tag `{% umami_tracker %}`."""

from typing import Any

from django import template
from django.apps import apps
from django.utils.safestring import SafeString, mark_safe

from umami.integrations._tracker import script

register = template.Library()


@register.simple_tag(takes_context=True)
def umami_tracker(context: Any, **attributes: Any) -> SafeString:
    """Return the `<script>` element that loads Umami's own script; blank if sending is disabled.

    The nonce is that of Django's content security policy, or django-csp's.

    Args:
        context: The template's context.
        **attributes: `src`, `nonce`, `website_id`, and the script's `data-` attributes with `_` in place of
            `-`: `tag`, `domains`, `auto_track` and the like.

    Example:
        ```html
        {% load umami %}
        <head>{% umami_tracker domains="example.com" %}</head>
        ```
    """
    if attributes.get("nonce") is None:
        nonce = context.get("csp_nonce")
        # It is made when it is first read, and counts as false before.
        attributes["nonce"] = getattr(context.get("request"), "csp_nonce", None) if nonce is None else nonce
    settings = apps.get_app_config("umami").client_settings
    return mark_safe(script(settings, attributes))  # noqa: S308 - all values are escaped

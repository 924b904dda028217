"""Ship events to Umami, the privacy-preserving web analytics server, from the background.

Sends check and queue an event and return at once; a background worker delivers them in batches, waits
out outages, and flushes at exit. Queries go straight to the server. The functions here are those of one
default `Client`.

Example:
    ```python
    import umami

    umami.set_url_base("https://umami.example.com")
    umami.set_website_id("978435e2-7ba1-4337-9860-ec31ece2db60")
    umami.set_hostname("example.com")
    umami.new_event("signup", custom_data={"plan": "pro"})
    ```
"""

import os as _os
import typing as _typing

from . import errors
from ._http.messages import USER_AGENT
from ._version import __version__
from .client import Client

if _typing.TYPE_CHECKING:
    from . import models, spool
else:
    # Imported at the first use.
    from .first_use import submodule as __getattr__  # noqa: F401 - Python calls it

user_agent = USER_AGENT

_default = Client()
if any(map(_os.environ.get, ("UMAMI_URL", "UMAMI_URL_BASE", "UMAMI_API_KEY"))):
    _default._state  # noqa: B018, SLF001 - imported here rather than at the first event

configure = _default.configure
set_url_base = _default.set_url_base
set_website_id = _default.set_website_id
set_hostname = _default.set_hostname
set_cloud_api_key = _default.set_cloud_api_key
clear_cloud_api_key = _default.clear_cloud_api_key
enable = _default.enable
disable = _default.disable

login = _default.login
login_async = _default.login_async
logout = _default.logout
logout_async = _default.logout_async
is_logged_in = _default.is_logged_in
verify_token = _default.verify_token
verify_token_async = _default.verify_token_async
heartbeat = _default.heartbeat
heartbeat_async = _default.heartbeat_async

websites = _default.websites
websites_async = _default.websites_async
active_users = _default.active_users
active_users_async = _default.active_users_async
website_stats = _default.website_stats
website_stats_async = _default.website_stats_async

new_event = _default.new_event
new_event_async = _default.new_event_async
new_revenue_event = _default.new_revenue_event
new_revenue_event_async = _default.new_revenue_event_async
new_page_view = _default.new_page_view
new_page_view_async = _default.new_page_view_async
identify = _default.identify
identify_async = _default.identify_async

flush = _default.flush
flush_async = _default.flush_async
shutdown = _default.shutdown
shutdown_async = _default.shutdown_async
queue_stats = _default.queue_stats


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Client",
    "__version__",
    "active_users",
    "active_users_async",
    "clear_cloud_api_key",
    "configure",
    "disable",
    "enable",
    "errors",
    "flush",
    "flush_async",
    "heartbeat",
    "heartbeat_async",
    "identify",
    "identify_async",
    "is_logged_in",
    "login",
    "login_async",
    "logout",
    "logout_async",
    "models",
    "new_event",
    "new_event_async",
    "new_page_view",
    "new_page_view_async",
    "new_revenue_event",
    "new_revenue_event_async",
    "queue_stats",
    "set_cloud_api_key",
    "set_hostname",
    "set_url_base",
    "set_website_id",
    "shutdown",
    "shutdown_async",
    "spool",
    "user_agent",
    "verify_token",
    "verify_token_async",
    "website_stats",
    "website_stats_async",
    "websites",
    "websites_async",
]

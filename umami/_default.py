"""The functions of the module `umami` that send events: those of one default client."""

from . import _process, _submit, _visitor
from ._event_client import EventClient as _EventClient
from ._http import messages as _messages

visitor = _visitor.visitor
current_visitor = _visitor.current_visitor
no_wait = _submit.no_wait
before_exit = _process.before_exit
user_agent = _messages.USER_AGENT


class _DefaultEvents(_EventClient):
    """Copied and pickled as itself: a function of this module is that of the process where it is called."""

    def __reduce__(self) -> str:
        return "_client"


_client = _DefaultEvents()

configure = _client.configure
set_url_base = _client.set_url_base
set_website_id = _client.set_website_id
set_hostname = _client.set_hostname
set_cloud_api_key = _client.set_cloud_api_key
clear_cloud_api_key = _client.clear_cloud_api_key
enable = _client.enable
disable = _client.disable

new_event = _client.new_event
new_event_async = _client.new_event_async
new_revenue_event = _client.new_revenue_event
new_revenue_event_async = _client.new_revenue_event_async
new_page_view = _client.new_page_view
new_page_view_async = _client.new_page_view_async
identify = _client.identify
identify_async = _client.identify_async

flush = _client.flush
flush_async = _client.flush_async
shutdown = _client.shutdown
shutdown_async = _client.shutdown_async
lifespan = _client.lifespan
queue_stats = _client.queue_stats

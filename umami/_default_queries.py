"""The functions of the module `umami` that make queries, or log in: those of the default client."""

from . import _default
from ._query_client import QueryClient as _QueryClient
from .client import Client as Client  # noqa: PLC0414 - a public name


class _DefaultQueries(_QueryClient):
    """Copied and pickled as itself, like the default client of events."""

    def __init__(self) -> None:
        self._state = _default._client._state  # noqa: SLF001 - the same client's

    def __repr__(self) -> str:
        return repr(_default._client)  # noqa: SLF001

    def __reduce__(self) -> str:
        return "_client"


_client = _DefaultQueries()

login = _client.login
login_async = _client.login_async
logout = _client.logout
logout_async = _client.logout_async
set_token = _client.set_token
is_logged_in = _client.is_logged_in
verify_token = _client.verify_token
verify_token_async = _client.verify_token_async
heartbeat = _client.heartbeat
heartbeat_async = _client.heartbeat_async

request = _client.request
request_async = _client.request_async
websites = _client.websites
websites_async = _client.websites_async
active_users = _client.active_users
active_users_async = _client.active_users_async
website_stats = _client.website_stats
website_stats_async = _client.website_stats_async
metrics = _client.metrics
metrics_async = _client.metrics_async
pageviews = _client.pageviews
pageviews_async = _client.pageviews_async
event_series = _client.event_series
event_series_async = _client.event_series_async
event_stats = _client.event_stats
event_stats_async = _client.event_stats_async
realtime = _client.realtime
realtime_async = _client.realtime_async
date_range = _client.date_range
date_range_async = _client.date_range_async
filter_values = _client.filter_values
filter_values_async = _client.filter_values_async
event_properties = _client.event_properties
event_properties_async = _client.event_properties_async
event_values = _client.event_values
event_values_async = _client.event_values_async
event_value_stats = _client.event_value_stats
event_value_stats_async = _client.event_value_stats_async
session_stats = _client.session_stats
session_stats_async = _client.session_stats_async
weekly_sessions = _client.weekly_sessions
weekly_sessions_async = _client.weekly_sessions_async
events = _client.events
events_async = _client.events_async
sessions = _client.sessions
sessions_async = _client.sessions_async
event_data = _client.event_data
event_data_async = _client.event_data_async
session = _client.session
session_async = _client.session_async
session_activity = _client.session_activity
session_activity_async = _client.session_activity_async
session_properties = _client.session_properties
session_properties_async = _client.session_properties_async
funnel = _client.funnel
funnel_async = _client.funnel_async
retention = _client.retention
retention_async = _client.retention_async
journeys = _client.journeys
journeys_async = _client.journeys_async
goal = _client.goal
goal_async = _client.goal_async
utm = _client.utm
utm_async = _client.utm_async
attribution = _client.attribution
attribution_async = _client.attribution_async
breakdown = _client.breakdown
breakdown_async = _client.breakdown_async
revenue = _client.revenue
revenue_async = _client.revenue_async
web_vitals = _client.web_vitals
web_vitals_async = _client.web_vitals_async

me = _client.me
me_async = _client.me_async
server_version = _client.server_version
server_version_async = _client.server_version_async
website = _client.website
website_async = _client.website_async
create_website = _client.create_website
create_website_async = _client.create_website_async
update_website = _client.update_website
update_website_async = _client.update_website_async
transfer_website = _client.transfer_website
transfer_website_async = _client.transfer_website_async
reset_website = _client.reset_website
reset_website_async = _client.reset_website_async
delete_website = _client.delete_website
delete_website_async = _client.delete_website_async
shares = _client.shares
shares_async = _client.shares_async
create_share = _client.create_share
create_share_async = _client.create_share_async
delete_share = _client.delete_share
delete_share_async = _client.delete_share_async
delete_session = _client.delete_session
delete_session_async = _client.delete_session_async
segments = _client.segments
segments_async = _client.segments_async
segment = _client.segment
segment_async = _client.segment_async
create_segment = _client.create_segment
create_segment_async = _client.create_segment_async
update_segment = _client.update_segment
update_segment_async = _client.update_segment_async
delete_segment = _client.delete_segment
delete_segment_async = _client.delete_segment_async
links = _client.links
links_async = _client.links_async
link = _client.link
link_async = _client.link_async
create_link = _client.create_link
create_link_async = _client.create_link_async
update_link = _client.update_link
update_link_async = _client.update_link_async
delete_link = _client.delete_link
delete_link_async = _client.delete_link_async
pixels = _client.pixels
pixels_async = _client.pixels_async
pixel = _client.pixel
pixel_async = _client.pixel_async
create_pixel = _client.create_pixel
create_pixel_async = _client.create_pixel_async
update_pixel = _client.update_pixel
update_pixel_async = _client.update_pixel_async
delete_pixel = _client.delete_pixel
delete_pixel_async = _client.delete_pixel_async
teams = _client.teams
teams_async = _client.teams_async
team = _client.team
team_async = _client.team_async
create_team = _client.create_team
create_team_async = _client.create_team_async
update_team = _client.update_team
update_team_async = _client.update_team_async
delete_team = _client.delete_team
delete_team_async = _client.delete_team_async
members = _client.members
members_async = _client.members_async
add_member = _client.add_member
add_member_async = _client.add_member_async
update_member = _client.update_member
update_member_async = _client.update_member_async
remove_member = _client.remove_member
remove_member_async = _client.remove_member_async
join_team = _client.join_team
join_team_async = _client.join_team_async

"""All queries and logins of a client."""

from ._queries.account import Account
from ._queries.event_figures import EventFigures
from ._queries.figures import Figures
from ._queries.links import Links
from ._queries.reports import Reports
from ._queries.rows import RowQueries
from ._queries.segments import Segments
from ._queries.teams import Teams
from ._queries.things import Things


class QueryClient(Account, Figures, EventFigures, RowQueries, Reports, Things, Segments, Links, Teams):
    """The part of a client that makes queries; see `Client`."""

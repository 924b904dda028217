"""Where events go, as a spool notes it beside them."""

from umami._http.target import Target as Destination

__all__ = ["Destination"]

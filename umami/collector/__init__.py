"""A server for tests and development. `Collector` answers as a real Umami does, and can be told to fail.

Install it with the extra ``collector``: ``pip install 'umami-analytics[collector]'``.
"""

from umami.collector.faults import Fault
from umami.collector.records import EventType, Headers, Identity, Property, Request, StoredEvent

try:
    import is_bot  # noqa: F401 - so that it is missed here, not at the first event

    from umami.collector.collector import Collector
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package not in {"starlette", "uvicorn", "h11", "is_bot", "regex"}:
        raise
    message = f"The collector needs {package}: pip install 'umami-analytics[collector]'"
    raise ModuleNotFoundError(message, name=package) from error

__all__ = ["Collector", "EventType", "Fault", "Headers", "Identity", "Property", "Request", "StoredEvent"]

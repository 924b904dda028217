"""An Umami for tests and development: `Collector` answers as the real server does, and fails on request.

It needs the ``collector`` extra: ``pip install 'umami-analytics[collector]'``.
"""

from umami.collector.faults import Fault
from umami.collector.records import EventType, Headers, Identity, Property, Request, StoredEvent

try:
    import is_bot  # noqa: F401 - otherwise the first event would miss it

    from umami.collector.collector import Collector
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package not in {"starlette", "uvicorn", "h11", "is_bot", "regex"}:
        raise
    message = f"The collector needs {package}: pip install 'umami-analytics[collector]'"
    raise ModuleNotFoundError(message, name=package) from error

__all__ = ["Collector", "EventType", "Fault", "Headers", "Identity", "Property", "Request", "StoredEvent"]

"""The scenarios, by name."""

from collections.abc import Callable
from typing import Final

from loadtests.model import Scenario

from .calls import enqueue, enqueue_async, enqueue_threads, import_time, memory
from .delivery import drain, exit_time, single, umami_paced
from .growth import growth
from .services import burst, middleware, service

SCENARIOS: Final[dict[str, Callable[[bool], Scenario]]] = {
    "enqueue": enqueue,
    "enqueue-async": enqueue_async,
    "enqueue-threads": enqueue_threads,
    "drain": drain,
    "burst": burst,
    "memory": memory,
    "single": single,
    "service": service,
    "middleware": middleware,
    "umami-paced": umami_paced,
    "exit": exit_time,
    "import": import_time,
    "growth": growth,
}
"""Each function is called with True for a quick run."""

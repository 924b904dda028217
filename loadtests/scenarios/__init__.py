"""The scenarios, one for each row of issue 4's table, by name."""

from collections.abc import Callable
from typing import Final

from loadtests.model import Scenario

from .calls import enqueue, enqueue_async, enqueue_threads, import_time, memory
from .delivery import drain, exit_time, single, umami_paced
from .growth import growth
from .services import burst, service

SCENARIOS: Final[dict[str, Callable[[bool], Scenario]]] = {
    "enqueue": enqueue,
    "enqueue-async": enqueue_async,
    "enqueue-threads": enqueue_threads,
    "drain": drain,
    "burst": burst,
    "memory": memory,
    "single": single,
    "service": service,
    "umami-paced": umami_paced,
    "exit": exit_time,
    "import": import_time,
    "growth": growth,
}
"""Each takes whether the run is a quick one."""

"""One measurement: starts a sink and the process of a subject, and collects the results of both."""

import dataclasses
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from . import environments
from .model import Case, MeasurementError, Metrics
from .paced import measure_paced
from .service import measure_service
from .sink import Behaviour


@contextmanager
def sink(behaviour: Behaviour | None) -> Iterator[int]:
    """Run a sink, and yield its port. Without a behaviour, yield a port that refuses connections."""
    if behaviour is None:
        with socket.socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            yield refusing.getsockname()[1]
        return
    command = [sys.executable, "-m", "loadtests.sink", json.dumps(dataclasses.asdict(behaviour))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environments.variables("floor"),
        cwd=environments.ROOT,
    ) as process:
        try:
            port = (process.stdout or sys.stdin.buffer).readline()
            if not port:
                raise MeasurementError("the sink did not start")
            yield int(port)
        finally:
            process.kill()


def sink_stats(port: int) -> Metrics:
    """Return the counts of a sink."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/stats")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def run(command: Sequence[str | Path], subject: str, seconds: float) -> tuple[dict[str, Any], float]:
    """Run a process until it ends; return the JSON of its last line, and the monotonic time of its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=environments.variables(subject),
            cwd=environments.import_path(subject)[0],  # the first place where python -m imports from
        )
        # A wait with a timeout polls, and would notice the end too late.
        overdue = threading.Timer(seconds, process.kill)
        overdue.start()
        try:
            process.wait()
            ended = time.monotonic()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            overdue.cancel()
        out.seek(0)
        err.seek(0)
        lines = out.read().decode(errors="replace").splitlines()
        said = err.read().decode(errors="replace").strip()
    if process.returncode == -signal.SIGKILL:
        raise MeasurementError(f"not done after {seconds:.0f} s")
    if process.returncode or not lines:
        last = said.splitlines()[-1] if said else f"exit code {process.returncode}"
        raise MeasurementError(last[:200])
    return json.loads(lines[-1]), ended


def measure(case: Case) -> Metrics:
    """Make one measurement.

    Raises:
        MeasurementError: It failed.
    """
    python = environments.interpreter(case.subject)
    if python is None:
        raise MeasurementError("not installed: python -m loadtests setup")
    with sink(case.behaviour) as port:
        metrics = OUTSIDE.get(case.probe, _child)(case, python, port)
        if case.behaviour is not None:
            seen = sink_stats(port)
            metrics["sink_share"] = 100 * seen["cpu_share"]
            metrics["sink_events"] = seen["events"]
            metrics["sink_requests"] = seen["requests"]
            metrics["sink_connections"] = seen["connections"]
            if seen["seconds"]:
                metrics["sink_rate"] = seen["events"] / seen["seconds"]
            if metrics.get("sent"):
                metrics["delivered"] = 100 * seen["events"] / metrics["sent"]
    return metrics


def _child(case: Case, python: Path, port: int) -> Metrics:
    """Run a probe in a new process."""
    options = dict(case.options)
    url = f"{options.pop('scheme', 'http')}://127.0.0.1:{port}"
    task = {"subject": case.subject, "probe": case.probe, "url": url, "options": options}
    found, ended = run([python, "-m", "loadtests.child", json.dumps(task)], case.subject, case.seconds)
    if "last_event_at" in found:
        found["exit_ms"] = 1000 * (ended - found.pop("last_event_at"))
    return found


_IMPORTS = """
import json, os, sys, time
modules, then = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
for name in modules.split(','):
    __import__(name)
imported = time.process_time()
found = {'import_ms': 1000 * (time.perf_counter() - wall), 'import_cpu_ms': 1000 * (imported - cpu)}
if then:
    exec(then)
    found['ready_cpu_ms'] = 1000 * (time.process_time() - cpu)
os.write(1, json.dumps(found).encode())
os._exit(0)
"""


def _imports(case: Case, python: Path, port: int) -> Metrics:  # noqa: ARG001
    """Import modules in a new process with hardly any imports, and then run the statements of the case."""
    then = case.options.get("then", "")
    return run([python, "-c", _IMPORTS, case.options["modules"], then], case.subject, case.seconds)[0]


def _service(case: Case, python: Path, port: int) -> Metrics:
    return measure_service(case, python, port)


OUTSIDE: Final[dict[str, Callable[[Case, Path, int], Metrics]]] = {
    "import": _imports,
    "service": _service,
    "paced": measure_paced,
}
"""The probes that do not run in `child`."""

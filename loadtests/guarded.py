"""The program whose instructions callgrind counts for the guard: `python -m loadtests.guarded PATH=TIMES…`.

It runs each path in a child process, and prints the child's id. So Python and the package start only once,
which takes most of the time. A path does the same work in every run. There is one thread, no server and no
garbage collection: threads do not start, and requests are answered at once, as Umami would.

`evict` sends into a full queue that drops its oldest events, and `spool` with a spool. `full` and `spooled`
prepare these, and `fill` prepares `settle`.
"""

import gc
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

import umami
from umami._http import messages, poster

from .guard import BATCH
from .subjects import Ours

_WARM_UP: Final = 4 * BATCH
_FULL: Final = 2_000


def _stay(self: threading.Thread) -> None:
    """Do not start the thread."""


def _answer(self: poster.Poster, url: str, content: bytes, *_: Any, **__: Any) -> messages.Reply:  # noqa: ARG001
    body = b'{"size":%d,"processed":%d,"errors":0,"details":[],"cache":"%b"}' % (BATCH, BATCH, b"x" * 307)
    return messages.Reply(200, {"content-type": "application/json"}, body)


def main() -> None:
    """Run the paths, one after another, each in a child process."""
    umami.queue_stats()  # imports what is imported late
    for argument in sys.argv[1:]:
        path, _, times = argument.partition("=")
        child = os.fork()
        if not child:
            try:
                _run(path, int(times))
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"The path {path} failed.")
        print(child, argument, flush=True)


def _run(path: str, times: int) -> None:
    threading.Thread.start = _stay  # type: ignore[method-assign]
    poster.Poster.post = _answer  # type: ignore[method-assign]
    subject = Ours("http://127.0.0.1:9", batch=BATCH)
    send: Any = umami.new_event
    state = send.__self__._state  # noqa: SLF001
    agent, destination = state.agent, (state.route or state.new_route()).destination

    def settle() -> None:
        """Do what a sender thread does with a batch."""
        batch = agent.queue.take(destination, None, 0)
        agent._senders._export(destination, batch)  # noqa: SLF001

    def walk(action: Callable[[], object], count: int) -> None:
        for _ in range(count):
            action()

    sends = {kind: subject.sender(kind) for kind in ("event", "page_view", "revenue")}
    for send in sends.values():
        walk(send, _WARM_UP)
    walk(settle, 4)
    gc.collect()
    gc.disable()
    if path == "settle":
        walk(sends["event"], times * BATCH)
        walk(settle, times)
    elif path == "fill":
        walk(sends["event"], times * BATCH)
    elif path in ("full", "evict"):
        umami.configure(queue_size=_FULL, overflow="drop_oldest")
        walk(sends["event"], 2 * _FULL + (times if path == "evict" else 0))
    elif path in ("spooled", "spool"):
        with tempfile.TemporaryDirectory() as folder:
            umami.configure(spool=folder)
            walk(sends["event"], _WARM_UP + (times if path == "spool" else 0))
    elif path == "empty":
        walk(lambda: None, times)
    else:
        walk(sends[path], times)
    if umami.queue_stats().submitted != sum(_WARM_UP for _ in sends) + _sent(path, times):
        raise RuntimeError("the events were not queued, so the counts are worthless")


def _sent(path: str, times: int) -> int:
    prepared = {"full": 2 * _FULL, "evict": 2 * _FULL, "spooled": _WARM_UP, "spool": _WARM_UP}.get(path, 0)
    sent = {"settle": times * BATCH, "fill": times * BATCH, "empty": 0, "full": 0, "spooled": 0}
    return prepared + sent.get(path, times)


if __name__ == "__main__":
    main()

"""Calls for the type checker, which `make lint` runs; nothing runs them.

If it misses an error, the `type: ignore` in that line is unused, and the strict checker reports that.
"""

import ssl
from pathlib import Path

import tenacity

import umami


def right() -> None:
    umami.configure(
        url_base="https://umami.example.com", queue_size=5, senders=None, overflow="block", timeout=5
    )
    umami.configure(
        retry_wait=tenacity.wait_fixed(5), retry_limit=tenacity.stop_after_delay(60), spool=Path("a")
    )
    umami.configure(
        retry_wait=2.5, retry_limit=None, headers={"X-Key": "a"}, verify=ssl.create_default_context()
    )
    with umami.Client(cert=("a", "b"), before_send=lambda payload: payload, on_error=print) as client:
        client.new_event("signup", tag="a")


def wrong() -> None:
    umami.Client(url_bsae="x")  # type: ignore[call-arg]
    umami.configure(queue_size="many")  # type: ignore[arg-type]
    umami.configure(overflow="drop_all")  # type: ignore[arg-type]
    umami.configure(senders=2.5)  # type: ignore[arg-type]
    umami.Client(exporter=print)  # type: ignore[arg-type]
    umami.new_evnt("signup")  # type: ignore[attr-defined]
    umami.new_event("signup", tag=5)  # type: ignore[arg-type]

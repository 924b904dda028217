"""What Ctrl-C and SIGTERM do while a command runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Makes each of the signals raise KeyboardInterrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

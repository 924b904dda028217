"""What Ctrl-C and SIGTERM do while a command runs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def interrupted_by(*signals: signal.Signals) -> AbstractContextManager[None]:
    """Makes each of the signals raise KeyboardInterrupt."""
    return handled_by(signal.default_int_handler, *signals)


@contextmanager
def handled_by(handler: Callable[..., Any], *signals: signal.Signals) -> Iterator[None]:
    """Has each of the signals call a function."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)

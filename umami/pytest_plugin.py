"""The pytest plugin: fixtures for tests of code that sends events. It does nothing unless they are used."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .collector import Collector
    from .testing import Outbox

_INI = "umami_network"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(
        _INI,
        "'block': no test calls an Umami server that is not on this machine. Default: 'allow'.",
        default="allow",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the ini option, and block the imports of tests too if it says so."""
    value = config.getini(_INI)
    if value not in ("allow", "block"):
        raise pytest.UsageError(f"{_INI} must be 'allow' or 'block', got {value!r}.")
    if value == "block":
        blocks = ExitStack()
        blocks.enter_context(_blocked("code outside of a test"))
        config.add_cleanup(blocks.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep a test from calling a server that is not on this machine, if the ini option says so."""
    if item.config.getini(_INI) != "block":
        return (yield)
    with _blocked(item.nodeid):
        return (yield)


def _blocked(who: str) -> AbstractContextManager[None]:
    from ._state import local_only

    return local_only(f"pytest's {_INI} is 'block': {who} may call an Umami server on this machine only")


@pytest.fixture
def umami_outbox() -> Iterator["Outbox"]:
    """What the test sends, in place of sending it: see `umami.testing.Outbox`."""
    from .testing import capture

    with capture() as outbox:
        yield outbox


@pytest.fixture
def umami_collector() -> Iterator["Collector"]:
    """A server that answers as Umami does, on a free port: see `umami.collector.Collector`."""
    from .collector import Collector

    with Collector() as collector:
        yield collector

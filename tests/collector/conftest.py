"""Fixtures: a collector, and a browser that talks to it."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from collector_helpers import CHROME

from umami.collector import Collector

_TLS = ssl.create_default_context()
"""Shared, because making one takes longer than most tests."""


@pytest.fixture
def browse() -> Iterator[Callable[..., httpx.Client]]:
    """Make HTTP clients that look like a browser."""
    clients = []

    def make(collector: Collector, **options: Any) -> httpx.Client:
        client = httpx.Client(
            base_url=collector.url,
            headers={"User-Agent": CHROME},
            verify=_TLS,
            **{"timeout": 30.0, **options},
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def http(collector: Collector, browse: Callable[..., httpx.Client]) -> httpx.Client:
    return browse(collector)

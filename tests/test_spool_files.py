"""What may lie in a spool's folder: holes, zeros, planted files. Each costs what is in it, and no more."""

import os
import random
from pathlib import Path

import pytest
from conftest import SITE
from queue_helpers import drain, send_many, stored

import umami
from umami.collector import Collector

COUNT = 300
BLOCK = 4096


@pytest.fixture
def left(own_collector: Collector, folder: Path) -> Path:
    """The file of a process that was killed, with `COUNT` events."""
    client = umami.Client(
        url_base=own_collector.url,
        website_id=SITE,
        hostname="example.com",
        spool=str(folder),
        flush_interval=600,
        batch_size=10_000,
    )
    send_many(client, COUNT)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    client.shutdown()
    own_collector.clear()
    file.write_bytes(content)
    return file


def zero(file: Path, start: int, end: int) -> None:
    content = bytearray(file.read_bytes())
    content[start:end] = bytes(min(end, len(content)) - start)
    file.write_bytes(content)


# Damage.


@pytest.mark.parametrize("block", [0, 1, 5])
def test_a_block_of_zeros_costs_the_events_in_it(block: int, left: Path, own_collector: Collector) -> None:
    size = left.stat().st_size / COUNT
    zero(left, block * BLOCK, (block + 1) * BLOCK)
    stats = drain(left.parent)
    assert stats.submitted == COUNT
    assert 0 < stats.dropped["spool_damaged"] <= BLOCK / size + 2
    assert stats.delivered == COUNT - stats.dropped["spool_damaged"] == len(own_collector.events)
    assert max(stored(own_collector).values()) == 1


def test_zeros_at_the_end_are_counted_by_their_size(left: Path) -> None:
    size = left.stat().st_size
    zero(left, size // 2, size)
    stats = drain(left.parent)
    assert stats.dropped.keys() == {"torn"}
    assert abs(stats.submitted - COUNT) <= COUNT * 0.02
    assert not list(left.parent.iterdir())


def test_a_file_that_was_made_longer_but_not_written_lost_nothing_else(
    left: Path, own_collector: Collector
) -> None:
    os.truncate(left, left.stat().st_size + 3 * BLOCK)
    stats = drain(left.parent)
    assert stats.delivered == COUNT == len(own_collector.events)
    assert 0 < stats.dropped["torn"] <= 3 * BLOCK / 200


def test_what_was_counted_as_lost_is_not_counted_again(left: Path, own_collector: Collector) -> None:
    zero(left, BLOCK, 2 * BLOCK)
    own_collector.fail(503, times=None)
    client = umami.Client(spool=str(left.parent), shutdown_timeout=0)
    first = client.queue_stats()
    client.shutdown(0)
    client._state._spool.close()  # type: ignore[union-attr] # as its end does
    assert first.dropped["spool_damaged"] > 0
    own_collector.clear()
    second = drain(left.parent)
    assert second.dropped == {}
    assert second.delivered == first.pending == COUNT - first.dropped["spool_damaged"]


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_raises_and_sends_only_what_was_queued(
    seed: int, left: Path, own_collector: Collector
) -> None:
    luck = random.Random(seed)
    content = bytearray(left.read_bytes())
    for _ in range(luck.randrange(1, 6)):
        start = luck.randrange(len(content))
        size = luck.randrange(1, 600)
        kind = luck.randrange(4)
        if kind == 0:
            content[start : start + size] = luck.randbytes(size)
        elif kind == 1:
            del content[start : start + size]
        elif kind == 2:
            content[start:start] = content[max(0, start - size) : start]
        else:
            content[start] ^= 1 << luck.randrange(8)
    left.write_bytes(content)
    stats = drain(left.parent)
    found = stored(own_collector)
    assert set(found) <= {f"e{number}" for number in range(COUNT)}
    assert not found or max(found.values()) == 1
    assert stats.delivered == sum(found.values())
    if content.startswith(b"umami-spool-2\n"):
        assert stats.delivered > COUNT - 5 * 8

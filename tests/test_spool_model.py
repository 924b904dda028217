"""Model of the spool on a disk in memory: the process dies between any two system calls, or the power fails.

Writes, new names and deletions that were not synced reach the disk or not, in any order; blocks are zeros,
files short or too long. Whatever is on the disk then, the next process starts, sends all that was promised,
and sends nothing twice but what was on the wire, or was settled since the last sync.
"""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import with_each
from model_disk import DiedError, ModelDisk

from umami._spool.spool import Spool

FOLDER = Path("/spool")
NAME = "umami:http://x/api/send"
BATCH = 3
IN_MEMORY = 6


@dataclass
class World:
    """What outlives processes: the disk, and what was acknowledged, promised, and sent."""

    disk: ModelDisk = field(default_factory=lambda: ModelDisk(FOLDER))
    made: int = 0
    acknowledged: set[int] = field(default_factory=set)
    promised: set[int] = field(default_factory=set)
    sent: Counter[int] = field(default_factory=Counter)
    may_come_again: set[int] = field(default_factory=set)
    unexpected: set[int] = field(default_factory=set)


class Process:
    """Uses a spool as the queue does.

    Args:
        world: The world.
        sync: The setting `spool_sync`.
    """

    def __init__(self, world: World, sync: str) -> None:
        self.world = world
        self.sync_each = sync == "always"
        self.troubles: list[str] = []
        self.spool = Spool(FOLDER, lambda _, message: self.troubles.append(message), world.disk)  # type: ignore[arg-type]
        self.spool.configure(1_000_000, sync, 1.0)
        self.syncer = self.spool._folder._syncer
        self.syncer.seconds = None  # no thread: `sync` is called below
        self.partition = self.spool.partition(NAME)
        self.memory: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.settled: set[int] = set()
        self.next = 0

    def adopt(self) -> None:
        for orphan in self.spool.orphans(lambda name: name == NAME):
            orphan.adopt()

    def append(self) -> None:
        world, event = self.world, self.world.made
        world.made += 1
        alone = self.partition.waiting > 0 or len(self.memory) >= IN_MEMORY
        number = None if alone else self.next
        if self.partition.append(b'{"n":%d}' % event, number):
            world.acknowledged.add(event)
            self.acknowledged.add(event)
            if self.sync_each:
                world.promised.add(event)
        elif alone:
            return  # the queue is full: the send is told so
        if not alone:
            self.memory[self.next] = event
            self.next += 1

    def load(self) -> None:
        if len(self.memory) < IN_MEMORY:
            events, _ = self.partition.load(self.next, IN_MEMORY)
            for event in events:
                self.memory[self.next] = int(event[5:-1])
                self.next += 1

    def send(self) -> None:
        numbers = sorted(self.memory)[:BATCH]
        events = {self.memory[number] for number in numbers}
        again = {event for event in events if self.world.sent[event]}
        self.world.unexpected |= again - self.world.may_come_again
        self.world.may_come_again |= events
        self.world.sent.update(events)
        self.partition.settle(numbers)
        for number in numbers:
            del self.memory[number]
        self.settled |= events

    def sync(self) -> None:
        acknowledged, settled = self.acknowledged.copy(), self.settled.copy()
        known = len(self.troubles)
        self.syncer.sync()
        if len(self.troubles) == known:
            self.world.promised |= acknowledged
            self.world.may_come_again -= settled

    def drain(self) -> None:
        self.adopt()
        while self.memory or self.partition.waiting:
            self.load()
            self.send()
        self.spool.close()


def live(world: World, sync: str, luck: random.Random) -> None:
    """Do what a process may, in any order."""
    process = Process(world, sync)
    actions: list[Any] = [process.append] * 6 + [process.send] * 2 + [process.load, process.adopt]
    actions += [process.sync] * (sync == "interval")
    process.adopt()
    for _ in range(25):
        luck.choice(actions)()
    if luck.random() < 0.5:
        process.spool.close()


def end(world: World, *, power: bool) -> None:
    if power:
        world.disk.cut_power()
    else:
        world.disk.kill()


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("sync", ["never", "interval", "always"])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_what_was_promised_survives_a_death_at_any_system_call(seed: int, sync: str, *, power: bool) -> None:
    for moment in range(10_000):
        world = World()
        luck = random.Random(seed)
        world.disk.luck = random.Random(seed * 1_000 + moment)
        world.disk.left = moment
        reached = False
        try:
            live(world, sync, luck)
        except DiedError:
            reached = True
        end(world, power=power)
        world.disk.left = luck.randrange(200)  # another dies, too, perhaps as it starts
        with suppress(DiedError):
            live(world, sync, luck)
        end(world, power=power)
        Process(world, sync).drain()
        if not power:
            world.promised = world.acknowledged
        assert world.promised <= set(world.sent), moment
        assert set(world.sent) <= set(range(world.made))
        assert not world.unexpected, moment
        if not power:
            assert sum(world.sent.values()) - len(world.sent) <= 2 * BATCH, moment
        left = [name for name in world.disk.names_now if name.endswith(".events")]
        assert not left, moment
        if not reached:
            break
    assert moment > 30


@with_each("seed", range(40))
def test_errors_of_the_disk_lose_no_acknowledged_event_and_are_said(seed: int) -> None:
    luck = random.Random(seed)
    world = World()
    world.disk.luck = random.Random(seed)
    world.disk.fails = 0.2
    process = Process(world, "always" if seed % 2 else "never")
    for _ in range(200):
        luck.choice([process.append, process.append, process.send, process.load, process.sync])()
    while process.memory:
        process.send()
    world.disk.fails = 0.0
    process.drain()
    end(world, power=False)
    Process(world, "never").drain()
    assert process.troubles
    assert world.acknowledged <= set(world.sent)

"""Records that one reader of a process got are taken by a group's member of the same process, and none is missed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Set

import pytest

from handrail_notifier.application.recent import Recent
from handrail_notifier.application.shared_reader import SharedReader
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import BusError, GroupReader, Outgoing, Reader, Record, TopicPartition

TOPIC, PARTITIONS = "handrail.events", 3
ALL = [(TOPIC, p) for p in range(PARTITIONS)]


class Watched:
    """A member that counts what it read by itself, and breaks when told to."""

    def __init__(self, inner: GroupReader) -> None:
        self._inner, self.read_itself, self.broken = inner, 0, False

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        if self.broken:
            raise BusError("Expected records, but the bus is away.")
        records = await self._inner.read(max_records, timeout_s)
        self.read_itself += len(records)
        return records

    def assignment(self) -> Set[TopicPartition]:
        return self._inner.assignment()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._inner.pause(partitions)

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        self._inner.resume(positions)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._inner.commit(positions)

    async def close(self) -> None:
        await self._inner.close()


class Process:
    """One notifier: a reader of everything from the end, and a member of the group beside it."""

    def __init__(self, bus: MemoryBus, most_bytes: int) -> None:
        self._bus, self.recent = bus, Recent(most_bytes)
        self._all: Reader | None = None
        self.taken: list[Record] = []
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        await self.open()
        self.member = Watched(await self._bus.group_reader("projection", [TOPIC]))
        self.reader = SharedReader(self.member, self.recent)

    async def open(self) -> None:
        self.recent.end()
        if self._all is not None:
            await self._all.close()
        self._all = await self._bus.reader()
        ends = {tp: log.end for tp, log in (await self._bus.ranges(ALL)).items()}
        self._all.assign(ends)
        self.recent.begin(ends)

    async def fan_out(self, most: int = 500) -> None:
        assert self._all is not None
        self.recent.offer(await self._all.read(most, 0.0))

    async def project(self, most: int = 500, timeout_s: float = 0.0) -> list[Record]:
        records = await self.reader.read(most, timeout_s)
        self.taken += records
        self._positions.update(((r.topic, r.partition), r.offset + 1) for r in records)
        return records

    async def commit(self) -> None:
        await self.reader.commit(self._positions)
        self._positions = {}

    async def drain(self) -> None:
        quiet = 0
        while quiet < 4:
            await self.fan_out()
            quiet = 0 if await self.project(timeout_s=0.002) else quiet + 1

    async def close(self) -> None:
        await self.reader.close()
        if self._all is not None:
            await self._all.close()


async def started(bus: MemoryBus, most_bytes: int = 1 << 20) -> Process:
    process = Process(bus, most_bytes)
    await process.start()
    return process


async def a_bus() -> MemoryBus:
    bus = MemoryBus()
    await bus.ensure_topics({TOPIC: (PARTITIONS, {})})
    return bus


async def send(bus: MemoryBus, count: int, *, partitions: Iterable[int] = range(PARTITIONS)) -> None:
    producer = await bus.producer()
    await producer.send([Outgoing(TOPIC, b"k", b"v" * 100, partition=p) for p in partitions for _ in range(count)])


def offsets(records: Iterable[Record]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record.offset)
    return found


async def test_after_the_first_record_of_a_partition_the_member_fetches_nothing() -> None:
    bus = await a_bus()
    process = await started(bus)
    await send(bus, 2)
    await process.drain()
    assert process.member.read_itself == 2 * PARTITIONS
    for _ in range(5):
        await send(bus, 10)
        await process.drain()
    assert process.member.read_itself == 2 * PARTITIONS
    assert offsets(process.taken) == {p: list(range(52)) for p in range(PARTITIONS)}


async def test_what_lay_there_before_the_reader_began_is_read_by_the_member() -> None:
    bus = await a_bus()
    await send(bus, 20)
    process = await started(bus)
    await send(bus, 5, partitions=[0])
    await process.drain()
    assert offsets(process.taken) == {0: list(range(25)), 1: list(range(20)), 2: list(range(20))}
    await send(bus, 5)
    await process.drain()
    assert offsets(process.taken) == {0: list(range(30)), 1: list(range(25)), 2: list(range(25))}


async def test_a_reader_that_lost_its_place_leaves_the_rest_to_the_member() -> None:
    bus = await a_bus()
    process = await started(bus)
    await send(bus, 1)
    await process.drain()
    await send(bus, 3)
    await process.fan_out()
    await process.open()  # what was read and not yet taken is gone, and what comes now is no continuation
    await send(bus, 3)
    await process.drain()
    assert offsets(process.taken) == {p: list(range(7)) for p in range(PARTITIONS)}
    before = process.member.read_itself
    await send(bus, 3)
    await process.drain()
    assert process.member.read_itself == before


async def test_more_than_may_be_kept_is_read_again_by_the_member() -> None:
    bus = await a_bus()
    process = await started(bus, most_bytes=20_000)
    await send(bus, 1)
    await process.drain()
    await send(bus, 100)  # while the projection waits for Redis
    await process.fan_out()
    await process.drain()
    assert offsets(process.taken) == {p: list(range(101)) for p in range(PARTITIONS)}
    before = process.member.read_itself
    await send(bus, 3)
    await process.drain()
    assert process.member.read_itself == before
    assert offsets(process.taken) == {p: list(range(104)) for p in range(PARTITIONS)}


async def test_a_record_wakes_a_read_that_waits() -> None:
    bus = await a_bus()
    process = await started(bus)
    await send(bus, 1)
    await process.drain()
    while await process.project(timeout_s=0.0):
        pass
    waiting = asyncio.create_task(process.project(timeout_s=30.0))
    await asyncio.sleep(0.02)
    await send(bus, 1, partitions=[1])
    await process.fan_out()
    async with asyncio.timeout(5.0):
        assert offsets(await waiting) == {1: [1]}


async def test_a_member_that_fails_takes_nothing_from_the_recent_records() -> None:
    bus = await a_bus()
    process = await started(bus)
    await send(bus, 1)
    await process.drain()
    process.member.broken = True
    with pytest.raises(BusError):
        for _ in range(100):
            await process.project(timeout_s=0.02)
    await send(bus, 1)
    await process.fan_out()
    assert await process.project()  # and the member is asked again, beside these
    await asyncio.sleep(0.01)
    await send(bus, 2)
    await process.fan_out()
    with pytest.raises(BusError):
        await process.project()
    process.member.broken = False
    await process.drain()
    assert offsets(process.taken) == {p: [0, 1, 2, 3] for p in range(PARTITIONS)}


async def test_each_partition_gets_its_turn_when_more_comes_than_is_taken() -> None:
    bus = await a_bus()
    process = await started(bus)
    await send(bus, 1)
    await process.drain()
    await send(bus, 20)
    await process.fan_out()
    seen = {record.partition for _ in range(PARTITIONS) for record in await process.project(most=5)}
    assert seen == {0, 1, 2}


async def test_what_a_member_leaves_begins_at_its_commit_at_the_other() -> None:
    bus = await a_bus()
    one = await started(bus)
    await send(bus, 5)
    await one.drain()
    await one.commit()
    two = await started(bus)
    await send(bus, 5)
    await one.drain()  # not committed: whoever inherits reads it again
    await two.drain()
    await one.close()
    await send(bus, 5)
    await two.drain()
    both = offsets(one.taken + two.taken)
    assert {p: sorted(set(found)) for p, found in both.items()} == {p: list(range(15)) for p in range(PARTITIONS)}
    inherited = {p for p in range(PARTITIONS) if offsets(one.taken)[p][-1] == 9}
    assert inherited
    assert all(offsets(two.taken)[p] == list(range(5, 15)) for p in inherited)


@pytest.mark.parametrize("seed", range(60))
async def test_nothing_is_missed_whatever_happens_meanwhile(seed: int) -> None:
    rng = random.Random(seed)
    bus = await a_bus()
    processes = [await started(bus, 6_000)]
    everything: list[Record] = []
    for _ in range(120):
        process = rng.choice(processes)
        match rng.choice(
            ["send", "send", "fan", "fan", "fan", "project", "project", "project", "commit", "open", "member"]
        ):
            case "send":
                await send(
                    bus, rng.choice([1, 1, 2, 15]), partitions=rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS))
                )
            case "fan":
                await process.fan_out(rng.choice([1, 3, 500]))
            case "project":
                await process.project(rng.choice([1, 4, 500]), rng.choice([0.0, 0.001]))
            case "commit":
                await process.commit()
            case "open":
                await process.open()
            case _ if len(processes) < 3 and rng.random() < 0.5:
                processes.append(await started(bus, rng.choice([2_000, 50_000])))
            case _ if len(processes) > 1 and rng.random() < 0.5:
                processes.remove(process)
                await process.close()
                everything += process.taken
            case _:
                pass
    for _ in range(2):
        for process in processes:
            await process.drain()
    for process in processes:
        await process.close()
        everything += process.taken
    ends = {tp: log.end for tp, log in (await bus.ranges(ALL)).items()}
    seen = offsets(everything)
    for (_, p), end in ends.items():
        assert sorted(set(seen.get(p, ()))) == list(range(end))


# ---- the recent records by themselves


def record(offset: int, partition: int = 0) -> Record:
    return Record(TOPIC, partition, offset, b"k", b"v", (), 0)


async def test_recent_records_cover_only_what_is_here_or_will_come() -> None:
    recent, tp = Recent(), (TOPIC, 0)
    recent.begin({tp: 5})
    assert not recent.covers(tp, 5)  # nobody wants it
    recent.offer([record(5)])
    recent.want([tp])
    assert not recent.covers(tp, 5)
    assert recent.covers(tp, 6)
    recent.offer(map(record, (6, 7, 8)))
    assert [r.offset for r in recent.take(tp, 6, 2)] == [6, 7]
    assert not recent.covers(tp, 7)
    assert [r.offset for r in recent.take(tp, 8, 2)] == [8]
    assert recent.take(tp, 9, 2) == []
    assert recent.take(tp, 12, 2) == []  # whoever takes them is ahead of the reader
    assert not recent.covers(tp, 11)
    recent.offer(map(record, range(9, 14)))
    assert [r.offset for r in recent.take(tp, 12, 5)] == [12, 13]
    recent.end()
    assert not recent.covers(tp, 14)


async def test_recent_records_that_nobody_wants_any_more_are_not_covered_later() -> None:
    recent, tp = Recent(), (TOPIC, 0)
    recent.begin({tp: 0, (TOPIC, 1): 0})
    recent.want([tp, (TOPIC, 1)])
    recent.offer([record(0), record(1), record(0, 1)])
    recent.want([(TOPIC, 1)])
    recent.want([tp, (TOPIC, 1)])
    assert not recent.covers(tp, 1)
    assert recent.covers(tp, 2)
    assert [r.offset for r in recent.take((TOPIC, 1), 0, 5)] == [0]


async def test_what_was_taken_or_let_go_of_no_longer_counts() -> None:
    recent, tp, other = Recent(most_bytes=6_000), (TOPIC, 0), (TOPIC, 1)
    recent.begin({tp: 0, other: 0})
    for i in range(0, 50, 5):
        recent.want([tp, other])
        recent.offer([record(offset, p) for offset in range(i, i + 5) for p in (0, 1)])
        assert [r.offset for r in recent.take(tp, i, 5)] == list(range(i, i + 5))
        recent.want([tp])
    assert recent.covers(tp, 50)

"""What only the in-memory bus does: bounded retention, several loops' worth of readers, nothing while idle. What every
bus promises is in tests/conformance."""

from __future__ import annotations

import asyncio

import pytest

from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import BusError, LogRange, OffsetOutOfRange, Outgoing
from handrail_runtime.topic_plan import topic_plan


async def _sent(bus: MemoryBus, count: int, size: int = 10, partition: int = 0) -> None:
    producer = await bus.producer()
    assert set(await producer.send([Outgoing("t", b"k", bytes(size), partition=partition)] * count)) == {None}


async def _range(bus: MemoryBus, partition: int = 0) -> LogRange:
    return (await bus.ranges([("t", partition)]))[("t", partition)]


async def test_a_partition_keeps_so_many_records_and_readers_behind_are_told() -> None:
    bus = MemoryBus(retention_records=100)
    await bus.ensure_topics({"t": (1, {})})
    behind, at_the_start = await bus.reader(), await bus.reader()
    behind.assign({("t", 0): 0})
    await _sent(bus, 5000)
    assert await _range(bus) == LogRange(4900, 5000)
    with pytest.raises(OffsetOutOfRange):
        await behind.read(10, 0)
    at_the_start.assign({("t", 0): 4900})
    assert [r.offset for r in await at_the_start.read(1000, 0)] == list(range(4900, 5000))


async def test_a_partition_keeps_so_many_bytes_and_always_the_newest_record() -> None:
    bus = MemoryBus(retention_bytes=50_000)
    await bus.ensure_topics({"t": (1, {"max.message.bytes": "1000000"})})
    await _sent(bus, 100, size=9_000)
    assert await _range(bus) == LogRange(96, 100), "four of about 10,000 bytes with what they cost beside their value"
    await _sent(bus, 1, size=200_000)
    assert await _range(bus) == LogRange(100, 101)


async def test_the_whole_bus_keeps_so_many_bytes_and_the_fullest_partition_gives_way() -> None:
    bus = MemoryBus(total_bytes=1_000_000)
    await bus.ensure_topics({"t": (2, {})})
    await _sent(bus, 10, partition=1)
    await _sent(bus, 5000, size=1000)
    quiet, busy = await _range(bus, 1), await _range(bus, 0)
    assert quiet == LogRange(0, 10)
    assert 250 <= busy.end - busy.start <= 500


async def test_a_partition_whose_only_record_is_large_lets_the_others_give_way() -> None:
    bus = MemoryBus(total_bytes=100_000)
    await bus.ensure_topics({"t": (3, {})})
    await _sent(bus, 1, size=60_000)
    await _sent(bus, 40, size=1000, partition=1)
    assert await _range(bus) == LogRange(0, 1)
    assert (await _range(bus, 1)).start > 0
    await _sent(bus, 1, size=90_000, partition=2)
    assert [(log.end - log.start) for log in [await _range(bus, p) for p in range(3)]] == [1, 1, 1]


async def test_a_group_whose_position_retention_took_goes_on_where_a_new_group_would() -> None:
    bus = MemoryBus(retention_records=10)
    await bus.ensure_topics({"t": (1, {})})
    from_start = await bus.group_reader("a", ["t"])
    from_end = await bus.group_reader("b", ["t"], from_start=False)
    await _sent(bus, 50)
    assert [r.offset for r in await from_start.read(100, 0)] == list(range(40, 50))
    assert await from_end.read(100, 0) == []
    await _sent(bus, 1)
    assert [r.offset for r in await from_end.read(100, 0)] == [50]


async def test_topics_made_later_are_read_by_readers_and_members_that_asked_before() -> None:
    bus = MemoryBus()
    reader, member = await bus.reader(), await bus.group_reader("g", ["t"])
    reader.assign({("t", 0): 0})
    reading = asyncio.gather(reader.read(10, 60), member.read(10, 60))
    await asyncio.sleep(0)
    await bus.ensure_topics({"t": (1, {})})
    await _sent(bus, 1)
    assert [[r.offset for r in records] for records in await reading] == [[0], [0]]


async def test_members_that_come_and_go_keep_what_stays_with_them() -> None:
    bus = MemoryBus()
    await bus.ensure_topics({"t": (5, {})})
    one = await bus.group_reader("g", ["t"])
    for p in range(5):
        await _sent(bus, 1, partition=p)
    assert len(await one.read(100, 0)) == 5
    two = await bus.group_reader("g", ["t"])
    moved = {r.partition for r in await two.read(100, 0)}
    assert len(moved) == 2, "of five partitions the newcomer gets two, from their committed position"
    assert await one.read(100, 0) == [], "those that stay are not read again"
    three = await bus.group_reader("g", ["t"])
    moved_on = {r.partition for r in await three.read(100, 0)}
    assert len(moved_on) == 1
    await two.close()
    await three.close()
    assert {r.partition for r in await one.read(100, 0)} == moved | moved_on


async def test_each_start_is_another_log() -> None:
    assert await MemoryBus().bus_id() != await MemoryBus().bus_id()


async def test_a_closed_bus_ends_waiting_reads_and_takes_nothing_more() -> None:
    bus = MemoryBus()
    await bus.ensure_topics({"t": (1, {})})
    reader, producer = await bus.reader(), await bus.producer()
    reader.assign({("t", 0): 0})
    waiting = asyncio.create_task(reader.read(10, 3600))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(BusError):
        await waiting
    with pytest.raises(BusError):
        await producer.send([Outgoing("t", b"k", b"v")])


async def test_a_sender_in_a_loop_does_not_keep_the_loop_for_itself() -> None:
    bus = MemoryBus()
    await bus.ensure_topics({"t": (1, {})})
    producer, reader = await bus.producer(), await bus.reader()
    reader.assign({("t", 0): 0})
    stop = asyncio.Event()

    async def send() -> int:
        sent = 0
        while not stop.is_set():
            await producer.send([Outgoing("t", b"k", b"v")])
            sent += 1
        return sent

    sending = asyncio.create_task(send())
    seen = 0
    while seen < 100:
        seen += len(await reader.read(1, 60))
    stop.set()
    assert await sending >= 100


def test_our_topics_are_made_with_their_partitions_and_retention() -> None:
    plan = topic_plan(24)
    assert plan["handrail.events"] == (
        24,
        {
            "cleanup.policy": "delete",
            "retention.ms": str(14 * 24 * 3600 * 1000),
            "max.message.bytes": str(5 * 1024 * 1024),
        },
    )
    assert plan["handrail.quarantine"][0] == 1

"""What `handrail_runtime.ports` promises of a bus, asked of every bus: groups, topics, the log as a whole."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from handrail_runtime.ports import BusError, GroupReader, LogRange, Outgoing
from handrail_runtime.testing import wait_until
from tests.conformance.bus_rigs import Rig
from tests.conformance.bus_steps import collect, member_of, numbered, send, values_of

# ---- groups


async def test_a_group_goes_on_after_its_last_commit(rig: Rig) -> None:
    topic, group = await rig.topic(2), uuid4().hex
    await send(rig, *numbered(topic, 10, 0), *numbered(topic, 10, 1))
    first = await member_of(rig, topic, group)
    records = await collect(first, 20)
    assert Counter(record.partition for record in records) == {0: 10, 1: 10}
    await first.commit({(topic, 0): 10, (topic, 1): 4})
    await first.close()
    second = await member_of(rig, topic, group)
    again = await collect(second, 6)
    assert [(record.partition, record.offset) for record in again] == [(1, i) for i in range(4, 10)]
    assert await second.read(10, 0.3) == []


async def test_a_group_without_a_position_starts_where_it_was_told_to(full_rig: Rig) -> None:
    topic = await full_rig.topic(1)
    await send(full_rig, *numbered(topic, 5))
    from_end = await member_of(full_rig, topic, uuid4().hex, from_start=False)
    assert await from_end.read(10, 1.0) == []
    from_start = await member_of(full_rig, topic, uuid4().hex)
    assert len(await collect(from_start, 5)) == 5
    await send(full_rig, Outgoing(topic, b"k", b"new"))
    assert values_of(await collect(from_end, 1)) == [b"new"]


async def test_two_groups_each_read_everything(full_rig: Rig) -> None:
    topic = await full_rig.topic(1)
    await send(full_rig, *numbered(topic, 5))
    one, two = await member_of(full_rig, topic, uuid4().hex), await member_of(full_rig, topic, uuid4().hex)
    assert values_of(await collect(one, 5)) == values_of(await collect(two, 5))


async def test_commits_of_partitions_that_a_member_does_not_hold_are_skipped(full_rig: Rig) -> None:
    topic, group = await full_rig.topic(1), uuid4().hex
    await send(full_rig, *numbered(topic, 5))
    member = await member_of(full_rig, topic, group)
    await collect(member, 5)
    await member.commit({(topic, 0): 2, (topic, 17): 3, ("elsewhere", 0): 4})
    await member.close()
    assert [record.offset for record in await collect(await member_of(full_rig, topic, group), 3)] == [2, 3, 4]


async def test_two_members_share_the_partitions_evenly(full_rig: Rig) -> None:
    topic, group = await full_rig.topic(6), uuid4().hex
    one = await member_of(full_rig, topic, group)
    joining = asyncio.create_task(member_of(full_rig, topic, group))
    held: dict[int, set[int]] = {1: set(), 2: set()}

    async def read(number: int, member: GroupReader) -> None:
        held[number].update(record.partition for record in await member.read(500, 0.2))

    while not joining.done():
        await read(1, one)
    two = await joining

    async def dealt() -> bool:
        held[1], held[2] = set(), set()
        await send(full_rig, *(Outgoing(topic, b"k", b"v", partition=p) for p in range(6)))
        for _ in range(5):
            await asyncio.gather(read(1, one), read(2, two))
        return sorted(map(len, held.values())) == [3, 3] and not held[1] & held[2]

    await wait_until(dealt, description="three partitions each", timeout_s=60)


async def test_what_a_dead_member_had_not_committed_goes_to_the_survivor(full_rig: Rig) -> None:
    topic, group = await full_rig.topic(4), uuid4().hex
    await send(full_rig, *(Outgoing(topic, b"k", b"%d" % p, partition=p) for p in range(4)))
    kill = await full_rig.doomed_member(group, topic)
    joining = asyncio.create_task(member_of(full_rig, topic, group))
    await kill()
    survivor = await joining
    seen: set[int] = set()

    async def all_seen() -> bool:
        for record in await survivor.read(100, 1.0):
            seen.add(record.partition)
            await survivor.commit({(record.topic, record.partition): record.offset + 1})
        return seen == {0, 1, 2, 3}

    await wait_until(all_seen, description="every record at the survivor", timeout_s=60)


async def test_a_member_that_leaves_hands_its_uncommitted_records_on(full_rig: Rig) -> None:
    topic, group = await full_rig.topic(2), uuid4().hex
    await send(full_rig, *numbered(topic, 6, 0), *numbered(topic, 6, 1))
    leaver = await member_of(full_rig, topic, group)
    await collect(leaver, 12)
    await leaver.commit({(topic, 0): 3})
    joining = asyncio.create_task(member_of(full_rig, topic, group))
    await leaver.close()
    heir = await joining
    seen: set[tuple[int, int]] = set()

    async def all_seen() -> bool:
        seen.update((record.partition, record.offset) for record in await heir.read(100, 1.0))
        return len(seen) >= 9

    await wait_until(all_seen, description="what was not committed", timeout_s=60)
    assert seen == {(0, 3), (0, 4), (0, 5), *((1, i) for i in range(6))}


async def test_a_paused_partition_is_left_out_until_it_is_resumed_where_one_likes(rig: Rig) -> None:
    topic, group = await rig.topic(2), uuid4().hex
    await send(rig, *numbered(topic, 3, 0), *numbered(topic, 3, 1))
    member = await member_of(rig, topic, group)
    await collect(member, 6)
    assert set(member.assignment()) == {(topic, 0), (topic, 1)}
    member.pause([(topic, 0)])
    await send(rig, *numbered(topic, 4, 0, 3), *numbered(topic, 4, 1, 3))
    assert [(r.partition, r.offset) for r in await collect(member, 4)] == [(1, i) for i in range(3, 7)]
    assert await member.read(10, 0.3) == []
    await member.commit({(topic, 0): 5})
    member.resume({(topic, 0): 5})
    assert [(r.partition, r.offset) for r in await collect(member, 2)] == [(0, 5), (0, 6)]
    member.resume({(topic, 0): 1, (topic, 1): 6})  # also where nothing was paused
    again = await collect(member, 7)
    assert sorted((r.partition, r.offset) for r in again) == [*((0, i) for i in range(1, 7)), (1, 6)]


async def test_partitions_of_others_are_neither_paused_nor_resumed(rig: Rig) -> None:
    topic = await rig.topic(1)
    member = await member_of(rig, topic, uuid4().hex)
    member.pause([(topic, 7), ("elsewhere", 0)])
    member.resume({(topic, 7): 3, ("elsewhere", 0): 0})
    member.pause([])
    member.resume({})
    await send(rig, *numbered(topic, 2))
    assert len(await collect(member, 2)) == 2


async def test_a_paused_partition_that_is_dealt_out_anew_is_read_again(full_rig: Rig) -> None:
    topic, group = await full_rig.topic(4), uuid4().hex
    everything = [(topic, p) for p in range(4)]
    one = await member_of(full_rig, topic, group)
    await send(full_rig, *(m for p in range(4) for m in numbered(topic, 2, p)))
    await collect(one, 8)
    await one.commit(dict.fromkeys(everything, 1))
    one.pause(everything)
    joining = asyncio.create_task(member_of(full_rig, topic, group))
    while not joining.done():
        await one.read(10, 0.2)
    two = await joining
    seen: set[tuple[int, int]] = set()
    await send(full_rig, *(m for p in range(4) for m in numbered(topic, 1, p, 2)))

    async def all_seen() -> bool:
        for member in (one, two):
            seen.update((record.partition, record.offset) for record in await member.read(100, 0.2))
        return {(p, 2) for p in range(4)} <= seen

    await wait_until(all_seen, description="the newest record of each partition", timeout_s=60)
    assert len(one.assignment()) == len(two.assignment()) == 2


# ---- topics and the log itself


async def test_ranges_tell_start_and_end_of_each_log(rig: Rig) -> None:
    topic = await rig.topic(2)
    await send(rig, *numbered(topic, 8, 1))
    both = [(topic, 0), (topic, 1)]
    assert await rig.bus.ranges(both) == {(topic, 0): LogRange(0, 0), (topic, 1): LogRange(0, 8)}
    await rig.delete_records(topic, 1, 5)
    assert (await rig.bus.ranges(both))[(topic, 1)] == LogRange(5, 8)
    assert await rig.bus.ranges([]) == {}
    with pytest.raises(BusError):
        await rig.bus.ranges([(topic, 2)])


async def test_partitions_counts_those_of_a_topic_and_never_makes_one(rig: Rig) -> None:
    topic = await rig.topic(3)
    assert await rig.bus.partitions(topic) == 3
    for _ in range(2):
        assert await rig.bus.partitions(f"{topic}-never-made") == 0


async def test_topics_are_made_once(full_rig: Rig) -> None:
    names = [f"conformance-{uuid4().hex[:12]}" for _ in range(3)]
    wanted = {name: (2, {"retention.ms": "60000"}) for name in names}
    assert sorted(await full_rig.bus.ensure_topics(wanted)) == sorted(names)
    assert await full_rig.bus.ensure_topics(wanted) == []
    both = await asyncio.gather(*(full_rig.bus.ensure_topics({f"{names[0]}-x": (2, {})}) for _ in range(5)))
    assert sum(map(len, both)) == 1
    assert await full_rig.bus.ensure_topics({}) == []


async def test_a_topic_with_another_partition_count_is_refused(full_rig: Rig) -> None:
    topic = await full_rig.topic(2)
    with pytest.raises(BusError, match=r"Expected 3 partitions in .*, but it has 2"):
        await full_rig.bus.ensure_topics({topic: (3, {})})
    assert await full_rig.bus.partitions(topic) == 2


async def test_a_topic_made_while_a_producer_is_open_is_found(rig: Rig) -> None:
    producer = await rig.bus.producer()
    assert await producer.send([Outgoing(await rig.topic(1), b"k", b"v")]) == [None]
    assert await producer.send([Outgoing(await rig.topic(1), b"k", b"v")]) == [None]


async def test_the_bus_id_is_the_same_for_everybody_on_the_same_log(rig: Rig) -> None:
    mine = await rig.bus.bus_id()
    assert mine
    assert await rig.bus.bus_id() == mine
    assert await (await rig.again()).bus_id() == mine


async def test_closing_twice_is_as_closing_once_and_nothing_works_after(rig: Rig) -> None:
    topic = await rig.topic(1)
    producer, reader = await rig.bus.producer(), await rig.bus.reader()
    member = await member_of(rig, topic, uuid4().hex)
    for part in (producer, reader, member):
        await part.close()
        await part.close()
    with pytest.raises(BusError):
        await producer.send([Outgoing(topic, b"k", b"v")])
    for closed in (reader, member):
        with pytest.raises(BusError):
            await closed.read(1, 0.1)
    await rig.bus.close()
    await rig.bus.close()

"""What `handrail_runtime.ports` promises of a bus, asked of every bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from handrail_runtime.ports import (
    BusError,
    GroupReader,
    LogRange,
    OffsetOutOfRange,
    Outgoing,
    Reader,
    Record,
    RecordRefused,
)
from handrail_runtime.testing import wait_until
from tests.conformance.bus_rigs import Rig


async def _send(rig: Rig, *messages: Outgoing) -> None:
    producer = await rig.bus.producer()
    assert await producer.send(messages) == [None] * len(messages)
    await producer.close()


def _numbered(topic: str, count: int, partition: int = 0, first: int = 0) -> list[Outgoing]:
    return [Outgoing(topic, b"k", b"%d" % i, partition=partition) for i in range(first, first + count)]


async def _collect(reader: Reader | GroupReader, count: int, *, at_once: int = 500) -> list[Record]:
    """The next `count` records, not one more."""
    found: list[Record] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found.extend(await reader.read(min(at_once, count - len(found)), 1.0))
    assert len(found) == count
    return found


async def _reader(rig: Rig, positions: dict[tuple[str, int], int | None]) -> Reader:
    reader = await rig.bus.reader()
    reader.assign(positions)
    return reader


def _values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


# ---- order, partitions, content


async def test_records_of_a_partition_are_read_in_the_order_sent_with_dense_offsets(rig: Rig) -> None:
    topic = await rig.topic(2)
    producer = await rig.bus.producer()
    for first in range(0, 1000, 250):
        assert await producer.send(_numbered(topic, 250, 1, first)) == [None] * 250
    records = await _collect(await _reader(rig, {(topic, 1): 0}), 1000, at_once=170)
    assert _values(records) == [b"%d" % i for i in range(1000)]
    assert [record.offset for record in records] == list(range(1000))
    assert {(record.topic, record.partition) for record in records} == {(topic, 1)}


async def test_an_explicit_partition_wins_over_the_key(rig: Rig) -> None:
    topic = await rig.topic(4)
    await _send(rig, *(Outgoing(topic, b"same key", b"%d" % p, partition=p) for p in range(4)))
    records = await _collect(await _reader(rig, {(topic, p): 0 for p in range(4)}), 4)
    assert {record.partition: record.value for record in records} == {p: b"%d" % p for p in range(4)}


# What Utils.murmur2 of kafka-clients 4.3.1 (Java) answers; adapters that disagree would split a key over partitions.
_BY_KEY_OF_8 = {
    b"": 1,
    b"a": 4,
    b"ab": 2,
    b"abc": 3,
    b"default/t-1/a": 5,
    b"default/t-1/b": 0,
    "ключ".encode(): 0,
}


async def test_a_key_falls_into_the_partition_that_kafkas_default_partitioner_chooses(rig: Rig) -> None:
    topic = await rig.topic(8)
    await _send(rig, *(Outgoing(topic, key, b"v") for key in _BY_KEY_OF_8))
    records = await _collect(await _reader(rig, {(topic, p): 0 for p in range(8)}), len(_BY_KEY_OF_8))
    assert {record.key: record.partition for record in records} == _BY_KEY_OF_8


async def test_records_without_a_key_spread_over_all_partitions(rig: Rig) -> None:
    topic = await rig.topic(4)
    await _send(rig, *(Outgoing(topic, None, b"%d" % i) for i in range(400)))
    records = await _collect(await _reader(rig, {(topic, p): 0 for p in range(4)}), 400)
    assert sorted(Counter(record.partition for record in records)) == [0, 1, 2, 3]


async def test_headers_come_back_in_order_with_repeats_and_empty_values(rig: Rig) -> None:
    topic = await rig.topic(1)
    headers = [("ce_id", b"1"), ("ce_type", "schlüssel".encode()), ("twice", b"a"), ("twice", b"b"), ("empty", b"")]
    await _send(rig, Outgoing(topic, b"k", b"v", headers), Outgoing(topic, b"k", b"v", tuple(headers)))
    for record in await _collect(await _reader(rig, {(topic, 0): 0}), 2):
        assert list(record.headers) == headers


async def test_a_tombstone_has_a_key_and_no_value_and_an_empty_value_is_not_one(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, Outgoing(topic, b"gone", None), Outgoing(topic, b"empty", b""), Outgoing(topic, None, b"v"))
    records = await _collect(await _reader(rig, {(topic, 0): 0}), 3)
    assert [(record.key, record.value) for record in records] == [(b"gone", None), (b"empty", b""), (None, b"v")]


async def test_a_record_of_four_mebibytes_passes_where_the_topic_allows_it(rig: Rig) -> None:
    topic = await rig.topic(1, {"max.message.bytes": str(5 * 1024 * 1024)})
    large = bytes(range(256)) * (4 * 4096)
    await _send(rig, Outgoing(topic, b"small", b"1"), Outgoing(topic, b"large", large), Outgoing(topic, b"small", b"2"))
    records = await _collect(await _reader(rig, {(topic, 0): 0}), 3)
    assert _values(records) == [b"1", large, b"2"]


# ---- positions


async def test_a_reader_starts_at_the_offset_it_was_given(rig: Rig) -> None:
    topic = await rig.topic(2)
    await _send(rig, *_numbered(topic, 20, 0), *_numbered(topic, 20, 1))
    records = await _collect(await _reader(rig, {(topic, 0): 15, (topic, 1): 18}), 7)
    assert [r.offset for r in records if r.partition == 0] == [15, 16, 17, 18, 19]
    assert [r.offset for r in records if r.partition == 1] == [18, 19]


async def test_a_reader_from_the_end_sees_only_what_comes_after_its_first_fetch(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, *_numbered(topic, 10))
    reader = await _reader(rig, {(topic, 0): None})
    assert await reader.read(100, 1.0) == []
    await _send(rig, Outgoing(topic, b"k", b"new"))
    assert _values(await _collect(reader, 1)) == [b"new"]


async def test_an_offset_that_retention_took_is_told_and_never_rewound(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, *_numbered(topic, 20))
    await rig.delete_records(topic, 0, 10)
    reader = await _reader(rig, {(topic, 0): 5})
    for _ in range(2):  # and it stays that way until somebody decides
        with pytest.raises(OffsetOutOfRange) as caught:
            await _collect(reader, 1)
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == (topic, 0, 5)
    reader.assign({(topic, 0): 10})
    assert [record.offset for record in await _collect(reader, 10)] == list(range(10, 20))


async def test_an_offset_beyond_the_end_is_told(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, *_numbered(topic, 3))
    with pytest.raises(OffsetOutOfRange) as caught:
        await _collect(await _reader(rig, {(topic, 0): 4}), 1)
    assert caught.value.offset == 4
    at_the_end = await _reader(rig, {(topic, 0): 3})
    assert await at_the_end.read(10, 0.5) == []


async def test_records_of_other_partitions_are_not_lost_beside_an_offset_out_of_range(rig: Rig) -> None:
    topic = await rig.topic(2)
    await _send(rig, *_numbered(topic, 10, 0), *_numbered(topic, 10, 1))
    reader = await _reader(rig, {(topic, 0): 0, (topic, 1): 99})
    seen: list[bytes | None] = []
    told = 0

    async def both() -> bool:
        nonlocal told
        try:
            seen.extend(_values(await reader.read(100, 0.5)))
        except OffsetOutOfRange:
            told += 1
            reader.assign({(topic, 0): len(seen)})
        return told > 0 and len(seen) >= 10

    await wait_until(both, description="the fault and the records", timeout_s=30)
    assert seen == [b"%d" % i for i in range(10)]


async def test_a_new_assignment_replaces_the_old_one_at_once(rig: Rig) -> None:
    topic = await rig.topic(2)
    await _send(rig, *_numbered(topic, 50, 0), *_numbered(topic, 50, 1))
    reader = await _reader(rig, {(topic, 0): 0})
    await _collect(reader, 10, at_once=10)
    reader.assign({(topic, 1): 40})
    records = await _collect(reader, 10)
    assert [(record.partition, record.offset) for record in records] == [(1, i) for i in range(40, 50)]
    reader.assign({(topic, 1): 0})
    assert [record.offset for record in await _collect(reader, 50)] == list(range(50))
    reader.assign({})
    assert await reader.read(10, 0.2) == []


async def test_a_cancelled_read_loses_nothing(rig: Rig) -> None:
    topic = await rig.topic(1)
    reader = await _reader(rig, {(topic, 0): 0})
    producer = await rig.bus.producer()
    seen: list[bytes | None] = []
    for i in range(40):
        reading = asyncio.create_task(reader.read(10, 5.0))
        sending = asyncio.create_task(producer.send(_numbered(topic, 1, first=i)))
        await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            seen.extend(_values(reading.result()))
        assert await sending == [None]
    seen.extend(_values(await _collect(reader, 40 - len(seen))) if len(seen) < 40 else [])
    assert seen == [b"%d" % i for i in range(40)]


async def test_a_waiting_read_wakes_when_something_comes(rig: Rig) -> None:
    topic = await rig.topic(2)
    reader = await _reader(rig, {(topic, 0): 0, (topic, 1): 0})
    assert await reader.read(10, 0.3) == []
    waiting = asyncio.create_task(reader.read(10, 240.0))  # longer than a test may take: only a record ends it
    await asyncio.sleep(0)
    assert not waiting.done()
    await _send(rig, Outgoing(topic, b"k", b"hello", partition=1))
    assert _values(await waiting) == [b"hello"]


async def test_a_read_answers_no_more_than_asked(rig: Rig) -> None:
    topic = await rig.topic(4)
    await _send(rig, *(m for p in range(4) for m in _numbered(topic, 50, p)))
    reader = await _reader(rig, {(topic, p): 0 for p in range(4)})
    seen: dict[int, list[int]] = {p: [] for p in range(4)}
    async with asyncio.timeout(60):
        while sum(map(len, seen.values())) < 200:
            records = await reader.read(7, 1.0)
            assert len(records) <= 7
            for record in records:
                seen[record.partition].append(record.offset)
    assert seen == {p: list(range(50)) for p in range(4)}


# ---- sending


async def test_refused_records_are_named_and_the_others_pass(rig: Rig) -> None:
    topic = await rig.topic(2)
    producer = await rig.bus.producer()
    results = await producer.send(
        [
            Outgoing(topic, b"k", b"1", partition=0),
            Outgoing(topic, b"k", bytes(6 * 1024 * 1024), partition=0),
            Outgoing(f"{topic}-never-made", b"k", b"v"),
            Outgoing(topic, b"k", b"v", partition=2),
            Outgoing(topic, None, None, partition=0),
            Outgoing(topic, b"k", b"2", partition=0),
        ]
    )
    assert [type(result) for result in results] == [type(None), *[RecordRefused] * 4, type(None)]
    assert [result.transient for result in results if result is not None] == [False] * 4
    assert await producer.send(_numbered(topic, 1)) == [None], "a producer goes on after refusals"
    assert _values(await _collect(await _reader(rig, {(topic, 0): 0}), 3)) == [b"1", b"2", b"0"]


async def test_a_record_above_its_topics_own_limit_is_refused_alone(rig: Rig) -> None:
    if not rig.topics:
        pytest.skip("librdkafka's mock has no limits per topic")
    topic = await rig.topic(1, {"max.message.bytes": "20000"})
    producer = await rig.bus.producer()
    results = await producer.send(
        [Outgoing(topic, b"k", b"1"), Outgoing(topic, b"k", bytes(30_000)), Outgoing(topic, b"k", b"2")]
    )
    assert [type(result) for result in results] == [type(None), RecordRefused, type(None)]
    assert await producer.send([Outgoing(topic, b"k", b"3")]) == [None]
    values = _values(await _collect(await _reader(rig, {(topic, 0): 0}), 3))
    assert values == [b"1", b"2", b"3"]


async def test_concurrent_sends_all_arrive_once_and_each_sender_stays_in_order(rig: Rig) -> None:
    topic = await rig.topic(3)
    producer = await rig.bus.producer()

    async def sender(name: int) -> None:
        for i in range(0, 40, 4):
            batch = [Outgoing(topic, b"%d" % name, b"%d" % n, partition=name % 3) for n in range(i, i + 4)]
            assert await producer.send(batch) == [None] * 4

    async with asyncio.TaskGroup() as senders:
        for name in range(12):
            senders.create_task(sender(name))
    records = await _collect(await _reader(rig, {(topic, p): 0 for p in range(3)}), 480)
    for name in range(12):
        mine = [record.value for record in records if record.key == b"%d" % name]
        assert mine == [b"%d" % n for n in range(40)]


async def test_sending_nothing_is_allowed(rig: Rig) -> None:
    producer = await rig.bus.producer()
    assert await producer.send([]) == []


# ---- groups


async def _group(rig: Rig, topic: str, name: str, **options: bool) -> GroupReader:
    return await rig.bus.group_reader(name, [topic], **options)


async def test_a_group_goes_on_after_its_last_commit(rig: Rig) -> None:
    topic, group = await rig.topic(2), uuid4().hex
    await _send(rig, *_numbered(topic, 10, 0), *_numbered(topic, 10, 1))
    first = await _group(rig, topic, group)
    records = await _collect(first, 20)
    assert Counter(record.partition for record in records) == {0: 10, 1: 10}
    await first.commit({(topic, 0): 10, (topic, 1): 4})
    await first.close()
    second = await _group(rig, topic, group)
    again = await _collect(second, 6)
    assert [(record.partition, record.offset) for record in again] == [(1, i) for i in range(4, 10)]
    assert await second.read(10, 0.3) == []


async def test_a_group_without_a_position_starts_where_it_was_told_to(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, *_numbered(topic, 5))
    from_end = await _group(rig, topic, uuid4().hex, from_start=False)
    assert await from_end.read(10, 1.0) == []
    from_start = await _group(rig, topic, uuid4().hex)
    assert len(await _collect(from_start, 5)) == 5
    await _send(rig, Outgoing(topic, b"k", b"new"))
    assert _values(await _collect(from_end, 1)) == [b"new"]


async def test_two_groups_each_read_everything(rig: Rig) -> None:
    topic = await rig.topic(1)
    await _send(rig, *_numbered(topic, 5))
    one, two = await _group(rig, topic, uuid4().hex), await _group(rig, topic, uuid4().hex)
    assert _values(await _collect(one, 5)) == _values(await _collect(two, 5))


async def test_commits_of_partitions_that_a_member_does_not_hold_are_skipped(rig: Rig) -> None:
    topic, group = await rig.topic(1), uuid4().hex
    await _send(rig, *_numbered(topic, 5))
    member = await _group(rig, topic, group)
    await _collect(member, 5)
    await member.commit({(topic, 0): 2, (topic, 17): 3, ("elsewhere", 0): 4})
    await member.close()
    assert [record.offset for record in await _collect(await _group(rig, topic, group), 3)] == [2, 3, 4]


def _needs_groups(rig: Rig) -> None:
    if not rig.groups:
        pytest.skip("librdkafka's mock serves one member per group")


async def test_two_members_share_the_partitions_evenly(rig: Rig) -> None:
    _needs_groups(rig)
    topic, group = await rig.topic(6), uuid4().hex
    one = await _group(rig, topic, group)
    joining = asyncio.create_task(_group(rig, topic, group))
    held: dict[int, set[int]] = {1: set(), 2: set()}

    async def read(number: int, member: GroupReader) -> None:
        held[number].update(record.partition for record in await member.read(500, 0.2))

    while not joining.done():
        await read(1, one)
    two = await joining

    async def dealt() -> bool:
        held[1], held[2] = set(), set()
        await _send(rig, *(Outgoing(topic, b"k", b"v", partition=p) for p in range(6)))
        for _ in range(5):
            await asyncio.gather(read(1, one), read(2, two))
        return sorted(map(len, held.values())) == [3, 3] and not held[1] & held[2]

    await wait_until(dealt, description="three partitions each", timeout_s=60)


async def test_what_a_dead_member_had_not_committed_goes_to_the_survivor(rig: Rig) -> None:
    _needs_groups(rig)
    topic, group = await rig.topic(4), uuid4().hex
    await _send(rig, *(Outgoing(topic, b"k", b"%d" % p, partition=p) for p in range(4)))
    kill = await rig.doomed_member(group, topic)
    joining = asyncio.create_task(_group(rig, topic, group))
    await kill()
    survivor = await joining
    seen: set[int] = set()

    async def all_seen() -> bool:
        for record in await survivor.read(100, 1.0):
            seen.add(record.partition)
            await survivor.commit({(record.topic, record.partition): record.offset + 1})
        return seen == {0, 1, 2, 3}

    await wait_until(all_seen, description="every record at the survivor", timeout_s=60)


async def test_a_member_that_leaves_hands_its_uncommitted_records_on(rig: Rig) -> None:
    _needs_groups(rig)
    topic, group = await rig.topic(2), uuid4().hex
    await _send(rig, *_numbered(topic, 6, 0), *_numbered(topic, 6, 1))
    leaver = await _group(rig, topic, group)
    await _collect(leaver, 12)
    await leaver.commit({(topic, 0): 3})
    joining = asyncio.create_task(_group(rig, topic, group))
    await leaver.close()
    heir = await joining
    seen: set[tuple[int, int]] = set()

    async def all_seen() -> bool:
        seen.update((record.partition, record.offset) for record in await heir.read(100, 1.0))
        return len(seen) >= 9

    await wait_until(all_seen, description="what was not committed", timeout_s=60)
    assert seen == {(0, 3), (0, 4), (0, 5), *((1, i) for i in range(6))}


# ---- topics and the log itself


async def test_ranges_tell_start_and_end_of_each_log(rig: Rig) -> None:
    topic = await rig.topic(2)
    await _send(rig, *_numbered(topic, 8, 1))
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


async def test_topics_are_made_once(rig: Rig) -> None:
    if not rig.topics:
        pytest.skip("librdkafka's mock takes no orders about topics")
    names = [f"conformance-{uuid4().hex[:12]}" for _ in range(3)]
    wanted = {name: (2, {"retention.ms": "60000"}) for name in names}
    assert sorted(await rig.bus.ensure_topics(wanted)) == sorted(names)
    assert await rig.bus.ensure_topics(wanted) == []
    both = await asyncio.gather(*(rig.bus.ensure_topics({f"{names[0]}-x": (2, {})}) for _ in range(5)))
    assert sum(map(len, both)) == 1
    assert await rig.bus.ensure_topics({}) == []


async def test_a_topic_with_another_partition_count_is_refused(rig: Rig) -> None:
    if not rig.topics:
        pytest.skip("librdkafka's mock takes no orders about topics")
    topic = await rig.topic(2)
    with pytest.raises(BusError, match=r"Expected 3 partitions in .*, but it has 2"):
        await rig.bus.ensure_topics({topic: (3, {})})
    assert await rig.bus.partitions(topic) == 2


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
    member = await _group(rig, topic, uuid4().hex)
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

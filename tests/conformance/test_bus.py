"""What `handrail_runtime.ports` promises of a bus, asked of every bus: records, positions, sending."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from handrail_runtime.ports import OffsetOutOfRange, Outgoing, RecordRefused, TopicUnknown
from handrail_runtime.testing import wait_until
from tests.conformance.bus_rigs import Rig
from tests.conformance.bus_steps import collect, numbered, reader_at, send, values_of

# ---- order, partitions, content


async def test_records_of_a_partition_are_read_in_the_order_sent_with_dense_offsets(rig: Rig) -> None:
    topic = await rig.topic(2)
    producer = await rig.bus.producer()
    for first in range(0, 1000, 250):
        assert await producer.send(numbered(topic, 250, 1, first)) == [None] * 250
    records = await collect(await reader_at(rig, {(topic, 1): 0}), 1000, at_once=170)
    assert values_of(records) == [b"%d" % i for i in range(1000)]
    assert [record.offset for record in records] == list(range(1000))
    assert {(record.topic, record.partition) for record in records} == {(topic, 1)}


async def test_an_explicit_partition_wins_over_the_key(rig: Rig) -> None:
    topic = await rig.topic(4)
    await send(rig, *(Outgoing(topic, b"same key", b"%d" % p, partition=p) for p in range(4)))
    records = await collect(await reader_at(rig, {(topic, p): 0 for p in range(4)}), 4)
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
    await send(rig, *(Outgoing(topic, key, b"v") for key in _BY_KEY_OF_8))
    records = await collect(await reader_at(rig, {(topic, p): 0 for p in range(8)}), len(_BY_KEY_OF_8))
    assert {record.key: record.partition for record in records} == _BY_KEY_OF_8


async def test_records_without_a_key_spread_over_all_partitions(rig: Rig) -> None:
    topic = await rig.topic(4)
    await send(rig, *(Outgoing(topic, None, b"%d" % i) for i in range(400)))
    records = await collect(await reader_at(rig, {(topic, p): 0 for p in range(4)}), 400)
    assert sorted(Counter(record.partition for record in records)) == [0, 1, 2, 3]


async def test_headers_come_back_in_order_with_repeats_and_empty_values(rig: Rig) -> None:
    topic = await rig.topic(1)
    headers = [("ce_id", b"1"), ("ce_type", "schlüssel".encode()), ("twice", b"a"), ("twice", b"b"), ("empty", b"")]
    await send(rig, Outgoing(topic, b"k", b"v", headers), Outgoing(topic, b"k", b"v", tuple(headers)))
    for record in await collect(await reader_at(rig, {(topic, 0): 0}), 2):
        assert list(record.headers) == headers


async def test_a_tombstone_has_a_key_and_no_value_and_an_empty_value_is_not_one(rig: Rig) -> None:
    topic = await rig.topic(1)
    await send(rig, Outgoing(topic, b"gone", None), Outgoing(topic, b"empty", b""), Outgoing(topic, None, b"v"))
    records = await collect(await reader_at(rig, {(topic, 0): 0}), 3)
    assert [(record.key, record.value) for record in records] == [(b"gone", None), (b"empty", b""), (None, b"v")]


async def test_a_record_of_four_mebibytes_passes_where_the_topic_allows_it(rig: Rig) -> None:
    topic = await rig.topic(1, {"max.message.bytes": str(5 * 1024 * 1024)})
    large = bytes(range(256)) * (4 * 4096)
    await send(rig, Outgoing(topic, b"small", b"1"), Outgoing(topic, b"large", large), Outgoing(topic, b"small", b"2"))
    records = await collect(await reader_at(rig, {(topic, 0): 0}), 3)
    assert values_of(records) == [b"1", large, b"2"]


# ---- positions


async def test_a_reader_starts_at_the_offset_it_was_given(rig: Rig) -> None:
    topic = await rig.topic(2)
    await send(rig, *numbered(topic, 20, 0), *numbered(topic, 20, 1))
    records = await collect(await reader_at(rig, {(topic, 0): 15, (topic, 1): 18}), 7)
    assert [r.offset for r in records if r.partition == 0] == [15, 16, 17, 18, 19]
    assert [r.offset for r in records if r.partition == 1] == [18, 19]


async def test_a_reader_from_the_end_sees_only_what_comes_after_its_first_fetch(rig: Rig) -> None:
    topic = await rig.topic(1)
    await send(rig, *numbered(topic, 10))
    reader = await reader_at(rig, {(topic, 0): None})
    assert await reader.read(100, 1.0) == []
    await send(rig, Outgoing(topic, b"k", b"new"))
    assert values_of(await collect(reader, 1)) == [b"new"]


async def test_an_offset_that_retention_took_is_told_and_never_rewound(rig: Rig) -> None:
    topic = await rig.topic(1)
    await send(rig, *numbered(topic, 20))
    await rig.delete_records(topic, 0, 10)
    reader = await reader_at(rig, {(topic, 0): 5})
    for _ in range(2):  # and it stays that way until somebody decides
        with pytest.raises(OffsetOutOfRange) as caught:
            await collect(reader, 1)
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == (topic, 0, 5)
    reader.assign({(topic, 0): 10})
    assert [record.offset for record in await collect(reader, 10)] == list(range(10, 20))


async def test_an_offset_beyond_the_end_is_told(rig: Rig) -> None:
    topic = await rig.topic(1)
    await send(rig, *numbered(topic, 3))
    with pytest.raises(OffsetOutOfRange) as caught:
        await collect(await reader_at(rig, {(topic, 0): 4}), 1)
    assert caught.value.offset == 4
    at_the_end = await reader_at(rig, {(topic, 0): 3})
    assert await at_the_end.read(10, 0.5) == []


async def test_records_of_other_partitions_are_not_lost_beside_an_offset_out_of_range(rig: Rig) -> None:
    topic = await rig.topic(2)
    await send(rig, *numbered(topic, 10, 0), *numbered(topic, 10, 1))
    reader = await reader_at(rig, {(topic, 0): 0, (topic, 1): 99})
    seen: list[bytes | None] = []
    told = 0

    async def both() -> bool:
        nonlocal told
        try:
            seen.extend(values_of(await reader.read(100, 0.5)))
        except OffsetOutOfRange:
            told += 1
            reader.assign({(topic, 0): len(seen)})
        return told > 0 and len(seen) >= 10

    await wait_until(both, description="the fault and the records", timeout_s=30)
    assert seen == [b"%d" % i for i in range(10)]


async def test_a_new_assignment_replaces_the_old_one_at_once(rig: Rig) -> None:
    topic = await rig.topic(2)
    await send(rig, *numbered(topic, 50, 0), *numbered(topic, 50, 1))
    reader = await reader_at(rig, {(topic, 0): 0})
    await collect(reader, 10, at_once=10)
    reader.assign({(topic, 1): 40})
    records = await collect(reader, 10)
    assert [(record.partition, record.offset) for record in records] == [(1, i) for i in range(40, 50)]
    reader.assign({(topic, 1): 0})
    assert [record.offset for record in await collect(reader, 50)] == list(range(50))
    reader.assign({})
    assert await reader.read(10, 0.2) == []


async def test_a_cancelled_read_loses_nothing(rig: Rig) -> None:
    topic = await rig.topic(1)
    reader = await reader_at(rig, {(topic, 0): 0})
    producer = await rig.bus.producer()
    seen: list[bytes | None] = []
    for i in range(40):
        reading = asyncio.create_task(reader.read(10, 5.0))
        sending = asyncio.create_task(producer.send(numbered(topic, 1, first=i)))
        await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            seen.extend(values_of(reading.result()))
        assert await sending == [None]
    seen.extend(values_of(await collect(reader, 40 - len(seen))) if len(seen) < 40 else [])
    assert seen == [b"%d" % i for i in range(40)]


async def test_a_waiting_read_wakes_when_something_comes(rig: Rig) -> None:
    topic = await rig.topic(2)
    reader = await reader_at(rig, {(topic, 0): 0, (topic, 1): 0})
    assert await reader.read(10, 0.3) == []
    waiting = asyncio.create_task(reader.read(10, 240.0))  # longer than a test may take: only a record ends it
    await asyncio.sleep(0)
    assert not waiting.done()
    await send(rig, Outgoing(topic, b"k", b"hello", partition=1))
    assert values_of(await waiting) == [b"hello"]


async def test_a_read_answers_no_more_than_asked(rig: Rig) -> None:
    topic = await rig.topic(4)
    await send(rig, *(m for p in range(4) for m in numbered(topic, 50, p)))
    reader = await reader_at(rig, {(topic, p): 0 for p in range(4)})
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
    refused = RecordRefused
    assert [type(result) for result in results] == [type(None), refused, TopicUnknown, refused, refused, type(None)]
    assert [result.transient for result in results if result is not None] == [False, True, False, False]
    assert await producer.send(numbered(topic, 1)) == [None], "a producer goes on after refusals"
    assert values_of(await collect(await reader_at(rig, {(topic, 0): 0}), 3)) == [b"1", b"2", b"0"]


async def test_a_record_above_its_topics_own_limit_is_refused_alone(full_rig: Rig) -> None:
    topic = await full_rig.topic(1, {"max.message.bytes": "20000"})
    producer = await full_rig.bus.producer()
    results = await producer.send(
        [Outgoing(topic, b"k", b"1"), Outgoing(topic, b"k", bytes(30_000)), Outgoing(topic, b"k", b"2")]
    )
    assert [type(result) for result in results] == [type(None), RecordRefused, type(None)]
    assert await producer.send([Outgoing(topic, b"k", b"3")]) == [None]
    values = values_of(await collect(await reader_at(full_rig, {(topic, 0): 0}), 3))
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
    records = await collect(await reader_at(rig, {(topic, p): 0 for p in range(3)}), 480)
    for name in range(12):
        mine = [record.value for record in records if record.key == b"%d" % name]
        assert mine == [b"%d" % n for n in range(40)]


async def test_sending_nothing_is_allowed(rig: Rig) -> None:
    producer = await rig.bus.producer()
    assert await producer.send([]) == []


# ---- a look at single records


async def test_a_peek_shows_the_record_at_each_offset_and_nothing_beyond_the_log(rig: Rig) -> None:
    topic = await rig.topic(3)
    await send(rig, *numbered(topic, 300, 0), *numbered(topic, 5, 1))
    seen = await rig.bus.peek({(topic, 0): 123, (topic, 1): 5, (topic, 2): 0})
    assert {tp: (r.offset, r.value) for tp, r in seen.items()} == {(topic, 0): (123, b"123")}
    seen = await rig.bus.peek({(topic, 0): 300, (topic, 1): 4})
    assert {tp: (r.offset, r.value) for tp, r in seen.items()} == {(topic, 1): (4, b"4")}
    assert await rig.bus.peek({}) == {}


async def test_a_peek_finds_a_record_also_where_all_are_large(rig: Rig) -> None:
    topic = await rig.topic(2)
    large = [Outgoing(topic, b"k", b"%d" % i + bytes(900_000), partition=p) for p in range(2) for i in range(3)]
    await send(rig, *large)
    seen = await rig.bus.peek({(topic, 0): 1, (topic, 1): 2})
    assert {tp: (r.offset, (r.value or b"")[:1]) for tp, r in seen.items()} == {
        (topic, 0): (1, b"1"),
        (topic, 1): (2, b"2"),
    }

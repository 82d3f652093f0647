"""What the Kafka adapter does when Kafka, the network or the client library misbehaves (RELIABILITY.md F14, F27 to F30)."""

from __future__ import annotations

import asyncio
import gc
import struct
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c

from handrail.engines import kafka
from handrail.engines.kafka import LocalKafka, Mode
from handrail_runtime import memory
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.bus_kafka_salvage import unreadable
from handrail_runtime.bus_kafka_session import _Fetch, _Session
from handrail_runtime.ports import BusError, GroupReader, Outgoing, Reader, Record, TopicUnknown
from handrail_runtime.telemetry import registry
from handrail_runtime.testing import wait_until
from tests.mock_kafka import MockKafka

_PRODUCE = 0
_UNKNOWN_TOPIC_OR_PARTITION = 3
_OUT_OF_ORDER_SEQUENCE = 45


@pytest_asyncio.fixture(loop_scope="session")
async def cluster() -> AsyncGenerator[MockKafka]:
    """A mock cluster of this test's own, since it will be broken."""
    mock = await MockKafka.start(brokers=1)
    yield mock
    await mock.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def bus(cluster: MockKafka) -> AsyncGenerator[KafkaBus]:
    """A bus with short patience."""
    await cluster.create_topic("t", 2)
    made = KafkaBus(cluster.bootstrap, fetch_max_wait_ms=5, ack_s=2.0, quiet_s=0.3)
    yield made
    await made.close()


def _count(name: str) -> float:
    return registry().get_sample_value(f"handrail_{name}_total") or 0.0


async def _until_sent(bus: KafkaBus, value: bytes) -> int:
    """Answers how often it was sent: it lies there once, and once more at most for each acknowledgement that was late."""
    producer = await bus.producer()
    tries = 0

    async def sent() -> bool:
        nonlocal tries
        tries += 1
        return await producer.send([Outgoing("t", b"k", value, partition=0)]) == [None]

    await wait_until(sent, description="a record acknowledged", timeout_s=60)
    await producer.close()
    return tries


async def _read_until(reader: Reader | GroupReader, value: bytes) -> list[Record]:
    seen: list[Record] = []

    async def come() -> bool:
        try:
            seen.extend(await reader.read(100, 0.2))
        except BusError as e:
            assert e.transient
        return any(record.value == value for record in seen)

    await wait_until(come, description=f"the record {value!r}", timeout_s=60)
    return seen


async def test_a_producer_whose_sequence_numbers_broke_is_replaced(cluster: MockKafka, bus: KafkaBus) -> None:
    producer = await bus.producer()
    message = Outgoing("t", b"k", b"v", partition=0)
    assert await producer.send([message]) == [None]
    before = _count("bus_producers_replaced")
    await cluster.push_errors(_PRODUCE, *[_OUT_OF_ORDER_SEQUENCE] * 2)
    for _ in range(2):
        (failed,) = await producer.send([message])
        assert isinstance(failed, BusError)
        assert failed.transient
    assert await producer.send([message]) == [None]
    assert _count("bus_producers_replaced") == before + 2


@pytest.mark.parametrize("count", [1, 40])
async def test_a_send_without_acknowledgement_fails_within_its_bound_and_the_next_one_passes(
    cluster: MockKafka, bus: KafkaBus, count: int
) -> None:
    producer = await bus.producer()
    messages = [Outgoing("t", b"k", b"%d" % i, partition=i % 2) for i in range(count)]
    assert await producer.send(messages) == [None] * count
    await cluster.set_delay(1, 3_600_000)
    results = await producer.send(messages)
    assert all(isinstance(result, BusError) and result.transient for result in results)
    await cluster.set_delay(1, 0)
    await cluster.set_down(1)  # what the mock holds back it would hold for an hour: a new connection is needed
    await cluster.set_up(1)
    await wait_until(lambda: _sends(producer, messages), description="the resent batch acknowledged", timeout_s=60)


async def _sends(producer: object, messages: list[Outgoing]) -> bool:
    return await producer.send(messages) == [None] * len(messages)  # type: ignore[attr-defined]


async def test_sending_while_no_broker_answers_fails_for_each_record_and_does_not_raise(cluster: MockKafka) -> None:
    await cluster.create_topic("t", 1)
    bus = KafkaBus(cluster.bootstrap, ack_s=3.0)
    producer = await bus.producer()
    await cluster.set_down(1)
    for _ in range(2):
        results = await producer.send([Outgoing("t", b"k", b"v"), Outgoing("t", b"k", b"v")])
        assert [type(result) for result in results] == [BusError, BusError]
    await cluster.set_up(1)
    await bus.close()


async def test_readers_and_producers_go_on_after_the_brokers_were_down(cluster: MockKafka, bus: KafkaBus) -> None:
    reader = await bus.reader()
    reader.assign({("t", 0): 0})
    member, producer = await bus.group_reader("g", ["t"]), await bus.producer()
    await _until_sent(bus, b"before")
    await _read_until(reader, b"before")
    await _read_until(member, b"before")
    await cluster.set_down(1)
    (refused,) = await producer.send([Outgoing("t", b"k", b"while down", partition=1)])
    assert isinstance(refused, BusError)  # so its patience has ended and every connection has noticed
    await cluster.set_up(1)
    await _until_sent(bus, b"after")
    await _read_until(reader, b"after")
    await _read_until(member, b"after")


async def test_a_moved_leader_loses_nothing(bus: KafkaBus) -> None:
    cluster = await MockKafka.start(brokers=3)
    try:
        await cluster.create_topic("t", 1, 3)
        moving = KafkaBus(cluster.bootstrap, fetch_max_wait_ms=5)
        reader, producer = await moving.reader(), await moving.producer()
        reader.assign({("t", 0): 0})
        for broker in (1, 2, 3, 1):
            await cluster.set_leader("t", 0, broker)
            assert await producer.send([Outgoing("t", b"k", b"%d" % broker)] * 20) == [None] * 20
        await producer.send([Outgoing("t", b"k", b"last")])
        seen = [record.value for record in await _read_until(reader, b"last")]
        assert seen == [b"%d" % broker for broker in (1, 2, 3, 1) for _ in range(20)] + [b"last"]
        await moving.close()
    finally:
        await cluster.stop()


async def test_a_topic_that_is_unknown_for_a_while_refuses_nothing_for_good(cluster: MockKafka, bus: KafkaBus) -> None:
    """As a broker answers while it starts, or has not heard of a topic yet (aiokafka calls that error retriable)."""
    await cluster.set_topic_error("t", _UNKNOWN_TOPIC_OR_PARTITION)
    producer = await bus.producer()
    messages = [Outgoing("t", b"k", b"v", partition=0)]
    (unknown,) = await producer.send(messages)
    assert isinstance(unknown, TopicUnknown)
    assert unknown.transient
    await cluster.set_topic_error("t", 0)
    await wait_until(lambda: _sends(producer, messages), description="the topic known again", timeout_s=60)


async def test_a_partition_that_its_broker_does_not_know_while_it_moves_is_tried_again(
    cluster: MockKafka, bus: KafkaBus
) -> None:
    producer = await bus.producer()
    messages = [Outgoing("t", b"k", b"v", partition=0)]
    assert await producer.send(messages) == [None]
    await cluster.push_errors(_PRODUCE, *[_UNKNOWN_TOPIC_OR_PARTITION] * 2)
    await wait_until(lambda: _sends(producer, messages), description="the record sent in the end", timeout_s=60)


async def test_a_reader_whose_fetching_ended_silently_connects_anew(bus: KafkaBus) -> None:
    reader = await bus.reader()
    reader.assign({("t", 0): 0, ("t", 1): None})
    await _until_sent(bus, b"1")
    await _read_until(reader, b"1")
    before = _count("bus_readers_rebuilt")
    _end_fetching(reader)
    tries = await _until_sent(bus, b"2")
    values = [record.value for record in await _read_until(reader, b"2")]
    assert values == [b"2"] * len(values) and len(values) <= tries
    assert _count("bus_readers_rebuilt") == before + 1


async def test_a_group_member_whose_fetching_ended_silently_joins_anew(bus: KafkaBus) -> None:
    member = await bus.group_reader("g", ["t"])
    await _until_sent(bus, b"1")
    await _read_until(member, b"1")
    before = _count("bus_readers_rebuilt")
    _end_fetching(member)
    await _until_sent(bus, b"2")
    await _read_until(member, b"2")
    assert _count("bus_readers_rebuilt") == before + 1


async def test_a_group_member_that_could_not_join_anew_says_so_and_joins_once_it_can(bus: KafkaBus) -> None:
    member: Any = await bus.group_reader("g", ["t"])
    await _until_sent(bus, b"1")
    await _read_until(member, b"1")
    make, member._make = member._make, lambda: AIOKafkaConsumer("t", bootstrap_servers="127.0.0.1:1", group_id="g")
    _end_fetching(member)
    tries = await _until_sent(bus, b"2")
    came: list[Record] = []

    async def told() -> bool:
        try:
            came.extend(await member.read(100, 0.2))
        except BusError as e:
            return "has not been joined" in str(e)
        return False

    await wait_until(told, description="a reader that says that it is outside", timeout_s=30)
    for _ in range(5):
        with pytest.raises(BusError, match="has not been joined"):
            await member.read(100, 0.2)
    assert not member.assignment()
    await member.commit({("t", 0): 1})  # another member reads on
    member._make = make
    values = [record.value for record in await _read_until(member, b"2")]
    assert came == [] and values.count(b"2") <= tries
    await member.commit({("t", 0): len(values)})
    assert await member.read(100, 0.5) == []


async def test_an_idle_reader_is_left_alone(bus: KafkaBus) -> None:
    reader = await bus.reader()
    reader.assign({("t", 0): 0, ("t", 1): None})
    before = _count("bus_readers_rebuilt")
    for _ in range(5):
        assert await reader.read(10, 0.4) == []
    assert _count("bus_readers_rebuilt") == before


async def test_a_member_that_paused_is_left_alone_although_its_log_goes_on(bus: KafkaBus) -> None:
    member = await bus.group_reader("g", ["t"])
    await _until_sent(bus, b"1")
    await _read_until(member, b"1")
    before = _count("bus_readers_rebuilt")
    member.pause([("t", 0), ("t", 1)])
    await _until_sent(bus, b"2")
    for _ in range(5):
        assert await member.read(10, 0.4) == []
    assert _count("bus_readers_rebuilt") == before


def _end_fetching(reader: object) -> None:
    """As aiokafka issues 710 and 974 report it: the task is gone and nobody is told."""
    reader._consumer._fetcher._fetch_task.cancel()  # type: ignore[attr-defined]


async def _poison(bootstrap: str, topic: str) -> None:
    """A batch of three whose second record has a header name that is not UTF-8: any broker takes it."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    batch = producer.create_batch()
    for i in range(3):
        batch.append(timestamp=None, key=b"k", value=b"%d" % i, headers=[("XX" if i == 1 else "ok", b"h")])
    raw = bytearray(batch._build())
    at = raw.index(b"XX")
    raw[at : at + 2] = b"\xff\xfe"
    raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[21:])))
    batch._buffer = bytes(raw)
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


def _check_salvaged(records: list[Record]) -> None:
    by_offset = {record.offset: record for record in records if record.partition == 0}
    assert [by_offset[i].value for i in (0, 2, 3)] == [b"0", b"2", b"after"]
    assert [unreadable(by_offset[i]) for i in (0, 2, 3)] == [None, None, None]
    assert by_offset[1].key is None
    assert b"\xff\xfe" in (by_offset[1].value or b"")
    assert unreadable(by_offset[1]) == "Expected a record, but decoding it failed: UnicodeDecodeError."


async def test_a_record_that_cannot_be_decoded_comes_out_as_one_to_quarantine_and_stops_nothing(
    cluster: MockKafka, bus: KafkaBus
) -> None:
    await _poison(cluster.bootstrap, "t")
    producer = await bus.producer()
    messages = [Outgoing("t", b"k", b"after", partition=0), Outgoing("t", b"k", b"beside", partition=1)]
    assert await producer.send(messages) == [None, None]
    reader = await bus.reader()
    reader.assign({("t", 0): 0, ("t", 1): 0})
    seen = await _read_until(reader, b"after")
    _check_salvaged(seen)
    assert len({(record.partition, record.offset) for record in seen}) == len(seen), "each record once"
    await producer.send([Outgoing("t", b"k", b"later", partition=0)])
    await _read_until(reader, b"later")

    member = await bus.group_reader("g", ["t"])
    _check_salvaged(await _read_until(member, b"after"))


async def _damage(bootstrap: str, topic: str) -> None:
    """A batch of three that says that it is compressed, and is not. The mock takes it with a wrong checksum too."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    batch = producer.create_batch()
    for i in range(3):
        batch.append(timestamp=None, key=b"k", value=b"%d" % i)
    raw = bytearray(batch._build())
    raw[21:23] = struct.pack(">h", 1)
    batch._buffer = bytes(raw)
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


@pytest.mark.parametrize("group", [False, True])
async def test_bytes_at_the_end_of_a_log_that_are_no_records_do_not_make_a_reader_spin(
    cluster: MockKafka, bus: KafkaBus, group: bool
) -> None:
    await _damage(cluster.bootstrap, "t")
    reader: Any = await (bus.group_reader("g", ["t"]) if group else bus.reader())
    if not group:
        reader.assign({("t", 0): 0})
    seen: list[Record] = []

    async def set_aside() -> bool:
        seen.extend(await reader.read(100, 0.2))
        return bool(seen)

    await wait_until(set_aside, description="what stands in for the batch", timeout_s=30)
    assert unreadable(seen[0])
    if group:
        await reader.commit({("t", 0): seen[0].offset + 1})
    reads, until = 0, asyncio.get_running_loop().time() + 2
    while asyncio.get_running_loop().time() < until:
        assert await reader.read(100, 0.5) == []
        reads += 1
    assert reads <= 10
    await _until_sent(bus, b"after")
    await _read_until(reader, b"after")


@pytest.mark.parametrize("group", [False, True])
async def test_a_process_without_memory_does_not_read_past_what_it_could_not_take(
    bus: KafkaBus, monkeypatch: pytest.MonkeyPatch, group: bool
) -> None:
    tries = await _until_sent(bus, b"1")
    reader: Any = await (bus.group_reader("g", ["t"]) if group else bus.reader())
    if not group:
        reader.assign({("t", 0): 0})

    async def no_memory(**_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(reader._consumer, "getmany", no_memory)
        patch.setattr(memory, "ENOUGH_BYTES", 2**62)  # as if there were none
        with pytest.raises(MemoryError):
            await reader.read(100, 0.2)
    values = [record.value for record in await _read_until(reader, b"1")]
    assert values == [b"1"] * len(values) and len(values) <= tries


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["fast", "kill"])
async def test_everything_goes_on_after_a_restart_of_a_real_broker(tmp_path: Path, mode: Mode) -> None:
    if reason := kafka.unavailable_reason():
        pytest.skip(reason)
    broker = await LocalKafka.start(tmp_path)
    bus = KafkaBus(broker.bootstrap_servers, ack_s=5.0, quiet_s=2.0)
    try:
        await bus.ensure_topics({"t": (2, {})})
        mine = await bus.bus_id()
        reader, member = await bus.reader(), await bus.group_reader(uuid4().hex, ["t"])
        reader.assign({("t", 0): 0})
        await _until_sent(bus, b"before")
        await _read_until(reader, b"before")
        await _read_until(member, b"before")
        await member.commit({("t", 0): 1})
        await broker.restart(mode)
        await _until_sent(bus, b"after")
        values = [record.value for record in await _read_until(reader, b"after")]
        assert b"before" not in values
        await _read_until(member, b"after")
        assert await bus.bus_id() == mine
    finally:
        await bus.close()
        await broker.stop()


@pytest.mark.kafka
async def test_a_reader_reads_on_when_a_real_broker_has_forgotten_its_fetch_session(tmp_path: Path) -> None:
    """On a broker of its own: one that many readers have left a moment ago has no room for another session."""
    if reason := kafka.unavailable_reason():
        pytest.skip(reason)
    broker = await LocalKafka.start(tmp_path)
    bus, client = KafkaBus(broker.bootstrap_servers), AIOKafkaClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        await client.bootstrap()
        await bus.ensure_topics({"t": (2, {})})
        await _until_sent(bus, b"before")
        reader, producer = await bus.reader(), await bus.producer()
        reader.assign({("t", 0): 0, ("t", 1): 0})
        await _read_until(reader, b"before")
        ((node, session),) = reader._consumer._client.send.__self__._by_broker.items()
        await wait_until(lambda: session.id, description="a session")
        double = _Session()
        double.id = lost = session.id
        await client.send(node, _Fetch(FetchRequest(0, 1, 1000, 0, [("t", [(0, 0, 1000)])]), double))  # ends it
        await wait_until(lambda: session.id not in (0, lost), description="another session")
        for p in (1, 0):
            assert await producer.send([Outgoing("t", None, b"after", partition=p)]) == [None]
            assert [(r.partition, r.value) for r in await _read_until(reader, b"after")] == [(p, b"after")]
    finally:
        await bus.close()
        await client.close()
        await broker.stop()


async def test_closing_does_not_wait_for_a_broker_that_does_not_answer(cluster: MockKafka, bus: KafkaBus) -> None:
    reader, member, producer = await bus.reader(), await bus.group_reader("g", ["t"]), await bus.producer()
    reader.assign({("t", 0): 0})
    await cluster.set_delay(1, 3_600_000)
    sending = asyncio.create_task(producer.send([Outgoing("t", b"k", b"v")]))
    assert await reader.read(1, 0.2) == await member.read(1, 0.2) == []
    await bus.close()  # without its bounds this is an hour
    (result,) = await sending
    assert isinstance(result, BusError)


@pytest.mark.parametrize("group", [False, True])
async def test_closing_while_a_broker_is_away_lets_go_of_everything_and_cancels_nobody(
    cluster: MockKafka, bus: KafkaBus, group: bool
) -> None:
    before = asyncio.all_tasks()
    for after_s in (0.0, 0.05, 0.3):  # at once, and while fetches wait to be tried again
        reader: Any = await (bus.group_reader("g", ["t"]) if group else bus.reader())
        if not group:
            reader.assign({("t", 0): 0})
        assert await reader.read(1, 0.3) == []
        waiting = asyncio.create_task(reader.read(1, 30.0))
        await asyncio.sleep(0)
        await cluster.set_down(1)
        await asyncio.sleep(after_s)
        closing = asyncio.create_task(reader.close())
        await asyncio.wait({closing}, timeout=20)
        assert closing.done() and not closing.cancelled()
        closing.result()
        await asyncio.wait({waiting}, timeout=20)
        assert waiting.result() == []
        await cluster.set_up(1)
    await wait_until(lambda: not _of_consumers(before), description="every task of the readers ended", timeout_s=10)


def _of_consumers(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() - before if "aiokafka" in task.get_coro().cr_code.co_filename}  # type: ignore[union-attr]


async def test_who_is_cancelled_while_closing_a_reader_is_cancelled(cluster: MockKafka, bus: KafkaBus) -> None:
    member = await bus.group_reader("g", ["t"])
    assert await member.read(1, 0.2) == []
    await cluster.set_delay(1, 3_600_000)
    closing = asyncio.create_task(member.close())
    await asyncio.sleep(0.2)
    closing.cancel()
    await asyncio.wait({closing}, timeout=10)
    assert closing.cancelled()


async def test_closing_a_bus_ends_what_came_from_it_while_it_is_used(bus: KafkaBus) -> None:
    reader, producer = await bus.reader(), await bus.producer()
    reader.assign({("t", 0): 0})
    waiting = asyncio.create_task(reader.read(10, 60.0))
    await asyncio.sleep(0)
    await bus.close()
    assert await asyncio.wait_for(waiting, 30) == []
    with pytest.raises(BusError):
        await producer.send([Outgoing("t", b"k", b"v")])
    with pytest.raises(BusError):
        await bus.bus_id()


async def test_a_closed_reader_lets_go_of_what_it_fetched_and_did_not_read(bus: KafkaBus) -> None:
    producer = await bus.producer()
    await producer.send([Outgoing("t", b"k", b"v" * 10_000, partition=p) for p in (0, 1) for _ in range(50)])
    await producer.close()
    gc.collect()
    gc.disable()  # a service's collector looks at what is old once in hours
    try:
        reader = await bus.reader()
        reader.assign({("t", 0): 0, ("t", 1): 0})
        await wait_until(lambda: reader.read(1, 0.2), description="one record", timeout_s=60)
        fetched = await wait_until(lambda: _fetched(reader), description="a fetch with more in it", timeout_s=60)
        unread = [weakref.ref(result._partition_records) for result in fetched]
        del fetched
        assert all(ref() is not None for ref in unread)
        await reader.close()
        assert [ref() for ref in unread] == [None] * len(unread)
    finally:
        gc.enable()


def _fetched(reader: Reader) -> list[Any]:
    """aiokafka's results that hold records nobody has read."""
    consumer: Any = reader._consumer  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return [result for result in consumer._fetcher._records.values() if result.has_more()]

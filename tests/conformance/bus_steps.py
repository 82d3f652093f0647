"""The steps that the conformance tests are made of."""

from __future__ import annotations

import asyncio

from handrail_runtime.ports import GroupReader, Outgoing, Reader, Record
from tests.conformance.bus_rigs import Rig


async def send(rig: Rig, *messages: Outgoing) -> None:
    producer = await rig.bus.producer()
    assert await producer.send(messages) == [None] * len(messages)
    await producer.close()


def numbered(topic: str, count: int, partition: int = 0, first: int = 0) -> list[Outgoing]:
    return [Outgoing(topic, b"k", b"%d" % i, partition=partition) for i in range(first, first + count)]


async def collect(reader: Reader | GroupReader, count: int, *, at_once: int = 500) -> list[Record]:
    """The next `count` records, not one more."""
    found: list[Record] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found.extend(await reader.read(min(at_once, count - len(found)), 1.0))
    assert len(found) == count
    return found


async def reader_at(rig: Rig, positions: dict[tuple[str, int], int | None]) -> Reader:
    reader = await rig.bus.reader()
    reader.assign(positions)
    return reader


def values_of(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


async def member_of(rig: Rig, topic: str, name: str, **options: bool) -> GroupReader:
    return await rig.bus.group_reader(name, [topic], **options)

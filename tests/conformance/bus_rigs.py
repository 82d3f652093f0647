"""The three buses that the suite runs on, and what a test must be able to do to each of them from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Bus, GroupReader
from tests.mock_kafka import MockKafka

_MEMBER = Path(__file__).with_name("group_member.py")


class Rig(Protocol):
    """One bus under test."""

    bus: Bus

    async def topic(self, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """Make a topic with a new name."""
        ...

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Take the records below this offset out of the log."""
        ...

    async def doomed_member(self, group: str, topic: str) -> Callable[[], Awaitable[None]]:
        """A member that has read one record and committed nothing; what is answered kills it."""
        ...

    async def again(self) -> Bus:
        """Another bus object on the same log."""
        ...

    async def close(self) -> None: ...


def _name() -> str:
    return f"conformance-{uuid4().hex[:12]}"


class MemoryRig:
    def __init__(self) -> None:
        self.bus = MemoryBus()

    async def topic(self, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        name = _name()
        await self.bus.ensure_topics({name: (partitions, config or {})})
        return name

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        self.bus.delete_records((topic, partition), before)

    async def doomed_member(self, group: str, topic: str) -> Callable[[], Awaitable[None]]:
        # In one process a member cannot die alone; leaving without a commit is the nearest thing.
        member = await self.bus.group_reader(group, [topic])
        await _one_record(member)
        return member.close

    async def again(self) -> Bus:
        return self.bus

    async def close(self) -> None:
        await self.bus.close()


class KafkaRig:
    def __init__(self, bootstrap: str, **options: int) -> None:
        self._bootstrap, self._options = bootstrap, options
        self.bus = KafkaBus(bootstrap, **options)  # type: ignore[arg-type]
        self._more: list[KafkaBus] = []

    async def topic(self, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        name = _name()
        await self.bus.ensure_topics({name: (partitions, config or {})})
        return name

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
        finally:
            await admin.close()

    async def doomed_member(self, group: str, topic: str) -> Callable[[], Awaitable[None]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_MEMBER), self._bootstrap, group, topic, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"read\n"

        async def kill() -> None:
            process.kill()
            await process.wait()

        return kill

    async def again(self) -> Bus:
        self._more.append(KafkaBus(self._bootstrap, **self._options))  # type: ignore[arg-type]
        return self._more[-1]

    async def close(self) -> None:
        for bus in (self.bus, *self._more):
            await bus.close()


class MockRig(KafkaRig):
    """librdkafka's mock: no group with two members, no admin requests, and a waiting fetch is not woken."""

    def __init__(self, mock: MockKafka) -> None:
        super().__init__(mock.bootstrap, fetch_max_wait_ms=5)
        self._mock = mock

    async def topic(self, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        name = _name()
        await self._mock.create_topic(name, partitions)
        return name

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        await self._mock.delete_records(topic, partition, before)


async def _one_record(member: GroupReader) -> None:
    while not await member.read(1, 5):
        pass

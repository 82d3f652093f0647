"""The bus of embedded mode: partitioned logs in memory, for one event loop. Idle, it costs nothing.

It holds the same promises as Kafka (`tests/conformance/test_bus.py` asks both), except that it forgets everything at a
restart: `bus_id` is new each time, so an owner adopts the new log (DESIGN section 5). Nothing here awaits between
taking records out of a log and returning them, so a cancelled read loses nothing.

Retention is by size: per partition, and over the whole bus, where the fullest partition gives way.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence, Set

from handrail_runtime.bus_memory_group import Group
from handrail_runtime.bus_memory_log import Log, Tail
from handrail_runtime.murmur import partition_of
from handrail_runtime.ports import (
    BusError,
    LogRange,
    OffsetOutOfRange,
    Outgoing,
    Record,
    RecordRefused,
    TopicPartition,
    TopicUnknown,
)

MAX_RECORD_BYTES = 1_048_588
"""Kafka's default of `max.message.bytes`, for topics that do not set it."""


class MemoryBus:
    """Implements `ports.Bus`. Use it from one event loop only.

    `retention_records` and `retention_bytes` bound each partition, `total_bytes` the whole bus (record overhead counted).
    """

    forgets = True

    def __init__(
        self,
        *,
        retention_records: int = 50_000,
        retention_bytes: int = 32 * 1024 * 1024,
        total_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._id = str(uuid.uuid4())
        self._retention = (retention_records, retention_bytes)
        self._total_bytes = total_bytes
        self._held_bytes = 0
        self._logs: dict[str, list[Log]] = {}
        self._max_record: dict[str, int] = {}
        self._groups: dict[str, Group] = {}
        self._tails: set[Tail] = set()
        self._next_keyless = 0
        self._closed = False

    async def bus_id(self) -> str:
        """A UUID per start."""
        return self._id

    async def ensure_topics(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> list[str]:
        """As the port says. Of the config only `max.message.bytes` means something here."""
        made: list[str] = []
        for name, (count, config) in topics.items():
            logs = self._logs.get(name)
            if logs is not None and len(logs) != count:
                raise BusError(f"Expected {count} partitions in {name!r}, but it has {len(logs)}.")
            if logs is None:
                self._logs[name] = [Log(name, p, *self._retention) for p in range(count)]
                self._max_record[name] = int(config.get("max.message.bytes", MAX_RECORD_BYTES))
                made.append(name)
        if made:
            for tail in self._tails:
                tail.look(self._logs)
            for group in self._groups.values():
                group.rebalance(self._logs)
        return made

    async def partitions(self, topic: str) -> int:
        """As the port says."""
        return len(self._logs.get(topic, ()))

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """As the port says; a partition that does not exist raises BusError."""
        return {tp: LogRange(log.start, log.end) for tp in partitions if (log := self._log(tp))}

    async def peek(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        """As the port says; a partition that does not exist raises BusError."""
        logs = [(self._log(tp), offset) for tp, offset in positions.items()]
        found = [r for log, offset in logs if log.start <= offset < log.end for r in log.slice(offset, 1)]
        return {(r.topic, r.partition): r for r in found}

    async def producer(self) -> MemoryProducer:
        """As the port says."""
        return MemoryProducer(self)

    async def reader(self) -> MemoryReader:
        """As the port says."""
        return MemoryReader(self)

    async def group_reader(self, group: str, topics: Sequence[str], *, from_start: bool = True) -> MemoryGroupReader:
        """As the port says. Topics that do not exist yet join when they are made."""
        members = self._groups.setdefault(group, Group(from_start))
        tail = self.new_tail()
        members.join(tail, topics, self._logs)
        return MemoryGroupReader(self, members, tail)

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        """Drops the records below offset `before`, as retention or an administrator would. For tests of what follows."""
        log = self._log(partition)
        self._held_bytes -= log.drop_before(before)

    async def close(self) -> None:
        """Lets go of all logs. Readers that wait are woken and read nothing more. Idempotent."""
        self._closed = True
        for tail in list(self._tails):
            tail.close()
        self._tails.clear()
        self._logs.clear()
        self._groups.clear()
        self._held_bytes = 0

    # ---- what producers and readers of this file need

    def new_tail(self) -> Tail:
        tail = Tail(asyncio.get_running_loop())
        self._tails.add(tail)
        return tail

    def assign(self, tail: Tail, positions: Mapping[TopicPartition, int | None]) -> None:
        tail.assign(positions)
        tail.look(self._logs)

    def drop(self, tail: Tail) -> None:
        self._tails.discard(tail)
        tail.close()

    def leave(self, group: Group, tail: Tail) -> None:
        group.leave(tail, self._logs)
        self.drop(tail)

    def append(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        if self._closed:
            raise BusError("Expected an open bus, but it was closed.")
        now_ms = time.time_ns() // 1_000_000
        results: list[BusError | None] = []
        for message in messages:
            log = self._target(message)
            if isinstance(log, BusError):
                results.append(log)
                continue
            held = log.bytes
            log.append(message.key, message.value, tuple(message.headers), now_ms)
            self._held_bytes += log.bytes - held
            results.append(None)
        if self._held_bytes > self._total_bytes:
            self._make_room()
        return results

    def _target(self, message: Outgoing) -> Log | BusError:
        logs = self._logs.get(message.topic)
        key, value = message.key, message.value
        if logs is None:
            return TopicUnknown(f"Expected the topic {message.topic!r}, but it does not exist.")
        if key is None and value is None:
            return RecordRefused("Expected a key or a value, but the record has neither.")
        size = len(key or b"") + len(value or b"")
        if size > (limit := self._max_record[message.topic]):
            return RecordRefused(f"Expected at most {limit} bytes in {message.topic!r}, but the record has {size}.")
        p = message.partition
        if p is None:
            if key is None:
                self._next_keyless += 1
                p = self._next_keyless % len(logs)
            else:
                p = partition_of(key, len(logs))
        if not 0 <= p < len(logs):
            return RecordRefused(f"Expected a partition below {len(logs)} in {message.topic!r}, but it is {p}.")
        return logs[p]

    def _make_room(self) -> None:
        while self._held_bytes > self._total_bytes:
            # The newest record of a partition stays, so one that holds no other has nothing to give.
            giving = (log for logs in self._logs.values() for log in logs if log.end - log.start > 1)
            fullest = max(giving, key=lambda log: log.bytes, default=None)
            if fullest is None:
                return
            before = fullest.bytes
            # A quarter at once, so that the search for the fullest is paid once per many records.
            fullest.trim_to(before * 3 // 4)
            self._held_bytes -= before - fullest.bytes

    def _log(self, tp: TopicPartition) -> Log:
        logs = self._logs.get(tp[0], ())
        if not 0 <= tp[1] < len(logs):
            raise BusError(f"Expected the partition {tp[0]}/{tp[1]}, but it does not exist.")
        return logs[tp[1]]


class MemoryProducer:
    """Implements `ports.Producer`."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._closed = False

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        """As the port says. Lets others run once, so that whoever sends in a loop does not keep the loop for itself."""
        if self._closed:
            raise BusError("Expected an open producer, but it was closed.")
        results = self._bus.append(messages)
        await asyncio.sleep(0)
        return results

    async def close(self) -> None:
        """As the port says."""
        self._closed = True


class MemoryReader:
    """Implements `ports.Reader`."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._tail = bus.new_tail()

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """As the port says; a partition whose topic does not exist yet is read as soon as it does."""
        self._bus.assign(self._tail, positions)

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says."""
        return await self._tail.read(max_records, timeout_s)

    async def close(self) -> None:
        """As the port says."""
        self._bus.drop(self._tail)


class MemoryGroupReader:
    """Implements `ports.GroupReader`. Partitions move at once when a member joins or leaves; those that move start
    again at the committed position."""

    def __init__(self, bus: MemoryBus, group: Group, tail: Tail) -> None:
        self._bus, self._group, self._tail = bus, group, tail

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says; a position that retention took is set as for a new group."""
        while True:
            try:
                return await self._tail.read(max_records, timeout_s)
            except OffsetOutOfRange as e:
                self._group.reset(self._tail, (e.topic, e.partition))

    def assignment(self) -> Set[TopicPartition]:
        """As the port says."""
        return self._tail.positions().keys()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """As the port says."""
        self._tail.pause(partitions)

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        for tp, offset in positions.items():
            self._tail.move(tp, offset)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        self._group.commit(self._tail, positions)

    async def close(self) -> None:
        """As the port says."""
        self._bus.leave(self._group, self._tail)

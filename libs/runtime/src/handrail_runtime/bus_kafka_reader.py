"""Reading from Kafka: by hand-made assignment, and as a member of a group.

No lock is ever held across a fetch, nothing is committed unless asked, and an offset that the log does not have is
raised, never rewound. Where the library may stall for ever (RELIABILITY.md, F30) the reader notices by itself: nothing
came for a while though the log goes on, so it connects anew at its positions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition as KafkaPartition

from handrail_runtime.bus_kafka_control import Control
from handrail_runtime.ports import BusError, OffsetOutOfRange, Record, TopicPartition
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)

Make = Callable[[], AIOKafkaConsumer]


def records_of(batches: Mapping[KafkaPartition, Sequence[Any]]) -> list[Record]:
    """What aiokafka fetched, as records of the port."""
    return [
        Record(r.topic, r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
        for batch in batches.values()
        for r in batch
    ]


class Progress:
    """Notices a reader that stands still although its logs go on. Asks the cluster at most once in `quiet_s`, and only
    after as long a silence."""

    def __init__(self, control: Control, quiet_s: float) -> None:
        self._control, self._quiet_s = control, quiet_s
        self._last = asyncio.get_running_loop().time()
        self._behind: dict[TopicPartition, int] = {}

    def came(self) -> None:
        """Records came."""
        self._last = asyncio.get_running_loop().time()
        self._behind = {}

    async def stuck(self, positions: Mapping[TopicPartition, int]) -> bool:
        """True when a partition had records waiting at the last question too, and has not moved since."""
        now = asyncio.get_running_loop().time()
        if now - self._last < self._quiet_s or not positions:
            return False
        self._last = now
        try:
            ranges = await self._control.ranges(positions)
        except BusError:
            return False  # the cluster does not answer: that is no stall of ours
        behind = {tp: position for tp, position in positions.items() if ranges[tp].start <= position < ranges[tp].end}
        stuck = any(self._behind.get(tp) == position for tp, position in behind.items())
        self._behind = behind
        return stuck


class KafkaReader:
    """Implements `ports.Reader`."""

    def __init__(self, make: Make, progress: Progress) -> None:
        self._make, self._progress = make, progress
        self._consumer = make()
        self._positions: dict[TopicPartition, int | None] = {}
        self._seeking: asyncio.Task[Any] | None = None
        self._closed = False
        self._rebuilt = counter("bus_readers_rebuilt", "Kafka readers that stood still and were connected anew")

    async def start(self) -> None:
        """Connects. Raises BusError."""
        await _started(self._consumer)

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """As the port says."""
        self._positions = dict(positions)
        self._apply()

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says."""
        if self._closed:
            raise BusError("Expected an open reader, but it was closed.")
        try:
            batches = await self._consumer.getmany(timeout_ms=max(0, int(timeout_s * 1000)), max_records=max_records)
        except OffsetOutOfRangeError as e:
            tp, offset = next(iter(e.args[0].items()))
            raise OffsetOutOfRange(tp.topic, tp.partition, offset) from e
        except KafkaError as e:
            self._apply()  # what was fetched beside the fault is lost inside the library: read it again
            raise BusError(f"Expected records, but: {type(e).__name__} {e}") from e
        if not batches:
            await self._check()
            return []
        self._progress.came()
        for tp, batch in batches.items():
            self._positions[(tp.topic, tp.partition)] = batch[-1].offset + 1
        return records_of(batches)

    async def close(self) -> None:
        """As the port says."""
        self._closed = True
        if self._seeking is not None:
            self._seeking.cancel()
        await _stopped(self._consumer)

    def _apply(self) -> None:
        if self._seeking is not None:
            self._seeking.cancel()
            self._seeking = None
        parts = {tp: KafkaPartition(*tp) for tp in self._positions}
        self._consumer.assign(list(parts.values()))
        for tp, position in self._positions.items():
            if position is not None:
                self._consumer.seek(parts[tp], position)
        if ends := [parts[tp] for tp, position in self._positions.items() if position is None]:
            self._seeking = asyncio.create_task(self._seek_to_end(ends), name="bus.reader.seek_to_end")

    async def _seek_to_end(self, ends: Sequence[KafkaPartition]) -> None:
        # Its first step marks the partitions, before the fetcher takes its next one; the rest waits for the answer.
        while not await self._consumer.seek_to_end(*ends):
            pass
        for part in ends:
            tp = (part.topic, part.partition)
            if self._positions.get(tp, 0) is None:
                self._positions[tp] = await self._consumer.position(part)

    async def _check(self) -> None:
        known = {tp: position for tp, position in self._positions.items() if position is not None}
        if await self._progress.stuck(known):
            self._rebuilt.inc()
            _log.error("bus_reader_stood_still", partitions=len(known))
            old, self._consumer = self._consumer, self._make()
            await _stopped(old)
            await _started(self._consumer)
            self._apply()


class KafkaGroupReader:
    """Implements `ports.GroupReader`."""

    def __init__(self, make: Make, progress: Progress) -> None:
        self._make, self._progress = make, progress
        self._consumer = make()
        self._fetching: asyncio.Task[Any] | None = None
        self._closed = False
        self._rebuilt = counter("bus_readers_rebuilt", "Kafka readers that stood still and were connected anew")

    async def start(self) -> None:
        """Joins the group; returns when partitions were dealt out. Raises BusError."""
        await _started(self._consumer)

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says. During a rebalance it answers nothing, for `timeout_s` at most."""
        if self._closed:
            raise BusError("Expected an open reader, but it was closed.")
        if self._fetching is None:
            fetch = self._consumer.getmany(timeout_ms=max(0, int(timeout_s * 1000)), max_records=max_records)
            self._fetching = asyncio.create_task(fetch, name="bus.group.fetch")
        # The fetch itself has no bound while a rebalance is under way; it is never cancelled but asked again.
        await asyncio.wait({self._fetching}, timeout=timeout_s + 0.05)
        if not self._fetching.done():
            return []
        done, self._fetching = self._fetching, None
        try:
            batches = done.result()
        except KafkaError as e:
            raise BusError(f"Expected records, but: {type(e).__name__} {e}") from e
        if not batches:
            await self._check()
            return []
        self._progress.came()
        return records_of(batches)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        held = self._consumer.assignment()
        mine = {tp: offset for (t, p), offset in positions.items() if (tp := KafkaPartition(t, p)) in held}
        if not mine:
            return
        try:
            await self._consumer.commit(mine)
        except (CommitFailedError, IllegalStateError):
            _log.info("bus_commit_skipped", partitions=len(mine))  # dealt anew meanwhile: another member reads on
        except KafkaError as e:
            raise BusError(f"Expected the commit to be taken, but: {type(e).__name__} {e}") from e

    async def close(self) -> None:
        """As the port says."""
        if self._closed:
            return
        self._closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        fetching, self._fetching = self._fetching, None
        await _stopped(self._consumer)
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait({fetching}, timeout=1.0)

    async def _check(self) -> None:
        positions: dict[TopicPartition, int] = {}
        for tp in self._consumer.assignment():
            try:
                async with asyncio.timeout(0.1):
                    positions[(tp.topic, tp.partition)] = await self._consumer.position(tp)
            except (TimeoutError, KafkaError):
                continue  # no position yet, or dealt to another member just now
        if await self._progress.stuck(positions):
            self._rebuilt.inc()
            _log.error("bus_reader_stood_still", partitions=len(positions))
            await self._let_go()
            self._consumer = self._make()
            await _started(self._consumer)


async def _started(consumer: AIOKafkaConsumer) -> None:
    try:
        await consumer.start()
    except (KafkaError, OSError) as e:
        await _stopped(consumer)
        raise BusError(f"Expected a connection to Kafka, but: {type(e).__name__} {e}") from e
    except BaseException:
        await _stopped(consumer)
        raise


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    try:
        await consumer.stop()
    except (KafkaError, OSError) as e:
        _log.warning("bus_reader_closed_badly", kind=type(e).__name__)

"""Reading from Kafka: by hand-made assignment, and as a member of a group.

No lock is ever held across a fetch, nothing is committed unless asked, and an offset that the log does not have is
raised, never rewound. A reader that stands still is connected anew at its positions (`bus_kafka_watch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)
from aiokafka.structs import TopicPartition as KafkaPartition

from handrail_runtime.bus_kafka_control import Control
from handrail_runtime.bus_kafka_salvage import spread
from handrail_runtime.bus_kafka_watch import Watch
from handrail_runtime.memory import ran_out
from handrail_runtime.ports import BusError, OffsetOutOfRange, Record, TopicPartition

_log = structlog.get_logger(__name__)

_COMMIT_S = 10.0
_STOP_S = 4.0
_TEAR_OFF_S = 2.0
_NOTHING_MOVED_S = 0.5
"""Between two looks at bytes that are no records, where the first one led nowhere."""

Make = Callable[[], AIOKafkaConsumer]


def records_of(batches: Mapping[KafkaPartition, Sequence[Any]]) -> list[Record]:
    """What aiokafka fetched, as records of the port."""
    return [
        Record(r.topic, r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
        for batch in batches.values()
        for r in batch
    ]


class KafkaReader:
    """Implements `ports.Reader`."""

    def __init__(self, make: Make, control: Control, quiet_s: float) -> None:
        self._make, self._control = make, control
        self._consumer = make()
        self._watch = Watch(control, quiet_s, self._known, self._rebuild)
        self._positions: dict[TopicPartition, int | None] = {}
        self._seeking: asyncio.Task[Any] | None = None
        self.closed = False

    async def start(self) -> None:
        """Connects. Raises BusError."""
        await _started(self._consumer)

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """As the port says."""
        self._positions = dict(positions)
        self._apply()

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says."""
        if self.closed:
            raise BusError("Expected an open reader, but it was closed.")
        consumer = self._consumer
        try:
            batches = await consumer.getmany(timeout_ms=max(0, int(timeout_s * 1000)), max_records=max_records)
        except OffsetOutOfRangeError as e:
            tp, offset = next(iter(e.args[0].items()))
            raise OffsetOutOfRange(tp.topic, tp.partition, offset) from e
        except (CorruptRecordException, UnsupportedCodecError) as e:
            return await self._salvage(e, max_records, timeout_s)
        except (KafkaError, ConsumerStoppedError) as e:
            self._apply()  # what was fetched beside the fault is lost inside the library: read it again
            self._watch.failed()
            raise BusError(f"Expected records, but: {type(e).__name__} {e}") from e
        except Exception as e:  # whatever foreign bytes make the decoder raise must not stop a partition
            if ran_out(e):
                raise
            return await self._salvage(e, max_records, timeout_s)
        if not batches:
            self._watch.idle()
            return []
        if consumer is not self._consumer:
            return []  # connected anew meanwhile, at the positions before these
        self._watch.came()
        for tp, batch in batches.items():
            self._positions[(tp.topic, tp.partition)] = batch[-1].offset + 1
        return records_of(batches)

    async def close(self) -> None:
        """As the port says."""
        self.closed = True
        await self._watch.close()
        if self._seeking is not None:
            self._seeking.cancel()
        await _stopped(self._consumer)

    async def _salvage(self, error: Exception, room: int, timeout_s: float) -> list[Record]:
        _log.error("bus_record_undecodable", kind=type(error).__name__)
        self._apply()  # before anything is awaited: what was fetched beside the fault is lost inside the library
        positions = await self._known()
        records, after = spread(await self._control.fetch(positions), positions, room)
        moved = {tp: to for tp, to in after.items() if self._positions.get(tp) == positions[tp]}
        self._positions.update(moved)
        for tp, position in moved.items():
            self._consumer.seek(KafkaPartition(*tp), position)
        await _salvaged(self._watch, positions, after, timeout_s)
        return [record for record in records if (record.topic, record.partition) in moved]

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

    async def _known(self) -> dict[TopicPartition, int]:
        return {tp: position for tp, position in self._positions.items() if position is not None}

    async def _rebuild(self) -> None:
        consumer = self._make()
        await _started(consumer)
        old, self._consumer = self._consumer, consumer
        self._apply()
        await _stopped(old)


class KafkaGroupReader:
    """Implements `ports.GroupReader`."""

    def __init__(self, make: Make, control: Control, quiet_s: float, *, from_start: bool) -> None:
        self._make, self._control, self._from_start = make, control, from_start
        self._consumer = make()
        self._watch = Watch(control, quiet_s, self._known, self._rebuild)
        self._fetching: asyncio.Task[Any] | None = None
        self._joined = True
        self.closed = False

    async def start(self) -> None:
        """Joins the group; returns when partitions were dealt out. Raises BusError."""
        await _started(self._consumer)

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says. During a rebalance it answers nothing, for `timeout_s` at most."""
        if self.closed:
            raise BusError("Expected an open reader, but it was closed.")
        if not self._joined:
            await self._watch.lost(timeout_s)
            if not self._joined:
                raise BusError(
                    "Expected a place in the group, but it was left to join anew and has not been joined yet."
                )
        if self._fetching is None:
            fetch = self._consumer.getmany(timeout_ms=max(0, int(timeout_s * 1000)), max_records=max_records)
            self._fetching = asyncio.create_task(fetch, name="bus.group.fetch")
        fetching = self._fetching
        # The fetch itself has no bound while a rebalance is under way; it is never cancelled but asked again.
        await asyncio.wait({fetching}, timeout=timeout_s + 0.05)
        if not fetching.done():
            self._watch.idle()
            return []
        if fetching is self._fetching:
            self._fetching = None
        if fetching.cancelled():
            return []  # joined anew meanwhile
        try:
            batches = fetching.result()
        except (CorruptRecordException, UnsupportedCodecError) as e:
            return await self._salvage(e, max_records, timeout_s)
        except (KafkaError, ConsumerStoppedError) as e:
            self._watch.failed()
            raise BusError(f"Expected records, but: {type(e).__name__} {e}") from e
        except Exception as e:  # as in KafkaReader.read
            if ran_out(e):
                raise
            return await self._salvage(e, max_records, timeout_s)
        if not batches:
            self._watch.idle()
            return []
        self._watch.came()
        return records_of(batches)

    def assignment(self) -> Set[TopicPartition]:
        """As the port says."""
        return self._held()  # type: ignore[return-value]  # named tuples of these two

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """As the port says."""
        held = self._held()
        self._consumer.pause(*(tp for t, p in partitions if (tp := KafkaPartition(t, p)) in held))

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        held = self._held()
        for tp, offset in positions.items():
            part = KafkaPartition(*tp)
            if part in held:
                self._consumer.seek(part, offset)
                self._consumer.resume(part)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        held = self._held()
        mine = {tp: offset for (t, p), offset in positions.items() if (tp := KafkaPartition(t, p)) in held}
        if not mine:
            return
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self._consumer.commit(mine)
        except (CommitFailedError, IllegalStateError):
            _log.info("bus_commit_skipped", partitions=len(mine))  # dealt anew meanwhile: another member reads on
        except (KafkaError, TimeoutError) as e:
            raise BusError(f"Expected the commit to be taken, but: {type(e).__name__} {e}") from e

    async def close(self) -> None:
        """As the port says."""
        if self.closed:
            return
        self.closed = True
        await self._watch.close()
        await self._let_go()

    async def _salvage(self, error: Exception, room: int, timeout_s: float) -> list[Record]:
        """Starts again at the committed positions, the only ones that are sure: what was fetched beside the fault is
        lost inside the library, and another member may have gone on meanwhile."""
        _log.error("bus_record_undecodable", kind=type(error).__name__)
        positions: dict[TopicPartition, int] = {}
        try:
            for tp in self._reading():
                if (committed := await self._consumer.committed(tp)) is not None:
                    positions[(tp.topic, tp.partition)] = committed
            others = [(tp.topic, tp.partition) for tp in self._reading()]
            for tp, log in (await self._control.ranges(tp for tp in others if tp not in positions)).items():
                positions[tp] = log.start if self._from_start else log.end
            records, after = spread(await self._control.fetch(positions), positions, room)
            # Nothing is committed without a record, so what leads only to the next offset is gone through here and now.
            while not records and after != {tp: positions[tp] for tp in after} and not self.closed:
                positions |= after
                records, after = spread(await self._control.fetch(positions), positions, room)
            for tp, position in {**positions, **after}.items():
                self._consumer.seek(KafkaPartition(*tp), position)
        except IllegalStateError:
            return []  # dealt anew meanwhile: whoever holds the partition now meets the record again
        except KafkaError as e:
            self._watch.failed()
            raise BusError(f"Expected the committed positions, but: {type(e).__name__} {e}") from e
        await _salvaged(self._watch, positions, after, timeout_s)
        return records

    async def _known(self) -> dict[TopicPartition, int]:
        positions: dict[TopicPartition, int] = {}
        for tp in self._reading():
            try:
                async with asyncio.timeout(0.1):
                    positions[(tp.topic, tp.partition)] = await self._consumer.position(tp)
            except (TimeoutError, KafkaError):
                continue  # no position yet, or dealt to another member just now
        return positions

    def _held(self) -> Set[KafkaPartition]:
        return self._consumer.assignment() if self._joined else frozenset()

    def _reading(self) -> Set[KafkaPartition]:
        return self._held() - self._consumer.paused()

    async def _let_go(self) -> None:
        fetching, self._fetching = self._fetching, None
        await _stopped(self._consumer)
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait({fetching}, timeout=1.0)

    async def _rebuild(self) -> None:
        self._joined = False
        await self._let_go()  # first, or its place in the group would be dealt out to nobody
        consumer = self._make()
        await _started(consumer)
        self._consumer, self._joined = consumer, True


async def _salvaged(
    watch: Watch, positions: Mapping[TopicPartition, int], after: Mapping[TopicPartition, int], timeout_s: float
) -> None:
    """Lets the watch look on, and does not go round at once where nothing moved."""
    watch.idle()
    if all(after[tp] == positions[tp] for tp in after):
        await asyncio.sleep(min(timeout_s, _NOTHING_MOVED_S))


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
    """Lets go of it, wherever Kafka is. Raises CancelledError only to whoever was cancelled."""
    fetcher = consumer._fetcher  # pyright: ignore[reportPrivateUsage]  # no public way to let go
    stopped = False
    try:
        async with asyncio.timeout(_STOP_S):
            await consumer.stop()
        stopped = True
    except TimeoutError:
        # It waits to say goodbye to a broker that does not answer. The group finds out by its session timeout.
        _log.warning("bus_reader_left_behind")
    except asyncio.CancelledError as e:
        # The library cancels a fetch that waits to be tried again, and awaits it: its end is not ours.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _log.warning("bus_reader_closed_badly", kind=type(e).__name__)
    except (KafkaError, OSError) as e:
        _log.warning("bus_reader_closed_badly", kind=type(e).__name__)
    finally:
        if not stopped:
            await _torn_off(consumer, fetcher)
        _forget_unread(fetcher)


async def _torn_off(consumer: AIOKafkaConsumer, fetcher: Any) -> None:
    """Ends what a stop did not come to, each part by itself."""
    try:
        async with asyncio.timeout(_TEAR_OFF_S):
            if fetcher is not None:
                fetches = set(fetcher._pending_tasks)
                for fetch in fetches:
                    fetch.cancel()
                if fetches:
                    await asyncio.wait(fetches)
                fetcher._pending_tasks.clear()  # or its close would await them, and end as they did
                await fetcher.close()
            await consumer._client.close()  # pyright: ignore[reportPrivateUsage]
    except (TimeoutError, KafkaError, OSError) as e:
        _log.warning("bus_reader_closed_badly", kind=type(e).__name__)


def _forget_unread(fetcher: Any) -> None:
    """What was fetched and not read, up to 1 MiB a partition, lies in cycles that the calm collector finds hours later."""
    if fetcher is None:
        return
    for fetched in fetcher._records.values():
        records = getattr(fetched, "_partition_records", None)
        if records is not None and records._records_iterator is not None:
            records._records_iterator.close()
    fetcher._records.clear()

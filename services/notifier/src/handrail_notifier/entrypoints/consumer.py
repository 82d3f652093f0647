"""The loops that never end: read the bus for the projection and for the rings, mind Redis, tidy up.

Each runs until `stopping` is set. What a broken engine raises is waited out here and nowhere else; whatever else is
raised ends the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from handrail_contracts import topics
from handrail_contracts.codec import Undecodable
from handrail_contracts.envelope import ce_type, header
from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_notifier.application.bundle import Bundles
from handrail_notifier.application.gathering import Gathering
from handrail_notifier.application.inbox_feed import InboxFeed
from handrail_notifier.application.ports import LiveStore, Unavailable
from handrail_notifier.application.projection import Projection
from handrail_notifier.application.recent import Recent
from handrail_notifier.application.records import read_event, read_progress
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.shared_reader import SharedReader
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.lifecycle import backoff
from handrail_runtime.pace import Pace
from handrail_runtime.ports import Bus, BusError, Reader, Record, TopicPartition
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)

GROUP = "handrail-notifier-projection"
READ_S = 0.5
FAN_OUT_MOST = 2000
PROJECT_MOST, PROJECT_EVERY_S = 1000, 0.05
"""How far apart reads for Redis are while events come in a stream (a full one is followed at once). Streams only begin there,
and what it lacks then comes from the journal."""
COMMIT_S = 1.0
EPOCH_S = 0.5
SWEEP_S = 5.0
_ACCEPTED = ce_type(EventType.WORKFLOW_ACCEPTED).encode()
_TOLD_OUTSIDE = frozenset(
    ce_type(kind).encode()
    for kind in (EventType.WORKFLOW_PAUSED_HITL, EventType.HITL_RESOLVED, EventType.MESSAGE_ADDED, *TERMINAL_EVENTS)
)


class FanOut:
    """Reads all of `handrail.events` and `handrail.progress` from the end and hands each watched workflow its own, the inbox
    what concerns operators, and `recent` all events. `heard` is called when outbound channels may have something to tell.

    While nobody watches, what comes gathers between two reads. Who is about to watch awaits `attend` (`Gathering.attend`)
    first, and then looks where things stand: nothing that was over before is told afterwards."""

    def __init__(
        self,
        bus: Bus,
        rings: Rings,
        inbox: InboxFeed,
        bundles: Bundles,
        recent: Recent,
        heard: Callable[[], None] | None = None,
    ) -> None:
        self._bus, self._rings, self._inbox, self._bundles = bus, rings, inbox, bundles
        self._recent, self._heard = recent, heard
        self._reader: Reader | None = None
        self._missed = False
        self._gathering = Gathering(self._watched)
        self.attend = self._gathering.attend
        self._skipped = counter("sse_undecodable_records", "Records of watched workflows that could not be read")

    async def open(self) -> None:
        """Begins at the end of every partition; what comes after this call has returned is read. Raises BusError."""
        await self.close()
        self._reader = await self._bus.reader()
        partitions = [
            (topic, p) for topic in (topics.EVENTS, topics.PROGRESS) for p in range(await self._bus.partitions(topic))
        ]
        ranges = await self._bus.ranges(partitions)
        ends = {place: ranges[place].end for place in partitions}
        self._reader.assign(ends)
        self._recent.begin({place: end for place, end in ends.items() if place[0] == topics.EVENTS})

    async def close(self) -> None:
        """Lets go of the reader. Idempotent."""
        self._recent.end()
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Reads until told to stop. After trouble it begins at the end again, and what was missed comes from the journal; as
        long as the bus is away, so does everything."""
        delays = backoff()
        while not stopping.is_set():
            await self._gathering.rest()
            try:
                if self._reader is None:
                    self._missed = True
                    await self.open()
                    _log.info("bus_reader_reopened", action="fan_out")
                assert self._reader is not None
                records = await self._reader.read(FAN_OUT_MOST, self._gathering.patience_s(READ_S))
                delays = backoff()
            except BusError as e:
                _log.warning("bus_reader_failed", action="fan_out", kind=type(e).__name__, reason=str(e)[:200])
                self._gathering.let_in()
                await self._abandon()
                await self._catch_up()
                await _wait(stopping, next(delays))
                continue
            self.take(records)
            if self._missed:
                await self._catch_up()
            self._gathering.was_read(len(records), FAN_OUT_MOST)
        await self.close()

    def _watched(self) -> bool:
        """Somebody looks at something, or did a moment ago."""
        return len(self._rings) > 0 or self._inbox.active or self._bundles.wants_accepted

    def take(self, records: Sequence[Record]) -> None:
        """Hands records to the rings that they belong to; for all others the key is enough, undecoded."""
        self._recent.offer(records)
        find = self._rings.find
        inbox = self._inbox if self._inbox.active else None
        bundles = self._bundles if self._bundles.wants_accepted else None
        for record in records:
            if inbox is not None and record.topic == topics.EVENTS:
                inbox.offer(record)
            if self._heard is not None and header(record.headers, "ce_type") in _TOLD_OUTSIDE:
                self._heard()
            if bundles is not None and header(record.headers, "ce_type") == _ACCEPTED:
                self._announce(bundles, record)
            watched = find(record.key)
            if watched is None:
                continue
            try:
                if record.topic == topics.EVENTS:
                    self._rings.offer(watched, read_event(record), record.timestamp_ms)
                else:
                    self._rings.offer_progress(watched, read_progress(record))
            except Undecodable as e:
                self._skipped.inc()
                _log.warning("record_skipped", topic=record.topic, offset=record.offset, reason=e.reason)

    def _announce(self, bundles: Bundles, record: Record) -> None:
        try:
            found = read_event(record)
            labels = found.event["labels"]
            if isinstance(labels, dict):
                bundles.accepted(found.key, labels)
        except (Undecodable, KeyError):
            self._skipped.inc()

    async def _catch_up(self) -> None:
        try:
            await self._rings.recheck(at_once=True)
            await self._inbox.reload()
            self._bundles.missed(over=self._reader is not None)
        except Unavailable as e:
            _log.info("catch_up_put_off", reason=str(e)[:200])
        else:
            self._missed = self._reader is None

    async def _abandon(self) -> None:
        try:
            await self.close()
        except BusError:
            self._reader = None


async def project(reader: SharedReader, projection: Projection, stopping: asyncio.Event) -> None:
    """Brings every event into Redis. The position moves only behind what is there, so nothing is lost while Redis is
    away; what is read twice is recognised."""
    positions: dict[TopicPartition, int] = {}
    committed = time.monotonic()
    delays, pace = backoff(), Pace(PROJECT_EVERY_S)
    while not stopping.is_set():
        await pace.rest()
        try:
            records = await reader.read(PROJECT_MOST, READ_S)
            if 0 < len(records) < PROJECT_MOST:
                pace.turned()
            if records and await _insist(projection, records, stopping):
                for record in records:
                    positions[record.topic, record.partition] = record.offset + 1
            if positions and time.monotonic() - committed >= COMMIT_S:
                crashpoint("K20")
                await reader.commit(positions)
                positions.clear()
                committed = time.monotonic()
            delays = backoff()
        except BusError as e:
            _log.warning("bus_reader_failed", action="project", kind=type(e).__name__, reason=str(e)[:200])
            await _wait(stopping, next(delays))
    if positions:
        try:
            await reader.commit(positions)
        except BusError as e:
            _log.info("commit_skipped", action="project", kind=type(e).__name__)


async def _insist(projection: Projection, records: Sequence[Record], stopping: asyncio.Event) -> bool:
    """False when told to stop before Redis took it: the batch will be read again."""
    delays = backoff(cap_s=2.0)
    complained = False
    while True:
        try:
            await projection.apply(records)
        except Unavailable as e:
            if not complained:
                _log.warning("projection_waiting", records=len(records), reason=str(e)[:200])
            complained = True
            await _wait(stopping, next(delays))
            if stopping.is_set():
                return False
        else:
            if complained:
                _log.info("projection_resumed")
            return True


async def mind_redis(store: LiveStore, projection: Projection, rings: Rings, stopping: asyncio.Event) -> None:
    """Notices that Redis was emptied and writes the watched workflows again; the others come back with their next event
    or when somebody asks."""
    known: str | None = None
    while not stopping.is_set():
        try:
            mark = await store.epoch()
            if known is not None and mark != known:
                keys = [watched.key for watched in rings.watched()]
                _log.warning("redis_was_emptied", action="rebuild", workflows=len(keys))
                await projection.rebuild(keys)
            known = mark
        except Unavailable:
            pass  # whoever needs Redis says so; here there is nothing to do until it is back
        await _wait(stopping, EPOCH_S)


async def tidy(rings: Rings, inbox: InboxFeed, recheck_s: float, stopping: asyncio.Event) -> None:
    """Drops what nobody watches, and from time to time asks the journal whether the bus is keeping up."""
    due = time.monotonic() + recheck_s
    while not stopping.is_set():
        await _wait(stopping, min(SWEEP_S, recheck_s))
        rings.sweep()
        inbox.sweep()
        if time.monotonic() >= due:
            due = time.monotonic() + recheck_s
            try:
                await rings.recheck(at_once=False)
            except Unavailable as e:
                _log.info("recheck_skipped", reason=str(e)[:200])


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass

"""Which partitions are ours (DESIGN D4): leases in PostgreSQL with an epoch, as many as our share of the live members.

`held` is what we believe; the fence in every batch is what is true. Offsets belong to one incarnation of the bus: on
acquisition they are verified, and adopted anew when the bus lost its log. With them stands where the log of events began to
be ours: what lies before was published from another database, and says nothing of this one's journal.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from handrail_contracts.envelope import header
from handrail_contracts.topics import EVENTS, OWNER_INPUTS
from handrail_orchestrator.application.ports import Owned, Position, Store
from handrail_orchestrator.application.tail import Tail
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, LogRange, TopicPartition

_log = structlog.get_logger(__name__)
LOOKS = 6


@dataclass(slots=True)
class Held:
    """A partition that we own, as of our last commit. `verified`: its offsets are known to mean this bus; `adoptions`: how often
    they were set to the start of another log; `unsaved`: what of the offsets goes into the row with the next commit."""

    p: int
    epoch: int
    bus_id: str | None
    offsets: dict[str, tuple[int, str | None]]
    next_pseq: int
    batch: int
    verified: bool = False
    foreign: bool = False
    adoptions: int = 0
    unsaved: dict[str, tuple[int, str | None]] = field(default_factory=dict)

    def same_log(self, other: Held) -> bool:
        """Whether the offsets of both mean the same incarnation of the log."""
        return (self.epoch, self.bus_id, self.adoptions) == (other.epoch, other.bus_id, other.adoptions)


def share(partitions: int, live: int) -> int:
    """How many partitions one of `live` members should own."""
    return math.ceil(partitions / max(1, live))


class Ownership:
    """`step` once a second; it answers what was lost and what is new. Serial with the batch loop, so no lock is needed."""

    def __init__(self, store: Store, bus: Bus, tail: Tail, seen_s: float) -> None:
        self._store = store
        self._bus = bus
        self._tail = tail
        self._seen_s = seen_s
        self.held: dict[int, Held] = {}

    async def step(self, published: dict[int, int]) -> tuple[set[int], list[Owned], int]:
        """Renews, then takes what is missing from our share. Answers (lost, new, surplus)."""
        live, partitions = await self._store.beat(self._seen_s)
        kept = await self._store.renew({p: (h.epoch, published.get(p, 0), h.batch) for p, h in self.held.items()})
        lost = set(self.held) - kept
        for p in lost:
            del self.held[p]
        if lost:
            _log.warning("partitions_lost", partitions=sorted(lost))
        target = share(partitions, live)
        new: list[Owned] = []
        if len(self.held) < target:
            new = await self._store.acquire(target - len(self.held))
            for o in new:
                self.held[o.p] = Held(o.p, o.epoch, o.bus_id, dict(o.offsets), o.next_pseq, o.batch)
            if new:
                _log.info("partitions_acquired", partitions=sorted(o.p for o in new), held=len(self.held), live=live)
                crashpoint("K10")
        return lost, new, max(0, len(self.held) - target)

    async def give_back(self, partitions: Iterable[int], published: dict[int, int]) -> None:
        """Releases partitions whose batch is finished and whose records are flushed."""
        leaving = {p: (self.held[p].epoch, published.get(p, 0)) for p in partitions if p in self.held}
        crashpoint("K9")
        for p in leaving:
            del self.held[p]
        if leaving:
            await self._store.release(leaving)
            _log.info("partitions_released", partitions=sorted(leaving), held=len(self.held))

    def drop(self, partitions: Iterable[int]) -> None:
        """Forgets partitions that turned out not to be ours."""
        for p in partitions:
            self.held.pop(p, None)

    async def verify(self) -> list[Held]:
        """Checks the offsets of newly held partitions against the bus; answers those whose bus is another than they knew.

        Those get the log start as offsets. Raises BusError while the bus does not answer: then nothing is read yet; and
        Misconfigured when the bus that they knew tells of events that the journal does not have.
        """
        fresh = [h for h in self.held.values() if not h.verified]
        if not fresh:
            return []
        bus_id = await self._bus.bus_id()
        ranges = await self._bus.ranges([(t, h.p) for h in fresh for t in (*OWNER_INPUTS, EVENTS)])
        doubtful = [h for h in fresh if h.bus_id == bus_id]
        await self._tail.check({h.p: _ours(h, ranges[EVENTS, h.p]) for h in doubtful})
        strange = await self._strange(doubtful, ranges)
        foreign: list[Held] = []
        for h in fresh:
            if h.bus_id != bus_id or h.p in strange:
                if h.bus_id != bus_id:
                    h.unsaved = {EVENTS: (ranges[EVENTS, h.p].end, None)}
                h.offsets |= {t: (ranges[t, h.p].start, None) for t in OWNER_INPUTS} | h.unsaved
                h.foreign = bool(h.bus_id)
                h.bus_id = bus_id
                h.adoptions += 1
                foreign.append(h)
            h.verified = True
        return foreign

    async def exchanged(self, seen: dict[int, Held]) -> dict[int, int]:
        """The partitions (with epochs) whose log is not the one any more that their offsets mean. `seen` holds what was known at
        the look before and is brought up to date: once a record of the new log was read, what is known now would fit it.
        Changes nothing else, and may run beside the batch loop. Raises BusError."""
        now = {h.p: replace(h, offsets=dict(h.offsets)) for h in self.held.values() if h.verified}
        known = {p: old if (old := seen.get(p)) is not None and old.same_log(h) else h for p, h in now.items()}
        if not known:
            return {}
        bus_id = await self._bus.bus_id()
        ranges = await self._bus.ranges([(t, p) for p in known for t in OWNER_INPUTS])
        gone = {p for p, h in known.items() if h.bus_id != bus_id}
        # what was known at the look before may be older than the log keeps: that says nothing
        for tp, log in ranges.items():
            ranges[tp] = LogRange(min(log.start, (known[tp[1]].offsets.get(tp[0]) or (log.start, None))[0]), log.end)
        gone |= await self._strange([h for p, h in known.items() if p not in gone], ranges)
        seen.clear()
        seen.update({p: h for p, h in now.items() if p not in gone} | {p: known[p] for p in gone})
        return {p: known[p].epoch for p in gone}

    def disown(self, partitions: Iterable[int]) -> None:
        """What is known of the logs of these partitions counts no longer: the next `verify` adopts what it finds."""
        for p in partitions:
            if (held := self.held.get(p)) is not None:
                held.verified, held.bus_id = False, "lost"

    async def _strange(self, held: list[Held], ranges: dict[TopicPartition, LogRange]) -> set[int]:
        """Partitions whose remembered offset is out of the log, or whose record before it is not the remembered one."""
        strange: set[int] = set()
        before: dict[TopicPartition, tuple[int, str]] = {}
        for h in held:
            for topic in OWNER_INPUTS:
                log = ranges[topic, h.p]
                offset, ce_id = h.offsets.get(topic, (log.start, None))
                if not log.start <= offset <= log.end:
                    strange.add(h.p)
                elif ce_id is not None and offset - 1 >= log.start:
                    before[topic, h.p] = (offset - 1, ce_id)
        if before:
            strange |= await self._changed(before)
        return strange

    async def _changed(self, before: dict[TopicPartition, tuple[int, str]]) -> set[int]:
        """Where another record stands than the remembered one. What no broker shows within some tries counts as unchanged."""
        waiting, changed = dict(before), set[int]()
        for delay in islice(backoff(0.1, 1.0), LOOKS):
            there = await self._bus.peek({tp: offset for tp, (offset, _) in waiting.items()})
            for tp, r in there.items():
                offset, ce_id = waiting.pop(tp)
                if r.offset == offset and (header(list(r.headers), "ce_id") or b"").decode(errors="replace") != ce_id:
                    changed.add(r.partition)
            if not waiting:
                break
            await asyncio.sleep(delay)
        return changed

    def position(self, p: int, published: int, rows: int, offsets: dict[str, tuple[int, str | None]]) -> Position:
        """Where the partition stands after a batch that adds `rows` and reads up to `offsets`."""
        h = self.held[p]
        return Position(p, h.epoch, h.next_pseq + rows, published, h.unsaved | offsets, h.bus_id, h.batch)

    def committed(self, positions: Iterable[Position]) -> None:
        """Makes what was committed what we know."""
        for x in positions:
            h = self.held.get(x.p)
            if h is not None and h.epoch == x.epoch:
                h.next_pseq = x.next_pseq
                h.offsets.update(x.offsets)
                h.unsaved = {}
                h.batch += 1

    def reading(self) -> dict[tuple[str, int], int]:
        """Where to read: every input topic of every verified partition."""
        found: dict[tuple[str, int], int] = {}
        for h in self.held.values():
            if h.verified:
                for topic in OWNER_INPUTS:
                    found[topic, h.p] = h.offsets.get(topic, (0, None))[0]
        return found


def _ours(h: Held, log: LogRange) -> LogRange:
    """The part of the log of events since it is ours; all of it where it was made anew since."""
    since, _ = h.offsets.get(EVENTS, (0, None))
    return LogRange(max(log.start, since), log.end) if since <= log.end else log

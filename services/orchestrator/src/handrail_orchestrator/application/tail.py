"""The newest event that was published in a partition, held against the journal.

Every event was committed before it was published. One that the journal does not have was committed to a database that is
gone: a standby without the tail was promoted, or an old copy was restored. Going on would give its `seq` to another event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from handrail_contracts.codec import Undecodable, decode
from handrail_contracts.ids import TRACE_ID, event_ce_id, partition, workflow_key
from handrail_contracts.model import iso, ms_of
from handrail_contracts.topics import EVENTS, TOPICS
from handrail_orchestrator.application.ports import Journaled, Store
from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, LogRange, Record

_log = structlog.get_logger(__name__)
LOOKS = 8
"""Steps back double: 1, 2, 4 … records before the end."""
KEPT_MS = next(t.retention_ms for t in TOPICS if t.name == EVENTS)
"""The journal keeps for so long whatever was written (`handrail db archive`); an older event says nothing."""
_MOST_SEQ = 2**31


class Told(NamedTuple):
    """An event as the bus has it."""

    p: int
    trace_id: str
    seq: int
    type: str
    at: str


class Tail:
    """Asked when partitions are taken, never on the way of a batch. `clock` is the store's, in ms."""

    def __init__(self, store: Store, bus: Bus, tenant: str, partitions: int, clock: Callable[[], int]) -> None:
        self._store, self._bus, self._tenant, self._partitions, self._clock = store, bus, tenant, partitions, clock

    async def check(self, logs: Mapping[int, LogRange]) -> None:
        """`logs`: partition -> what of its events this database may have published. One peek and one query for all of them.

        What is not ours or is none is passed over, some way back; where nothing can be judged this says so and goes on.
        Raises Misconfigured when the journal lacks what was published, BusError.
        """
        newest = await self._newest(logs)
        young = [e for e in newest if self._clock() - ms_of(e.at) < KEPT_MS]
        if not young:
            return
        there = await self._store.journaled([(e.trace_id, e.seq) for e in young])
        lost = [(e, there.get((e.trace_id, e.seq))) for e in young]
        lost = [(e, j) for e, j in lost if j is None or (j.type, j.at) != (e.type, e.at)]
        if lost:
            raise Misconfigured(_refusal(*lost[0], others=[e.p for e, _ in lost[1:]]))

    async def _newest(self, logs: Mapping[int, LogRange]) -> list[Told]:
        """The newest event of each log that has one; a broker that shows nothing is asked again a little later."""
        found: list[Told] = []
        back = {p: 1 for p, log in logs.items() if log.end > log.start}
        unjudged: list[int] = []
        delays = backoff(0.1, 1.0)
        for _ in range(LOOKS):
            if not back:
                break
            at = {(EVENTS, p): max(logs[p].start, logs[p].end - n) for p, n in back.items()}
            seen = await self._bus.peek(at)
            for tp, offset in at.items():
                r, p = seen.get(tp), tp[1]
                if r is None:
                    continue
                if (event := self._event(r)) is not None:
                    found.append(event)
                    del back[p]
                elif offset == logs[p].start:
                    unjudged.append(p)
                    del back[p]
                else:
                    back[p] *= 2
            if len(seen) < len(at):
                await asyncio.sleep(next(delays))
        if unjudged := sorted([*unjudged, *back]):
            _log.warning("newest_event_not_judged", partitions=unjudged)
        return found

    def _event(self, r: Record) -> Told | None:
        """What the record says if it is an event of ours as we publish it."""
        try:
            envelope, event = decode(EVENTS, r.headers, r.value)
        except Undecodable:
            return None
        told = _told(r.partition, event)
        if told is None or partition(self._tenant, told.trace_id, self._partitions) != r.partition:
            return None
        ours = (event_ce_id(self._tenant, told.trace_id, told.seq), workflow_key(self._tenant, told.trace_id).encode())
        return told if (envelope.id, r.key) == ours else None


def _told(p: int, event: Any) -> Told | None:
    trace_id, seq, type_, at = (event.get(k) for k in ("trace_id", "seq", "event_type", "at"))
    if not (isinstance(trace_id, str) and isinstance(type_, str) and isinstance(at, str)):
        return None
    if type(seq) is not int or not 0 < seq < _MOST_SEQ or not TRACE_ID.fullmatch(trace_id) or not type_.isidentifier():
        return None
    try:
        return Told(p, trace_id, seq, type_, at) if iso(ms_of(at)) == at else None
    except (ValueError, OverflowError):
        return None


def _refusal(e: Told, j: Journaled | None, *, others: list[int]) -> str:
    if j is None:
        has = "does not know this workflow"
    elif j.type is None:
        has = f"ends at {j.newest}"
    else:
        has = f"has {j.type} of {j.at} there"
    more = f" Partitions {', '.join(map(str, sorted(others)))} are like it." if others else ""
    return (
        f"Expected every published event in the journal, but partition {e.p} of {EVENTS} has event {e.seq} of workflow "
        f"{e.trace_id!r} ({e.type} of {e.at}), and the journal {has}.{more} PostgreSQL has lost what it had committed (a "
        "standby without the tail was promoted, an old copy restored), or another database's orchestrators use this Kafka. "
        f"Bring back the database that has it; if that is gone for good, stop all services, delete the topic {EVENTS}, empty "
        "Redis and start again (docs/howto/database-that-lost-its-tail.md says what is lost then)."
    )

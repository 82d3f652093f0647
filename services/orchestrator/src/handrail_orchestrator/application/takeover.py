"""Taking partitions over: from an owner that is gone, from a bus that lost its log, from ourselves after falling behind.

Everything here sends again what may have been lost. That is always safe: consumers drop repeats by `seq`, attempt number
and effect key.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
import structlog

from handrail_contracts.events import EventType
from handrail_contracts.model import iso
from handrail_engine.decide import adopt
from handrail_engine.outgoing import outgoing
from handrail_engine.state import Row
from handrail_orchestrator.application.batch import Batcher
from handrail_orchestrator.application.lane import Sending
from handrail_orchestrator.application.ownership import Held, Ownership
from handrail_orchestrator.application.ports import Batch, JournalRow, Store
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Work
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)
_adopted = counter("bus_adoptions_total", "Partitions whose bus had lost its log")
CHUNK = 200
_ROWS = 1_000
_WAKEUPS = 5_000


class Takeover:
    """Serial with the batch loop, like everything that touches states."""

    def __init__(
        self,
        store: Store,
        ownership: Ownership,
        publisher: Publisher,
        batcher: Batcher,
        wakeups: Wakeups,
        tenant: str,
        clock: Callable[[], int],
        *,
        bus_forgets: bool,
    ) -> None:
        self._store, self._own, self._publisher = store, ownership, publisher
        self._batcher, self._wakeups, self._tenant, self._clock = batcher, wakeups, tenant, clock
        self._bus_forgets = bus_forgets

    async def bus(self, held: list[Held]) -> None:
        """The bus lost its log: every open workflow of these partitions gets its open work and its last event sent again
        (DESIGN section 5, Ownership). An alarm, not a failure; not even that where every start has a new log."""
        partitions = sorted(h.p for h in held)
        if self._bus_forgets:
            _log.info("new_bus_adopted", partitions=partitions)
        else:
            _log.error("foreign_bus_adopted", partitions=partitions)
            _adopted.inc(len(partitions))
        positions = [self._own.position(h.p, self._publisher.published(h.p), 0, dict(h.offsets)) for h in held]
        await self._store.commit(Batch(self._tenant, positions=positions))
        self._own.committed(positions)
        after = ""
        while True:
            found = await self._store.open_workflows(partitions, after, CHUNK)
            if not found:
                return
            after = found[-1][1]
            names = [t for _, t, _ in found]
            for row in await self._store.last_events(names):
                self._publisher.put([self._event(row, 0)], catching_up=True)
            for name in names:
                await self._open_work(name, [])

    async def partitions(self, held: list[Held]) -> None:
        """New partitions: publish what their last owner did not, and set the wake-ups of their open workflows."""
        await self.unpublished(held)
        after = ""
        while True:
            found = await self._store.open_workflows([h.p for h in held], after, _WAKEUPS)
            for _, trace_id, wake in found:
                self._wakeups.set(trace_id, wake)
            if len(found) < _WAKEUPS:
                return
            after = found[-1][1]

    async def unpublished(self, held: list[Held]) -> None:
        """Publishes committed rows that are not known to be published; open attempts behind them are sent again."""
        for h in held:
            after = self._publisher.published(h.p)
            while after < h.next_pseq - 1:
                rows = await self._store.unpublished(h.p, after, _ROWS)
                if not rows:
                    break
                after = rows[-1].pseq
                self._publisher.put([self._event(r, r.pseq) for r in rows], catching_up=True)
                for trace_id in dict.fromkeys(r.trace_id for r in rows):
                    letters = [r for r in rows if r.trace_id == trace_id and r.type == EventType.TASK_DEAD_LETTERED]
                    await self._open_work(trace_id, letters)
            self._publisher.overflowed.discard(h.p)

    def _event(self, r: JournalRow, pseq: int) -> Sending:
        return self._publisher.event(r.p, pseq, r.trace_id, r.seq, r.type, orjson.dumps(r.data), r.data["at"])

    async def _open_work(self, trace_id: str, letters: list[JournalRow]) -> None:
        entry = await self._batcher.state_of(trace_id)
        if entry is None or entry.parked or entry.broken is not None or entry.state.ended:
            return
        now = self._clock()
        await self._batcher.ruling.refresh(now, Work())
        messages = adopt(entry.state, self._batcher.ruling.now(now, self._batcher.last_claim, {}))
        for r in letters:
            messages.extend(outgoing(entry.state, Row(r.seq, r.type, r.data, r.meta, r.at_ms)))
        at = iso(self._clock())
        self._publisher.put([self._publisher.message(entry.p, m, at) for m in messages], catching_up=True)
        self._wakeups.set(trace_id, entry.state.next_wake())

"""From a stored workflow to the entry that its owner keeps: the newest snapshot, where there is one, and the rows after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import structlog

from handrail_contracts.events import EventType
from handrail_engine.decide import renew
from handrail_engine.evolve import fold
from handrail_engine.inputs import Now
from handrail_engine.state import FOLD_VERSION, Row, WorkflowState
from handrail_orchestrator.application.cache import Entry
from handrail_orchestrator.application.ports import Store, Stored
from handrail_orchestrator.application.snapshots import taken_up
from handrail_runtime.memory import ran_out

_log = structlog.get_logger(__name__)


class Loading:
    """Folds workflows anew, each lease of theirs beginning now."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], int], last_claim: Mapping[str, int]) -> None:
        self._store, self._tenant, self._clock, self._last_claim = store, tenant, clock, last_claim

    async def entries(self, trace_ids: Sequence[str], given_up: Collection[str] = ()) -> dict[str, Entry]:
        """These workflows; those that are not stored are absent, one that cannot be folded is `broken`. The rows of a parked
        one are left alone, unless it is `given_up`: then they are kept with it."""
        found: dict[str, Entry] = {}
        whole: list[str] = list(given_up)
        rest = [t for t in trace_ids if t not in given_up]
        for stored in await self._store.load(rest, FOLD_VERSION) if rest else ():
            try:
                found[stored.trace_id] = self._entry(stored)
            except Exception as e:  # whatever a journal does to the rules, it stops its workflow and no other
                if ran_out(e):
                    raise
                if stored.snapshot is None:
                    found[stored.trace_id] = self._broken(stored, e)
                    continue
                _log.warning("snapshot_not_read", trace_id=stored.trace_id, kind=type(e).__name__, error=str(e)[:200])
                whole.append(stored.trace_id)  # the journal has it all
        for stored in await self._store.load(whole) if whole else ():
            anyway = stored.trace_id in given_up
            try:
                entry = self._entry(stored, anyway=anyway)
            except Exception as e:  # as above
                if ran_out(e):
                    raise
                entry = self._broken(stored, e)
            entry.parked = stored.parked
            if anyway and (entry.parked or entry.broken is not None):
                entry.journal = list(_rows(stored))
            found[stored.trace_id] = entry
        return found

    def _broken(self, stored: Stored, error: Exception) -> Entry:
        state = WorkflowState(self._tenant, stored.trace_id)
        return Entry(state, stored.p, stored.born, stored.status, stored.wake_ms, stored.parked, broken=error)

    def _entry(self, stored: Stored, *, anyway: bool = False) -> Entry:
        if stored.parked and not anyway:
            state = WorkflowState(self._tenant, stored.trace_id)
            return Entry(state, stored.p, stored.born, stored.status, stored.wake_ms, parked=True)
        entry = taken_up(self._tenant, stored)
        fold(self._tenant, stored.trace_id, _rows(stored), onto=entry.state)
        renew(entry.state, Now(self._clock(), self._last_claim))
        entry.stored_status, entry.stored_wake_ms = stored.status, stored.wake_ms
        for r in stored.rows:
            if r.type == EventType.TASK_DEAD_LETTERED and not (r.meta or {}).get("late_effect"):
                entry.letters[r.data["node_id"]] = r.data["dead_letter_id"]
        return entry


def _rows(stored: Stored) -> Iterator[Row]:
    return (Row(r.seq, r.type, r.data, r.meta, r.at_ms) for r in stored.rows)

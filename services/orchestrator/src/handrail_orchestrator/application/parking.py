"""Workflows that the rules cannot handle stand still, and records that nobody can read are set aside: a person has a way on."""

from __future__ import annotations

from typing import Any

import structlog

from handrail_orchestrator.application.cache import Cache, Entry
from handrail_orchestrator.application.opened import Opened
from handrail_orchestrator.application.ownership import Ownership
from handrail_orchestrator.application.records import look_again, quarantined
from handrail_orchestrator.application.work import Item
from handrail_runtime.ports import Record

_log = structlog.get_logger(__name__)


class Parking:
    """Puts into a batch what stands still, and why."""

    def __init__(self, tenant: str, ownership: Ownership, cache: Cache) -> None:
        self._tenant, self._own, self._cache = tenant, ownership, cache

    def park(self, trace_id: str, entry: Entry, items: list[Item], error: Exception, opened: Opened) -> None:
        """A workflow that the rules cannot handle stands still, with everything that comes for it, until a person replays."""
        _log.error("workflow_parked", trace_id=trace_id, kind=type(error).__name__, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        mine = {i.n for i in items if i.n is not None}
        opened.commands = [(n, e) for n, e in opened.commands if n not in mine]
        self._cache.drop(trace_id)
        self.set_aside(items, trace_id, reason, opened, entry)

    def set_aside(self, items: list[Item], trace_id: str, reason: str, opened: Opened, entry: Entry) -> None:
        """Parks it, with a record in quarantine whatever it was that parked it: a replay of that is a person's way on."""
        if all(i.record is None for i in items):
            items = [Item(None, record=look_again(self._tenant, trace_id, entry.p, opened.now.ms))]
        self.keep(items, trace_id, reason, opened)
        opened.batch.parked.append((trace_id, reason, entry.p, entry.born))

    def keep(self, items: list[Item], trace_id: str, reason: str, opened: Opened) -> None:
        """Puts the records among these inputs into quarantine, where a replay finds them."""
        for item in items:
            if item.record is not None:
                bus_id = self._bus_id(item.record.partition)
                opened.batch.quarantine.append(quarantined(item.record, reason[:300], bus_id, trace_id))

    def unread(self, record: Record, why: str) -> tuple[Any, ...]:
        """The quarantine row of a record that concerns no workflow."""
        return quarantined(record, why, self._bus_id(record.partition), None)

    def _bus_id(self, p: int) -> str:
        return self._own.held[p].bus_id or ""

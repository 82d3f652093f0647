"""`max_in_flight` over all orchestrators: places are counted in the store, in the transaction that dispatches.

A batch that may dispatch to a limited agent locks the agent's count before it decides, and writes it anew with its rows:
no two owners give the same place away. Workflows that found no room are woken, in order, when places come back; those of
other owners' doing are noticed once a second. Where nothing is limited nothing is locked, read or counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from handrail_contracts.tasks import Result
from handrail_engine.inputs import Start
from handrail_engine.state import WorkflowState
from handrail_orchestrator.application.ports import Store, Transaction
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Work
from handrail_runtime.telemetry import gauge

_waiting = gauge("workflows_waiting_for_room", "Workflows of which something waits for max_in_flight")


class Places:
    """Serial with the batch loop. `limits`: agent, or `agent/action`, -> how many attempts may be in flight."""

    def __init__(self, store: Store, wakeups: Wakeups, clock: Callable[[], int]) -> None:
        self._store, self._wakeups, self._clock = store, wakeups, clock
        self.limits: dict[str, int] = {}
        self._waiting: dict[str, dict[str, None]] = {}  # agent/action -> workflows, the longest waiting first
        self._of: dict[str, tuple[int, frozenset[str]]] = {}  # workflow -> nodes that it had, limits that concern it

    async def refresh(self) -> None:
        """Reads the limits; a change of them counts from the next batch on."""
        limits = await self._store.limits()
        if limits != self.limits:
            self.limits = limits
            self._of.clear()

    def concerned(self, work: Work, state_of: Callable[[str], WorkflowState | None]) -> list[str]:
        """The limits that this work may touch, sorted: so they are locked in one order everywhere."""
        if not self.limits:
            return []
        found: set[str] = set()
        for trace_id, items in work.items.items():
            state = state_of(trace_id)
            if state is not None:
                found |= self._limits_of(trace_id, state)
            for item in items:
                if isinstance(item.what, (Start, Result)) and item.what.nodes:
                    found |= self._limiting((str(n.get("agent")), str(n.get("action"))) for n in item.what.nodes)
        return sorted(found)

    def _limits_of(self, trace_id: str, state: WorkflowState) -> frozenset[str]:
        known = self._of.get(trace_id)
        if known is None or known[0] != len(state.nodes):
            found = self._limiting((n.spec.agent, n.spec.action) for n in state.nodes.values())
            known = self._of[trace_id] = (len(state.nodes), frozenset(found))
        return known[1]

    def _limiting(self, actions: Iterable[tuple[str, str]]) -> set[str]:
        names = {name for agent, action in actions for name in (agent, f"{agent}/{action}")}
        return names & self.limits.keys()

    async def lock(self, transaction: Transaction, keys: list[str]) -> dict[str, int]:
        """The room that there is, held until the transaction ends."""
        taken = await transaction.places(keys) if keys else {}
        return {k: self.limits[k] - taken.get(k, 0) for k in keys}

    @staticmethod
    def settle(state: WorkflowState, before: Mapping[str, int], room: dict[str, int], changed: dict[str, int]) -> None:
        """Counts what a decision took and gave back."""
        if before == state.places:
            return
        for key in {*before, *state.places}:
            more = state.places.get(key, 0) - before.get(key, 0)
            if more:
                changed[key] = changed.get(key, 0) + more
                if key in room:
                    room[key] -= more

    def committed(self, touched: Mapping[str, Any], room: Mapping[str, int]) -> None:
        """Notes who waits, and wakes those for whom there is room now. `touched`: trace_id -> something with a `state`."""
        if not self.limits and not self._waiting:
            return
        for trace_id, entry in touched.items():
            state: WorkflowState = entry.state
            for queue in [q for q in self._waiting if q not in state.crowded]:
                self._waiting[queue].pop(trace_id, None)
            for queue in state.crowded:
                self._waiting.setdefault(queue, {})[trace_id] = None
            if state.ended:
                self._of.pop(trace_id, None)
        self._wake(room)

    async def look(self) -> None:
        """Once a second: reads the limits, and wakes those who wait for places that other owners gave back."""
        await self.refresh()
        if self._waiting:
            keys = sorted({k for q in self._waiting for k in (q, q.partition("/")[0])})
            taken = await self._store.places(keys)
            self._wake({k: self.limits[k] - taken.get(k, 0) for k in keys if k in self.limits})

    def _wake(self, room: Mapping[str, int]) -> None:
        now = self._clock()
        for queue in list(self._waiting):
            waiting = self._waiting[queue]
            free = [room[k] for k in (queue, queue.partition("/")[0]) if k in room]
            unlimited = queue not in self.limits and queue.partition("/")[0] not in self.limits
            for trace_id in list(waiting)[: len(waiting) if unlimited else max(0, min(free, default=0))]:
                del waiting[trace_id]  # it comes back, behind the others, if it finds none
                self._wakeups.set(trace_id, now)
            if not waiting:
                del self._waiting[queue]
        _waiting.set(sum(len(w) for w in self._waiting.values()))

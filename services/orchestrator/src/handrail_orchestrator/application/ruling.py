"""The policies in force and how often actions succeed: what gates are judged by, besides the workflow itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
import structlog

from handrail_contracts.events import EventType
from handrail_contracts.ids import digest
from handrail_contracts.policy import RATE_FROM, Policy
from handrail_engine.inputs import Now, Start
from handrail_engine.policies import Policies
from handrail_engine.state import NodeState, Row, WorkflowState
from handrail_orchestrator.application.ports import Store
from handrail_orchestrator.application.work import Work

_log = structlog.get_logger(__name__)
FRESH_MS = 1_000
TOLD_MS = 2_000
READ_MS = 30_000
_ENDS = ("ok", "failed", "in_doubt", "lease-expired")


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy as read, and from where."""

    where: str
    policy: Policy


async def load_policies(store: Store, sources: Iterable[PolicySource]) -> int:
    """Stores every version that is newer than what stands; answers how many were read. An older one is history, and one that
    stands with another body is kept as it stands, because audits name it; the log says what to change."""
    count = 0
    for source in sources:
        p = source.policy
        body = orjson.dumps(p.model_dump(mode="json", exclude_unset=True))
        stored = await store.save_policy(p, digest(body), body)
        if stored is not None and stored != digest(body):
            _log.error("policy_changed_without_new_version", policy=p.name, version=p.version, where=source.where)
        count += 1
    return count


class Ruling:
    """The policies in force, at most a second old and never older than a start that is decided now; and how often each (agent,
    action) has succeeded: a share once there were 20 ends of attempts, older ones weigh less. That is kept over all
    orchestrators, a few seconds old; what a process has not told yet when it dies is lost. Where nothing is known nobody is
    spared."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_ms: int | None = None
        self._told_ms: int | None = None
        self._policies = Policies()
        self._untold: dict[tuple[str, str], list[int]] = {}
        self._rates: dict[tuple[str, str], float] = {}

    def now(self, ms: int, last_claim: Mapping[str, int], room: Mapping[str, int]) -> Now:
        """The instant of a batch, with what gates are judged by."""
        return Now(ms, last_claim, self._policies, self._rates, room)

    async def refresh(self, now_ms: int, work: Work) -> None:
        """Reads the policies again when they are old, or older than those that a start was accepted under; tells and reads the
        track record now and then. Raises what the store raises."""
        await self._tell(now_ms)
        starts = (i.what.policies for items in work.items.values() for i in items if isinstance(i.what, Start))
        fresh = self._read_ms is not None and 0 <= now_ms - self._read_ms < FRESH_MS
        if fresh and max(starts, default=0) <= self._policies.serial:
            return
        serial, rows = await self._store.policies()
        if serial != self._policies.serial:
            self._policies = Policies.read(rows, serial)
            names = [f"{p.name} v{p.version}" for p in self._policies.policies]
            _log.info("policies_in_force", serial=serial, policies=names)
        self._read_ms = now_ms

    def note(self, committed: Iterable[tuple[WorkflowState, list[Row]]]) -> None:
        """Counts the ends of attempts among committed rows: for the action of the node, and for the proposed one that was let
        pass."""
        for state, rows in committed:
            for row in rows:
                outcome = row.meta.get("outcome") if row.meta else None
                if outcome in _ENDS and row.type == EventType.NODE_STATE_CHANGED:
                    self._count(state.nodes[row.data["node_id"]], outcome == "ok")

    def _count(self, node: NodeState, ok: bool) -> None:
        actions = {node.spec.action, node.granted["action"]} if node.granted is not None else {node.spec.action}
        for action in actions:
            count = self._untold.setdefault((node.spec.agent, action), [0, 0])
            count[0] += ok
            count[1] += 1

    async def _tell(self, now_ms: int) -> None:
        age = TOLD_MS if self._told_ms is None else abs(now_ms - self._told_ms)
        if age < TOLD_MS or not (self._untold or self._told_ms is None or age >= READ_MS):
            return
        told = {key: (ok, of) for key, (ok, of) in self._untold.items()}
        known = await self._store.track_record(told)
        self._untold.clear()
        self._rates = {key: ok / of for key, (ok, of) in known.items() if of >= RATE_FROM}
        self._told_ms = now_ms

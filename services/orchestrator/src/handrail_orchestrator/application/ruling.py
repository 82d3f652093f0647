"""The policies in force and how often actions succeed: what gates are judged by, besides the workflow itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
import structlog

from handrail_contracts.ids import digest
from handrail_contracts.policy import Policy
from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine.inputs import Now, Start
from handrail_engine.policies import Policies
from handrail_engine.spec import NodeSpec
from handrail_orchestrator.application.ports import Store
from handrail_orchestrator.application.work import Work

_log = structlog.get_logger(__name__)
FRESH_MS = 1_000
ENOUGH = 20
_MOST_COUNTED = 400


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
    action) has succeeded lately, as this process has seen it: a share once there were 20 answers, older ones weigh less. That
    begins anew with the process, and where nothing is known nobody is spared."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_ms: int | None = None
        self._policies = Policies()
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._rates: dict[tuple[str, str], float] = {}

    def now(self, ms: int, last_claim: Mapping[str, int], room: Mapping[str, int]) -> Now:
        """The instant of a batch, with what gates are judged by."""
        return Now(ms, last_claim, self._policies, self._rates, room)

    async def refresh(self, now_ms: int, work: Work) -> None:
        """Reads the policies again when they are old, or older than those that a start was accepted under. Raises what the
        store raises."""
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

    def note(self, spec: NodeSpec, r: Result) -> None:
        """Counts the end of an attempt."""
        if r.kind is not TaskKind.EXECUTE or r.outcome not in (Outcome.OK, Outcome.FAILED, Outcome.IN_DOUBT):
            return
        key = (spec.agent, spec.action)
        count = self._counts.setdefault(key, [0, 0])
        count[0] += r.outcome is Outcome.OK
        count[1] += 1
        if count[1] >= _MOST_COUNTED:
            count[:] = [count[0] // 2, count[1] // 2]
        if count[1] >= ENOUGH:
            self._rates[key] = count[0] / count[1]

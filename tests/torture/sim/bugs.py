"""Bugs planted into the real code, one at a time: a simulation that does not catch them proves nothing.

Those of RELIABILITY G16 that live here, and each bug that the simulation itself has found (so that none comes back).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handrail_agents.runtime.worker import Worker
from handrail_engine import gates, nodes, pauses
from handrail_engine.inputs import Wake
from handrail_engine.state import WorkflowState
from handrail_orchestrator.application.batch import Batcher
from handrail_orchestrator.application.lane import Lane
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_orchestrator.application.ownership import Ownership
from handrail_orchestrator.application.ports import Batch
from handrail_orchestrator.application.publisher import Publisher
from handrail_orchestrator.application.ruling import Ruling
from handrail_orchestrator.application.takeover import Takeover
from handrail_orchestrator.application.wakeups import Wakeups
from handrail_orchestrator.application.work import Work
from handrail_sdk.context import Context
from tests.torture.sim.database import Database

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
BUGS: dict[str, tuple[Plant, frozenset[str]]] = {}


def _bug(*caught_by: str) -> Callable[[Plant], Plant]:
    def register(f: Plant) -> Plant:
        BUGS[f.__name__] = (f, frozenset(caught_by))
        return f

    return register


# the classical ones


@_bug("I10")
def ack_before_commit(p: Patch) -> None:
    real = Orchestrator._process

    async def process(self: Any, work: Work) -> None:
        early = Batch(self._tenant)
        for q in sorted({q for q, _ in work.offsets} & set(self._own.held)):
            moved = {t: at for (o, t), at in work.offsets.items() if o == q}
            early.positions.append(self._own.position(q, self._publisher.published(q), 0, moved))
        if early.positions:
            await self._store.commit(early)
            self._own.committed(early.positions)
        work.offsets = {}
        await real(self, work)

    p.setattr(Orchestrator, "_process", process)


@_bug("I5", "I4", "I10")
def no_epoch_check(p: Patch) -> None:
    p.setattr(Database, "_mine", lambda self, member, x: True)


@_bug("I2", "I8")
def the_effect_key_is_the_attempt(p: Patch) -> None:
    real = WorkflowState.key
    p.setattr(WorkflowState, "do_key", lambda s, n: real(s, n, n.generation) + f"#{n.attempt}")
    p.setattr(WorkflowState, "key", lambda s, n, g: real(s, n, g) + f"#{n.attempt + 1}")


@_bug("I4", "I2")
def publish_before_commit(p: Patch) -> None:
    real = Batcher._build

    def build(self: Any, work: Any, opened: Any) -> None:
        real(self, work, opened)
        self._publisher.put(opened.sendings)
        opened.sendings = []

    p.setattr(Batcher, "_build", build)


@_bug("I10")
def offsets_do_not_move_with_state(p: Patch) -> None:
    real = Ownership.position
    p.setattr(Ownership, "position", lambda self, q, published, rows, offsets: real(self, q, published, rows, {}))


@_bug("I9")
def a_new_owner_sets_no_timers(p: Patch) -> None:
    real = Takeover.partitions

    async def partitions(self: Any, held: Any) -> None:
        armed, self._wakeups = self._wakeups, Wakeups()
        try:
            await real(self, held)
        finally:
            self._wakeups = armed

    p.setattr(Takeover, "partitions", partitions)


@_bug("I6", "I1")
def a_deadline_without_a_guard(p: Patch) -> None:
    """The timer of a pause rings although somebody has decided it already."""
    real = Batcher._one

    def one(self: Any, trace_id: str, entry: Any, items: list[Any], opened: Any) -> None:
        items = sorted(items, key=lambda i: not isinstance(i.what, Wake))
        real(self, trace_id, entry, items, opened)

    p.setattr(Batcher, "_one", one)


@_bug("I4")
def an_event_that_failed_is_skipped(p: Patch) -> None:
    p.setattr(Lane, "_skippable", lambda self, sending, outcome: True)


@_bug("I4")
def a_new_owner_publishes_nothing_old(p: Patch) -> None:
    async def unpublished(self: Any, held: Any) -> None:
        for h in held:
            self._publisher.start_at(h.p, h.next_pseq - 1)

    p.setattr(Takeover, "unpublished", unpublished)


@_bug("I6", "I1")
def decisions_are_not_read_under_the_lock(p: Patch) -> None:
    real = Batcher._decide
    p.setattr(Batcher, "_decide", lambda self, work, opened, decisions: real(self, work, opened, decisions[:0]))


@_bug("I8", "I2")
def an_attempt_starts_without_a_claim(p: Patch) -> None:
    async def claimed(self: Any, a: Any) -> bool:
        return True

    p.setattr(Worker, "_claimed", claimed)


@_bug("I3", "I4", "I9", "I5", "I10", "I1")
def a_failed_batch_keeps_its_states(p: Patch) -> None:
    real = Batcher.run

    async def run(self: Any, work: Any) -> None:
        drop, self._cache.drop = self._cache.drop, lambda trace_id: None
        try:
            await real(self, work)
        finally:
            self._cache.drop = drop

    p.setattr(Batcher, "run", run)


@_bug("I3", "I4", "I10")
def a_snapshot_holds_what_is_not_committed(p: Patch) -> None:
    real = Batcher._build

    def build(self: Any, work: Any, opened: Any) -> None:
        real(self, work, opened)
        for entry in opened.touched.values():
            self.snapshots.look(entry)

    p.setattr(Batcher, "_build", build)


# those that the simulation found


@_bug("I9")
def who_owns_nothing_spins(p: Patch) -> None:
    real = Orchestrator._wait_s
    p.setattr(Orchestrator, "_wait_s", lambda self: real(self) if self._own.held else 0.0)


@_bug("I4", "I10")
def an_idle_batch_counts_as_stored(p: Patch) -> None:
    """Planted without the fence by `batch`: a row that knows of another count is taken anew, which heals it."""
    real = Batcher._committed

    def committed(self: Any, opened: Any) -> None:
        if not opened.batch.positions:
            for h in self._own.held.values():
                h.batch += 1
        real(self, opened)

    p.setattr(Database, "counts", staticmethod(lambda row, batch: True))
    p.setattr(Batcher, "_committed", committed)


@_bug("I10")
def what_was_read_is_forgotten_when_commands_cannot_be(p: Patch) -> None:
    real = Orchestrator._turn

    async def turn(self: Any) -> None:
        try:
            await real(self)
        except OSError:
            self._work = Work()
            raise

    p.setattr(Orchestrator, "_turn", turn)


@_bug("I3", "I4", "I9", "I5", "I10", "I1")
def lost_partitions_keep_their_states(p: Patch) -> None:
    p.setattr("handrail_orchestrator.application.cache.Cache.drop_partitions", lambda self, lost: None)


@_bug("I4")
def a_bus_not_seen_yet_passes_for_another(p: Patch) -> None:
    real = Ownership.position

    def position(self: Any, *a: Any) -> Any:
        made = real(self, *a)
        return made if made.bus_id is not None else replace(made, bus_id="")

    p.setattr(Ownership, "position", position)
    verify = Ownership.verify

    async def verified(self: Any) -> Any:
        strange = [h for h in self.held.values() if h.bus_id == ""]
        found = await verify(self)
        for h in strange:
            h.foreign = True
        return found

    p.setattr(Ownership, "verify", verified)


@_bug("I6")
def an_abort_comes_before_what_it_supersedes(p: Patch) -> None:
    p.setattr(Batcher, "_closes_others", lambda self, d: False)
    real = Database._apply_rare

    def apply(self: Any, b: Any) -> None:
        kept = {k: d.outcome for k, d in self.decisions.items()}
        real(self, b)
        for k, outcome in kept.items():
            self.decisions[k].outcome = outcome

    p.setattr(Database, "_apply_rare", apply)


@_bug("I8")
def a_cancel_of_what_was_begun_is_not_answered(p: Patch) -> None:
    real = Worker._answer_claimed
    p.setattr(
        Worker, "_answer_claimed", lambda self, task, row: None if task.kind == "cancel" else real(self, task, row)
    )


@_bug("I4")
def a_half_taken_partition_is_kept(p: Patch) -> None:
    p.setattr(Orchestrator, "_give_up", lambda self, partitions: None)

    def acknowledged(self: Any, s: Any) -> None:
        if s.pseq and s.p in self._published:
            self._published[s.p] = max(self._published[s.p], s.pseq)

    p.setattr(Publisher, "_acknowledged", acknowledged)


# gates, partial rollbacks, providers without keys


@_bug("I17")
def an_agent_acts_without_being_let(p: Patch) -> None:
    async def propose(self: Any, action: str, args: Any, **_: Any) -> dict[str, Any]:
        return dict(args)

    p.setattr(Context, "propose", propose)


@_bug("I17")
def an_approval_is_bound_to_nothing(p: Patch) -> None:
    """Whatever is approved once is approved for good, also with another amount, also after a rollback."""
    real = gates.admits

    def admits(t: Any, node: Any, meta: dict[str, Any]) -> bool:
        return (node.approved is not None and not meta.get("approved")) or real(t, node, meta)

    p.setattr(gates, "admits", admits)


@_bug("I17")
def a_refusal_sends_it_all_the_same(p: Patch) -> None:
    p.setattr(gates, "reject", lambda t, node, d: nodes._send(t, node, {}))


@_bug("I17")
def an_edit_sends_what_was_proposed(p: Patch) -> None:
    real = gates.approve

    def approve(t: Any, node: Any, pause: Any, d: Any, *, edit: bool) -> None:
        real(t, node, pause, d, edit=False)

    p.setattr(gates, "approve", approve)


@_bug("I17")
def policies_are_not_read(p: Patch) -> None:
    async def refresh(self: Any, now_ms: int, work: Any) -> None:
        return None

    p.setattr(Ruling, "refresh", refresh)


@_bug("I2")
def an_unsafe_doubt_is_tried_again(p: Patch) -> None:
    p.setattr(pauses, "open_ambiguous", lambda t, node, then=None: nodes.dispatch(t, node, round=True))


@_bug("I8")
def a_part_is_left_instead_of_undone(p: Patch) -> None:
    """A rollback of a part announces its undos and does none of them."""
    real = WorkflowState.undoes
    p.setattr(WorkflowState, "undoes", lambda s, n: s.ending is not None and s.ending.end is not None and real(s, n))


@_bug("I10")
def what_was_unborn_stays_unborn(p: Patch) -> None:
    """Whoever tries a batch again takes for new what the first try has stored after all."""
    real = Batcher.run

    async def run(self: Batcher, work: Work) -> None:
        unborn = set(work.unborn)
        try:
            await real(self, work)
        finally:
            work.unborn = unborn

    p.setattr(Batcher, "run", run)


@_bug("I4")
def a_commit_that_lands_late_is_written_again(p: Patch) -> None:
    """The fence lets through whoever knows of fewer batches than the row."""
    p.setattr(Database, "counts", staticmethod(lambda row, batch: row.batch >= batch))

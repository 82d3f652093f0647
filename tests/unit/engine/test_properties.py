"""Random plan × random outcomes × random order × repeats, losses and late answers × people, cancels, new owners.

Each property has a name (`properties.names()`); a property counts only if it can fail, so the mutants below are planted
into the engine one by one, and each must be killed by the property that is named beside it:

| mutant | killed by |
|---|---|
| a node does not wait for its dependencies | a_node_starts_after_its_dependencies_have_settled |
| a pause holds nothing back | what_a_pause_holds_back_waits |
| dispatch goes on during an abort | nothing_new_is_dispatched_once_it_winds_down |
| the effect key follows the attempt | an_effect_happens_at_most_once_under_one_key, the_effect_key_changes_only_when_… |
| a doubtful unsafe attempt is retried | an_unsafe_effect_in_doubt_is_never_tried_again_without_a_person |
| nothing is looked up | what_can_be_queried_is_looked_up_before_it_is_done_again |
| a late success is forgotten | every_effect_is_kept_undone_or_shown |
| only completed nodes are undone | every_effect_is_kept_undone_or_shown, an_undo_of_a_possible_effect_is_never_forgotten |
| undos do not wait for dependants | an_undo_waits_for_the_undos_that_it_depends_on |
| a child that did nothing does not release its parent | never_stuck |
| a failed undo counts as done | an_end_is_incomplete_exactly_when_something_stands_or_a_person_stopped |
| a dead letter is not waited for | never_stuck |
| repeats of ignored answers are journaled again | a_repeat_changes_nothing |
| a decision leaves its pause open | view_agrees_with_state |
| a resume is not told | paused_means_a_pause_is_open |
| the deadline runs while a person is asked | the_deadline_runs_only_while_nobody_is_asked |
| an attempt is given up while it may still start | an_attempt_is_given_up_only_after_it_can_no_longer_start |
| a new owner does not know the last send's window | an_attempt_is_given_up_only_after_it_can_no_longer_start |
| a retry does not wait | a_retry_comes_no_sooner_than_announced |
| skipped outputs are read as null | a_node_is_dispatched_only_with_what_it_cannot_live_without |
| conditions are ignored | a_condition_that_does_not_hold_keeps_a_node_from_running |
| a new key while the old effect is in doubt | the_effect_key_changes_only_when_a_person_orders_a_new_effect |
| a preview forgets the undos | preview_equals_effect |
| heartbeats change what is folded | replay_equals_state |
| attempts out are not counted down | counters_equal_a_recount |
| nobody asks for room | no_more_is_in_flight_than_there_was_room_for |
| places are not given back | counters_equal_a_recount |
| who waits for room is not woken | never_stuck |
| a snapshot forgets under which key a node acts | a_snapshot_and_the_rest_are_the_whole |
| a snapshot forgets how far an undo is | a_snapshot_and_the_rest_are_the_whole |
| a retry by a person forgets how many attempts there were | attempts_are_numbered_without_a_hole_and_never_beyond_their_limit |
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.tasks import TaskKind
from handrail_engine import (
    asking,
    compensation,
    decide,
    evolve,
    nodes,
    pauses,
    preview,
    rollback,
    room,
    snapshot,
    unclaimed,
)
from handrail_engine.outgoing import Dispatch
from handrail_engine.state import WorkflowState
from handrail_engine.turn import Turn
from unit.engine import world as world_module
from unit.engine.mutants import kill
from unit.engine.properties import judge, names, verdicts
from unit.engine.world import World

EXAMPLES = int(os.environ.get("HANDRAIL_PROPERTY_EXAMPLES", "2000"))
Patch = pytest.MonkeyPatch


@settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**48))
def test_every_property_holds_in_every_world(seed: int) -> None:
    judge(World(seed).run())


def test_there_are_at_least_thirty_properties_and_each_has_one_name() -> None:
    assert len(names()) == len(set(names())) >= 30


def test_the_same_seed_plays_the_same_story() -> None:
    for seed in range(20):
        assert World(seed).run().rows == World(seed).run().rows


def test_the_worlds_are_not_idle() -> None:
    """Everything that can happen does happen: a proof over worlds in which nothing goes wrong proves nothing."""
    seen: Counter[str] = Counter()
    for seed in range(400):
        w = World(seed).run()
        seen[f"end {w.state.status.value}"] += 1
        seen["owners"] += w.owners - 1
        seen["previews"] += w.previews
        seen["late effects shown"] += len(w.shown)
        seen["repeats"] += sum(s.repeat for s in w.steps)
        for r in w.rows:
            meta = r.meta or {}
            for word in ("kind", "reason", "outcome", "action_id"):
                if r.type in ("WORKFLOW_PAUSED_HITL", "RESULT_IGNORED", "HITL_RESOLVED") and r.data.get(word):
                    seen[f"{r.type} {word} {r.data[word]}"] += 1
            if r.type == "NODE_STATE_CHANGED":
                seen[f"to {r.data['to']}"] += 1
                seen[f"closed {meta.get('outcome')}"] += 1
                seen["undone again"] += meta.get("order", 0) > 0
                seen["new key"] += meta.get("generation", 1) > 1
            seen[f"added by a node {r.type == 'NODES_ADDED' and r.data['by'] is not None}"] += 1
        seen.update(f"sent {m.kind}" for _, m in w.sent if isinstance(m, Dispatch))
    expected = [f"to {s.value}" for s in N if s is not N.PENDING]
    expected += [f"end {s}" for s in ("COMPLETED", "COMPLETED_WITH_SKIPS", "COMPENSATED", "COMPENSATION_INCOMPLETE")]
    expected += ["end FAILED", "end CANCELLED", "owners", "previews", "late effects shown", "repeats"]
    expected += [f"WORKFLOW_PAUSED_HITL kind {k}" for k in ("failure", "ambiguous", "manual", "escalation")]
    expected += [
        "to PENDING",
        "WORKFLOW_PAUSED_HITL kind compensation_failure",
        "undone again",
        "new key",
        "added by a node True",
    ]
    expected += [f"RESULT_IGNORED reason {k}" for k in ("late", "superseded", "conflict")]
    expected += [f"HITL_RESOLVED outcome {k}" for k in ("decided", "expired", "superseded", "cancelled")]
    expected += [f"HITL_RESOLVED action_id RES_{k}" for k in _BUTTONS]
    expected += [
        f"closed {k}" for k in ("ok", "failed", "in_doubt", "lease-expired", "given-up", "escalated", "cancelled")
    ]
    expected += [f"sent {k}" for k in TaskKind]
    missing = [k for k in expected if not seen[k]]
    assert not missing, missing


_BUTTONS = (
    *("BACK", "PRUNE", "RETRY", "SET", "SKIP", "ABORT_SAGA", "RESUME", "RESPOND", "CLOSE", "HAND_BACK", "HAPPENED"),
    *("DID_NOT_HAPPEN", "MARK_UNDONE", "ACCEPT", "STOP"),
)


# mutants


def no_waiting(p: Patch) -> None:
    real = nodes.consider

    def consider(t: Any, node: Any) -> None:
        kept, node.waiting = node.waiting, 0
        real(t, node)
        node.waiting = kept

    def ready_again(self: Any, node: Any) -> None:
        self.queue.extend(self.state.nodes)

    p.setattr(nodes, "consider", consider)
    p.setattr("handrail_engine.turn.Turn.ready_again", ready_again)
    p.setattr(nodes, "dead_source", lambda t, node: None)


def holds_nothing(p: Patch) -> None:
    p.setattr(WorkflowState, "held", property(lambda s: False))


def goes_on_during_an_abort(p: Patch) -> None:
    real = nodes.failed

    def failed(t: Any, node: Any, *a: Any) -> None:
        ending, t.state.ending = t.state.ending, None
        real(t, node, *a)
        t.state.ending = ending

    p.setattr(nodes, "failed", failed)


def key_follows_attempt(p: Patch) -> None:
    real = WorkflowState.key
    p.setattr(WorkflowState, "do_key", lambda s, n: real(s, n, n.generation) + f"#{n.attempt}")
    p.setattr(WorkflowState, "key", lambda s, n, g: real(s, n, g) + f"#{n.attempt + 1}")
    p.setattr(
        WorkflowState,
        "generation_of",
        lambda s, n, key: n.generation if key.startswith(real(s, n, n.generation)) else None,
    )


def retries_unsafe(p: Patch) -> None:
    p.setattr(pauses, "open_ambiguous", lambda t, node, then=None: nodes.dispatch(t, node, round=True))


def never_looks_up(p: Patch) -> None:
    real = nodes._send
    p.setattr(nodes, "_send", lambda t, node, m: real(t, node, {k: v for k, v in m.items() if k != "look_up"}))


def forgets_late_successes(p: Patch) -> None:
    p.setattr(compensation, "unseen", lambda s, node: False)


def undoes_only_completed(p: Patch) -> None:
    for module in (rollback, compensation):
        p.setattr(module, "needs_undo", lambda node: node.state is N.COMPLETE)


def undoes_at_once(p: Patch) -> None:
    real = compensation.advance

    def advance(t: Any, node: Any) -> None:
        kept, node.undo.waiting = node.undo.waiting, 0
        real(t, node)
        node.undo.waiting = kept

    p.setattr(compensation, "advance", advance)


def releases_nobody(p: Patch) -> None:
    p.setattr(compensation, "advance_ready", lambda t: t.state.undo_ready.clear())


def failed_undo_is_done(p: Patch) -> None:
    p.setattr(decide, "_how_it_ended", lambda s: s.ending.end)


def loses_dead_letters(p: Patch) -> None:
    p.setattr(asking, "letter", lambda s, node, waits: None)


def marks_nothing(p: Patch) -> None:
    for module in (nodes, compensation):
        p.setattr(module, "ignored_mark", lambda attempt, outcome: "none")


def leaves_pauses_open(p: Patch) -> None:
    p.setattr(asking, "resolved", lambda s, row: None)


def resumes_in_silence(p: Patch) -> None:
    real = Turn.emit

    def emit(self: Any, type_: Any, meta: Any = None, **data: Any) -> Any:
        return None if type_ == "WORKFLOW_RESUMED" else real(self, type_, meta, **data)

    p.setattr(Turn, "emit", emit)


def deadline_never_stops(p: Patch) -> None:
    real = asking.paused

    def paused(s: Any, row: Any) -> None:
        deadline, s.deadline_ms = s.deadline_ms, None
        real(s, row)
        if row.data["node_id"] is not None or row.data["kind"] == "manual":
            s.deadline_ms = deadline

    p.setattr(asking, "paused", paused)


def gives_up_too_soon(p: Patch) -> None:
    p.setattr(unclaimed, "GIVE_UP_AFTER_MS", -20_000)


def owner_knows_no_window(p: Patch) -> None:
    real = decide.renew

    def renew(s: Any, now: Any) -> None:
        windows = {k: n.live.start_before for k, n in s.nodes.items() if n.live}
        real(s, now)
        for k, w in windows.items():
            s.nodes[k].live.start_before = w

    p.setattr(world_module, "renew", renew)


def retries_at_once(p: Patch) -> None:
    real = nodes._retry

    def retry(t: Any, node: Any, meta: Any, data: Any, wait_s: float) -> None:
        real(t, node, meta, data, wait_s)
        if node.state is N.RETRYING:
            nodes.retry_due(t, node)

    p.setattr(nodes, "_retry", retry)


def reads_skipped_as_null(p: Patch) -> None:
    p.setattr(nodes, "dead_source", lambda t, node: None)


def ignores_conditions(p: Patch) -> None:
    p.setattr(nodes, "holds", lambda when, found: True)


def new_key_in_doubt(p: Patch) -> None:
    p.setattr(pauses, "_needs_ambiguous_pause", lambda node, chosen: False)


def preview_forgets_undo(p: Patch) -> None:
    real = preview.preview
    p.setattr(world_module, "preview", lambda *a, **k: {**real(*a, **k), "undo": []})


def heartbeats_are_folded(p: Patch) -> None:
    real = decide.heard

    def heard(s: Any, beat: Any, now: Any) -> bool:
        s.nodes[beat.node_id].scheduled_ms += 1
        return real(s, beat, now)

    p.setattr(world_module, "heard", heard)


def miscounts_what_is_out(p: Patch) -> None:
    real = evolve._node_changed

    def changed(s: Any, row: Any) -> None:
        out = s.out
        real(s, row)
        if row.data["to"] == "DEAD_LETTERED":
            s.out = out

    p.setattr(evolve, "_node_changed", changed)


def round_starts_at_zero(p: Patch) -> None:
    real = nodes.dispatch

    def dispatch(t: Any, node: Any, **meta: Any) -> None:
        if meta.get("round"):
            node.attempt = 0
        real(t, node, **meta)

    p.setattr(nodes, "dispatch", dispatch)


def asks_for_no_room(p: Patch) -> None:
    p.setattr(room, "full", lambda t, node: False)


def keeps_places(p: Patch) -> None:
    real = room.moved

    def moved(s: Any, node: Any, was_out: bool, meta: Any) -> None:
        before = dict(s.places)
        real(s, node, was_out, meta)
        s.places.update({k: n for k, n in before.items() if s.places[k] < n})

    p.setattr(room, "moved", moved)


def waits_for_room_for_ever(p: Patch) -> None:
    p.setattr(room, "look_again", lambda s, now_ms: None)


def snapshot_forgets_generations(p: Patch) -> None:
    written, read = snapshot._NODE
    p.setattr(snapshot, "_NODE", ([f for f in written if f[0] != "generation"], read))


def snapshot_forgets_undos(p: Patch) -> None:
    written, read = snapshot._UNDO
    p.setattr(snapshot, "_UNDO", ([f for f in written if f[0] not in ("attempt", "waiting")], read))


MUTANTS: dict[Callable[[Patch], None], str] = {
    no_waiting: "a_node_starts_after_its_dependencies_have_settled",
    holds_nothing: "what_a_pause_holds_back_waits",
    goes_on_during_an_abort: "nothing_new_is_dispatched_once_it_winds_down",
    key_follows_attempt: "the_effect_key_changes_only_when_a_person_orders_a_new_effect",
    retries_unsafe: "an_unsafe_effect_in_doubt_is_never_tried_again_without_a_person",
    never_looks_up: "what_can_be_queried_is_looked_up_before_it_is_done_again",
    forgets_late_successes: "every_effect_is_kept_undone_or_shown",
    undoes_only_completed: "every_effect_is_kept_undone_or_shown",
    undoes_at_once: "an_undo_waits_for_the_undos_that_it_depends_on",
    releases_nobody: "never_stuck",
    failed_undo_is_done: "an_end_is_incomplete_exactly_when_something_stands_or_a_person_stopped",
    loses_dead_letters: "never_stuck",
    marks_nothing: "a_repeat_changes_nothing",
    leaves_pauses_open: "view_agrees_with_state",
    resumes_in_silence: "paused_means_a_pause_is_open",
    deadline_never_stops: "the_deadline_runs_only_while_nobody_is_asked",
    gives_up_too_soon: "an_attempt_is_given_up_only_after_it_can_no_longer_start",
    owner_knows_no_window: "an_attempt_is_given_up_only_after_it_can_no_longer_start",
    retries_at_once: "a_retry_comes_no_sooner_than_announced",
    reads_skipped_as_null: "a_node_is_dispatched_only_with_what_it_cannot_live_without",
    ignores_conditions: "a_condition_that_does_not_hold_keeps_a_node_from_running",
    new_key_in_doubt: "the_effect_key_changes_only_when_a_person_orders_a_new_effect",
    preview_forgets_undo: "preview_equals_effect",
    heartbeats_are_folded: "replay_equals_state",
    miscounts_what_is_out: "counters_equal_a_recount",
    asks_for_no_room: "no_more_is_in_flight_than_there_was_room_for",
    keeps_places: "counters_equal_a_recount",
    waits_for_room_for_ever: "never_stuck",
    snapshot_forgets_generations: "a_snapshot_and_the_rest_are_the_whole",
    snapshot_forgets_undos: "a_snapshot_and_the_rest_are_the_whole",
    round_starts_at_zero: "attempts_are_numbered_without_a_hole_and_never_beyond_their_limit",
}


@pytest.mark.parametrize(("plant", "killer"), MUTANTS.items(), ids=[m.__name__ for m in MUTANTS])
def test_a_planted_mutant_is_killed_by_name(plant: Callable[[Patch], None], killer: str, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    kill(lambda seed: verdicts(World(seed).run()), killer, names())

"""What must hold after every step of every workflow, however it came about. Used by the stories and by the random worlds.

`Witness` follows a state from outside: it folds each row a second time (after a trip through JSON) and into the view,
and compares. Each check has a name; `Broken` carries it, so that a planted mutant can be killed by name.
"""

from __future__ import annotations

import json
from typing import Any

from handrail_contracts.events import EVENTS, TERMINAL, EventType, NodeStatus, WorkflowStatus
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass, PauseScope
from handrail_contracts.view import WorkflowView
from handrail_engine.evolve import evolve
from handrail_engine.lifecycle import NODE_MOVES, OPEN, SETTLED, WORKFLOW_MOVES
from handrail_engine.state import DEADLINE_TIMER, PAUSE_TIMER, REMIND_TIMER, ROOM_TIMER, Row, WorkflowState, due_ms

N = NodeStatus


class Broken(AssertionError):
    """A property does not hold. `name` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def expect(condition: object, name: str, text: str) -> None:
    if not condition:
        raise Broken(name, text)


def through_json(row: Row) -> Row:
    """The row as the store gives it back."""
    meta = json.loads(json.dumps(row.meta)) if row.meta is not None else None
    return Row(row.seq, str(row.type), json.loads(json.dumps(row.data)), meta, row.at_ms)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))


class Witness:
    """Folds beside the state and compares after each step. `deep=False` leaves out the comparisons of the whole state."""

    def __init__(self, state: WorkflowState) -> None:
        self.shadow = WorkflowState(state.tenant, state.trace_id)
        self.view = WorkflowView(state.trace_id)
        self.rows: list[Row] = []

    def rows_come(self, state: WorkflowState, rows: list[Row]) -> None:
        for row in rows:
            self._one(row)
        self.rows.extend(rows)
        expect(state.seq == self.shadow.seq, "seq_is_dense", f"state {state.seq}, rows {self.shadow.seq}")

    def _one(self, row: Row) -> None:
        expect(row.seq == self.shadow.seq + 1, "seq_is_dense", f"{self.shadow.seq} is followed by {row.seq}")
        d = row.data
        expect(d["seq"] == row.seq and d["event_type"] == row.type, "rows_match_the_contract", f"{d}")
        expect(d["at"] == iso(row.at_ms), "rows_match_the_contract", f"at of {d}")
        try:
            EVENTS[row.type].model_validate(d)
        except ValueError as e:
            raise Broken("rows_match_the_contract", f"{row.type}: {e}") from e
        if row.type == EventType.NODE_STATE_CHANGED:
            old = self.shadow.nodes[d["node_id"]].state
            expect(d["from"] == old, "from_tells_the_truth", f"{d['node_id']} is {old}, the row says {d['from']}")
            expect(N(d["to"]) in NODE_MOVES[old], "node_moves_are_in_the_table", f"{old} to {d['to']}")
        before = self.shadow.status
        evolve(self.shadow, through_json(row))
        after = self.shadow.status
        expect(
            after == before or after in WORKFLOW_MOVES[before],
            "workflow_moves_are_in_the_table",
            f"{before} to {after}",
        )
        self.view.apply(through_json(row).data)

    def look(self, s: WorkflowState) -> None:
        """Everything that must hold between two inputs."""
        expect(plain(s.facts()) == plain(self.shadow.facts()), "replay_equals_state", _difference(s, self.shadow))
        self._view(s)
        if s.exists:
            check_counters(s)
            check_status(s)
            check_timers(s)

    def _view(self, s: WorkflowState) -> None:
        if not s.exists:
            return
        v = self.view
        expect(v.status == s.status, "view_agrees_with_state", f"view {v.status}, state {s.status}")
        states = {k: n["state"] for k, n in v.nodes.items()}
        expect(states == {k: n.state.value for k, n in s.nodes.items()}, "view_agrees_with_state", f"{states}")
        expect(list(v.pauses) == list(s.pauses), "view_agrees_with_state", f"{list(v.pauses)} {list(s.pauses)}")
        for k, p in s.pauses.items():
            shown = {f: x for f, x in v.pauses[k].items() if f != "reminded_at"}
            expect(plain(shown) == plain(p.data), "view_agrees_with_state", f"pause {k}")


def _difference(a: WorkflowState, b: WorkflowState) -> str:
    x, y = plain(a.facts()), plain(b.facts())
    found = [f"{k}: {x[k]} / {y[k]}" for k in x if x[k] != y[k] and k != "nodes"]
    found += [f"{k}: {x['nodes'][k]} / {y['nodes'].get(k)}" for k in x["nodes"] if x["nodes"][k] != y["nodes"].get(k)]
    return "; ".join(found)


def check_counters(s: WorkflowState) -> None:
    nodes = s.nodes.values()
    counts: dict[str, int] = {}
    for n in nodes:
        counts[n.state] = counts.get(n.state, 0) + 1
    name = "counters_equal_a_recount"
    expect({k: v for k, v in s.counts.items() if v} == counts, name, f"counts {s.counts} {counts}")
    if s.ended:
        return
    live = sum(1 for n in nodes if n.live is not None)
    expect(s.out == live, name, f"out {s.out}, live {live}")
    held: dict[str, int] = {}
    for n in nodes:
        expect(not n.places or n.live is not None, name, f"{n.spec.id} keeps places of nothing")
        for k in n.places:
            held[k] = held.get(k, 0) + 1
    expect({k: v for k, v in s.places.items() if v} == held, name, f"places {s.places} {held}")
    crowded = {k for waiting in s.crowded.values() for k in waiting}
    expect(crowded == {n.spec.id for n in nodes if n.crowded}, name, f"crowded {crowded}")
    expect(s.letters == sum(1 for n in nodes if n.dead_letter is not None), name, f"letters {s.letters}")
    for n in nodes:
        should = (n.state in OPEN and not n.spec.outside) or (n.state is N.COMPENSATING and n.undo.retry_ms is None)
        expect((n.live is not None) == should, name, f"{n.spec.id} is {n.state}, live {n.live}")
    holding = sum(1 for p in s.pauses.values() if p.scope is PauseScope.WORKFLOW)
    expect(s.holding == holding, name, f"holding {s.holding} {holding}")
    first_life = sum(1 for n in nodes if n.state not in SETTLED and n.ended_seq == 0)
    expect(s.unsettled == first_life, name, f"unsettled {s.unsettled} {first_life}")
    for n in nodes:
        waiting = sum(1 for d in n.spec.depends_on if s.nodes[d].ended_seq == 0)
        expect(n.waiting == waiting, name, f"{n.spec.id} waits for {waiting}, counted {n.waiting}")
    if s.ending is not None:
        undone = [n for n in nodes if s.undoes(n)]
        left = sum(1 for n in undone if not n.undo.settled)
        expect(s.undo_unsettled == left, name, f"undo_unsettled {s.undo_unsettled} {left}")
        for n in undone:
            waits = sum(1 for c in s.children[n.spec.id] if not s.nodes[c].undo.released)
            expect(n.undo.waiting == waits, name, f"undo of {n.spec.id} waits for {waits}, counted {n.undo.waiting}")


def check_status(s: WorkflowState) -> None:
    if s.ended:
        expect(s.status in TERMINAL and not s.pauses, "paused_means_a_pause_is_open", f"{s.status} {list(s.pauses)}")
        return
    paused = s.status is WorkflowStatus.PAUSED_HITL
    expect(paused == bool(s.pauses), "paused_means_a_pause_is_open", f"{s.status}, pauses {list(s.pauses)}")
    if s.pauses:
        return
    if s.ending is not None:
        expect(s.status is WorkflowStatus.COMPENSATING, "status_says_what_goes_on", f"{s.status} while ending")
    else:
        want = WorkflowStatus.RUNNING if s.planned else WorkflowStatus.PLANNING
        expect(s.status is want, "status_says_what_goes_on", f"{s.status}, expected {want}")


def check_timers(s: WorkflowState) -> None:
    if s.ended:
        expect(s.next_wake() is None, "what_is_due_has_a_timer", "a timer after the end")
        return
    armed = {name: at for at, name in sorted(s.timers, reverse=True)}
    for k, n in s.nodes.items():
        due = due_ms(s, n)
        if due is not None:
            expect(armed.get(k, due + 1) <= due, "what_is_due_has_a_timer", f"{k} is due {due}, armed {armed.get(k)}")
    if s.deadline_ms is not None:
        expect(armed.get(DEADLINE_TIMER, 0) <= s.deadline_ms, "what_is_due_has_a_timer", "deadline")
    for p in s.pauses.values():
        if p.expires_ms is not None:
            expect(PAUSE_TIMER + p.pause_id in armed, "what_is_due_has_a_timer", f"expiry of {p.pause_id}")
        if p.remind_ms is not None:
            expect(REMIND_TIMER + p.pause_id in armed, "what_is_due_has_a_timer", f"reminder of {p.pause_id}")
    expect(s.pauses or s.next_wake() is not None, "never_stuck", _stuck(s))
    for n in s.nodes.values():
        if n.state is N.AWAITING_HUMAN:
            asked = any(p.node_id == n.spec.id for p in s.pauses.values())
            expect(asked, "never_stuck", f"{n.spec.id} awaits a person and no pause asks one")
        if n.state is N.DEAD_LETTERED:
            expect(n.dead_letter is not None, "never_stuck", f"{n.spec.id} is dead-lettered and nothing brings it back")
        ready = n.state is N.PENDING and not n.waiting and not s.leaves(n)
        expect(not ready or s.held or n.crowded, "never_stuck", f"{n.spec.id} is ready and was not dispatched")
    if s.crowded:
        expect(s.room_at is not None and ROOM_TIMER in armed, "never_stuck", "it waits for room and nothing wakes it")


def _stuck(s: WorkflowState) -> str:
    return f"{s.status}, no wake-up, no pause; nodes {[(k, n.state.value, n.undo) for k, n in s.nodes.items()]}"


def needs_no_retry_alone(effect: EffectClass) -> bool:
    return effect is EffectClass.UNSAFE

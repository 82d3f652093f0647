"""The properties of the engine, each judged over the whole story of one random world.

The checks of `checks.py` and `world.py` hold after every step and are named too; `NAMES` lists them all. A property that
fails raises Broken with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handrail_contracts.events import TERMINAL
from handrail_contracts.model import ms_of
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, TaskKind
from handrail_engine.explain import explain
from handrail_engine.inputs import Cancel, Decision, Now, PanicPause, Start, Wake
from handrail_engine.outgoing import Dispatch
from handrail_engine.state import NodeState, Row
from unit.engine.checks import Broken, expect
from unit.engine.world import Step, World, taken_up

Property = Callable[[World], None]
PROPERTIES: dict[str, Property] = {}
EACH_STEP = (
    "terminates",
    "never_stuck",
    "seq_is_dense",
    "rows_match_the_contract",
    "from_tells_the_truth",
    "node_moves_are_in_the_table",
    "workflow_moves_are_in_the_table",
    "replay_equals_state",
    "view_agrees_with_state",
    "counters_equal_a_recount",
    "paused_means_a_pause_is_open",
    "status_says_what_goes_on",
    "what_is_due_has_a_timer",
    "a_wake_does_not_wake_for_ever",
    "a_rejection_changes_nothing",
    "a_repeat_changes_nothing",
    "a_pause_is_decided_once",
    "preview_equals_effect",
    "terminal_is_terminal",
    "a_snapshot_and_the_rest_are_the_whole",
)


def prop(f: Property) -> Property:
    PROPERTIES[f.__name__] = f
    return f


def names() -> list[str]:
    return [*EACH_STEP, *PROPERTIES]


def judge(world: World) -> None:
    """Every property, over a world that has ended."""
    for f in PROPERTIES.values():
        f(world)


def verdicts(world: World) -> set[str]:
    """The names of all properties that do not hold."""
    fallen: set[str] = set()
    for f in PROPERTIES.values():
        try:
            f(world)
        except Broken as e:
            fallen.add(e.name)
    return fallen


def moves(w: World) -> list[tuple[Row, dict[str, Any], dict[str, Any]]]:
    return [(r, r.data, r.meta or {}) for r in w.rows if r.type == "NODE_STATE_CHANGED"]


def by_step(w: World) -> list[tuple[Step, Row]]:
    return [(s, r) for s in w.steps for r in s.rows]


# order


@prop
def no_more_is_in_flight_than_there_was_room_for(w: World) -> None:
    """What may wait does not begin without a place; undos and what people order take places and wait for none."""
    holding: dict[str, tuple[str, ...]] = {}
    for step in w.steps:
        free = dict(step.room)
        for r in step.rows:
            if r.type != "NODE_STATE_CHANGED":
                continue
            d, meta = r.data, r.meta or {}
            if meta.get("dispatch") or d["to"] == "SCHEDULED":
                places = tuple(meta.get("places", ()))
                named = {w.state.nodes[d["node_id"]].spec.agent, f"{w.state.nodes[d['node_id']].spec.agent}/act"}
                name = "no_more_is_in_flight_than_there_was_room_for"
                expect(set(places) == named & set(step.room), name, f"{d['node_id']} took {places}")
                may_wait = d["from"] in ("PENDING", "RETRYING") and d["to"] == "SCHEDULED"
                for k in places:
                    expect(not may_wait or free[k] > 0, name, f"{d['node_id']} began without room: {step.room}")
                    free[k] -= 1
                holding[d["node_id"]] = places
            elif d["to"] not in ("IN_PROGRESS",) and not (d["to"] == "COMPENSATING" and "error" not in d):
                for k in holding.pop(d["node_id"], ()):
                    free[k] = free.get(k, 0) + 1


@prop
def a_node_starts_after_its_dependencies_have_settled(w: World) -> None:
    settled: set[str] = set()
    written: dict[str, set[str]] = {}  # as it was then: what is appended again may come after others
    for r in w.rows:
        d = r.data
        if r.type in ("WORKFLOW_PLANNED", "NODES_ADDED"):
            written.update({n["id"]: set(n.get("depends_on", ())) for n in (r.meta or {})["nodes"]})
        if r.type != "NODE_STATE_CHANGED":
            continue
        if d["to"] == "SCHEDULED" and d["from"] == "PENDING":
            deps = written[d["node_id"]]
            expect(
                deps <= settled,
                "a_node_starts_after_its_dependencies_have_settled",
                f"{d['node_id']} before {deps - settled}",
            )
        if d["to"] in ("COMPLETE", "SKIPPED", "CANCELLED"):
            settled.add(d["node_id"])
        elif d["to"] == "PENDING":
            settled.discard(d["node_id"])


@prop
def a_node_is_dispatched_only_with_what_it_cannot_live_without(w: World) -> None:
    name = "a_node_is_dispatched_only_with_what_it_cannot_live_without"
    states: dict[str, str] = {}
    outputs: dict[str, Any] = {}
    for _, d, _ in moves(w):
        node = w.state.nodes[d["node_id"]]
        if d["to"] == "SCHEDULED" and d["from"] == "PENDING":
            for ref, may_miss in node.spec.refs.values():
                if ref.node_id is not None and not may_miss and states.get(ref.node_id) == "SKIPPED":
                    source = w.state.nodes[ref.node_id]
                    has = isinstance(outputs.get(ref.node_id), dict) and all(
                        p in outputs[ref.node_id] for p in ref.path
                    )
                    expect(source.spec.optional or has, name, f"{d['node_id']} without {ref}")
        if d["to"] in ("COMPLETE", "SKIPPED"):
            states[d["node_id"]], outputs[d["node_id"]] = d["to"], d.get("output")


@prop
def a_condition_that_does_not_hold_keeps_a_node_from_running(w: World) -> None:
    name = "a_condition_that_does_not_hold_keeps_a_node_from_running"
    flag = w.state.input["flag"]
    for n in w.state.nodes.values():
        when = n.spec.when
        if when is not None and when["ref"] == "input.flag" and when["eq"] != flag:
            expect(n.attempt == 0, name, f"{n.spec.id} ran")


@prop
def an_undo_waits_for_the_undos_that_it_depends_on(w: World) -> None:
    name = "an_undo_waits_for_the_undos_that_it_depends_on"
    waits: dict[str, list[str]] = {}
    over: set[str] = set()
    for _, r in by_step(w):
        d = r.data
        if r.type == "WORKFLOW_COMPENSATING":
            waits.update({n["node_id"]: n["depends_on"] for n in d["nodes"]})
        elif r.type == "HITL_RESOLVED" and (r.meta or {}).get("kind") == "accept":
            over.add(d["node_id"])
        elif r.type == "NODE_STATE_CHANGED":
            if d["to"] in ("COMPENSATED", "NOTHING_TO_UNDO", "NOT_REVERSIBLE", "CANCELLED"):
                over.add(d["node_id"])
            if d["to"] == "CANCELLED" and (r.meta or {}).get("doubt"):
                over.discard(d["node_id"])
            if d["to"] == "PENDING":
                over.discard(d["node_id"])
                waits.pop(d["node_id"], None)
            first = d["to"] == "COMPENSATING" and d["from"] != "COMPENSATING" and d["attempt"] == 1
            if first and waits:
                open_ = [x for x in waits.get(d["node_id"], []) if x not in over and _still_to_undo(w, x, r.seq)]
                expect(not open_, name, f"{d['node_id']} before {open_}")


def _still_to_undo(w: World, node_id: str, seq: int) -> bool:
    """Listed as a possible undo, and it did turn out to need one that had not ended by `seq`."""
    return any(d["node_id"] == node_id and d["to"] == "COMPENSATING" and r.seq > seq for r, d, _ in moves(w))


@prop
def announced_undos_come_latest_completion_first(w: World) -> None:
    order: dict[str, int] = {}
    for r in w.rows:
        if r.type == "NODE_STATE_CHANGED":
            order.pop(r.data["node_id"], None)
            if r.data["to"] == "COMPLETE":
                order[r.data["node_id"]] = r.seq
        elif r.type == "WORKFLOW_COMPENSATING":
            done = [order[n["node_id"]] for n in r.data["nodes"] if n["node_id"] in order]
            expect(done == sorted(done, reverse=True), "announced_undos_come_latest_completion_first", f"{done}")


# attempts


@prop
def attempts_are_numbered_without_a_hole_and_never_beyond_their_limit(w: World) -> None:
    name = "attempts_are_numbered_without_a_hole_and_never_beyond_their_limit"
    last: dict[str, int] = {}
    for _, d, _ in moves(w):
        if d["to"] != "SCHEDULED":
            continue
        k = d["node_id"]
        expect(d["attempt"] == last.get(k, 0) + 1, name, f"{k}: {last.get(k, 0)} then {d['attempt']}")
        expect(d["attempt"] <= d["max_attempts"], name, f"{k}: attempt {d['attempt']} of {d['max_attempts']}")
        last[k] = d["attempt"]


@prop
def a_round_has_no_more_executions_than_its_policy_allows(w: World) -> None:
    name = "a_round_has_no_more_executions_than_its_policy_allows"
    done: dict[str, int] = {}
    for _, d, meta in moves(w):
        k = d["node_id"]
        if d["to"] == "RETRYING" and meta.get("round"):
            done[k] = 0
        if d["to"] == "SCHEDULED":
            done[k] = 1 if meta.get("round") or d["attempt"] == 1 else done[k] + 1
            limit = w.state.nodes[k].spec.retry.max_attempts
            uncounted = sum(1 for _, x, m in moves(w) if x["node_id"] == k and m.get("uncounted"))
            expect(done[k] <= limit + uncounted, name, f"{k}: {done[k]} of {limit}")


@prop
def the_effect_key_changes_only_when_a_person_orders_a_new_effect(w: World) -> None:
    name = "the_effect_key_changes_only_when_a_person_orders_a_new_effect"
    keys: dict[str, str] = {}
    for s, r in by_step(w):
        if r.type == "NODE_STATE_CHANGED" and r.data["to"] == "PENDING":
            keys.pop(r.data["node_id"], None)  # rolled back: a new effect, ordered by a person
        if r.type == "GATE_EVALUATED" and "sets" in (r.meta or {}):  # ordered, and stopped by a gate: it comes later
            k = r.data["node_id"]
            expect(isinstance(s.what, Decision), name, f"{k} by {s.what}")
            expect(not s.before.nodes[k][3] or _told_that_nothing_happened(s), name, f"{k} was in doubt")
            keys.pop(k, None)
        if r.type != "NODE_STATE_CHANGED" or r.data["to"] != "SCHEDULED":
            continue
        k, key = r.data["node_id"], (r.meta or {})["key"]
        if keys.get(k, key) != key:
            expect(isinstance(s.what, Decision), name, f"{k} by {s.what}")
            expect("sets" in (r.meta or {}), name, f"{k} without a changed input")
            expect(not s.before.nodes[k][3] or _told_that_nothing_happened(s), name, f"{k} was in doubt")
        keys[k] = key


def _told_that_nothing_happened(s: Step) -> bool:
    return isinstance(s.what, Decision) and s.what.action_id == "RES_DID_NOT_HAPPEN"


@prop
def an_unsafe_effect_in_doubt_is_never_tried_again_without_a_person(w: World) -> None:
    name = "an_unsafe_effect_in_doubt_is_never_tried_again_without_a_person"
    for s, r in by_step(w):
        if r.type != "NODE_STATE_CHANGED" or r.data["to"] != "SCHEDULED":
            continue
        k = r.data["node_id"]
        in_doubt = k in s.before.nodes and s.before.nodes[k][3] and r.data["from"] != "PENDING"
        if w.effect_of(k) is EffectClass.UNSAFE and in_doubt:
            word = isinstance(s.what, Decision) and s.what.action_id == "RES_DID_NOT_HAPPEN"
            expect(word, name, f"{k} by {s.what}")


@prop
def what_can_be_queried_is_looked_up_before_it_is_done_again(w: World) -> None:
    name = "what_can_be_queried_is_looked_up_before_it_is_done_again"
    doubt: set[str] = set()
    for _, d, meta in moves(w):
        k = d["node_id"]
        if w.effect_of(k) is not EffectClass.QUERYABLE:
            continue
        if d["to"] == "SCHEDULED" and k in doubt and "sets" not in meta and not _no_word(w, k):
            expect(meta.get("look_up"), name, f"{k}, attempt {d['attempt']}")
        if meta.get("doubt"):
            doubt.add(k)
        elif "doubt" in meta or d["to"] in ("COMPLETE", "PENDING"):
            doubt.discard(k)


def _no_word(w: World, node_id: str) -> bool:
    return any(isinstance(s.what, Decision) and s.what.action_id == "RES_DID_NOT_HAPPEN" and s.rows for s in w.steps)


@prop
def a_retry_comes_no_sooner_than_announced(w: World) -> None:
    due: dict[str, int] = {}
    for r, d, _ in moves(w):
        k = d["node_id"]
        if d["to"] in ("SCHEDULED", "COMPENSATING") and k in due and d["from"] in ("RETRYING", "COMPENSATING"):
            expect(r.at_ms >= due[k], "a_retry_comes_no_sooner_than_announced", f"{k} at {r.at_ms}, due {due[k]}")
        due.pop(k, None)
        if "retry_at" in d:
            due[k] = ms_of(d["retry_at"])


@prop
def an_attempt_is_given_up_only_after_it_can_no_longer_start(w: World) -> None:
    name = "an_attempt_is_given_up_only_after_it_can_no_longer_start"
    window: dict[tuple[str, int], int] = {}
    for s in w.steps:
        for r in s.rows:
            d, meta = r.data, r.meta or {}
            given_up = r.type == "NODE_STATE_CHANGED" and meta.get("outcome") == "given-up" and not meta.get("doubt")
            if given_up and isinstance(s.what, Wake) and d.get("reason") != "the workflow is ending":
                last = window.get((d["node_id"], d["attempt"]), 0)
                expect(s.now >= last + 2_000, name, f"{d['node_id']} at {s.now}, window to {last}")
        for m in s.messages:
            if isinstance(m, Dispatch) and m.kind in (TaskKind.EXECUTE, TaskKind.LOOK_UP):
                window[m.node_id, m.attempt] = ms_of(m.start_before)


@prop
def every_send_of_an_attempt_is_the_same_task(w: World) -> None:
    """Its window apart, which is open, or over for good: then it is the very task again, and only asks what became of it. A
    new owner, who does not know what was sent, asks with the last window that there can have been."""
    name = "every_send_of_an_attempt_is_the_same_task"
    seen: dict[tuple[str, str, str, int], Dispatch] = {}
    window: dict[tuple[str, str, str, int], str] = {}
    for now, m in w.sent:
        if not isinstance(m, Dispatch) or m.kind is TaskKind.CANCEL:
            continue
        key = (m.node_id, "undo" if m.kind is TaskKind.COMPENSATE else "do", m.effect_key, m.attempt)
        asks = key in window and (m.start_before == window[key] or (w.owners > 1 and m.start_before > window[key]))
        expect(asks or ms_of(m.start_before) > now, name, f"{m.node_id} could never start")
        window[key] = max(m.start_before, window.get(key, ""))
        first = seen.setdefault(key, m)
        expect(first._replace(start_before=m.start_before) == m, name, f"{key}")


@prop
def every_task_is_announced_by_a_row(w: World) -> None:
    name = "every_task_is_announced_by_a_row"
    known = {(d["node_id"], d["attempt"], m["key"]) for _, d, m in moves(w) if "key" in m}
    for _, m in w.sent:
        if isinstance(m, Dispatch) and m.kind is not TaskKind.CANCEL:
            expect((m.node_id, m.attempt, m.effect_key) in known, name, f"{m.node_id} {m.attempt} {m.effect_key}")


# pauses


@prop
def what_a_pause_holds_back_waits(w: World) -> None:
    """Nothing new is dispatched while a pause of workflow scope is open, save by a decision on the node itself."""
    for s, r in by_step(w):
        if r.type != "NODE_STATE_CHANGED" or r.data["to"] not in ("SCHEDULED", "COMPENSATING") or not s.before.held:
            continue
        if r.data["to"] == "COMPENSATING" and not (r.meta or {}).get("dispatch"):
            continue
        own = isinstance(s.what, Decision) and s.what.pause_id in s.before.pauses
        released = isinstance(s.what, Decision) or _superseded(s)
        mine = own and s.before.pauses[s.what.pause_id][1] == r.data["node_id"]  # type: ignore[union-attr]
        last = released and not _held_after(w, s, r.seq)
        mine = mine or any(_expired(s, x) == r.data["node_id"] for x in s.rows if x.seq < r.seq)
        expect(mine or last, "what_a_pause_holds_back_waits", f"{r.data['node_id']} by {s.what}")


def _expired(s: Step, r: Row) -> str | None:
    """The node whose declared default this row presses: a decision too."""
    gone = r.type == "HITL_RESOLVED" and r.data["outcome"] == "expired" and r.data["pause_id"] in s.before.pauses
    return s.before.pauses[r.data["pause_id"]][1] if gone else None


def _superseded(s: Step) -> bool:
    return any(r.type == "HITL_RESOLVED" for r in s.rows)


def _held_after(w: World, s: Step, seq: int) -> bool:
    holding = {k for k, p in s.before.pauses.items() if p[2]}
    for r in s.rows:
        if r.seq >= seq:
            break
        if r.type == "HITL_RESOLVED":
            holding.discard(r.data["pause_id"])
        elif r.type == "WORKFLOW_PAUSED_HITL" and (r.meta or {})["scope"] == "workflow":
            holding.add(r.data["pause_id"])
    return bool(holding)


@prop
def every_pause_is_closed_exactly_once(w: World) -> None:
    opened = [r.data["pause_id"] for r in w.rows if r.type == "WORKFLOW_PAUSED_HITL"]
    closed = [r.data["pause_id"] for r in w.rows if r.type == "HITL_RESOLVED"]
    expect(len(set(opened)) == len(opened), "every_pause_is_closed_exactly_once", f"opened twice: {opened}")
    expect(sorted(opened) == sorted(closed), "every_pause_is_closed_exactly_once", f"{opened} / {closed}")


@prop
def a_dead_letter_opens_one_pause(w: World) -> None:
    """It is sent, it returns or is woken, and then there is a pause; unless an abort, or a person who stops, is first."""
    name = "a_dead_letter_opens_one_pause"
    waiting: set[str] = set()
    for r in w.rows:
        node_id = r.data.get("node_id")
        if r.type == "TASK_DEAD_LETTERED" and (r.meta or {}).get("pause"):
            expect(node_id not in waiting, name, f"two letters of {node_id} and no pause between")
            waiting.add(node_id)
        elif r.type == "WORKFLOW_PAUSED_HITL":
            waiting.discard(node_id)
        elif r.type == "NODE_STATE_CHANGED":
            moved_on = r.data["to"] not in ("AWAITING_HUMAN", "CANCELLED")
            expect(node_id not in waiting or not moved_on, name, f"{node_id} went on without a pause")
        elif r.type == "WORKFLOW_COMPENSATING" or (r.type == "HITL_RESOLVED" and (r.meta or {}).get("kind") == "stop"):
            waiting.clear()
    expect(not waiting, name, f"{waiting} never asked a person")
    sent = {m.dead_letter_id for _, m in w.sent if isinstance(m, DeadLetter)}
    told = {r.data["dead_letter_id"] for r in w.rows if r.type == "TASK_DEAD_LETTERED"}
    expect(told <= sent, name, f"not sent: {told - sent}")


@prop
def only_buttons_that_are_offered_are_pressed(w: World) -> None:
    offered = {
        r.data["pause_id"]: [b["action_id"] for b in r.data["available_resolutions"]]
        for r in w.rows
        if r.type == "WORKFLOW_PAUSED_HITL"
    }
    for r in w.rows:
        if r.type == "HITL_RESOLVED" and r.data["action_id"] is not None:
            expect(
                r.data["action_id"] in offered[r.data["pause_id"]],
                "only_buttons_that_are_offered_are_pressed",
                f"{r.data}",
            )


@prop
def a_resume_is_told_when_the_last_pause_closes_and_only_then(w: World) -> None:
    name = "a_resume_is_told_when_the_last_pause_closes_and_only_then"
    open_: set[str] = set()
    for r in w.rows:
        if r.type == "WORKFLOW_PAUSED_HITL":
            open_.add(r.data["pause_id"])
        elif r.type == "HITL_RESOLVED":
            open_.discard(r.data["pause_id"])
        elif r.type == "WORKFLOW_RESUMED":
            paused = r.data["status"] == "PAUSED_HITL"
            expect(paused == bool(open_), name, f"{open_} at {r.seq}")
            expect(not paused or (r.meta or {}).get("rolled_back"), name, f"a pause goes on, says {r.seq}")


@prop
def a_pause_shows_what_was_tried(w: World) -> None:
    tried: dict[str, int] = {}
    for r in w.rows:
        if r.type == "NODE_STATE_CHANGED" and r.data["from"] in ("SCHEDULED", "IN_PROGRESS"):
            tried[r.data["node_id"]] = tried.get(r.data["node_id"], 0) + (r.data["to"] != "IN_PROGRESS")
        elif r.type == "WORKFLOW_PAUSED_HITL" and r.data["node_id"] and r.data["kind"] != "compensation_failure":
            shown, node = len(r.data["attempts"]), r.data["node_id"]
            expect(shown == tried.get(node, 0), "a_pause_shows_what_was_tried", f"{node}: {shown}")


@prop
def only_people_and_declared_deadlines_close_a_pause(w: World) -> None:
    name = "only_people_and_declared_deadlines_close_a_pause"
    for s, r in by_step(w):
        if r.type != "HITL_RESOLVED":
            continue
        outcome, actor = r.data["outcome"], r.data["actor"]
        if outcome == "decided":
            expect(isinstance(s.what, Decision) and actor == "ada", name, f"{r.data}")
        elif outcome == "expired":
            expect(isinstance(s.what, Wake) and actor == "system:timeout", name, f"{r.data}")
        elif outcome == "cancelled":
            expect(isinstance(s.what, Cancel), name, f"{r.data} by {s.what}")
        else:
            expect(actor == "system", name, f"{r.data}")


@prop
def a_pause_expires_no_sooner_than_it_said(w: World) -> None:
    due = {r.data["pause_id"]: r.data["expires_at"] for r in w.rows if r.type == "WORKFLOW_PAUSED_HITL"}
    for r in w.rows:
        if r.type == "HITL_RESOLVED" and r.data["outcome"] == "expired":
            at = due[r.data["pause_id"]]
            expect(at is not None and r.at_ms >= ms_of(at), "a_pause_expires_no_sooner_than_it_said", f"{r.data}")


@prop
def the_deadline_runs_only_while_nobody_is_asked(w: World) -> None:
    start = w.steps[0].what
    assert isinstance(start, Start)
    running = 0
    last, paused = w.rows[0].at_ms, 0
    for r in w.rows:
        if not paused:
            running += r.at_ms - last
        last = r.at_ms
        if r.type == "WORKFLOW_PAUSED_HITL":
            late = r.data["kind"] == "failure" and r.data["node_id"] is None and not (r.meta or {}).get("then")
            if late:
                allowed = start.deadline_s is not None and running >= start.deadline_s * 1000
                expect(
                    allowed,
                    "the_deadline_runs_only_while_nobody_is_asked",
                    f"after {running} ms of {start.deadline_s} s",
                )
            paused += 1
        elif r.type == "HITL_RESOLVED":
            paused -= 1


# winding down


@prop
def nothing_new_is_dispatched_once_it_winds_down(w: World) -> None:
    ending = False
    members: set[str] = set()
    for r in w.rows:
        meta = r.meta or {}
        if r.type == "WORKFLOW_COMPENSATING":
            ending = ending or "end" in meta
            members |= set(meta.get("members", ()))
        elif r.type == "NODES_ADDED":
            members |= set(meta.get("members", ()))
        elif meta.get("rolled_back"):
            members.clear()
        elif r.type == "NODE_STATE_CHANGED" and r.data["to"] == "SCHEDULED":
            wrong = ending or r.data["node_id"] in members
            expect(not wrong, "nothing_new_is_dispatched_once_it_winds_down", f"{r.data}")
    sent_late = False
    for s in w.steps:
        for m in s.messages:
            if isinstance(m, Dispatch) and m.kind is TaskKind.EXECUTE and s.before.ending:
                sent_late = True
    expect(not sent_late, "nothing_new_is_dispatched_once_it_winds_down", "a task was sent")


@prop
def nothing_is_undone_without_an_abort(w: World) -> None:
    name = "nothing_is_undone_without_an_abort"
    undo = [r for r in w.rows if r.type == "WORKFLOW_COMPENSATING" and (r.meta or {}).get("undo")]
    undone = [d for _, d, _ in moves(w) if d["to"] in ("COMPENSATING", "NOT_REVERSIBLE", "NOTHING_TO_UNDO")]
    expect(undo or not undone, name, f"{undone[:1]}")
    expect(undo or not any(isinstance(m, Dispatch) and m.kind is TaskKind.COMPENSATE for _, m in w.sent), name, "sent")


@prop
def what_never_ran_is_not_undone(w: World) -> None:
    ran = {d["node_id"] for _, d, _ in moves(w) if d["to"] == "SCHEDULED"}
    for _, d, _ in moves(w):
        if d["to"] == "COMPENSATING":
            expect(d["node_id"] in ran, "what_never_ran_is_not_undone", f"{d['node_id']}")


@prop
def what_completed_is_undone_or_shown_after_an_abort(w: World) -> None:
    name = "what_completed_is_undone_or_shown_after_an_abort"
    if w.state.status.value == "COMPENSATED":
        kept = [
            k
            for k, n in w.state.nodes.items()
            if n.state.value in ("COMPLETE", "COMPENSATION_FAILED", "NOT_REVERSIBLE")
        ]
        expect(not kept, name, f"{kept} at a clean end")


@prop
def an_end_is_incomplete_exactly_when_something_stands_or_a_person_stopped(w: World) -> None:
    name = "an_end_is_incomplete_exactly_when_something_stands_or_a_person_stopped"
    s = w.state
    if s.ending is None or not s.ending.undo:
        return
    stands = any(n.state.value in ("COMPENSATION_FAILED", "NOT_REVERSIBLE") for n in s.nodes.values())
    incomplete = s.status.value == "COMPENSATION_INCOMPLETE"
    expect(incomplete == (stands or s.ending.stopped), name, f"{s.status}, {stands}, {s.ending}")


@prop
def a_workflow_completes_only_when_every_node_is_complete_or_skipped(w: World) -> None:
    name = "a_workflow_completes_only_when_every_node_is_complete_or_skipped"
    states = {n.state.value for n in w.state.nodes.values()}
    if w.state.status.value == "COMPLETED":
        expect(states == {"COMPLETE"}, name, f"{states}")
    elif w.state.status.value == "COMPLETED_WITH_SKIPS":
        rolled = any(r.type == "WORKFLOW_COMPENSATING" for r in w.rows)
        over = (
            {"CANCELLED", "COMPENSATED", "COMPENSATION_FAILED", "NOTHING_TO_UNDO", "NOT_REVERSIBLE"}
            if rolled
            else set()
        )
        expect(states <= {"COMPLETE", "SKIPPED"} | over and states != {"COMPLETE"}, name, f"{states}")


@prop
def no_claimed_attempt_is_open_at_the_end(w: World) -> None:
    open_: dict[str, str] = {}
    for _, d, _ in moves(w):
        open_[d["node_id"]] = d["to"]
    left = [k for k, v in open_.items() if v in ("SCHEDULED", "IN_PROGRESS", "COMPENSATING")]
    expect(not left, "no_claimed_attempt_is_open_at_the_end", f"{left}")


@prop
def the_end_is_the_last_row_and_there_is_one(w: World) -> None:
    ends = [r.seq for r in w.rows if r.type in ("WORKFLOW_COMPLETED", "WORKFLOW_FAILED", "WORKFLOW_CANCELLED")]
    ends += [r.seq for r in w.rows if r.type in ("WORKFLOW_COMPENSATED", "WORKFLOW_COMPENSATION_INCOMPLETE")]
    expect(ends == [len(w.rows)], "the_end_is_the_last_row_and_there_is_one", f"{ends} of {len(w.rows)}")
    expect(w.state.status in TERMINAL, "the_end_is_the_last_row_and_there_is_one", w.state.status.value)


@prop
def the_end_tells_the_outputs_of_the_sinks(w: World) -> None:
    end = w.rows[-1].data
    s = w.state
    if end["status"] in ("COMPLETED", "COMPLETED_WITH_SKIPS") and s.output_mapping is None:
        sinks = {k: n.output for k, n in s.nodes.items() if not s.children[k] and not (s.planner and k == "plan")}
        expect(end["output"] == sinks, "the_end_tells_the_outputs_of_the_sinks", f"{end['output']}")
    counts: dict[str, int] = {"nodes": len(s.nodes)}
    for n in s.nodes.values():
        counts[n.state.value.lower()] = counts.get(n.state.value.lower(), 0) + 1
    expect(end["totals"] == counts, "the_end_tells_the_outputs_of_the_sinks", f"{end['totals']} {counts}")


# effects


@prop
def an_effect_happens_at_most_once_under_one_key(w: World) -> None:
    for key, e in w.agents.provider.items():
        expect(e.applied <= 1, "an_effect_happens_at_most_once_under_one_key", f"{key}: {e.applied} times")


@prop
def a_completed_node_that_was_kept_has_its_effect(w: World) -> None:
    name = "a_completed_node_that_was_kept_has_its_effect"
    by_word = {r.data["node_id"] for r in w.rows if r.type == "HITL_RESOLVED"}
    for k, n in w.state.nodes.items():
        pure = n.spec.effect_class is EffectClass.PURE
        if n.state.value == "COMPLETE" and not pure and k not in by_word and k != "plan":
            e = w.agents.provider.get(w.state.do_key(n))
            expect(e is not None and e.standing, name, f"{k}: {e}")


@prop
def every_effect_is_kept_undone_or_shown(w: World) -> None:
    """I8: at the end nothing stands that nobody knows of."""
    name = "every_effect_is_kept_undone_or_shown"
    for key, e in w.agents.provider.items():
        if not e.standing or key in w.shown:
            continue
        n = w.state.nodes[e.node_id]
        expect(key == w.state.do_key(n), name, f"{key} is of an old generation and on no list")
        expect(_accounted(w, n), name, f"{key} stands, the node is {n.state}, the workflow {w.state.status}")


def _accounted(w: World, n: NodeState) -> bool:
    s = w.state
    if n.state.value in ("COMPLETE", "COMPENSATION_FAILED", "NOT_REVERSIBLE") or n.spec.undoing is None:
        return True  # kept, on show, or declared to have no undo
    undo_ordered = s.ending is not None and s.ending.undo and not s.ending.stopped
    return not undo_ordered and n.in_doubt  # kept by a decision, and the journal says that it may stand


@prop
def an_undo_of_a_possible_effect_is_never_forgotten(w: World) -> None:
    name = "an_undo_of_a_possible_effect_is_never_forgotten"
    if w.state.status.value != "COMPENSATED":
        return
    for k, n in w.state.nodes.items():
        possible = n.in_doubt and (n.spec.undoing is not None or n.spec.irreversible)
        possible = possible and n.spec.effect_class is not EffectClass.PURE
        if n.state.value in ("CANCELLED", "SKIPPED") and possible:
            raise Broken(name, f"{k} is {n.state} and in doubt")


# the whole


@prop
def every_snapshot_on_the_way_leads_to_the_same_end(w: World) -> None:
    taken_up(w, Now(w.now), w.snapshots)


@prop
def rows_are_bounded(w: World) -> None:
    n = len(w.state.nodes)
    for s in w.steps:
        expect(len(s.rows) <= 8 * n + 12, "rows_are_bounded", f"{len(s.rows)} rows of {n} nodes by {s.what}")
        expect(len(s.messages) <= 4 * n + 4, "rows_are_bounded", f"{len(s.messages)} messages by {s.what}")


@prop
def an_ignored_answer_is_journaled_once(w: World) -> None:
    seen: set[tuple[str, int, str]] = set()
    for r in w.rows:
        if r.type == "RESULT_IGNORED":
            mark = (r.data["node_id"], r.data["attempt"], (r.meta or {})["outcome"])
            expect(mark not in seen, "an_ignored_answer_is_journaled_once", f"{mark}")
            seen.add(mark)


@prop
def a_settled_output_never_changes(w: World) -> None:
    outputs: dict[str, Any] = {}
    for _, d, _ in moves(w):
        if d["to"] == "PENDING":
            outputs.pop(d["node_id"], None)
        if d["to"] in ("COMPLETE", "SKIPPED"):
            expect(d["node_id"] not in outputs, "a_settled_output_never_changes", f"{d['node_id']} settled twice")
            outputs[d["node_id"]] = d.get("output")
    for k, value in outputs.items():
        expect(w.state.nodes[k].output == value, "a_settled_output_never_changes", f"{k}")


@prop
def time_never_runs_backwards_in_a_journal(w: World) -> None:
    times = [r.at_ms for r in w.rows]
    expect(times == sorted(times), "time_never_runs_backwards_in_a_journal", "")


@prop
def it_can_always_be_explained(w: World) -> None:
    said = explain(w.state, w.now)
    expect(said["sentence"].startswith("It has ended"), "it_can_always_be_explained", said["sentence"])


@prop
def a_manual_pause_and_a_cancel_are_never_refused_without_a_reason(w: World) -> None:
    for s in w.steps:
        if isinstance(s.what, (PanicPause, Cancel)) and s.rejected is not None and not s.repeat:
            known = s.rejected.reason in ("already-paused", "already-ending", "ended")
            expect(known, "a_manual_pause_and_a_cancel_are_never_refused_without_a_reason", f"{s.rejected}")

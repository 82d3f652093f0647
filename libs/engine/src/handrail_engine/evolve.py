"""`evolve(state, row) -> state`: how a row changes what is known. The only place that assigns a status.

The state is changed in place (a 10,000-node plan is not copied for each of its rows) and returned. Whoever keeps states
drops one whose rows were not committed; see `turn.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus, WorkflowStatus
from handrail_contracts.model import ms_of
from handrail_engine import appended, asking, room
from handrail_engine.evidence import ATTEMPTS_KEPT
from handrail_engine.leases import claim, must_close_ms, sent
from handrail_engine.lifecycle import OPEN, SETTLED, check_node, check_workflow
from handrail_engine.marks import ignored_mark, listed_mark
from handrail_engine.outline import Outline, outline
from handrail_engine.rollback import UNDO_ENDS, announced, joined, try_settle
from handrail_engine.spec import node_spec
from handrail_engine.spending import spend
from handrail_engine.state import (
    NodeState,
    Row,
    Undo,
    WorkflowState,
)

DEAD_LETTER_RETURN_MS = 2_000
_STATUS = {status.value: status for status in NodeStatus}


def fold(tenant: str, trace_id: str, rows: Iterable[Row], onto: WorkflowState | None = None) -> WorkflowState:
    """The state after these rows, which have no hole and begin at seq 1, or after the last row of `onto` (a snapshot's)."""
    state = onto if onto is not None else WorkflowState(tenant, trace_id)
    for row in rows:
        evolve(state, row)
    state.undo_ready.clear()  # whoever wrote these rows has acted on it
    return state


def evolve(s: WorkflowState, row: Row) -> WorkflowState:
    """Folds one row into `s` and returns it. Raises IllegalMove on a row that the lifecycle does not allow."""
    if row.seq != s.seq + 1:
        raise ValueError(f"Expected row {s.seq + 1} of {s.trace_id}, but got {row.seq}.")
    s.seq = row.seq
    s.updated_ms = row.at_ms
    match row.type:
        case T.NODE_STATE_CHANGED:
            _node_changed(s, row)
        case T.WORKFLOW_ACCEPTED:
            _accepted(s, row)
        case T.WORKFLOW_PLANNED:
            meta = row.meta or {}
            s.output_mapping, s.budget = meta.get("output"), meta.get("budget") or {}
            s.planned, s.plan = True, None
            _move(s, WorkflowStatus.RUNNING)
            _add_nodes(s, row, None if s.nodes else outline(meta["nodes"]))
        case T.NODES_ADDED:
            joins: list[str] = (row.meta or {}).get("members", [])
            known = [k for k in joins if k in s.nodes]
            _add_nodes(s, row, None)
            joined(s, joins, known)
        case T.WORKFLOW_PAUSED_HITL:
            asking.paused(s, row)
            _move(s, WorkflowStatus.PAUSED_HITL)
        case T.HITL_RESOLVED:
            asking.resolved(s, row)
        case T.WORKFLOW_RESUMED:
            if (row.meta or {}).get("rolled_back"):
                s.ending, s.undo_unsettled = None, 0
            _move(s, WorkflowStatus(row.data["status"]))
        case T.WORKFLOW_COMPENSATING:
            if announced(s, row) and not s.pauses:
                _move(s, WorkflowStatus.COMPENSATING)
        case T.TASK_DEAD_LETTERED:
            node = s.nodes[row.data["node_id"]]
            if late := (row.meta or {}).get("late_effect"):
                node.ignored.add(listed_mark(late))
            elif (row.meta or {}).get("pause"):
                asking.letter(s, node, (row.data["dead_letter_id"], row.at_ms + DEAD_LETTER_RETURN_MS))
                s.arm(node)
        case T.RESULT_IGNORED:
            _ignored(s, row)
        case T.PAUSE_UPDATED:
            pause = s.pauses.get(row.data["pause_id"])
            if pause is not None:
                claim_ = {k: row.data[k] for k in ("claimed_by", "claimed_until") if k in row.data}
                pause.data = {**pause.data, **claim_}
                if row.data.get("reminded_at"):
                    asking.remind(s, pause, row.at_ms + asking.REMIND_EVERY_MS if pause.expires_ms is None else None)
        case T.MESSAGE_ADDED:
            pause = s.pauses.get(row.data["pause_id"])
            if pause is not None:
                said = {k: row.data[k] for k in ("role", "text", "at", "withheld") if k in row.data}
                pause.data = {**pause.data, "transcript": [*(pause.data["transcript"] or ()), said]}
        case T.GATE_EVALUATED:
            _judged(s.nodes[row.data["node_id"]], row.meta or {})
        case _:
            _ended(s, row)
    return s


def _ignored(s: WorkflowState, row: Row) -> None:
    meta = row.meta or {}
    node = s.nodes[row.data["node_id"]]
    node.ignored.add(ignored_mark(row.data["attempt"], meta.get("outcome", "")))
    if meta.get("doubt"):
        node.in_doubt = True
    if meta.get("again"):
        node.undo.again = True
        if node.undo.settled:
            node.undo.settled = False
            s.undo_unsettled += 1


def _move(s: WorkflowState, new: WorkflowStatus) -> None:
    check_workflow(s.trace_id, s.status, new)
    s.status = new


def _accepted(s: WorkflowState, row: Row) -> None:
    d = row.data
    s.exists = True
    s.created_ms, s.requester = row.at_ms, (row.meta or {}).get("actor")
    s.intent, s.blueprint, s.input, s.labels = d["intent"], d["blueprint"], d["input"], d["labels"]
    _move(s, WorkflowStatus(d["status"]))
    s.planner = s.status is WorkflowStatus.PLANNING
    if d.get("deadline_at"):
        asking.set_deadline(s, ms_of(d["deadline_at"]))


def _add_nodes(s: WorkflowState, row: Row, known: Outline | None) -> None:
    there, by = len(s.nodes), row.data.get("by")
    mark = None if by is None else (by, s.nodes[by].generation)
    edges_changed = False
    specs = known.specs if known is not None else (node_spec(c, s.nodes) for c in (row.meta or {})["nodes"])
    for spec in specs:  # plans are in topological order: what a node refers to stands before it
        if spec.id in s.nodes:
            edges_changed |= appended.renew(s, spec, mark)
            continue
        waiting = sum(1 for d in spec.depends_on if d not in s.nodes or not s.nodes[d].ended_seq)
        node = NodeState(spec, len(s.nodes), waiting, by=mark)
        s.nodes[spec.id] = node
        s.children.setdefault(spec.id, [])
        for dep in spec.depends_on:
            s.children.setdefault(dep, []).append(spec.id)
    if edges_changed:
        appended.rearrange(s)
    new = len(s.nodes) - there
    s.unsettled += new
    s.counts[NodeStatus.PENDING] = s.counts.get(NodeStatus.PENDING, 0) + new


def _node_changed(s: WorkflowState, row: Row) -> None:
    d, meta = row.data, row.meta or {}
    node = s.nodes[d["node_id"]]
    old, new = node.state, _STATUS[d["to"]]
    check_node(node.spec.id, old, new)
    was_out = node.live is not None
    node.state = new
    if old is not new:
        s.counts[old] -= 1
        s.counts[new] = s.counts.get(new, 0) + 1
    if new is NodeStatus.PENDING:
        _again(s, node)
    elif new is NodeStatus.COMPENSATING or old is NodeStatus.COMPENSATING or new in UNDO_ENDS:
        _second_life(s, node, row, old, new)
    else:
        _first_life(s, node, row, old, new)
    room.moved(s, node, was_out, meta)
    if usage := d.get("usage"):
        spend(s, usage)
    if "doubt" in meta:
        node.in_doubt = meta["doubt"]
    if "plan" in meta:
        s.plan = meta["plan"]
    if "kept" in meta:
        appended.keep(s, node, meta["kept"])
    if new in SETTLED:
        s.unsettled -= 1
        node.ended_seq = row.seq
        for child in s.children[node.spec.id]:
            s.nodes[child].waiting -= 1
    if s.ending is not None:
        try_settle(s, node)
    s.arm(node)


def _again(s: WorkflowState, node: NodeState) -> None:
    """It was rolled back and runs once more; whoever still works under the old key finds it closed."""
    if node.attempt:
        node.generation += 1
    node.round_from = node.attempt
    node.output = node.error = node.retry_ms = None
    node.in_doubt = node.look_up = False
    node.ended_seq = 0
    node.undo = Undo()
    node.approved = node.granted = node.judged = None
    s.off -= node.off
    node.off = False
    s.unsettled += 1
    for child in s.children[node.spec.id]:
        s.nodes[child].waiting += 1


def _first_life(s: WorkflowState, node: NodeState, row: Row, old: NodeStatus, new: NodeStatus) -> None:
    d, meta = row.data, row.meta or {}
    if old in OPEN and new not in OPEN:
        node.closed[node.attempt] = meta.get("outcome", "ok" if new is NodeStatus.COMPLETE else "failed")
        _record(node.attempts, d)
        node.live = None
        if meta.get("doubt") and not node.look_up:
            node.closes_ms = must_close_ms(node, row.at_ms)
        if meta.get("uncounted"):
            node.round_from += 1
    if "error" in d:
        node.error = d["error"]
    node.retry_ms = ms_of(d["retry_at"]) if "retry_at" in d else None
    match new:
        case NodeStatus.SCHEDULED:
            _dispatched(s, node, row)
        case NodeStatus.IN_PROGRESS:
            node.started_ms = ms_of(d["started_at"]) if d.get("started_at") else row.at_ms
            node.worker = d.get("worker")
            claim(node, row.at_ms)
        case NodeStatus.COMPLETE:
            node.output, node.error = d.get("output"), None
            node.in_doubt = False
        case NodeStatus.SKIPPED:
            node.output = d.get("output")
            if meta.get("off"):
                node.off, s.off = True, s.off + 1
        case _:
            pass
    if node.dead_letter is not None and new is not NodeStatus.DEAD_LETTERED:
        asking.letter(s, node, None)
    if new is NodeStatus.RETRYING:
        node.look_up = bool(meta.get("look_up"))
        if meta.get("round"):
            node.round_from, node.round_ms = node.attempt, row.at_ms


def _dispatched(s: WorkflowState, node: NodeState, row: Row) -> None:
    meta = row.meta or {}
    node.attempt = row.data["attempt"]
    node.look_up = bool(meta.get("look_up"))
    if meta.get("round") or node.attempt == 1:
        node.round_from = node.attempt - 1
        node.round_ms = row.at_ms
    _ordered(node, meta)
    node.scheduled_ms = row.at_ms
    node.started_ms = None
    node.worker = None
    node.live = None if node.spec.outside else sent(row.at_ms, node.spec.timeouts.schedule_to_start_s)


def _judged(node: NodeState, meta: dict[str, Any]) -> None:
    """A policy has spoken of the node; what a person had ordered with the dispatch that it stopped is kept."""
    node.judged = meta["judged"]
    if "doubt" in meta:
        node.in_doubt = meta["doubt"]
    _ordered(node, meta)


def _ordered(node: NodeState, meta: dict[str, Any]) -> None:
    """What comes with a dispatch. An approval stands for what was approved, and not for a changed input."""
    if "generation" in meta:
        node.generation = meta["generation"]
    if "sets" in meta:
        node.overrides = {**node.overrides, **meta["sets"]}
        node.approved = node.granted = None
    if "conversation" in meta:
        node.conversation = meta["conversation"]
    if "approved" in meta:
        node.approved = meta["approved"]
    if "granted" in meta:
        node.granted = meta["granted"]


def _second_life(s: WorkflowState, node: NodeState, row: Row, old: NodeStatus, new: NodeStatus) -> None:
    d, meta, undo = row.data, row.meta or {}, node.undo
    asking.letter(s, node, None)
    if old is NodeStatus.COMPENSATING and ("finished_at" in d or "error" in d):
        _record(undo.attempts, d)
        node.live = None
    undo.error = d.get("error", undo.error)
    if meta.get("by_hand") or (new in UNDO_ENDS and node.spec.undoing is None):
        undo.again = False
    undo.retry_ms = ms_of(d["retry_at"]) if "retry_at" in d else None
    match new:
        case NodeStatus.COMPENSATING if meta.get("dispatch"):
            undo.attempt = d["attempt"]
            undo.claimed = False
            if "order" in meta:
                undo.order, undo.again = meta["order"], False
            if meta.get("round"):
                undo.round_from, undo.round_ms = undo.attempt - 1, row.at_ms
            node.scheduled_ms, node.started_ms, node.worker = row.at_ms, None, None
            node.live = sent(row.at_ms, node.limits.schedule_to_start_s)
        case NodeStatus.COMPENSATING:
            if "started_at" in d and "error" not in d:
                undo.claimed, node.worker = True, d.get("worker")
                node.started_ms = ms_of(d["started_at"]) if d["started_at"] else row.at_ms
                claim(node, row.at_ms)
        case _:
            node.live = None


def _record(attempts: list[dict[str, Any]], d: dict[str, Any]) -> None:
    attempts.append(
        {
            "attempt": d["attempt"],
            "started_at": d.get("started_at"),
            "finished_at": d.get("finished_at") or d["at"],
            "error": d.get("error"),
        }
    )
    del attempts[:-ATTEMPTS_KEPT]


def _ended(s: WorkflowState, row: Row) -> None:
    _move(s, WorkflowStatus(row.data["status"]))
    s.ended = True
    s.pauses.clear()
    s.holding = 0
    s.timers.clear()
    s.deadline_ms = s.deadline_left_ms = None
    s.undo_ready.clear()
    for node in s.nodes.values():
        node.live = node.armed_ms = node.dead_letter = None
    s.letters = 0
    room.empty(s)

"""`evolve(state, row) -> state`: how a row changes what is known. The only place that assigns a status.

The state is changed in place (a 10,000-node plan is not copied for each of its rows) and returned. Whoever keeps states
drops one whose rows were not committed; see `turn.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus, WorkflowStatus
from handrail_contracts.model import ms_of
from handrail_contracts.plan import EffectClass, PauseScope
from handrail_engine.lifecycle import OPEN, SETTLED, check_node, check_workflow
from handrail_engine.retry import resend_s, start_window_s
from handrail_engine.state import (
    DEADLINE_TIMER,
    PAUSE_TIMER,
    Ending,
    Live,
    NodeState,
    PauseState,
    Row,
    WorkflowState,
    node_spec,
)

DEAD_LETTER_RETURN_MS = 2_000
_UNDO_ENDS = frozenset({NodeStatus.COMPENSATED, NodeStatus.NOTHING_TO_UNDO, NodeStatus.NOT_REVERSIBLE})


def fold(tenant: str, trace_id: str, rows: Iterable[Row]) -> WorkflowState:
    """The state after these rows, which begin at seq 1 and have no hole."""
    state = WorkflowState(tenant, trace_id)
    for row in rows:
        evolve(state, row)
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
            s.output_mapping = (row.meta or {}).get("output")
            _move(s, WorkflowStatus.RUNNING)
            _add_nodes(s, row)
        case T.NODES_ADDED:
            _add_nodes(s, row)
        case T.WORKFLOW_PAUSED_HITL:
            _paused(s, row)
        case T.HITL_RESOLVED:
            _resolved(s, row)
        case T.WORKFLOW_RESUMED:
            _move(s, WorkflowStatus(row.data["status"]))
        case T.WORKFLOW_COMPENSATING:
            _compensating(s, row)
        case T.TASK_DEAD_LETTERED:
            if (row.meta or {}).get("pause"):
                node = s.nodes[row.data["node_id"]]
                node.dead_letter = (row.data["dead_letter_id"], row.at_ms + DEAD_LETTER_RETURN_MS)
                s.arm(node)
        case T.RESULT_IGNORED:
            s.nodes[row.data["node_id"]].ignored.add(
                ignored_mark(row.data["attempt"], (row.meta or {}).get("outcome", ""))
            )
        case T.PAUSE_UPDATED:
            pause = s.pauses.get(row.data["pause_id"])
            if pause is not None:
                pause.data = {
                    **pause.data,
                    **{k: row.data[k] for k in ("claimed_by", "claimed_until") if k in row.data},
                }
        case T.MESSAGE_ADDED:
            pause = s.pauses.get(row.data["pause_id"])
            if pause is not None:
                said = {"role": row.data["role"], "text": row.data["text"], "at": row.data["at"]}
                pause.data = {**pause.data, "transcript": [*(pause.data["transcript"] or ()), said]}
        case T.GATE_EVALUATED:
            pass
        case _:
            _ended(s, row)
    return s


def ignored_mark(attempt: int, outcome: str) -> str:
    """Under this mark an ignored answer is remembered, so that its repeats add no row."""
    return f"{attempt}:{outcome}"


def _move(s: WorkflowState, new: WorkflowStatus) -> None:
    check_workflow(s.trace_id, s.status, new)
    s.status = new


def _accepted(s: WorkflowState, row: Row) -> None:
    d = row.data
    s.exists = True
    s.created_ms = row.at_ms
    s.intent, s.blueprint, s.input, s.labels = d["intent"], d["blueprint"], d["input"], d["labels"]
    _move(s, WorkflowStatus(d["status"]))
    if d.get("deadline_at"):
        _set_deadline(s, ms_of(d["deadline_at"]))


def _set_deadline(s: WorkflowState, at_ms: int) -> None:
    s.deadline_ms = at_ms
    heapq.heappush(s.timers, (at_ms, DEADLINE_TIMER))


def _add_nodes(s: WorkflowState, row: Row) -> None:
    compiled: list[dict[str, Any]] = (row.meta or {})["nodes"]
    known: dict[str, Any] = (
        {**s.nodes, **{c["id"]: None for c in (row.meta or {}).get("all", compiled)}} if compiled else {}
    )
    for c in compiled:
        spec = node_spec(c, known)
        waiting = sum(1 for d in spec.depends_on if d not in s.nodes or s.nodes[d].state not in SETTLED)
        node = NodeState(spec, len(s.nodes), waiting)
        s.nodes[spec.id] = node
        s.children.setdefault(spec.id, [])
        for dep in spec.depends_on:
            s.children.setdefault(dep, []).append(spec.id)
        s.unsettled += 1
        s.counts[NodeStatus.PENDING] = s.counts.get(NodeStatus.PENDING, 0) + 1


def _node_changed(s: WorkflowState, row: Row) -> None:
    d, meta = row.data, row.meta or {}
    node = s.nodes[d["node_id"]]
    old, new = node.state, NodeStatus(d["to"])
    check_node(node.spec.id, old, new)
    was_out = node.live is not None
    node.state = new
    if old is not new:
        s.counts[old] -= 1
        s.counts[new] = s.counts.get(new, 0) + 1
    if new is NodeStatus.COMPENSATING or old is NodeStatus.COMPENSATING or new in _UNDO_ENDS:
        _second_life(s, node, row, old, new)
    else:
        _first_life(s, node, row, old, new)
    s.out += (node.live is not None) - was_out
    if "doubt" in meta:
        node.in_doubt = meta["doubt"]
    if new in SETTLED and old not in SETTLED:
        s.unsettled -= 1
        node.ended_seq = row.seq
        for child in s.children[node.spec.id]:
            s.nodes[child].waiting -= 1
    elif old in SETTLED and new not in SETTLED and new not in _UNDO_ENDS and new is not NodeStatus.COMPENSATING:
        s.unsettled += 1
    if s.ending is not None:
        try_settle(s, node)
    s.arm(node)


def _first_life(s: WorkflowState, node: NodeState, row: Row, old: NodeStatus, new: NodeStatus) -> None:
    d, meta = row.data, row.meta or {}
    if old in OPEN and new not in OPEN:
        node.closed[node.attempt] = meta.get("outcome", "ok" if new is NodeStatus.COMPLETE else "failed")
        if not node.look_up or new is NodeStatus.COMPLETE:
            _record(node.attempts, d)
        node.live = None
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
        case _:
            pass
    if new is not NodeStatus.DEAD_LETTERED:
        node.dead_letter = None
    if new is NodeStatus.RETRYING:
        node.look_up = bool(meta.get("look_up"))


def _dispatched(s: WorkflowState, node: NodeState, row: Row) -> None:
    meta = row.meta or {}
    node.attempt = row.data["attempt"]
    node.look_up = bool(meta.get("look_up"))
    if meta.get("round") or node.attempt == 1:
        node.round_from = node.attempt - 1
        node.round_ms = row.at_ms
    if "generation" in meta:
        node.generation = meta["generation"]
        node.in_doubt = False
    if "sets" in meta:
        node.overrides = {**node.overrides, **meta["sets"]}
    if "conversation" in meta:
        node.conversation = meta["conversation"]
    node.scheduled_ms = row.at_ms
    node.started_ms = None
    node.worker = None
    node.live = sent(row.at_ms, node.spec.timeouts.schedule_to_start_s)


def sent(at_ms: int, patience_s: float) -> Live:
    """A fresh attempt that was just sent for the first time and may be claimed within its window."""
    window = min(start_window_s(1), max(patience_s, 1.0))
    return Live(1, at_ms + int(min(resend_s(1), max(patience_s, 1.0)) * 1000), at_ms + int(window * 1000))


def claim(node: NodeState, at_ms: int) -> None:
    """The attempt that is out was claimed, or its worker showed life: its lease runs from now."""
    if node.live is not None:
        limits = (
            node.spec.undoing.timeouts
            if node.state is NodeStatus.COMPENSATING and node.spec.undoing
            else node.spec.timeouts
        )
        node.live.lease_until = at_ms + int(limits.lease_s * 1000)


def _second_life(s: WorkflowState, node: NodeState, row: Row, old: NodeStatus, new: NodeStatus) -> None:
    d, meta, undo = row.data, row.meta or {}, node.undo
    node.dead_letter = None
    if old is NodeStatus.COMPENSATING and ("finished_at" in d or "error" in d):
        _record(undo.attempts, d)
        node.live = None
    undo.error = d.get("error", undo.error)
    undo.retry_ms = ms_of(d["retry_at"]) if "retry_at" in d else None
    match new:
        case NodeStatus.COMPENSATING if meta.get("dispatch"):
            undo.attempt = d["attempt"]
            undo.claimed = False
            if "order" in meta:
                if undo.settled:
                    s.undo_unsettled += 1
                undo.order, undo.settled = meta["order"], False
            if meta.get("round"):
                undo.round_from = undo.attempt - 1
            node.scheduled_ms, node.started_ms = row.at_ms, None
            limits = node.spec.undoing.timeouts if node.spec.undoing else node.spec.timeouts
            node.live = sent(row.at_ms, limits.schedule_to_start_s)
        case NodeStatus.COMPENSATING:
            if "started_at" in d and "error" not in d:
                undo.claimed = True
                node.started_ms = ms_of(d["started_at"]) if d["started_at"] else row.at_ms
                claim(node, row.at_ms)
        case _:
            node.live = None
    if new in _UNDO_ENDS:
        settle_undo(s, node)


def _record(attempts: list[dict[str, Any]], d: dict[str, Any]) -> None:
    attempts.append(
        {
            "attempt": d["attempt"],
            "started_at": d.get("started_at"),
            "finished_at": d.get("finished_at") or d["at"],
            "error": d.get("error"),
        }
    )


def needs_undo(node: NodeState) -> bool:
    """True when an effect of the node stands, or may stand."""
    doubtful = node.in_doubt and node.spec.effect_class is not EffectClass.PURE
    return node.state is NodeStatus.COMPLETE or (node.state is NodeStatus.CANCELLED and doubtful)


def try_settle(s: WorkflowState, node: NodeState) -> None:
    """Settles a node that never needs an undo (never ran, skipped, refused) once its dependants have settled."""
    if s.ending is None or not s.ending.undo:
        return
    if node.undo.settled or node.undo.waiting or node.state not in (NodeStatus.CANCELLED, NodeStatus.SKIPPED):
        return
    if not needs_undo(node):
        settle_undo(s, node)


def settle_undo(s: WorkflowState, node: NodeState) -> None:
    """This node's undo is over; its dependencies come one step nearer to theirs. Iterative: chains may be 10,000 long."""
    if s.ending is None or node.undo.settled:
        return
    work = [node]
    while work:
        n = work.pop()
        if n.undo.settled:
            continue
        n.undo.settled = True
        s.undo_unsettled -= 1
        if n.undo.order:
            continue  # a late success that was undone again: its dependencies were released by the first undo
        for dep in n.spec.depends_on:
            parent = s.nodes[dep]
            parent.undo.waiting -= 1
            idle = parent.state in (NodeStatus.CANCELLED, NodeStatus.SKIPPED) and not needs_undo(parent)
            if parent.undo.waiting == 0 and idle:
                work.append(parent)


def _paused(s: WorkflowState, row: Row) -> None:
    d, meta = row.data, row.meta or {}
    scope = PauseScope(meta["scope"])
    expires = ms_of(d["expires_at"]) if d.get("expires_at") else None
    s.pauses[d["pause_id"]] = PauseState(
        d["pause_id"], d["kind"], d["node_id"], scope, d, expires, meta.get("expiry"), meta.get("then")
    )
    if expires is not None:
        heapq.heappush(s.timers, (expires, PAUSE_TIMER + d["pause_id"]))
    s.holding += scope is PauseScope.WORKFLOW
    if d["node_id"] is not None:
        s.nodes[d["node_id"]].dead_letter = None
    if s.deadline_ms is not None:
        s.deadline_left_ms, s.deadline_ms = max(0, s.deadline_ms - row.at_ms), None
    _move(s, WorkflowStatus.PAUSED_HITL)


def _resolved(s: WorkflowState, row: Row) -> None:
    pause = s.pauses.pop(row.data["pause_id"])
    s.holding -= pause.scope is PauseScope.WORKFLOW
    kind = (row.meta or {}).get("kind")
    if kind == "accept" and pause.node_id is not None:
        settle_undo(s, s.nodes[pause.node_id])
    elif kind == "stop" and s.ending is not None:
        s.ending.stopped = True
    if not s.pauses and s.deadline_left_ms is not None:
        left, s.deadline_left_ms = s.deadline_left_ms, None
        if not (row.meta or {}).get("no_deadline"):
            _set_deadline(s, row.at_ms + left)
    if not s.held:
        for node in s.nodes.values():
            if node.state in (NodeStatus.RETRYING, NodeStatus.COMPENSATING):
                s.arm(node)


def _compensating(s: WorkflowState, row: Row) -> None:
    meta = row.meta or {}
    s.ending = Ending(WorkflowStatus(meta["end"]), meta["undo"], row.data.get("reason"))
    s.deadline_ms = s.deadline_left_ms = None
    _move(s, WorkflowStatus.COMPENSATING)
    if not meta["undo"]:
        return
    s.undo_unsettled = 0
    for node in s.nodes.values():
        node.undo.waiting = len(s.children[node.spec.id])
        s.undo_unsettled += 1
    for node in s.nodes.values():
        try_settle(s, node)


def _ended(s: WorkflowState, row: Row) -> None:
    _move(s, WorkflowStatus(row.data["status"]))
    s.ended = True
    s.pauses.clear()
    s.holding = 0
    s.timers.clear()
    s.deadline_ms = s.deadline_left_ms = None
    for node in s.nodes.values():
        node.live = None
    s.out = 0

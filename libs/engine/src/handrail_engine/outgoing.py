"""`outgoing(state, row) -> messages`: what a row sends, besides itself as an event. Asked right after the row was folded."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, Failure, Task, TaskKind
from handrail_engine.lifecycle import OPEN
from handrail_engine.references import MISSING, dig, resolve
from handrail_engine.state import NodeState, Row, WorkflowState


def outgoing(s: WorkflowState, row: Row) -> list[Task | DeadLetter]:
    """Tasks and dead letters that follow from this row; the event itself goes out whatever this answers."""
    match row.type:
        case T.NODE_STATE_CHANGED:
            to = row.data["to"]
            if to == NodeStatus.SCHEDULED or (to == NodeStatus.COMPENSATING and (row.meta or {}).get("dispatch")):
                return [task_for(s, s.nodes[row.data["node_id"]])]
        case T.TASK_DEAD_LETTERED:
            return [_dead_letter(s, row)]
        case T.WORKFLOW_COMPENSATING:
            return [cancel_for(s, n) for n in s.nodes.values() if n.state in OPEN]
        case _:
            pass
    return []


def look_up(s: WorkflowState, node: NodeState, text: str) -> Any:
    """The value of a reference of this node, or MISSING."""
    for known, ref, _ in node.spec.refs:
        if known == text:
            source = s.input if ref.node_id is None else s.nodes[ref.node_id].output
            return dig(source, ref.path)
    return MISSING


def inputs_of(s: WorkflowState, node: NodeState) -> dict[str, Any]:
    """The node's inputs with references resolved and what a person set laid over them."""
    inputs = node.spec.inputs
    if node.spec.refs:
        inputs = resolve(inputs, lambda text: look_up(s, node, text))
    return {**inputs, **node.overrides} if node.overrides else inputs


def task_for(s: WorkflowState, node: NodeState) -> Task:
    """The task message of the attempt that is out: an execution, a look-up, or an undo."""
    assert node.live is not None
    spec = node.spec
    undo = node.state is NodeStatus.COMPENSATING
    undoing = spec.undoing if undo else None
    retry, timeouts = (undoing.retry, undoing.timeouts) if undoing else (spec.retry, spec.timeouts)
    kind = TaskKind.COMPENSATE if undo else TaskKind.LOOK_UP if node.look_up else TaskKind.EXECUTE
    return Task(
        kind=kind,
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=spec.id,
        agent=spec.agent,
        action=undoing.action if undoing else spec.action,
        attempt=node.undo.attempt if undo else node.attempt,
        max_attempts=node.undo.round_from + retry.max_attempts if undo else node.max_attempts,
        effect_key=s.undo_key(node) if undo else s.do_key(node),
        effect_class=EffectClass.IDEMPOTENT if undo else spec.effect_class,
        inputs=inputs_of(s, node),
        output=node.output if undo else None,
        do_key=s.do_key(node) if undo else None,
        start_before=iso(node.live.start_before),
        start_to_close_s=timeouts.start_to_close_s,
        lease_s=timeouts.lease_s,
        conversation=node.conversation,
    )


def cancel_for(s: WorkflowState, node: NodeState) -> Task:
    """Asks whoever has (or will get) the open attempt to stop; answered `cancelled`, `ok` or `in_doubt`."""
    assert node.live is not None
    return Task(
        kind=TaskKind.CANCEL,
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=node.spec.id,
        agent=node.spec.agent,
        action=node.spec.action,
        attempt=node.attempt,
        max_attempts=node.max_attempts,
        effect_key=s.do_key(node),
        effect_class=node.spec.effect_class,
        start_before=iso(node.live.start_before),
    )


def _dead_letter(s: WorkflowState, row: Row) -> DeadLetter:
    d, meta = row.data, row.meta or {}
    node = s.nodes[d["node_id"]]
    error = (node.undo.error if meta.get("undo") else node.error) or {}
    return DeadLetter(
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=node.spec.id,
        dead_letter_id=d["dead_letter_id"],
        kind="compensation" if meta.get("undo") else "task",
        reason=error.get("message", ""),
        error=Failure(**{k: error[k] for k in ("code", "message", "evidence") if k in error}) if error else None,
        attempts=d["attempts"],
        task={"agent": node.spec.agent, "action": node.spec.action, "inputs": inputs_of(s, node)},
    )

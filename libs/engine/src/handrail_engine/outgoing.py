"""`outgoing(state, row) -> messages`: what a row sends, besides itself as an event. Asked right after the row was folded."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, Failure, Outcome, Result, TaskKind
from handrail_engine.evidence import shown
from handrail_engine.lifecycle import OPEN
from handrail_engine.references import FROM, MISSING, PATH, dig, is_reference, is_stored, resolve
from handrail_engine.state import NodeState, Row, WorkflowState


class Dispatch(NamedTuple):
    """A `Task` as its owner makes it: the same fields, which follow from the journal, so that nobody checks them again."""

    kind: TaskKind
    tenant: str
    trace_id: str
    node_id: str
    agent: str
    action: str
    attempt: int
    max_attempts: int
    effect_key: str
    effect_class: EffectClass
    inputs: dict[str, Any]
    start_before: str
    output: Any = None
    do_key: str | None = None
    start_to_close_s: float = 300.0
    lease_s: float = 5.0
    conversation: list[dict[str, Any]] | None = None
    approved: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None


def outgoing(s: WorkflowState, row: Row) -> list[Dispatch | DeadLetter]:
    """Tasks and dead letters that follow from this row; the event itself goes out whatever this answers."""
    match row.type:
        case T.NODE_STATE_CHANGED:
            to = row.data["to"]
            if to == NodeStatus.SCHEDULED or (to == NodeStatus.COMPENSATING and (row.meta or {}).get("dispatch")):
                node = s.nodes[row.data["node_id"]]
                return [] if node.spec.outside else [task_for(s, node)]
        case T.TASK_DEAD_LETTERED:
            return [_dead_letter(s, row)]
        case T.WORKFLOW_COMPENSATING:
            if "undo" in (row.meta or {}):
                return [cancel_for(s, n, row.at_ms) for n in s.nodes.values() if _out(s, n)]
        case _:
            pass
    return []


def _out(s: WorkflowState, n: NodeState) -> bool:
    return n.state in OPEN and s.leaves(n) and not n.spec.outside


def look_up(s: WorkflowState, node: NodeState, text: str) -> Any:
    """The value of a reference of this node, or MISSING."""
    known = node.spec.refs.get(text)
    if known is None:
        return MISSING
    ref = known[0]
    if ref.node_id is None:
        return dig(s.input, ref.path)
    source = s.nodes[ref.node_id]
    if source.output is None and source.state is NodeStatus.SKIPPED:
        return MISSING  # a node that did not run has no output, not one that is null
    return dig(source.output, ref.path)


def inputs_of(s: WorkflowState, node: NodeState) -> dict[str, Any]:
    """What the node works with: the arguments that a person put in place of the proposed ones, else its inputs."""
    if node.approved is not None and node.approved["args"] is not None:
        return node.approved["args"]
    return resolved_inputs(s, node)


def resolved_inputs(s: WorkflowState, node: NodeState, sets: dict[str, Any] | None = None) -> dict[str, Any]:
    """The node's inputs with references resolved and what a person set (or sets now) laid over them, or in the place of what
    is no object."""
    if node.spec.undo_of is not None:
        return node.spec.undo_of["inputs"]
    inputs = node.spec.inputs
    if node.spec.refs:
        inputs = resolve(inputs, lambda text: look_up(s, node, text))
    given = {**node.overrides, **sets} if sets else node.overrides
    if not given:
        return inputs
    return {**inputs, **given} if isinstance(inputs, dict) else {**given}


def unusable_inputs(s: WorkflowState, node: NodeState) -> Failure | None:
    """What is wrong with inputs that are one whole reference and turn out to be no object; None where they can be sent."""
    if not is_reference(node.spec.inputs) or node.overrides:
        return None
    found: Any = inputs_of(s, node)
    word = _word(found)
    if word is None:
        return None
    text = node.spec.inputs[FROM]
    message = f"Expected an object as inputs of {node.spec.id!r}, but {text} is {word}."
    evidence = {"error": INVALID_INPUTS, "reference": text, "found": found}
    return Failure(code=INVALID_INPUTS, message=message, evidence=evidence, retryable=False)


INVALID_INPUTS = "invalid-inputs"


def _word(value: Any) -> str | None:
    """What a value is called that is no object; None of an object, also of one that is stored beside the journal."""
    if isinstance(value, dict):
        preview = value.get("preview") if is_stored(value) and PATH not in value else None
        return "no object" if isinstance(preview, str) and not preview.startswith("{") else None
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "a number"


def task_for(s: WorkflowState, node: NodeState) -> Dispatch:
    """The task of the attempt that is out: an execution, a look-up, or an undo. Raises TypeError on inputs that are no object:
    `unusable_inputs` is asked before a dispatch."""
    assert node.live is not None
    spec = node.spec
    undo = node.state is NodeStatus.COMPENSATING
    undoing = spec.undoing if undo else None
    retry, timeouts = (undoing.retry, undoing.timeouts) if undoing else (spec.retry, spec.timeouts)
    of = spec.undo_of["effect_key"] if spec.undo_of else None
    do_key = s.do_key(node)
    inputs: Any = inputs_of(s, node)
    if not isinstance(inputs, dict):
        raise TypeError(f"Expected an object as inputs of {spec.id!r}, but what is there is {type(inputs).__name__}.")
    return Dispatch(
        kind=TaskKind.COMPENSATE if undo or of else TaskKind.LOOK_UP if node.look_up else TaskKind.EXECUTE,
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=spec.id,
        agent=spec.agent,
        action=undoing.action if undoing else spec.action,
        attempt=node.undo.attempt if undo else node.attempt,
        max_attempts=node.undo.round_from + retry.max_attempts if undo else node.max_attempts,
        effect_key=s.undo_key(node) if undo else do_key,
        effect_class=EffectClass.IDEMPOTENT if undo else spec.effect_class,
        inputs=inputs,
        output=node.output if undo else None,
        do_key=do_key if undo else of,
        start_before=iso(node.live.start_before),
        start_to_close_s=timeouts.start_to_close_s,
        lease_s=timeouts.lease_s,
        conversation=node.conversation,
        approved=node.granted["args"] if node.granted else None,
        approval=approval_of(node),
    )


def approval_of(node: NodeState) -> dict[str, Any] | None:
    """By what the task may be done, as the agent is told: what was proposed and what is approved, by their digests."""
    known = node.granted or node.approved
    if known is None:
        return None
    shown = {k: known[k] for k in ("proposed", "digest", "pause_id")}
    return {"action": known.get("action", node.spec.action), **shown}


def cancel_for(s: WorkflowState, node: NodeState, now_ms: int) -> Dispatch:
    """Asks whoever has (or will get) the node's last attempt to stop; answered `cancelled`, `ok` or `in_doubt`. No later
    claim of this effect key succeeds."""
    return Dispatch(
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
        inputs={},
        start_before=iso(node.live.start_before if node.live else now_ms),
    )


def _dead_letter(s: WorkflowState, row: Row) -> DeadLetter:
    d, meta = row.data, row.meta or {}
    node = s.nodes[d["node_id"]]
    if meta.get("late_effect"):
        found = late_letter(s, node, meta["late_effect"], d["dead_letter_id"])
        return found.model_copy(update={"attempts": d["attempts"]})
    return dead_letter_for(s, node, d["dead_letter_id"], undo=bool(meta.get("undo")))


def dead_letter_for(s: WorkflowState, node: NodeState, dead_letter_id: str, *, undo: bool) -> DeadLetter:
    """The dead letter of a node whose attempts, or whose undo's attempts, are used up."""
    error = (node.undo.error if undo else node.error) or {}
    return DeadLetter(
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=node.spec.id,
        dead_letter_id=dead_letter_id,
        kind="compensation" if undo else "task",
        reason=error.get("message", ""),
        error=Failure(**{k: error[k] for k in ("code", "message", "evidence") if k in error}) if error else None,
        attempts=shown(node.undo.attempts if undo else node.attempts),
        task={"agent": node.spec.agent, "action": node.spec.action, "inputs": inputs_of(s, node)},
    )


def late_letter(s: WorkflowState, node: NodeState, effect_key: str, dead_letter_id: str) -> DeadLetter:
    """The dead letter of an effect that came to light when nobody waited for it any more; `task` says how to undo it."""
    return DeadLetter(
        tenant=s.tenant,
        trace_id=s.trace_id,
        node_id=node.spec.id,
        dead_letter_id=dead_letter_id,
        kind="late_effect",
        reason=LATE_EFFECT["message"],
        error=Failure(**LATE_EFFECT),
        task={
            "agent": node.spec.agent,
            "action": node.spec.undoing.action if node.spec.undoing else node.spec.action,
            "inputs": inputs_of(s, node),
            "effect_key": effect_key,
            "undo": node.spec.undoing.action if node.spec.undoing else None,
        },
    )


LATE_EFFECT: dict[str, Any] = {
    "code": "late-effect",
    "message": "An attempt that nobody waited for any more had, or may have had, its effect.",
}


def late_effect(s: WorkflowState, r: Result) -> DeadLetter | None:
    """The dead letter that an answer after the end calls for: it shows an effect (`ok`), or that there may be one (an attempt
    that was taken for never started did start), which no one undid and no one kept knowingly.

    None for an answer that changes nothing. Pure; the same answer gives the same `dead_letter_id`, so a repeat is known.
    """
    node = s.nodes.get(r.node_id)
    if not s.ended or node is None or r.kind is TaskKind.COMPENSATE:
        return None
    given_up = node.closed.get(r.attempt) == "given-up"
    if r.outcome is not Outcome.OK and not (given_up and r.outcome in (Outcome.STARTED, Outcome.IN_DOUBT)):
        return None
    generation = s.generation_of(node, r.effect_key)
    if generation is None or node.spec.effect_class is EffectClass.PURE or not 1 <= r.attempt <= node.attempt:
        return None
    if generation == node.generation and (node.state is NodeStatus.COMPLETE or node.closed.get(r.attempt) == "ok"):
        return None
    return late_letter(s, node, r.effect_key, late_effect_id(r.effect_key, r.attempt))


def late_effect_id(effect_key: str, attempt: int) -> str:
    """The id of the dead letter for an effect that came to light after the end."""
    return "d" + hashlib.blake2b(f"late/{effect_key}/{attempt}".encode(), digest_size=13).hexdigest()[:25]

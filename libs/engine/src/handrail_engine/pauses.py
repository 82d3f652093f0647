"""Opening a pause, closing it, and what each button does. The first decision on a pause is the only one (DESIGN D9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus as W
from handrail_contracts.ids import pause_id
from handrail_contracts.model import iso
from handrail_contracts.pauses import DEFAULT_RESOLUTIONS, PauseKind, misfit
from handrail_contracts.plan import EffectClass, PauseScope, Resolution, ResolutionKind
from handrail_engine import budgets, compensation, gates, nodes, talk
from handrail_engine.evidence import evidence_of, shown
from handrail_engine.inputs import Decision, Rejection
from handrail_engine.outgoing import cancel_for, inputs_of
from handrail_engine.references import MISSING, dig
from handrail_engine.state import NodeState, PauseState, WorkflowState
from handrail_engine.turn import Turn

SYSTEM = "system"
TIMEOUT = "system:timeout"
CONTEXT_BYTES = 24 * 1024
"""So much of a pause's event is the context; what is larger in it is shown by reference."""
_WORKFLOW_SCOPED = frozenset({PauseKind.FAILURE, PauseKind.AMBIGUOUS, PauseKind.MANUAL})


def button(r: Resolution | Mapping[str, Any]) -> dict[str, Any]:
    """A resolution as the pause payload shows it; what is not set is left out."""
    model = r if isinstance(r, Resolution) else Resolution.model_validate(r)
    shown = model.model_dump(mode="json", exclude_none=True, by_alias=True)
    if shown["kind"] == ResolutionKind.COMPENSATE and "style" not in model.model_fields_set:
        shown["style"] = "danger"
    return shown


def defaults(kind: PauseKind) -> list[dict[str, Any]]:
    """What is offered where a node declares no buttons of its own."""
    return [button(r) for r in DEFAULT_RESOLUTIONS[kind]]


def open_pause(
    t: Turn,
    kind: PauseKind,
    node: NodeState | None,
    *,
    reason: str | None = None,
    resolutions: list[dict[str, Any]] | None = None,
    then: dict[str, Any] | None = None,
    silence: bool = True,
    callback: str | None = None,
    foreign: bool = False,
    **payload: Any,
) -> None:
    """Emits WORKFLOW_PAUSED_HITL with the payload of CONTRACT section 5. `payload` overrides single fields of it. Without
    `silence` no deadline may approve, whatever the plan declares."""
    s = t.state
    spec = node.spec if node else None
    undo = kind is PauseKind.COMPENSATION_FAILURE
    error = ((node.undo.error if undo else node.error) or {}) if node else {}
    evidence, digest = evidence_of(error.get("evidence"))
    scope = spec.pause_scope if spec and spec.pause_scope and not undo else None
    scope = scope or (PauseScope.WORKFLOW if kind in _WORKFLOW_SCOPED else PauseScope.BRANCH)
    if undo and resolutions is None and not s.ends:
        resolutions = [r for r in defaults(kind) if r["kind"] != ResolutionKind.STOP]  # the rest of it goes on
    if resolutions is None:
        own = spec.resolutions if spec and kind is PauseKind.FAILURE else ()
        fit = [r for r in own if misfit(Resolution.model_validate(r)) is None]  # older plans were not asked
        resolutions = [button(r) for r in fit] or defaults(kind)
    expiry = spec.expiry if spec and not undo else None  # declared for the node, not for its undo
    pressed = next((r for r in resolutions if expiry and r["action_id"] == expiry["action_id"]), None)
    if expiry and node is not None and node.unattended == expiry["action_id"]:
        expiry = None  # silence has ordered this once: what came of it is for a person
    if pressed is None or (not silence and pressed["kind"] in (ResolutionKind.APPROVE, ResolutionKind.EDIT)):
        expiry = None
    body: dict[str, Any] = {
        "failed_agent": spec.agent if spec else None,
        "failure_reason": reason or error.get("message") or error.get("code") or "A person is needed.",
        "context_snapshot": t.fitting(context_of(t, node), CONTEXT_BYTES) if node else {},
        "available_resolutions": resolutions,
        "pause_id": pause_id(s.tenant, s.trace_id, s.seq + 1),
        "kind": kind.value,
        "node_id": spec.id if spec else None,
        "raw_evidence": evidence,
        "evidence_digest": digest,
        "attempts": shown(node.undo.attempts if undo else node.attempts) if node else [],
        "proposed_action": None,
        "confidence": None,
        "risk": None,
        "transcript": None,
        "assignees": [],
        "claimed_by": None,
        "claimed_until": None,
        "expires_at": iso(t.now.ms + int(expiry["after_s"] * 1000)) if expiry else None,
        "on_expiry": expiry["action_id"] if expiry else None,
    }
    body.update(payload)
    meta = {"scope": scope.value, "expiry": expiry, "then": then, "callback": callback, "foreign": foreign}
    meta = {k: v for k, v in meta.items() if v}
    t.emit(T.WORKFLOW_PAUSED_HITL, meta, **body)


def context_of(t: Turn, node: NodeState) -> dict[str, Any]:
    """What a pause shows of the node's inputs: `context` maps names to `input.<path>`; what is missing is null."""
    inputs = inputs_of(t.state, node)
    shown: dict[str, Any] = {}
    for name, path in node.spec.context.items():
        found = dig(inputs, tuple(path.split(".")[1:])) if path.startswith("input.") else MISSING
        shown[name] = None if found is MISSING else found
    return shown


def open_failure(t: Turn, node: NodeState) -> None:
    """The dead letter came back (or its wake-up was first): a person takes over."""
    if node.state is N.COMPENSATION_FAILED:
        open_pause(t, PauseKind.COMPENSATION_FAILURE, node)
        return
    t.move(node, N.AWAITING_HUMAN)
    open_pause(t, PauseKind.FAILURE, node)


def open_ambiguous(t: Turn, node: NodeState, then: dict[str, Any] | None = None) -> None:
    """Nobody knows whether the effect happened, and repeating it could do it twice: only a person can find out."""
    said = node.error["message"] if node.error else "The outcome of an attempt is unknown."
    reason = f"It is not known whether {node.spec.action} of {node.spec.id} happened. {said}"
    open_pause(t, PauseKind.AMBIGUOUS, node, reason=reason, then=then)


def open_manual(t: Turn, comment: str | None) -> None:
    """The panic button. What is being rolled back already cannot be aborted once more, only gone on with."""
    only = defaults(PauseKind.MANUAL)[:1] if t.state.ends else None
    open_pause(t, PauseKind.MANUAL, None, reason=comment or "Paused by hand.", resolutions=only)


def may_have_effect(node: NodeState) -> bool:
    """True when an attempt whose outcome is unknown may have changed the world."""
    return node.spec.effect_class is not EffectClass.PURE


def open_deadline(t: Turn) -> None:
    """The workflow's deadline has passed: go on without one, or undo."""
    error = {"code": "deadline", "message": "The workflow did not end before its deadline."}
    evidence, digest = evidence_of(error)
    go_on = {"action_id": "RES_RESUME", "display_text": "Go on without a deadline", "requires_input": False}
    resolutions = [{**go_on, "style": "primary", "kind": "resume"}, defaults(PauseKind.MANUAL)[1]]
    open_pause(
        t,
        PauseKind.FAILURE,
        None,
        reason=error["message"],
        resolutions=resolutions,
        raw_evidence=evidence,
        evidence_digest=digest,
    )


def close(
    t: Turn,
    pause: PauseState,
    outcome: str,
    action_id: str | None,
    actor: str,
    meta: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Emits HITL_RESOLVED."""
    body: dict[str, Any] = {"channel": SYSTEM, "comment": None, "input": None, **more}
    if pause.callback is not None:
        meta = {**(meta or {}), "callback": pause.callback}
    t.emit(
        T.HITL_RESOLVED,
        meta,
        pause_id=pause.pause_id,
        outcome=outcome,
        action_id=action_id,
        actor=actor,
        node_id=pause.node_id,
        **body,
    )


def close_all(t: Turn, outcome: str, members: frozenset[str] | None = None) -> None:
    """An abort answers every other open pause (`superseded`), a cancel all of them (`cancelled`); a rollback of `members`
    those of its nodes. What asks about an undo is not answered by that."""
    for pause in list(t.state.pauses.values()):
        mine = members is None or pause.node_id in members
        if mine and pause.kind != PauseKind.COMPENSATION_FAILURE:
            close(t, pause, outcome, None, SYSTEM)


def decide_pause(t: Turn, d: Decision) -> Rejection | None:
    """Applies the one decision of a pause."""
    pause = t.state.pauses.get(d.pause_id)
    if pause is None:
        return Rejection("stale-pause", f"pause {d.pause_id} is not open")
    chosen = next((r for r in pause.data["available_resolutions"] if r["action_id"] == d.action_id), None)
    if chosen is None:
        return Rejection("action-not-allowed", f"{d.action_id[:80]!r} is not offered")
    if gates.approves_own(t, pause, chosen, d):
        return Rejection("self-approval", "whoever started the workflow may not approve")
    press(t, pause, chosen, "decided", d)
    return None


def remind(t: Turn, pause: PauseState) -> None:
    """Nobody has answered for a while: the claim stays as it is, whoever listens is told once more."""
    claimed = {k: pause.data[k] for k in ("claimed_by", "claimed_until")}
    t.emit(T.PAUSE_UPDATED, pause_id=pause.pause_id, reminded_at=t.at, **claimed)


def expire(t: Turn, pause: PauseState) -> None:
    """The pause's deadline passed: the declared default is pressed, by `system:timeout`."""
    expiry = pause.expiry or {}
    chosen = next(r for r in pause.data["available_resolutions"] if r["action_id"] == expiry["action_id"])
    d = Decision(pause.pause_id, chosen["action_id"], expiry.get("input"), None, TIMEOUT, SYSTEM)
    press(t, pause, chosen, "expired", d)


def press(t: Turn, pause: PauseState, chosen: dict[str, Any], outcome: str, d: Decision) -> None:
    """Closes the pause and does what the button says, then lets go what was waiting."""
    s = t.state
    kind = ResolutionKind(chosen["kind"])
    d = t.taken_along(kind, d)
    node = s.nodes.get(pause.node_id) if pause.node_id is not None else None
    was_held = s.held
    acts = node is not None and _acts(s, pause, node, kind)
    meta: dict[str, Any] = {"kind": kind.value}
    if budget := (pause.then or {}).get("budget"):
        meta |= budgets.meaning(budget, kind, d.input)
    elif kind is ResolutionKind.RESUME and pause.kind == PauseKind.FAILURE and pause.node_id is None:
        meta["no_deadline"] = True
    if kind is ResolutionKind.RESPOND:
        talk.respond(t, pause, d)
    close(t, pause, outcome, d.action_id, d.actor, meta, channel=d.channel, comment=d.comment, input=t.carried(d.input))
    if kind is ResolutionKind.COMPENSATE and not s.ends:
        reason = d.comment or f"{chosen['display_text']}, by {d.actor}"
        scope = chosen.get("scope") or "workflow"
        if scope == "workflow" or node is None or not s.planned:
            compensation.begin(t, W.COMPENSATED, reason)
        else:
            compensation.begin_part(t, node, scope, reason)
            release(t)
        return
    if node is not None and acts and node.state is N.AWAITING_HUMAN:
        _withdraw_gate(t, node)
    if node is not None and acts and _needs_ambiguous_pause(node, chosen):
        open_ambiguous(t, node, then=_goes_on_with(pause, chosen, d))
    else:
        if kind is ResolutionKind.STOP and s.ending is not None and s.ending.stopped:
            for other in list(s.pauses.values()):
                close(t, other, "superseded", None, SYSTEM)
        if not s.pauses:
            t.emit(T.WORKFLOW_RESUMED, status=_status_without_pause(s).value)
        if node is not None:
            _apply(t, node, pause, kind, chosen, d, acts=acts)
        elif budget and kind is ResolutionKind.SKIP:
            _skip_rest(t, d)
    if was_held:
        release(t)


def _skip_rest(t: Turn, d: Decision) -> None:
    """Nothing more is begun: what waits for its turn, or for its next attempt, is left out; what is out finishes."""
    for node in list(t.state.nodes.values()):
        if node.state in (N.RETRYING, N.PENDING) and not t.state.leaves(node):
            nodes.leave_out(t, node, f"skipped by {d.actor}: the budget is used up")


def _acts(s: WorkflowState, pause: PauseState, node: NodeState, kind: ResolutionKind) -> bool:
    """Whether this pause says what becomes of a node that waits for a person: it waits for what was asked of it last. A
    pause that was open before (a dead letter from elsewhere, of a node that had not begun) asked something else; it can
    still skip a node that waits at its gate and has not begun."""
    last = next(p for p in reversed(s.pauses.values()) if p.node_id == pause.node_id)
    not_begun = last.kind == PauseKind.GATE and node.attempt == node.round_from
    return last is pause or (kind is ResolutionKind.SKIP and not_begun)


def _withdraw_gate(t: Turn, node: NodeState) -> None:
    """Another pause of the node decides what becomes of it: what its gate asks is not the question any more."""
    for other in list(t.state.pauses.values()):
        if other.kind == PauseKind.GATE and other.node_id == node.spec.id:
            close(t, other, "superseded", None, SYSTEM)


def _status_without_pause(s: WorkflowState) -> W:
    if s.ending is not None:
        return W.COMPENSATING
    return W.RUNNING if s.planned else W.PLANNING


def _apply(
    t: Turn,
    node: NodeState,
    pause: PauseState,
    kind: ResolutionKind,
    chosen: dict[str, Any],
    d: Decision,
    *,
    acts: bool,
) -> None:
    if pause.kind == PauseKind.COMPENSATION_FAILURE:
        compensation.decided(t, node, kind, d)
    elif node.state is N.AWAITING_HUMAN and acts:
        _act(t, node, pause, kind, chosen, d)
    elif node.state is N.PENDING and kind is ResolutionKind.SKIP and not t.state.leaves(node):
        nodes.skip(t, node, f"skipped by {d.actor}", d.input)


_TRIES_AGAIN = frozenset({ResolutionKind.RETRY, ResolutionKind.HAND_BACK, ResolutionKind.APPROVE, ResolutionKind.EDIT})


def _needs_ambiguous_pause(node: NodeState, chosen: dict[str, Any]) -> bool:
    """Trying again, while an effect may stand, under a new key or without any: first a person must say whether it does."""
    if chosen["kind"] not in _TRIES_AGAIN or node.state is not N.AWAITING_HUMAN:
        return False
    risky = bool(chosen.get("sets")) or node.spec.effect_class is EffectClass.UNSAFE
    return node.in_doubt and may_have_effect(node) and risky


def _goes_on_with(pause: PauseState, chosen: dict[str, Any], d: Decision) -> dict[str, Any] | None:
    """What was ordered with a retry that has to wait for the answer whether the effect stands. An approval is not kept: its
    gate asks anew."""
    if chosen.get("sets"):
        return {"sets": {chosen["sets"]: d.input}}
    if chosen["kind"] == ResolutionKind.HAND_BACK:
        return {"conversation": talk.said(pause)}
    return None


def _act(
    t: Turn, node: NodeState, pause: PauseState, kind: ResolutionKind, chosen: dict[str, Any], d: Decision
) -> None:
    match kind:
        case ResolutionKind.RETRY:
            sets = {chosen["sets"]: d.input} if chosen.get("sets") else None
            retry(t, node, sets)
        case ResolutionKind.APPROVE | ResolutionKind.EDIT if pause.kind == PauseKind.GATE:
            gates.approve(t, node, pause, d, edit=kind is ResolutionKind.EDIT)
        case ResolutionKind.REJECT:
            gates.reject(t, node, d)
        case ResolutionKind.SKIP:
            nodes.skip(t, node, f"skipped by {d.actor}", d.input)
        case ResolutionKind.MARK if chosen.get("outcome") == "happened":
            t.move(node, N.COMPLETE, {"outcome": "ok"}, output=d.input, finished_at=t.at)
            t.ready_again(node)
        case ResolutionKind.MARK if chosen.get("outcome") == "not_happened":
            then = pause.then or {}
            retry(t, node, then.get("sets"), sure=True, conversation=then.get("conversation"))
        case ResolutionKind.RESPOND | ResolutionKind.CLOSE:
            talk.closed(t, node, d.input if kind is ResolutionKind.RESPOND else None)
        case ResolutionKind.HAND_BACK if pause.kind == PauseKind.ESCALATION:
            talk.hand_back(t, node, pause)
        case _:
            open_pause(t, PauseKind.FAILURE, node)  # a button of an older plan, which answers nothing: asked again


def retry(
    t: Turn, node: NodeState, sets: dict[str, Any] | None, *, sure: bool = False, conversation: list[Any] | None = None
) -> None:
    """A fresh round of attempts. A changed input is a new effect: a new key, and the old one is closed for whoever may
    still be at work under it. `sure`: a person vouches that nothing happened."""
    meta: dict[str, Any] = {"round": True}
    if sure:
        meta["doubt"] = False
    if sets:
        meta["sets"] = sets
        meta["generation"] = node.generation + 1
        if may_have_effect(node):
            t.messages.append(cancel_for(t.state, node, t.now.ms))
    if conversation is not None:
        meta["conversation"] = conversation
    if node.in_doubt and not sure and node.spec.effect_class is EffectClass.QUERYABLE:
        meta["look_up"] = True
        if node.closes_ms > t.now.ms:  # asked sooner, the provider might say no while the old attempt is still at it
            t.move(node, N.RETRYING, meta, retry_at=iso(node.closes_ms))
            return
    nodes.dispatch(t, node, **meta)


def release(t: Turn) -> None:
    """When nothing is held back any more: dispatch what became ready meanwhile, retries that are due, undos."""
    s = t.state
    if s.held:
        return
    if s.ending is not None:
        compensation.advance_all(t)
    if s.ends:
        return
    for node in list(s.nodes.values()):
        if node.state is N.PENDING and not node.waiting:
            t.queue.append(node.spec.id)
        elif node.state is N.RETRYING and node.retry_ms is not None and node.retry_ms <= t.now.ms:
            nodes.retry_due(t, node)

"""Approval by policy: what may be dispatched as it is, what a person is asked about first, what never happens.

Two interception points. On the plan: `admits` is asked before every dispatch of a node's work, the first one, a retry, or one
that a person ordered, so that no way leads around it; `outdated` before what nobody has claimed is sent again. At the agent: `proposed` takes an action that an agent proposes instead
of acting. Both judge by the same policies (`policies.judge`), journal what was judged (`GATE_EVALUATED`, with rule, version,
score and facts), and open the same pause.

An approval is bound to the digest of what was proposed. The node keeps it (`NodeState.approved` for the plan, `granted` for
an agent's proposal); as soon as something else would be done, it is worth nothing and a person is asked again.
"""

from __future__ import annotations

import json
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus as W
from handrail_contracts.pauses import DEFAULT_RESOLUTIONS, PauseKind
from handrail_contracts.plan import EffectClass, ResolutionKind
from handrail_contracts.policy import Decide, action_digest
from handrail_contracts.tasks import Failure, ProposedAction, Result
from handrail_engine import compensation, nodes, pauses
from handrail_engine.evidence import CODE_CHARS, MESSAGE_CHARS, clip
from handrail_engine.inputs import Decision
from handrail_engine.outgoing import resolved_inputs
from handrail_engine.policies import Facts, Verdict, judge
from handrail_engine.proposals import affected_by, as_proposed, as_written, edit_schema, shortened
from handrail_engine.reported import times_of
from handrail_engine.state import NodeState, PauseState
from handrail_engine.turn import Turn

FORBIDDEN = "FORBIDDEN_BY_POLICY"
MOST_PROPOSALS = 20
DIFF_BYTES, SCHEMA_BYTES = 16 * 1024, 32 * 1024
"""So much of a pause's event is each side of what changes, and the form in which arguments are edited."""
MOST_ARGS_BYTES = 48 * 1024
_JUDGED = "judged"
APPROVES = (ResolutionKind.APPROVE, ResolutionKind.EDIT)
_KEPT = ("sets", "generation", "conversation", "doubt", "granted")


def admits(t: Turn, node: NodeState, meta: dict[str, Any]) -> bool:
    """Whether the node's work may be dispatched now. False: it has been stopped here, it waits for a person or has failed for
    good. `meta` is what the dispatch would journal; what of it must outlast the wait is kept."""
    if _unguarded(node):
        return True
    if not _still_granted(t, node, meta):
        return False
    found = _judged(t, node, meta)
    if found is None:
        return True
    verdict, facts, digest, approval = found
    kept = {k: meta[k] for k in _KEPT if k in meta}
    if verdict.decide is Decide.FORBID:
        _record(t, node, verdict, facts, digest, kept)
        nodes.forbidden(t, node, _no(verdict, node.spec.action))
        return False
    if _unapproved(verdict, approval):
        _record(t, node, verdict, facts, digest, kept)
        if node.state is not N.AWAITING_HUMAN:
            t.move(node, N.AWAITING_HUMAN)
        _ask(t, node, verdict, facts, as_written(t.state, node, facts), {"gate": "plan", "proposed": digest})
        return False
    if verdict.explicit:
        _record(t, node, verdict, facts, digest, {}, again=False)
    return True


def outdated(t: Turn, node: NodeState) -> bool:
    """Whether the attempt that is out would not be dispatched under the policies of today: one that nobody has claimed is not
    sent again then. Journals nothing."""
    if _unguarded(node) or node.look_up:
        return False
    if node.granted is not None:
        granted = judge(t.now.policies, _granted_facts(t, node, node.granted), t.now.ms)
        if granted.decide is Decide.FORBID or _taken_back(granted, node.granted):
            return True
    found = _judged(t, node, {})
    return found is not None and (found[0].decide is Decide.FORBID or _unapproved(found[0], found[3]))


def _unguarded(node: NodeState) -> bool:
    """A person has ordered this undo; an agent outside is not ours to dispatch."""
    return node.spec.undo_of is not None or node.spec.outside


def _judged(t: Turn, node: NodeState, meta: dict[str, Any]) -> tuple[Verdict, Facts, str, dict[str, Any] | None] | None:
    """The verdict on what the plan's node would do, with its facts, their digest, and the approval that holds for them. None
    where neither plan nor policies speak of it."""
    spec, policies = node.spec, t.now.policies
    guarded = spec.gate is not None or (spec.tainted and spec.effect_class is not EffectClass.PURE)
    asks = node.overrides.get("requires_confirmation", spec.inputs.get("requires_confirmation"))
    if not guarded and not policies.about(t.state.blueprint, spec.agent, spec.action) and asks is None:
        return None
    args = resolved_inputs(t.state, node, meta.get("sets"))
    digest = action_digest(spec.action, args)
    approval = meta.get("approved") or (None if meta.get("sets") else node.approved)  # a new effect has none yet
    if approval is not None and approval["proposed"] != digest:
        approval = None
    doing = approval["args"] if approval is not None and approval["args"] is not None else args
    facts = _facts(t, node, doing)
    confirm = doing.get("requires_confirmation") is True
    verdict = judge(policies, facts, t.now.ms, gate=(spec.gate or {}).get("decide", _gate(spec)), confirm=confirm)
    return verdict, facts, digest, approval


def _still_granted(t: Turn, node: NodeState, meta: dict[str, Any]) -> bool:
    """What was let pass of a proposal is judged at every dispatch too. False: it is forbidden by now, and has failed for
    good. What only a rule let pass, and none does any more, is taken back: the agent proposes again, and that is judged."""
    grant = meta.get("granted") or (None if meta.get("sets") else node.granted)
    if grant is None:
        return True
    facts = _granted_facts(t, node, grant)
    verdict = judge(t.now.policies, facts, t.now.ms)
    if verdict.decide is Decide.FORBID:
        kept = {k: meta[k] for k in _KEPT if k in meta}
        _record(t, node, verdict, facts, grant["digest"], kept)
        nodes.forbidden(t, node, _no(verdict, grant["action"]))
        return False
    if _taken_back(verdict, grant):
        meta["granted"] = None
        _record(t, node, verdict, facts, grant["digest"], {})
    return True


def _taken_back(v: Verdict, grant: dict[str, Any]) -> bool:
    return v.asks and (grant["pause_id"] is None or _outgrown(grant, v))


def _unapproved(v: Verdict, approval: dict[str, Any] | None) -> bool:
    return v.asks and (approval is None or _outgrown(approval, v))


def _gate(spec: Any) -> str | None:
    return "policy" if spec.gate is not None else None


def proposed(t: Turn, node: NodeState, r: Result) -> None:
    """An agent proposes an action instead of acting: it passes and is dispatched again as approved, a person is asked, or it
    has failed for good."""
    p, times = r.proposed, times_of(t, node, r)
    wrong = _unusable(node, p)
    if p is None or wrong is not None:
        nodes.failed(t, node, wrong or _nothing(), False, times, r.outcome.value)
        return
    facts = _stated(t, node, p)
    verdict = judge(t.now.policies, facts, t.now.ms, confirm=p.requires_confirmation)
    digest = action_digest(p.action, p.args)
    if verdict.decide is Decide.FORBID:
        _record(t, node, verdict, facts, digest, {})
        error = _no(verdict, p.action)
        nodes.failed(t, node, Failure(**error, retryable=False), False, times, r.outcome.value)
        return
    meta = {"outcome": r.outcome.value}
    if verdict.asks:
        _record(t, node, verdict, facts, digest, {})
        t.move(node, N.AWAITING_HUMAN, meta, **{"finished_at": t.at, **times})
        body = as_proposed(p, facts, digest)
        _ask(t, node, verdict, facts, body, {"gate": "agent", "proposed": digest, "facts": _plain(facts)})
        return
    granted = _grant(facts, digest, None)
    _record(t, node, verdict, facts, digest, {"granted": granted})
    t.move(node, N.RETRYING, {**meta, "round": True}, retry_at=t.at, **{"finished_at": t.at, **times})
    nodes.retry_due(t, node)


def approve(t: Turn, node: NodeState, pause: PauseState, d: Decision, *, edit: bool) -> None:
    """A person lets the action of this pause happen, as proposed or with the arguments that they gave."""
    then = pause.then or {}
    shown: dict[str, Any] = pause.data["proposed_action"]
    edited = d.input if edit and isinstance(d.input, dict) else None
    meta: dict[str, Any] = {"round": True} if node.attempt else {}
    if then.get("gate") != "agent":
        digest = action_digest(node.spec.action, edited) if edited is not None else then["proposed"]
        approval = {"proposed": then["proposed"], "args": edited, "digest": digest, "pause_id": pause.pause_id}
        nodes.dispatch(t, node, **meta, approved=approval | _by(d))
        return
    args = edited if edited is not None else shown["args"]
    stated: dict[str, Any] = then["facts"]
    facts = Facts(args=args, **stated)
    verdict = judge(t.now.policies, facts, t.now.ms)
    granted = _grant(facts, then["proposed"], pause.pause_id)
    if verdict.decide is Decide.FORBID or edited is not None:
        _record(t, node, verdict, facts, granted["digest"], {})
    if verdict.decide is Decide.FORBID:
        nodes.forbidden(t, node, _no(verdict, shown["action"]))
    else:
        nodes.dispatch(t, node, **meta, granted=granted | _by(d))


def self_approval(
    pause: dict[str, Any],
    chosen: dict[str, Any],
    actor: str,
    *,
    now: Verdict | None = None,
    requester: str | None = None,
) -> bool:
    """Whether this is whoever started the workflow, approving where four eyes are asked for: by the pause, or by what the
    policies say `now` of the action as it would be done. Rejecting is theirs too. `requester` serves a pause of old."""
    risk: dict[str, Any] = pause.get("risk") or {}
    asked = bool(risk.get("four_eyes")) or (now is not None and now.four_eyes)
    return chosen.get("kind") in APPROVES and asked and risk.get("requested_by", requester) == actor


def approves_own(t: Turn, pause: PauseState, chosen: dict[str, Any], d: Decision) -> bool:
    """The same of a decision that is about to be applied, judged with the arguments that it would let pass."""
    node = t.state.nodes.get(pause.node_id or "")
    if pause.kind != PauseKind.GATE or chosen.get("kind") not in APPROVES or node is None:
        return False
    edited = chosen["kind"] == ResolutionKind.EDIT and isinstance(d.input, dict)
    args: dict[str, Any] = d.input if edited else pause.data["proposed_action"]["args"]
    then = pause.then or {}
    facts = Facts(args=args, **then["facts"]) if then.get("gate") == "agent" else _facts(t, node, args)
    verdict = judge(t.now.policies, facts, t.now.ms)
    return self_approval(pause.data, chosen, d.actor, now=verdict, requester=t.state.requester)


def _by(d: Decision) -> dict[str, Any]:
    """What an approval keeps of who gave it: silence is worth less than a person."""
    return {"silent": True} if d.actor == pauses.TIMEOUT else {}


def _outgrown(approval: dict[str, Any], v: Verdict) -> bool:
    """True for an approval by declared silence of what a rule, changed meanwhile, wants a person for."""
    return bool(approval.get("silent")) and v.decide is Decide.ALWAYS


def reject(t: Turn, node: NodeState, d: Decision) -> None:
    """A person refuses: the node ends as its gate says."""
    said = f": {d.comment}" if d.comment else ""
    why = clip(f"rejected by {d.actor}{said}", MESSAGE_CHARS)
    match (node.spec.gate or {}).get("on_reject", "skip"):
        case "fail":
            compensation.begin(t, W.FAILED, f"{node.spec.id} was {why}")
        case "compensate":
            compensation.begin(t, W.COMPENSATED, f"{node.spec.id} was {why}")
        case "branch":
            nodes.skip(t, node, why, meta={"off": True})
        case _:
            nodes.skip(t, node, why)


def _facts(t: Turn, node: NodeState, args: dict[str, Any]) -> Facts:
    """What the plan says of the node's action."""
    spec = node.spec
    pure = spec.effect_class is EffectClass.PURE
    about = {**spec.proposal, **(spec.gate or {})}
    return Facts(
        blueprint=t.state.blueprint,
        agent=spec.agent,
        action=spec.action,
        args=args,
        reversible=pure or (spec.undoing is not None and not spec.irreversible),
        untrusted=spec.tainted and not pure,
        affected=affected_by(about.get("affected"), args),
        domain=about.get("domain"),
        success_rate=t.now.success_rates.get((spec.agent, spec.action)),
    )


def _stated(t: Turn, node: NodeState, p: ProposedAction) -> Facts:
    """What the agent says of its action; that it can be undone counts only where the plan has an undo, and a confidence on
    another scale than 0 to 1, or less than nothing affected, is nothing said."""
    spec = node.spec
    sure, many = p.confidence, p.affected
    return Facts(
        blueprint=t.state.blueprint,
        agent=spec.agent,
        action=p.action,
        args=p.args,
        reversible=p.reversible is not False and spec.undoing is not None and not spec.irreversible,
        untrusted=spec.tainted or spec.untrusted,
        confidence=sure if sure is not None and 0 <= sure <= 1 else None,
        affected=many if many is not None and many >= 0 else None,
        domain=p.domain or spec.proposal.get("domain"),
        success_rate=t.now.success_rates.get((spec.agent, p.action)),
        proposed=True,
    )


def _record(
    t: Turn, node: NodeState, v: Verdict, f: Facts, digest: str, kept: dict[str, Any], *, again: bool = True
) -> None:
    """Journals the verdict; one that let pass before, and says the same, is not told once more."""
    mark = [v.decide.value, v.rule_id, v.policy, v.version, digest, action_digest(f.action, f.args)]
    if not again and node.judged == mark:
        return
    redact = [*t.now.policies.redact(f.blueprint), *(node.spec.gate or {}).get("redact", ())]
    t.emit(
        T.GATE_EVALUATED,
        {_JUDGED: mark, **kept},
        node_id=node.spec.id,
        rule_id=v.rule_id,
        policy=v.policy,
        policy_version=v.version,
        score=v.score,
        decide=v.decide.value,
        reason=clip(v.reason, MESSAGE_CHARS),
        inputs={**f.shown(redact), "args": shortened(f.shown(redact)["args"])},
    )


def _ask(t: Turn, node: NodeState, v: Verdict, f: Facts, action: dict[str, Any], then: dict[str, Any]) -> None:
    """Opens the pause. What a person reads first is the sentence, then what changes; the arguments in full where they fit."""
    whole = args_bytes(f.args) <= MOST_ARGS_BYTES
    schema = edit_schema(node.spec.args_schema if then["gate"] == "plan" else None, f.args)
    offered = [pauses.button(r) for r in DEFAULT_RESOLUTIONS[PauseKind.GATE]]
    for r in offered:
        if r["kind"] == ResolutionKind.EDIT:
            r["input_schema"] = schema
    if not whole or args_bytes(schema) > SCHEMA_BYTES:
        action = action if whole else {**action, "args": shortened(f.args)}
        offered = [r for r in offered if r["kind"] != ResolutionKind.EDIT]  # only what is seen whole, in a form
    if action["diff"]:
        sides = {k: t.fitting(v, DIFF_BYTES) if isinstance(v, dict) else v for k, v in action["diff"].items()}
        action = {**action, "diff": t.fitting(sides, 2 * DIFF_BYTES)}
    risk: dict[str, Any] = {
        "rule_id": v.rule_id,
        "policy_version": v.version,
        "score": v.score,
        "decide": v.decide.value,
        "policy": v.policy,
        "reason": clip(v.reason, MESSAGE_CHARS),
        "untrusted": f.untrusted,
        "requested_by": t.state.requester,
        **({"proposed": True} if then["gate"] == "agent" else {}),
    }
    if v.four_eyes or (node.spec.gate or {}).get("four_eyes"):
        risk["four_eyes"] = True
    redact = [*t.now.policies.redact(f.blueprint), *(node.spec.gate or {}).get("redact", ())]
    if redact:
        action = {**action, "redact": redact}
    pauses.open_pause(
        t,
        PauseKind.GATE,
        node,
        reason=clip(f"{action['summary']} needs approval: {v.reason}.", MESSAGE_CHARS),
        resolutions=offered,
        then=then,
        silence=v.decide is Decide.UNCERTAIN and not f.untrusted,
        raw_evidence=None,
        evidence_digest=then["proposed"],
        proposed_action=action,
        confidence=f.confidence,
        risk=risk,
    )


def _grant(f: Facts, proposed_digest: str, pause_id: str | None) -> dict[str, Any]:
    digest = action_digest(f.action, f.args)
    told = {"action": f.action, "args": f.args, "digest": digest, "proposed": proposed_digest, "pause_id": pause_id}
    return {**told, "facts": _plain(f)}


def _granted_facts(t: Turn, node: NodeState, grant: dict[str, Any]) -> Facts:
    """What was known of the action when it was let pass; of an old grant, what the plan says."""
    if stated := grant.get("facts"):
        return Facts(args=grant["args"], **stated)
    return _stated(t, node, ProposedAction(action=grant["action"], args=grant["args"]))


def _unusable(node: NodeState, p: ProposedAction | None) -> Failure | None:
    if p is None:
        return None
    if node.granted is not None and node.granted["proposed"] == action_digest(p.action, p.args):
        text = f"Expected the agent to do {p.action}, which is approved, but it proposed it again."
        return Failure(code="PROPOSED_AGAIN", message=text, retryable=False)
    if sum(1 for word in node.closed.values() if word == "proposed") >= MOST_PROPOSALS:
        text = f"Expected at most {MOST_PROPOSALS} proposals of one node, but there is another."
        return Failure(code="TOO_MANY_PROPOSALS", message=text, retryable=False)
    if len(p.action) > CODE_CHARS or len(p.domain or "") > CODE_CHARS:
        text = f"Expected at most {CODE_CHARS} characters as the action and the domain that an agent proposes."
        return Failure(code="invalid-result", message=text, retryable=False)
    if (took := args_bytes(p.args)) > MOST_ARGS_BYTES:
        text = f"Expected at most {MOST_ARGS_BYTES} bytes of proposed arguments, but there are {took}."
        return Failure(code="proposal-too-large", message=text, retryable=False)
    return None


def _nothing() -> Failure:
    return Failure(code="invalid-result", message="The agent proposed nothing.", retryable=False)


def _no(v: Verdict, action: str) -> dict[str, Any]:
    evidence = {"error": FORBIDDEN, "rule_id": v.rule_id, "policy": v.policy, "policy_version": v.version}
    return {"code": FORBIDDEN, "message": f"A policy forbids {action}: {v.reason}.", "evidence": evidence}


def _plain(f: Facts) -> dict[str, Any]:
    """The facts without the arguments, to be judged again with others."""
    return {k: getattr(f, k) for k in f.__dataclass_fields__ if k != "args"}


def args_bytes(args: dict[str, Any]) -> int:
    """What arguments take as JSON, to be held against MOST_ARGS_BYTES."""
    return len(json.dumps(args, ensure_ascii=False).encode("utf-8", "surrogatepass"))

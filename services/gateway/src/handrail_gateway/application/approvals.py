"""What an approval must pass at the door, besides being a button: another pair of eyes where that is asked for, and no policy in
force that forbids what would be done. The engine judges once more when it applies the decision."""

from __future__ import annotations

from typing import Any

from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import ResolutionKind
from handrail_contracts.policy import ARGS, Decide, tests_of
from handrail_engine.gates import APPROVES, self_approval
from handrail_engine.policies import Facts, Policies, Verdict, judge
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.in_force import judged
from handrail_gateway.application.ports import Caller, LockedPause, Transaction


def refuse_own(pause: LockedPause, button: dict[str, Any], actor: str, now: Verdict | None = None) -> None:
    """Raises Refusal self-approval where whoever started the workflow may not approve, and does. `now` is what the policies in
    force say of the action as it would be done."""
    if self_approval(pause.data, button, actor, now=now):
        raise Refusal(
            "self-approval",
            f"Expected somebody else to approve, because {quote(actor)} started this workflow and this action asks for four"
            " eyes. Rejecting is allowed.",
            trace_id=pause.trace_id,
            pause_id=pause.pause_id,
        )


async def refuse_forbidden(
    transaction: Transaction, caller: Caller, pause: LockedPause, button: dict[str, Any], given: Any
) -> None:
    """Raises Refusal where a policy in force forbids the action as it would be done (invalid-input for edited arguments, else
    forbidden), or lets others approve it and not this one (self-approval)."""
    if pause.kind != PauseKind.GATE or button.get("kind") not in APPROVES:
        return
    edit = button["kind"] == ResolutionKind.EDIT
    summary = await transaction.summary(caller.tenant, pause.trace_id)
    policies = judged(await transaction.policies(caller.tenant))
    facts = facts_of(pause.data, summary.blueprint if summary is not None else None, given if edit else None)
    verdict = judge(policies, facts, round(pause.now.timestamp() * 1000))
    if verdict.decide is not Decide.FORBID:
        refuse_own(pause, button, caller.actor, verdict)
        return
    told = (
        f"a policy forbids it: {verdict.reason} ({verdict.policy} version {verdict.version}, rule {verdict.rule_id})."
    )
    if edit:
        errors = [{"pointer": p, "code": "forbidden", "message": told} for p in _pointers(policies, verdict)]
        raise Refusal("invalid-input", f"Expected arguments that may be used, but {told}", errors=errors)
    raise Refusal(
        "forbidden",
        f"Expected an action that may be approved, but {told} Reject it.",
        trace_id=pause.trace_id,
        pause_id=pause.pause_id,
    )


def facts_of(pause: dict[str, Any], blueprint: str | None, args: dict[str, Any] | None = None) -> Facts:
    """What a gate's pause says of its action, with other arguments where they are given."""
    action: dict[str, Any] = pause["proposed_action"]
    risk: dict[str, Any] = pause.get("risk") or {}
    return Facts(
        blueprint=blueprint,
        agent=pause.get("failed_agent") or "",
        action=action["action"],
        args=action["args"] if args is None else args,
        reversible=bool(action.get("reversible")),
        untrusted=bool(risk.get("untrusted")),
        confidence=pause.get("confidence"),
        affected=action.get("affected"),
        domain=action.get("domain"),
        proposed=bool(risk.get("proposed")),
    )


def _pointers(policies: Policies, verdict: Verdict) -> list[str]:
    rules = (r for p in policies.policies if p.name == verdict.policy for r in p.rules if r.id == verdict.rule_id)
    facts = [fact for r in rules for fact, _, _ in tests_of(r.match) if fact.startswith(ARGS)]
    return [f"/input/{fact[len(ARGS) :].replace('.', '/')}" for fact in dict.fromkeys(facts)] or ["/input"]

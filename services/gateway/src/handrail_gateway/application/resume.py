"""`POST /workflows/{trace_id}/resume`: the first decision on a pause is the only one (CONTRACT section 6, DESIGN D9).

The order of the checks is the order in which their answers are true: a pause that is over is over for everybody, whoever
claims it and whatever was pressed; only a pause that is open and undecided has claims, evidence and buttons.
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from handrail_contracts.commands import CommandKind, ResumeRequest
from handrail_contracts.pauses import ResolutionOutcome
from handrail_contracts.plan import ResolutionKind
from handrail_engine.gates import MOST_ARGS_BYTES, args_bytes
from handrail_gateway.application import approvals, pressed
from handrail_gateway.application.faults import Refusal, pause_not_found, quote, still_opening, workflow_not_found
from handrail_gateway.application.idempotency import REPLAYED, Once
from handrail_gateway.application.ports import (
    Answer,
    Caller,
    Command,
    Decided,
    Decision,
    LockedPause,
    Summary,
    Transaction,
)
from handrail_gateway.application.pressed import MISSING
from handrail_gateway.application.substitutes import Substitutes
from handrail_gateway.application.times import rfc3339
from handrail_gateway.application.trace_ids import uuid7


class Resume:
    """Decides pauses."""

    def __init__(self, once: Once) -> None:
        self._once = once

    async def decide(self, caller: Caller, trace_id: str, request: ResumeRequest) -> Answer:
        """The `202`, once the decision is durable; the `200` for the same decision again. Raises Refusal, StoreFault."""

        async def work(transaction: Transaction) -> Answer:
            summary = await transaction.summary(caller.tenant, trace_id)
            if summary is None:
                raise workflow_not_found(trace_id)
            pause_id = request.pause_id
            if pause_id is None:
                pause_id = await _meant(transaction, caller.tenant, summary)
            pause = await found(transaction, caller.tenant, pause_id)
            if trace_id != (pause if isinstance(pause, str) else pause.trace_id):
                raise pause_not_found(pause_id)
            if isinstance(pause, str):
                raise still_opening(trace_id, pause_id)
            given = request.input if "input" in request.model_fields_set else MISSING
            return await press(transaction, caller, pause, request, given)

        return await self._once.run(caller, work)


async def press(
    transaction: Transaction, caller: Caller, pause: LockedPause, request: ResumeRequest, given: Any
) -> Answer:
    """Decides a locked pause. `given` is the input, MISSING when there is none. Raises Refusal."""
    input_ = None if given is MISSING else given
    if pause.decided is not None and _same(pause.decided, request.action_id, input_):
        return _again(pause, pause.decided)
    await refuse_when_over(transaction, caller.tenant, pause)
    _refuse_claimed(pause, caller.actor, request.override_claim)
    _refuse_changed_evidence(pause, request.evidence_digest)
    button = _button(pause, request.action_id)
    approvals.refuse_own(pause, button, caller.actor)
    await _refuse_wrong_input(transaction, caller.tenant, pause, button, given)
    await approvals.refuse_forbidden(transaction, caller, pause, button, given)
    at = await transaction.decide(
        Decision(
            caller.tenant,
            pause.pause_id,
            pause.trace_id,
            request.action_id,
            None if given is MISSING else orjson.dumps(given),
            request.comment,
            caller.actor,
            caller.channel,
            pause.data.get("evidence_digest"),
        )
    )
    await transaction.add(order(caller, pause.trace_id, CommandKind.DECIDE, {"pause_id": pause.pause_id}))
    decided = Decided(ResolutionOutcome.DECIDED, request.action_id, input_, caller.actor, caller.channel, at)
    return Answer(202, _body(pause, decided), again=_again(pause, decided))


async def found(transaction: Transaction, tenant: str, pause_id: str) -> LockedPause | str:
    """The pause, held; or the trace_id of the escalation that is still to open it."""
    pause = await transaction.lock_pause(tenant, pause_id)
    if pause is None:
        trace_id = await transaction.opening(tenant, pause_id)
        if trace_id is not None:
            return trace_id
        pause = await transaction.lock_pause(tenant, pause_id)  # it was opened between the two looks
    if pause is None:
        raise pause_not_found(pause_id)
    return pause


def order(caller: Caller, trace_id: str, kind: CommandKind, body: dict[str, Any]) -> Command:
    """A command of this caller."""
    return Command(
        uuid7(),
        caller.tenant,
        trace_id,
        kind,
        orjson.dumps(body),
        caller.actor,
        caller.channel,
        caller.traceparent,
    )


async def _meant(transaction: Transaction, tenant: str, summary: Summary) -> str:
    """The pause that a request without `pause_id` means: the only open one, else the one closed last."""
    pauses = await transaction.pauses(tenant, summary.trace_id)
    opened = [p for p in pauses if p.state == "open"]
    if len(opened) > 1:
        raise Refusal(
            "pause-ambiguous",
            f"Expected one open pause, but {len(opened)} are open. Name one as pause_id.",
            trace_id=summary.trace_id,
            pauses=[p.pause_id for p in opened],
        )
    if not pauses:
        raise Refusal(
            "not-paused",
            f"Expected a paused workflow, but its status is {summary.status} and it never paused.",
            trace_id=summary.trace_id,
            workflow_status=summary.status,
        )
    return pauses[0].pause_id


def _same(decided: Decided, action_id: str, input_: Any) -> bool:
    chosen = decided.outcome == ResolutionOutcome.DECIDED and decided.action_id == action_id
    return chosen and _canonical(decided.input) == _canonical(input_)


def _canonical(value: Any) -> bytes:
    """Tells 1 from true, and not {a, b} from {b, a}."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _body(pause: LockedPause, decided: Decided, **more: Any) -> bytes:
    body = {"trace_id": pause.trace_id, "pause_id": pause.pause_id, "action_id": decided.action_id}
    return orjson.dumps({**body, "status": "RESUMING", **more})


def _again(pause: LockedPause, decided: Decided) -> Answer:
    more = {"resolved_by": decided.actor, "resolved_at": rfc3339(decided.decided_at)}
    return Answer(200, _body(pause, decided, **more), dict(REPLAYED))


async def refuse_when_over(transaction: Transaction, tenant: str, pause: LockedPause) -> None:
    """Refuses when a locked pause is decided, expired, superseded or cancelled."""
    decided = pause.decided
    members: dict[str, Any] = {"trace_id": pause.trace_id, "pause_id": pause.pause_id}
    if decided is not None:
        members |= {
            "resolved_by": decided.actor,
            "resolved_at": rfc3339(decided.decided_at),
            "action_id": decided.action_id,
            "channel": decided.channel,
        }
    outcome = decided.outcome if decided is not None else pause.state
    overdue = decided is None and pause.expires_at is not None and pause.expires_at <= pause.now
    if outcome == ResolutionOutcome.EXPIRED or overdue:
        raise Refusal("expired", "Expected a pause within its deadline, but the deadline has passed.", **members)
    if decided is not None and outcome == ResolutionOutcome.DECIDED:
        raise Refusal(
            "already-resolved",
            f"Expected an undecided pause, but {quote(decided.actor)} chose {decided.action_id} by {quote(decided.channel)}.",
            **members,
        )
    if outcome != "open":
        current = [p.pause_id for p in await transaction.pauses(tenant, pause.trace_id) if p.state == "open"]
        links = [f"/pauses/{pause_id}" for pause_id in current]
        raise Refusal(
            "stale-pause",
            f"Expected an open pause, but this one is {outcome}. "
            + (f"The open one is {current[0]}." if current else "None is open now."),
            **members,
            current=links,
        )


def refuse_claimed(pause: LockedPause, actor: str) -> None:
    """Refuses when somebody else holds a claim that still runs."""
    held = pause.claimed_by is not None and pause.claimed_until is not None and pause.claimed_until > pause.now
    if held and pause.claimed_by != actor:
        assert pause.claimed_until is not None
        raise Refusal(
            "claimed",
            f"Expected a pause that is free, but {quote(pause.claimed_by)} has claimed it."
            " Wait, or decide with override_claim.",
            trace_id=pause.trace_id,
            pause_id=pause.pause_id,
            claimed_by=pause.claimed_by,
            claimed_until=rfc3339(pause.claimed_until),
        )


def _refuse_claimed(pause: LockedPause, actor: str, override: bool) -> None:
    if not override:
        refuse_claimed(pause, actor)


def _refuse_changed_evidence(pause: LockedPause, seen: str | None) -> None:
    if seen is not None and seen != pause.data.get("evidence_digest"):
        raise Refusal(
            "evidence-changed",
            "Expected the evidence that you have seen, but it has changed. Look again, then decide.",
            trace_id=pause.trace_id,
            pause_id=pause.pause_id,
            evidence_digest=pause.data.get("evidence_digest"),
        )


def _button(pause: LockedPause, action_id: str) -> dict[str, Any]:
    offered: list[dict[str, Any]] = pause.data["available_resolutions"]
    for button in offered:
        if button["action_id"] == action_id:
            return button
    allowed = [b["action_id"] for b in offered]
    raise Refusal(
        "action-not-allowed",
        f"Expected one of {', '.join(allowed)}, but found {quote(action_id)}.",
        errors=[{"pointer": "/action_id", "code": "action-not-allowed", "message": "Not offered."}],
        trace_id=pause.trace_id,
        pause_id=pause.pause_id,
        allowed=allowed,
    )


async def _refuse_wrong_input(
    transaction: Transaction, tenant: str, pause: LockedPause, button: dict[str, Any], given: Any
) -> None:
    wrong = pressed.faults(button, given, "/input")
    if not wrong and pause.node_id and pressed.is_output(button, given):
        output = None if given is MISSING else given
        nodes = Substitutes(await transaction.plan(tenant, pause.trace_id))
        wrong = nodes.faults(pause.node_id, output, "/input")
    if not wrong and isinstance(given, dict) and button.get("kind") == ResolutionKind.EDIT:
        wrong = _too_large(cast("dict[str, Any]", given))
    if wrong:
        raise Refusal(
            "invalid-input",
            f"Expected the input that {button['action_id']} asks for, but at {quote(wrong[0]['pointer'])}:"
            f" {wrong[0]['message']}",
            errors=wrong,
        )


def _too_large(args: dict[str, Any]) -> list[dict[str, str]]:
    if (took := args_bytes(args)) <= MOST_ARGS_BYTES:
        return []
    text = f"Expected at most {MOST_ARGS_BYTES} bytes of arguments, as of a proposal, but there are {took}."
    return [{"pointer": "/input", "code": "too-large", "message": text}]

"""What people order a workflow besides deciding: pause, cancel; and a pause besides answering it: claim, release, speak."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts.commands import CancelRequest, ClaimRequest, CommandKind, MessageRequest, PauseRequest
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import ResolutionKind
from handrail_gateway.application.faults import (
    Refusal,
    already_ended,
    already_paused,
    still_opening,
    workflow_not_found,
)
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.ports import Answer, Caller, LockedPause, Summary, Transaction
from handrail_gateway.application.quarantine import give_up
from handrail_gateway.application.resume import found, order, refuse_claimed, refuse_when_over
from handrail_gateway.application.times import rfc3339

MOST_MESSAGES = 1_000


class Steering:
    """Orders to workflows and pauses."""

    def __init__(self, once: Once) -> None:
        self._once = once

    async def pause(self, caller: Caller, trace_id: str, request: PauseRequest) -> Answer:
        """The panic button: `202` once it is durable."""

        async def work(transaction: Transaction) -> Answer:
            await _going(transaction, caller.tenant, trace_id)
            by_hand = any(
                p.kind == PauseKind.MANUAL and p.state == "open" and not p.decided
                for p in await transaction.pauses(caller.tenant, trace_id)
            )
            if by_hand or await transaction.waiting(caller.tenant, trace_id, CommandKind.PAUSE):
                raise already_paused(trace_id)
            await transaction.add(order(caller, trace_id, CommandKind.PAUSE, {"comment": request.comment}))
            return _ordered(trace_id, "PAUSING")

        return await self._once.run(caller, work)

    async def cancel(self, caller: Caller, trace_id: str, request: CancelRequest) -> Answer:
        """Cancels, with undo unless told not to: `202` once it is durable."""

        async def work(transaction: Transaction) -> Answer:
            if (await _going(transaction, caller.tenant, trace_id)).parked is not None:
                await give_up(transaction, caller, trace_id, request.compensate, request.comment)
                return _ordered(trace_id, "CANCELLING")  # it does not wait behind what parked the workflow
            body = {"compensate": request.compensate, "comment": request.comment}
            await transaction.add(order(caller, trace_id, CommandKind.CANCEL, body))
            return _ordered(trace_id, "CANCELLING")

        return await self._once.run(caller, work)

    async def claim(self, caller: Caller, pause_id: str, request: ClaimRequest) -> Answer:
        """The pause is the caller's for so many seconds. Again: for so many from now."""
        return await self._set_claim(caller, pause_id, caller.actor, request.seconds)

    async def release(self, caller: Caller, pause_id: str) -> Answer:
        """The pause is free. One that was free stays free."""
        return await self._set_claim(caller, pause_id, None, None)

    async def _set_claim(self, caller: Caller, pause_id: str, by: str | None, seconds: int | None) -> Answer:
        async def work(transaction: Transaction) -> Answer:
            pause = await _open_pause(transaction, caller.tenant, pause_id)
            refuse_claimed(pause, caller.actor)
            until = await transaction.claim(pause_id, by, seconds)
            shown = None if until is None else rfc3339(until)
            body = {"pause_id": pause_id, "claimed_by": by, "claimed_until": shown}
            await transaction.add(order(caller, pause.trace_id, CommandKind.CLAIM, body))
            return Answer(200, orjson.dumps({"trace_id": pause.trace_id, **body}))

        return await self._once.run(caller, work)

    async def say(self, caller: Caller, pause_id: str, request: MessageRequest) -> Answer:
        """Adds to the conversation of a pause, also of one that is still being opened. While a person has it, an agent is
        refused."""

        async def work(transaction: Transaction) -> Answer:
            pause = await found(transaction, caller.tenant, pause_id)
            trace_id = pause if isinstance(pause, str) else pause.trace_id
            if request.role == "agent":
                if isinstance(pause, str):
                    raise _human_has_control(trace_id, pause_id)
                _refuse_agent(await _current(transaction, caller.tenant, pause))
            elif not isinstance(pause, str):
                await refuse_when_over(transaction, caller.tenant, pause)
            if await transaction.spoken(caller.tenant, trace_id) >= MOST_MESSAGES:
                raise Refusal(
                    "too-many-items",
                    f"Expected at most {MOST_MESSAGES} messages in one workflow, but there are as many. Close the pause.",
                )
            body = {"pause_id": pause_id, "role": request.role, "text": request.text}
            await transaction.add(order(caller, trace_id, CommandKind.MESSAGE, body))
            answer = {"trace_id": trace_id, "pause_id": pause_id, "status": "ACCEPTED"}
            return Answer(202, orjson.dumps(answer))

        return await self._once.run(caller, work)


async def _going(transaction: Transaction, tenant: str, trace_id: str) -> Summary:
    summary = await transaction.summary(tenant, trace_id)
    if summary is None:
        raise workflow_not_found(trace_id)
    if summary.ended:
        raise already_ended(trace_id, summary.status)
    return summary


async def _open_pause(transaction: Transaction, tenant: str, pause_id: str) -> LockedPause:
    pause = await found(transaction, tenant, pause_id)
    if isinstance(pause, str):
        raise still_opening(pause, pause_id)
    await refuse_when_over(transaction, tenant, pause)
    return pause


async def _current(transaction: Transaction, tenant: str, pause: LockedPause) -> LockedPause:
    """The newest escalation of the same node: it says who has the conversation."""
    for p in await transaction.pauses(tenant, pause.trace_id):
        if p.kind == PauseKind.ESCALATION and p.node_id == pause.node_id and p.pause_id != pause.pause_id:
            newer = await transaction.lock_pause(tenant, p.pause_id)
            return newer or pause
        if p.pause_id == pause.pause_id:
            break
    return pause


def _refuse_agent(pause: LockedPause) -> None:
    buttons: list[dict[str, Any]] = pause.data["available_resolutions"]
    chosen = pause.decided.action_id if pause.decided is not None else None
    kinds = {b["action_id"]: b.get("kind") for b in buttons}
    if kinds.get(chosen or "") != ResolutionKind.HAND_BACK:
        raise _human_has_control(pause.trace_id, pause.pause_id)


def _human_has_control(trace_id: str, pause_id: str) -> Refusal:
    detail = "Expected an agent that has the conversation, but a person has it. Wait until it is handed back."
    return Refusal("human-has-control", detail, trace_id=trace_id, pause_id=pause_id)


def _ordered(trace_id: str, status: str) -> Answer:
    return Answer(202, orjson.dumps({"trace_id": trace_id, "status": status}))

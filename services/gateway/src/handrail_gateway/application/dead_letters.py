"""Dead letters: `replay` is the decision `retry`, `discard` the decision `skip` on the pause that the letter opened. Late
effects have no pause: `replay` undoes one in a workflow of its own, `discard` leaves it standing."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts.commands import CommandKind, ReasonRequest, ReplayRequest, ResumeRequest
from handrail_contracts.plan import ResolutionKind
from handrail_engine.late import undo_plan
from handrail_engine.payloads import taken_over
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.ports import Answer, Caller, LockedPause, Transaction
from handrail_gateway.application.pressed import MISSING
from handrail_gateway.application.resume import order, press, refuse_when_over

LATE_EFFECT = "late_effect"
_DONE = {ResolutionKind.RETRY: "replayed", ResolutionKind.SKIP: "discarded"}


def not_found(dead_letter_id: str) -> Refusal:
    """As for workflows."""
    return Refusal(
        "dead-letter-not-found", f"Expected a dead letter, but there is none with the id {quote(dead_letter_id)}."
    )


class DeadLetters:
    """Decides over dead letters."""

    def __init__(self, once: Once) -> None:
        self._once = once

    async def replay(self, caller: Caller, dead_letter_id: str, request: ReplayRequest) -> Answer:
        """`202`: the task gets a fresh round of attempts. `input` where the only retry asks for one. Of a late effect: its
        undo begins, as the workflow `replay_trace_id`."""
        given = request.input if "input" in request.model_fields_set else MISSING
        return await self._decide(caller, dead_letter_id, ResolutionKind.RETRY, request.reason, given)

    async def discard(self, caller: Caller, dead_letter_id: str, request: ReasonRequest) -> Answer:
        """`202`: the task is skipped; a late effect is left standing; one that nobody waits for any more is closed."""
        return await self._decide(caller, dead_letter_id, ResolutionKind.SKIP, request.reason, MISSING)

    async def _decide(
        self, caller: Caller, dead_letter_id: str, kind: ResolutionKind, reason: str | None, given: Any
    ) -> Answer:
        async def work(transaction: Transaction) -> Answer:
            letter = await transaction.dead_letter(caller.tenant, dead_letter_id)
            if letter is None:
                raise not_found(dead_letter_id)
            if letter["state"] != "open":
                raise Refusal(
                    "already-resolved",
                    f"Expected an open dead letter, but it is {letter['state']}.",
                    trace_id=letter["trace_id"],
                    state=letter["state"],
                )
            if letter["kind"] == LATE_EFFECT:
                return await _look_after(transaction, caller, letter, kind, reason)
            pause = await self._pause(transaction, caller.tenant, letter)
            if pause is None:
                return await _let_go(transaction, caller, letter, kind, reason)
            button = _button(pause, kind, with_input=given is not MISSING)
            if button is None:
                await refuse_when_over(transaction, caller.tenant, pause)
                raise _not_offered(pause, kind)
            request = ResumeRequest(action_id=button, pause_id=pause.pause_id, comment=reason)
            await press(transaction, caller, pause, request, given)
            await transaction.close_dead_letter(caller, dead_letter_id, _DONE[kind], reason)
            body = {"dead_letter_id": dead_letter_id, "trace_id": letter["trace_id"], "pause_id": pause.pause_id}
            return Answer(202, orjson.dumps({**body, "action_id": button, "status": _DONE[kind].upper()}))

        return await self._once.run(caller, work)

    @staticmethod
    async def _pause(transaction: Transaction, tenant: str, letter: Any) -> LockedPause | None:
        """The pause that the letter opened; None where there is none, or one that has closed without it."""
        if letter["pause_id"] is None:
            return None
        pause = await transaction.lock_pause(tenant, letter["pause_id"])
        return pause if pause is not None and pause.state == "open" else None


async def _let_go(
    transaction: Transaction, caller: Caller, letter: Any, kind: ResolutionKind, reason: str | None
) -> Answer:
    """A letter without an open pause: it is on its way, or its workflow went on or ended without it, as versions before this one
    could leave it behind. There is nothing to try again then, and its discard closes it."""
    summary = await transaction.summary(caller.tenant, letter["trace_id"])
    going = summary is not None and not summary.ended
    if letter["pause_id"] is None and going:
        raise Refusal(
            "not-paused",
            "Expected a dead letter whose pause is open, but it has not come back yet. Try again in a moment.",
            trace_id=letter["trace_id"],
            retry_after=2,
        )
    if kind is ResolutionKind.RETRY:
        raise Refusal(
            "action-not-allowed",
            "Expected a dead letter that a pause asks about, but nobody waits for this one any more. Discard it.",
            trace_id=letter["trace_id"],
            allowed=["discard"],
        )
    await transaction.close_dead_letter(caller, letter["dead_letter_id"], _DONE[kind], reason)
    body = {"dead_letter_id": letter["dead_letter_id"], "trace_id": letter["trace_id"]}
    return Answer(202, orjson.dumps({**body, "status": _DONE[kind].upper()}))


async def _look_after(
    transaction: Transaction, caller: Caller, letter: Any, kind: ResolutionKind, reason: str | None
) -> Answer:
    """A late effect has no pause: its replay undoes it in a workflow of its own, its discard leaves it standing."""
    body: dict[str, Any] = {"dead_letter_id": letter["dead_letter_id"], "trace_id": letter["trace_id"]}
    if kind is ResolutionKind.RETRY:
        body["replay_trace_id"] = await _undo(transaction, caller, letter)
    await transaction.close_dead_letter(caller, letter["dead_letter_id"], _DONE[kind], reason)
    return Answer(202, orjson.dumps({**body, "status": _DONE[kind].upper()}))


async def _undo(transaction: Transaction, caller: Caller, letter: Any) -> str:
    nodes = undo_plan(orjson.loads(letter["data"]))
    if nodes is None:
        raise Refusal(
            "action-not-allowed",
            f"Expected an effect that can be undone, but node {quote(letter['node_id'])} declares no undo."
            " Look after it by hand, then discard it with a reason.",
            trace_id=letter["trace_id"],
            allowed=["discard"],
        )
    trace_id = f"undo-{letter['dead_letter_id']}"
    nodes, marks = taken_over(nodes, letter["trace_id"], trace_id)
    if marks:
        await transaction.copy_payloads(caller.tenant, letter["trace_id"], trace_id, marks)
    start: dict[str, Any] = {
        "intent": f"Undo the late effect of {letter['node_id']} in workflow {letter['trace_id']}",
        "input": {},
        "labels": {"undo-of": letter["trace_id"], "dead-letter": letter["dead_letter_id"]},
        "plan": {"nodes": nodes},
    }
    await transaction.add(order(caller, trace_id, CommandKind.START, start))
    return trace_id


def _button(pause: LockedPause, kind: ResolutionKind, *, with_input: bool) -> str | None:
    offered: list[dict[str, Any]] = pause.data["available_resolutions"]
    fitting = [b for b in offered if b.get("kind") == kind]
    # Of several the one that asks for an input exactly if one was given.
    fitting.sort(key=lambda b: bool(b.get("requires_input")) != with_input)
    return fitting[0]["action_id"] if fitting else None


def _not_offered(pause: LockedPause, kind: ResolutionKind) -> Refusal:
    allowed = [b["action_id"] for b in pause.data["available_resolutions"]]
    return Refusal(
        "action-not-allowed",
        f"Expected a pause that offers {kind.value}, but it offers {', '.join(allowed)}. Resume it with one of them.",
        trace_id=pause.trace_id,
        pause_id=pause.pause_id,
        allowed=allowed,
    )

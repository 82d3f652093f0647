"""Dead letters: `replay` is the decision `retry`, `discard` the decision `skip` on the pause that the letter opened."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts.commands import ReasonRequest, ReplayRequest, ResumeRequest
from handrail_contracts.plan import ResolutionKind
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.idempotency import Once
from handrail_gateway.application.ports import Answer, Caller, LockedPause, Transaction
from handrail_gateway.application.resume import MISSING, press, refuse_when_over

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
        """`202`: the task gets a fresh round of attempts. `input` where the only retry asks for one."""
        given = request.input if "input" in request.model_fields_set else MISSING
        return await self._decide(caller, dead_letter_id, ResolutionKind.RETRY, request.reason, given)

    async def discard(self, caller: Caller, dead_letter_id: str, request: ReasonRequest) -> Answer:
        """`202`: the task is skipped."""
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
            pause = await self._pause(transaction, caller.tenant, letter)
            button = _button(pause, kind, with_input=given is not MISSING)
            if button is None:
                await refuse_when_over(transaction, caller.tenant, pause)
                raise _not_offered(pause, kind)
            request = ResumeRequest(action_id=button, pause_id=pause.pause_id, comment=reason)
            await press(transaction, caller, pause, request, given)
            await transaction.close_dead_letter(dead_letter_id, _DONE[kind], reason)
            body = {"dead_letter_id": dead_letter_id, "trace_id": letter["trace_id"], "pause_id": pause.pause_id}
            return Answer(202, orjson.dumps({**body, "action_id": button, "status": _DONE[kind].upper()}))

        return await self._once.run(caller, work)

    @staticmethod
    async def _pause(transaction: Transaction, tenant: str, letter: Any) -> LockedPause:
        pause = None
        if letter["pause_id"] is not None:
            pause = await transaction.lock_pause(tenant, letter["pause_id"])
        if pause is None:
            raise Refusal(
                "not-paused",
                "Expected a dead letter whose pause is open, but it has not come back yet. Try again in a moment.",
                trace_id=letter["trace_id"],
                retry_after=2,
            )
        return pause


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

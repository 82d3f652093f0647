"""`POST /escalations`: an agent outside of any workflow asks for a person. The escalation becomes a workflow of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from handrail_contracts.commands import CommandKind, EscalationRequest
from handrail_contracts.ids import outside_pause_id
from handrail_contracts.outbound_url import MAX_URL_CHARS, PORTS, refused_rule
from handrail_contracts.tasks import Escalation
from handrail_gateway.application.faults import Refusal, StoreFault
from handrail_gateway.application.ports import Answer, Caller, Start, Views
from handrail_gateway.application.resume import order
from handrail_gateway.application.submit import Submit
from handrail_gateway.application.trace_ids import uuid7

SHOWN_WITHIN_S = 2.0
"""So long at most the answer waits for the pause to be there, behind the link that it gives."""
_LOOKS_S = (0.01, 0.02, 0.04, 0.08)
_RULES = {
    "too-long": f"it is longer than {MAX_URL_CHARS} characters",
    "malformed": "it is not a URL",
    "scheme": "it does not begin with https://",
    "userinfo": "it names a user",
    "ip-literal": "its host is an address and not a name",
    "idn": "its host has characters beyond ASCII",
    "local-name": "its host is a name of an inner network",
    "port": f"its port is none of {', '.join(str(p) for p in sorted(PORTS))}",
}


class Escalations:
    """Opens escalations."""

    def __init__(self, submit: Submit, views: Views) -> None:
        self._submit, self._views = submit, views

    async def open(self, caller: Caller, request: EscalationRequest) -> Answer:
        """The `202` with both ids, once it is durable and the pause can be read and spoken to. Where that takes longer than
        `SHOWN_WITHIN_S` (nobody orchestrates, or there is much to do) it is answered before, and the pause follows. Once
        per idempotency key. Raises Refusal, StoreFault."""

        async def make() -> Start:
            refuse_address(request.callback_url, "/callback_url")
            trace_id = uuid7()
            pause_id = outside_pause_id(caller.tenant, trace_id)
            told = Escalation(
                reason=request.reason,
                summary=request.summary,
                transcript=[line.model_dump(exclude_none=True) for line in request.transcript],
                metadata=request.metadata,
                handover_message=request.handover_message,
            )
            body: dict[str, Any] = {
                "intent": request.reason,
                "outside": {
                    "escalation": told.model_dump(mode="json"),
                    "pause_id": pause_id,
                    "callback_url": request.callback_url,
                },
            }
            answer = Answer(
                202,
                orjson.dumps({"trace_id": trace_id, "pause_id": pause_id}),
                {"Location": f"/pauses/{pause_id}"},
            )
            return Start(order(caller, trace_id, CommandKind.START, body), caller, answer)

        answer = await self._submit.once(caller, make)
        await self._shown(caller.tenant, orjson.loads(answer.body)["pause_id"])
        return answer

    async def _shown(self, tenant: str, pause_id: str) -> None:
        looks = iter(_LOOKS_S)
        try:
            async with asyncio.timeout(SHOWN_WITHIN_S):
                while await self._views.pause(tenant, pause_id) is None:  # noqa: ASYNC110  another process opens it
                    await asyncio.sleep(next(looks, _LOOKS_S[-1]))
        except (TimeoutError, StoreFault):
            pass  # it is durable: that it cannot be seen yet takes nothing of that back


def refuse_address(url: str | None, pointer: str) -> None:
    """Refuses a URL that may not be called on a stranger's behalf. What its name leads to is judged when it is called."""
    rule = refused_rule(url) if url is not None else None
    if rule is not None:
        raise Refusal(
            "webhook-url-rejected",
            f"Expected a public https address, but {_RULES[rule]} (rule {rule}).",
            errors=[{"pointer": pointer, "code": rule, "message": f"Refused: {_RULES[rule]}."}],
            rule=rule,
        )

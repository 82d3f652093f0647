"""Support for refunds: answers what it can, and knows when a person has to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_contracts.model import iso
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context

_WANTS_A_PERSON = re.compile(
    r"\b(a|real|live|actual) (person|human)\b|\b(speak|talk)\w* (to|with) \w+|\b(representative|supervisor|manager)\b",
    re.IGNORECASE,
)
_CHARGED_TWICE = re.compile(
    r"\b(charged|billed|paid|debited)\b.*\b(twice|double|two times)\b|\bdouble[- ]charge", re.IGNORECASE
)
_HANDOVER = "I am passing you on to a colleague, who sees everything that we wrote."
_GREETING = "Thank you for your message. I am looking at your order."


class Request(BaseModel):
    """What a customer wrote, and about which order."""

    message: str = Field(min_length=1, max_length=20_000)
    order_id: str | None = None


class Reply(BaseModel):
    """What the customer is told."""

    response: str


def reason_to_escalate(message: str) -> str | None:
    """Why a person has to take over, as the operator reads it; None when the agent can go on."""
    wants, twice = _WANTS_A_PERSON.search(message), _CHARGED_TWICE.search(message)
    if wants and twice:
        return "The customer was charged twice and asks for a person."
    if wants:
        return "The customer asks for a person."
    return "The customer says that they were charged twice." if twice else None


def refund_assistant(pace: Pace) -> Agent:
    """The agent that customers write to."""
    agent = Agent("refund_assistant")

    @agent.task(timeout="30s", **QUICK_RETRIES)
    async def assist(request: Request, ctx: Context) -> Reply:
        """Answers a customer, or hands over to a person."""
        await pace.breath()
        about = f"order {request.order_id}" if request.order_id else "your order"
        if ctx.conversation is not None:  # a person has handed back
            return Reply(response=f"My colleague has looked at {about}. {_last_word(ctx.conversation)}".strip())
        reason = reason_to_escalate(request.message)
        if reason is None:
            return Reply(response=f"The refund for {about} is on its way. It takes up to five working days.")
        now = iso(int(datetime.now(UTC).timestamp() * 1000))
        return await ctx.escalate_to_human(
            reason,
            summary=f"{reason} It is about {about}.",
            transcript=[
                {"role": "user", "text": request.message, "at": now},
                {"role": "agent", "text": _GREETING, "at": now},
            ],
            metadata={"order_id": request.order_id, "topic": "refund", "channel": "chat"},
            handover_message=_HANDOVER,
        )

    return agent


def _last_word(conversation: list[dict[str, Any]]) -> str:
    """What the operator said last."""
    said = [str(line.get("text", "")) for line in conversation if line.get("role") == "operator"]
    return said[-1] if said else ""

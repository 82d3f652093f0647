"""For pydantic-ai (extra `ai`): a tool that hands over and ends the run.

agent = Agent(model, tools=[escalation_tool(handover)])
try:
    answer = (await agent.run(text)).output
except HandedOver as over:
    answer = over.message
"""

from __future__ import annotations

from typing import Any

from pydantic_ai import RunContext, Tool
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from handrail_sdk.handover import Handover


def escalation_tool(handover: Handover) -> Tool[Any]:
    """The tool `escalate_to_human`. It raises HandedOver, so that the model says nothing more."""

    async def escalate_to_human(context: RunContext[Any], reason: str, summary: str = "") -> str:
        """Hand the conversation to a person: when the user asks for one, is getting angry, disputes a charge, or you do not know.

        Args:
            context: The run.
            reason: One sentence that an operator reads first.
            summary: What it is about.
        """
        raise await handover.escalate(reason, summary=summary, transcript=transcript_of(context.messages))

    return Tool(escalate_to_human, takes_ctx=True)


def transcript_of(messages: list[Any]) -> list[dict[str, Any]]:
    """What user and agent said, as {role, text, at}; tool calls and instructions are left out."""
    lines: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            lines += [
                {"role": "user", "text": p.content if isinstance(p.content, str) else str(p.content), "at": p.timestamp}
                for p in message.parts
                if isinstance(p, UserPromptPart)
            ]
        elif isinstance(message, ModelResponse):
            said = "".join(p.content for p in message.parts if isinstance(p, TextPart))
            lines += [{"role": "agent", "text": said, "at": message.timestamp}] if said else []
    return lines

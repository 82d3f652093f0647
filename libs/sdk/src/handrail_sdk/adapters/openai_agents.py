"""For the OpenAI Agents SDK (extra `openai-agents`): a tool at which the run stops, its answer the hand-over sentence.

    agent = Agent("shop", tools=[escalation_tool(handover, transcript)], tool_use_behavior=STOP)
    answer = (await Runner.run(agent, text)).final_output

The SDK sends traces to its maker unless you call `agents.set_tracing_disabled(True)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agents import FunctionTool, StopAtTools, function_tool

from handrail_sdk.handover import Handover

NAME = "escalate_to_human"
STOP: StopAtTools = {"stop_at_tool_names": [NAME]}
"""`tool_use_behavior` of the agent: after the tool the model is not asked again."""


def escalation_tool(
    handover: Handover, transcript: Callable[[], Iterable[Mapping[str, Any]]] = tuple[Mapping[str, Any], ...]
) -> FunctionTool:
    """The tool `escalate_to_human`. `transcript` gives what was said so far, as {role, text}."""

    async def escalate_to_human(reason: str, summary: str = "") -> str:
        """Hand the conversation to a person: when the user asks for one, is getting angry, disputes a charge, or you do not know.

        Args:
            reason: One sentence that an operator reads first.
            summary: What it is about.
        """
        over = await handover.escalate(reason, summary=summary, transcript=transcript())
        return over.message

    return function_tool(escalate_to_human, name_override=NAME, failure_error_function=None)

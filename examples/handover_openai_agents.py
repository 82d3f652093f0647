"""An agent of the OpenAI Agents SDK hands over to a person: the run stops at the tool, the model is not asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall

from handrail_sdk import Client
from handrail_sdk.adapters.openai_agents import STOP, escalation_tool
from handrail_sdk.handover import Handover


class Played(Model):
    """Stands in for a model: it knows when it is out of its depth. Leave it out to use the SDK's own models."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Calls the tool."""
        call = ResponseFunctionToolCall(
            type="function_call",
            name="escalate_to_human",
            call_id="call_1",
            arguments='{"reason": "The customer disputes a charge.", "summary": "Two charges on order 7."}',
        )
        return ModelResponse(output=[call], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Not used here."""
        raise NotImplementedError


async def main(url: str | None = None) -> str:
    """Answers what the user is told at the end."""
    set_tracing_disabled(True)
    asked = "I dispute the second charge"
    async with Client(url, actor="shop-bot") as client:
        handover = Handover(client, metadata={"order_id": "7"})
        tool = escalation_tool(handover, lambda: [{"role": "user", "text": asked}])
        agent = Agent("shop", instructions="Help.", tools=[tool], tool_use_behavior=STOP, model=Played())
        result = await Runner.run(agent, asked)
        print(f"user is told: {result.final_output}\nwaiting for a person at pause {handover.pause_id}")
        back = await handover.wait()
        print(f"a person pressed {back.action_id}")
        return back.response or handover.message


if __name__ == "__main__":
    print(asyncio.run(main()))

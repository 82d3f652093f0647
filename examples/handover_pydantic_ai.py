"""A pydantic-ai agent hands over to a person, falls silent, and goes on with what the person said."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from handrail_sdk import Client
from handrail_sdk.adapters.pydantic_ai import escalation_tool
from handrail_sdk.handover import HandedOver, Handover


def played(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands in for a model: it knows when it is out of its depth. Replace it by any model of pydantic-ai."""
    if "colleague" in str(messages[-1]):
        return ModelResponse(parts=[TextPart("As my colleague said, it is settled. Anything else?")])
    why = {"reason": "The customer disputes a charge.", "summary": "Two charges on order 7."}
    return ModelResponse(parts=[ToolCallPart("escalate_to_human", why)])


async def main(url: str | None = None) -> str:
    """Answers what the user is told at the end."""
    async with Client(url, actor="shop-bot") as client:
        handover = Handover(client, metadata={"order_id": "7"})
        agent = Agent(FunctionModel(played), tools=[escalation_tool(handover)])
        try:
            return (await agent.run("I dispute the second charge")).output
        except HandedOver as over:
            print(f"user is told: {over.message}\nwaiting for a person at pause {over.pause_id}")
        back = await handover.wait()
        print(f"a person pressed {back.action_id}")
        if not back.handed_back:
            return back.response or handover.message
        said = "\n".join(f"{line['role']}: {line['text']}" for line in back.conversation)
        answer = (await agent.run(f"Go on from here; a colleague has spoken:\n{said}")).output
        await handover.say(answer)
        return answer


if __name__ == "__main__":
    print(asyncio.run(main()))

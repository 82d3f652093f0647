"""A LangGraph graph hands over to a person with an interrupt, and is resumed with what the person said."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from handrail_sdk import Client
from handrail_sdk.adapters.langgraph import escalation_node, resume_with
from handrail_sdk.handover import Handover


class State(TypedDict, total=False):
    """What the graph carries."""

    asked: str
    human: dict[str, Any]
    answer: str


async def answer(state: State) -> State:
    """Goes on from what the person left."""
    human = state["human"]
    last = human["conversation"][-1]["text"] if human["conversation"] else ""
    return {"answer": human["response"] or f"My colleague says: {last}"}


async def main(url: str | None = None) -> str:
    """Answers what the user is told at the end."""
    async with Client(url, actor="shop-bot") as client:
        handover = Handover(client, metadata={"order_id": "7"})
        node = escalation_node(
            handover,
            reason=lambda state: "The customer disputes a charge.",
            transcript=lambda state: [{"role": "user", "text": state["asked"]}],
        )
        graph = StateGraph(State)
        graph.add_node("human", node)
        graph.add_node("answer", answer)
        graph.add_edge(START, "human")
        graph.add_edge("human", "answer")
        graph.add_edge("answer", END)
        app = graph.compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
        await app.ainvoke({"asked": "I dispute the second charge"}, config)
        print(f"user is told: {handover.message}\nwaiting for a person at pause {handover.pause_id}")
        back = await handover.wait()
        print(f"a person pressed {back.action_id}")
        ended = await app.ainvoke(Command(resume=resume_with(back)), config)
        return ended["answer"]


if __name__ == "__main__":
    print(asyncio.run(main()))

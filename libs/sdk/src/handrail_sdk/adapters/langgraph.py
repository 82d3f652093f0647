"""For LangGraph (extra `langgraph`): a node that hands over and interrupts the graph until the person is done.

graph.add_node("human", escalation_node(handover, reason=lambda state: state["why"]))
await app.ainvoke(inputs, config)                                   # stops at the interrupt, whose value names the pause
back = await handover.wait()
await app.ainvoke(Command(resume=resume_with(back)), config)        # also in another process, days later
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from handrail_sdk.handover import Back, Handover


def escalation_node(
    handover: Handover,
    *,
    reason: Callable[[Mapping[str, Any]], str],
    summary: Callable[[Mapping[str, Any]], str] = lambda state: "",
    transcript: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None,
    into: str = "human",
) -> Callable[..., Any]:
    """A node. `transcript` reads the state (default: its `messages`); what comes back is stored as `into`: {handed_back, response,
    conversation}. The graph runs a node from its beginning when it is resumed: what the graph calls this visit of the node makes
    that the same escalation, and the next visit another."""

    async def human(state: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        lines = list(transcript(state) if transcript is not None else lines_of(state.get("messages", ())))
        key = _key(config.get("configurable") or {})
        over = await handover.escalate(reason(state), summary=summary(state), transcript=lines, idempotency_key=key)
        told = {"message": over.message, "trace_id": over.trace_id, "pause_id": over.pause_id}
        return {into: interrupt(told)}

    return human


def _key(known: Mapping[str, Any]) -> str | None:
    """The same for the same visit of a node in a thread, whenever and wherever it is resumed; None where nothing is kept of it."""
    thread, visit = known.get("thread_id"), known.get("checkpoint_ns")
    if thread is None or not visit:
        return None
    return f"langgraph-{hashlib.sha256(f'{thread}|{visit}'.encode()).hexdigest()}"


def resume_with(back: Back) -> dict[str, Any]:
    """What the graph goes on with."""
    return {"handed_back": back.handed_back, "response": back.response, "conversation": back.conversation}


def lines_of(messages: Iterable[Any]) -> list[dict[str, Any]]:
    """Messages of LangChain as {role, text}."""
    roles = {"human": "user", "ai": "agent"}
    return [
        {"role": roles[m.type], "text": m.content if isinstance(m.content, str) else str(m.content)}
        for m in messages
        if getattr(m, "type", None) in roles
    ]

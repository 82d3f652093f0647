"""An agent that thinks with a model: the port that a model stands behind, tools, and the loop between the two.

    answer = await converse(model, messages, [Tool(look_up_order)], ctx)

The loop is bounded in turns and tokens, counts what is spent into the attempt (`ctx.spend`), and ends at once when a tool hands
over to a person. What tools and users say is data to the model; what the model says is data to you: check it before you act.
`RecordedModel` (`handrail_sdk.recorded`) answers without any key, `EndpointModel` (`handrail_sdk.ai`, extra `ai`) asks any
OpenAI-compatible endpoint.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from pydantic import TypeAdapter, ValidationError, validate_call

from handrail_sdk.context import Context
from handrail_sdk.failures import Escalated, Fail, Proposed, jsonable

BUDGET = "MODEL_BUDGET_SPENT"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model wants to have done. `id` ties the answer to it."""

    name: str
    arguments: Mapping[str, Any]
    id: str = "call"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation with a model. `calls` stand in what the model said; `name` and `id` in a tool's answer."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered: a text, or calls of tools; and what that took. `cost_usd` 0 where it has no price."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """An async function that a model may call. Its name, docstring and annotations are what the model is shown."""

    function: Callable[..., Awaitable[Any]]
    name: str = ""
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        function = self.function
        object.__setattr__(self, "name", self.name or getattr(function, "__name__", "tool"))
        object.__setattr__(self, "description", self.description or inspect.getdoc(function) or "")
        if not self.schema:
            object.__setattr__(self, "schema", TypeAdapter(cast(Any, function)).json_schema())

    async def run(self, arguments: Mapping[str, Any]) -> str:
        """Calls the function and gives its answer as text; what does not fit its signature is told to the model. Raises what
        hands over (Escalated, Proposed) and what fails for good (Fail)."""
        try:
            answer = await validate_call(self.function)(**arguments)
        except (ValidationError, TypeError) as e:
            return f"error: {str(e)[:500]}"
        return answer if isinstance(answer, str) else json.dumps(jsonable(answer), ensure_ascii=False)


class ChatModel(Protocol):
    """A model."""

    async def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """Its answer to the conversation so far. Raises Fail where there is none."""
        ...


async def converse(
    model: ChatModel,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    ctx: Context,
    *,
    most_turns: int = 8,
    most_tokens: int = 50_000,
) -> str:
    """Asks the model, runs the tools that it calls, and asks again, until it answers with a text. Raises Fail
    `MODEL_BUDGET_SPENT` (not retryable) past either bound, and whatever a tool raises to hand over."""
    said = list(messages)
    known = {tool.name: tool for tool in tools}
    spent = 0
    for _ in range(most_turns):
        reply = await model.reply(said, tools)
        ctx.spend(
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cost_usd=reply.cost_usd,
            model=reply.model,
        )
        spent += reply.input_tokens + reply.output_tokens
        if not reply.calls:
            return reply.text
        if spent > most_tokens:
            break
        said.append(Message("assistant", reply.text, reply.calls))
        for call in reply.calls:
            said.append(Message("tool", await _run(known, call), name=call.name, id=call.id))
    evidence = {"turns": most_turns, "tokens": spent, "most_tokens": most_tokens}
    text = f"The model did not come to an answer within {most_turns} turns and {most_tokens} tokens."
    raise Fail(BUDGET, text, evidence=evidence, retryable=False)


async def _run(known: Mapping[str, Tool], call: ToolCall) -> str:
    tool = known.get(call.name)
    if tool is None:
        return f"error: Expected one of the tools {', '.join(known)}, but found another."
    try:
        return await tool.run(call.arguments)
    except (Escalated, Proposed, Fail):
        raise
    except Exception as e:  # noqa: BLE001  # the model may try another way; what a tool meets is no end of the agent
        return f"error: {type(e).__name__}: {str(e)[:500]}"

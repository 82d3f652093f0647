"""A model behind an OpenAI-compatible endpoint, as agents talk to one (`ChatModel`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from handrail_sdk.ai.endpoint import Endpoint
from handrail_sdk.failures import Fail
from handrail_sdk.llm import Message, Reply, Tool, ToolCall

UNAVAILABLE = "MODEL_UNAVAILABLE"


class EndpointModel:
    """Asks the endpoint through pydantic-ai. Behind the port `ChatModel`. Raises DefinitionError without the extra `ai`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._model = endpoint.chat_model()

    async def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """See the port. Raises Fail MODEL_UNAVAILABLE (retryable) where the endpoint does not answer."""
        from pydantic_ai.direct import model_request
        from pydantic_ai.exceptions import AgentRunError, UnexpectedModelBehavior
        from pydantic_ai.messages import TextPart, ToolCallPart
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        offered = [
            ToolDefinition(name=t.name, description=t.description, parameters_json_schema=t.schema) for t in tools
        ]
        try:
            answer = await model_request(
                self._model,
                _as_history(messages),
                model_request_parameters=ModelRequestParameters(function_tools=offered, allow_text_output=True),
            )
        except (AgentRunError, UnexpectedModelBehavior, OSError) as e:
            raise Fail(UNAVAILABLE, f"The model did not answer: {type(e).__name__}.", evidence=str(e)[:1_000]) from e
        usage = answer.usage
        return Reply(
            "".join(p.content for p in answer.parts if isinstance(p, TextPart)),
            tuple(
                ToolCall(p.tool_name, _arguments(p.args), p.tool_call_id)
                for p in answer.parts
                if isinstance(p, ToolCallPart)
            ),
            usage.input_tokens,
            usage.output_tokens,
            self._endpoint.cost_usd(usage.input_tokens, usage.output_tokens),
            answer.model_name,
        )


def _arguments(given: Any) -> dict[str, Any]:
    """What a model wrote as arguments; what is no object is none at all."""
    try:
        found: Any = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _as_history(messages: Sequence[Message]) -> list[Any]:
    from pydantic_ai.messages import (
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    history: list[Any] = []
    for m in messages:
        match m.role:
            case "assistant":
                calls = [ToolCallPart(c.name, dict(c.arguments), c.id) for c in m.calls]
                history.append(ModelResponse(parts=[*([TextPart(m.text)] if m.text else []), *calls]))
            case "system":
                history.append(ModelRequest(parts=[SystemPromptPart(m.text)]))
            case "user":
                history.append(ModelRequest(parts=[UserPromptPart(m.text)]))
            case "tool":
                history.append(ModelRequest(parts=[ToolReturnPart(m.name, m.text, m.id)]))
    return history

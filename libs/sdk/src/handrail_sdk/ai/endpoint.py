"""Where a model is: two settings, a key where one is wanted, and prices where costs are to be counted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from handrail_sdk.failures import DefinitionError

if TYPE_CHECKING:
    from pydantic_ai.models.openai import OpenAIChatModel

PREFIX = "HANDRAIL_AI__"


class Endpoint(BaseModel):
    """An OpenAI-compatible endpoint. Prices are USD per million tokens; 0 counts tokens only. `timeout_s` of one answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base_url: str = Field(pattern=r"^https?://[^\s]+$")
    model: str = Field(min_length=1)
    api_key: SecretStr | None = None
    input_usd_per_million: float = Field(default=0.0, ge=0)
    output_usd_per_million: float = Field(default=0.0, ge=0)
    timeout_s: float = Field(default=60.0, gt=0)

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return (input_tokens * self.input_usd_per_million + output_tokens * self.output_usd_per_million) / 1_000_000

    def chat_model(self) -> OpenAIChatModel:
        """The endpoint as pydantic-ai sees a model. Raises DefinitionError where the extra `ai` is not installed."""
        try:
            from openai import AsyncOpenAI
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai import OpenAIProvider
        except ImportError as e:
            raise DefinitionError(
                'Expected the extra `ai`, but it is not installed. Install "handrail-sdk[ai]" (or "handrail[ai]").'
            ) from e
        key = self.api_key.get_secret_value() if self.api_key is not None else "none"
        client = AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=self.timeout_s, max_retries=1)
        return OpenAIChatModel(self.model, provider=OpenAIProvider(openai_client=client))


def endpoint_from(environment: Mapping[str, str] | None = None) -> Endpoint | None:
    """The endpoint that `HANDRAIL_AI__BASE_URL` and its neighbours name, None where they name none. Raises DefinitionError where
    they are wrong; never shows the key."""
    env = os.environ if environment is None else environment
    given: dict[str, Any] = {
        k[len(PREFIX) :].lower(): v
        for k, v in env.items()
        if k.startswith(PREFIX) and v and not k.startswith(PREFIX + "PLAN")
    }
    if "base_url" not in given:
        return None
    try:
        return Endpoint.model_validate(given)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False, include_context=False)[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise DefinitionError(f"{name}: {first['msg']}.") from None

"""An agent that thinks for money, loaded by HANDRAIL_AGENTS__LOAD."""

from __future__ import annotations

from typing import Any

from handrail_sdk.agent import Agent
from handrail_sdk.context import Context

spender = Agent("spender")


@spender.task()
async def think(inputs: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Spends 1,000 tokens and two cents."""
    ctx.spend(input_tokens=900, output_tokens=100, cost_usd=0.02)
    return {}

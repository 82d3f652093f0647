"""An agent that proposes what it would pay, and pays only what it is let: its ledger shows which action, with which arguments."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict

from handrail_agents.catalog.simulator import _late, _play
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context


class Payment(BaseModel):
    """The k-th attempt means the k-th amount and ends as the k-th outcome, later ones as the last."""

    model_config = ConfigDict(extra="allow")
    amounts: list[Any]
    amount: Any = None  # what a person sets
    outcomes: list[str] = ["ok"]
    duration_ms: int = 0
    undo: list[str] = ["ok"]


def teller(ledger: Any) -> Agent:
    """The agent `teller` with the action `pay`."""
    agent = Agent("teller")

    @agent.task(effect="idempotent", retries=3, delay=0.2, lease=1.0, timeout=8.0, schedule_to_start=40.0)
    async def pay(payment: Payment, ctx: Context) -> Any:
        """Pays once it may."""
        amount = (
            payment.amount
            if payment.amount is not None
            else payment.amounts[min(ctx.attempt, len(payment.amounts)) - 1]
        )
        args = await ctx.propose("transfer", {"amount": amount}, reversible=True)
        await asyncio.sleep(payment.duration_ms / 1000)
        late_ms = await _play(payment.outcomes, ctx)
        answer = await ledger.do(ctx, {"action": "transfer", "args": args})
        await _late(late_ms, ctx)
        return answer

    @pay.compensate
    async def take_back(payment: Payment, done: Any, ctx: Context) -> dict[str, bool]:
        await _play(payment.undo, ctx)
        return {"undone": await ledger.undo(ctx)}

    return agent

"""Banking: look, pay in, pay out."""

from __future__ import annotations

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_sdk.failures import Fail
from handrail_sdk.options import Proposal
from handrail_simulators import World
from handrail_simulators.bank import Refused

Number = int | float
"""Stays an integer where it is one."""


class Account(BaseModel):
    """Which account; each workflow has one of its own, whatever its name."""

    account: str = "checking"


class Balance(BaseModel):
    """What is on it."""

    account: str
    balance: Number


class Transfer(BaseModel):
    """How much goes to whom."""

    to: str = Field(min_length=1, max_length=200)
    amount: Number = Field(gt=0)


class Transferred(BaseModel):
    """What went to whom, and what is left."""

    amount: Number
    to: str
    balance: Number


class Deposit(BaseModel):
    """How much comes in."""

    amount: Number = Field(gt=0)


class Deposited(BaseModel):
    """What came in, and what is there now."""

    amount: Number
    balance: Number


def bank(world: World, pace: Pace) -> Agent:
    """The agent of the bank."""
    agent = Agent("bank")

    @agent.task(timeout="30s", **QUICK_RETRIES)
    async def balance_check(account: Account, ctx: Context) -> Balance:
        """Looks up what is on the account."""
        await pace.breath()
        return Balance(account=account.account, balance=await world.bank.balance(by=ctx))

    shown = Proposal("Transfer {amount:.2f} to {to}", domain="money")

    @agent.task(timeout="30s", effect="idempotent", proposal=shown, **QUICK_RETRIES)
    async def transfer(transfer: Transfer, ctx: Context) -> Transferred:
        """Pays from the workflow's account."""
        await pace.breath()
        try:
            return Transferred.model_validate(await world.bank.transfer(transfer.to, transfer.amount, by=ctx))
        except Refused as e:
            raise _said_no(e) from e

    @transfer.compensate
    async def reverse_transfer(transfer: Transfer, done: Transferred | None, ctx: Context) -> None:
        await pace.breath()
        await world.bank.reverse(by=ctx)

    @agent.task(timeout="30s", effect="idempotent", **QUICK_RETRIES)
    async def deposit(deposit: Deposit, ctx: Context) -> Deposited:
        """Pays into the workflow's account."""
        await pace.breath()
        try:
            return Deposited.model_validate(await world.bank.deposit(deposit.amount, by=ctx))
        except Refused as e:
            raise _said_no(e) from e

    @deposit.compensate
    async def reverse_deposit(deposit: Deposit, done: Deposited | None, ctx: Context) -> None:
        await pace.breath()
        await world.bank.reverse(by=ctx)

    return agent


_REASONS = {
    "INSUFFICIENT_FUNDS": "There is not enough on the account.",
    "INVALID_AMOUNT": "The amount has to be above 0 and have at most two decimals.",
}


def _said_no(e: Refused) -> Fail:
    return Fail(e.code, _REASONS[e.code], evidence=e.body, retryable=False)

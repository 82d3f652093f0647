"""Payroll."""

from __future__ import annotations

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_simulators import World


class Enrolment(BaseModel):
    """Who is to be paid."""

    employee: str = Field(min_length=1, max_length=200)


class Enrolled(BaseModel):
    """Who is paid."""

    payroll_id: str
    employee: str


def payroll_bot(world: World, pace: Pace) -> Agent:
    """The agent of the payroll."""
    agent = Agent("payroll_bot")

    @agent.task(timeout="30s", effect="idempotent", **QUICK_RETRIES)
    async def enroll(enrolment: Enrolment, ctx: Context) -> Enrolled:
        """Puts an employee on the payroll."""
        await pace.breath()
        return Enrolled.model_validate(await world.payroll.enroll(enrolment.employee, by=ctx))

    @enroll.compensate
    async def withdraw(enrolment: Enrolment, enrolled: Enrolled | None, ctx: Context) -> None:
        await pace.breath()
        await world.payroll.withdraw(by=ctx)

    return agent

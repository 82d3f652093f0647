"""Personnel records."""

from __future__ import annotations

from pydantic import BaseModel, Field

from handrail_agents.catalog.pace import QUICK_RETRIES, Pace
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_simulators import World


class NewEmployee(BaseModel):
    """Who begins, and where."""

    employee: str = Field(min_length=1, max_length=200)
    department: str = Field(min_length=1, max_length=200)


class Record(BaseModel):
    """A personnel record."""

    employee_id: str
    employee: str
    department: str


def hr_bot(world: World, pace: Pace) -> Agent:
    """The agent of the personnel office."""
    agent = Agent("hr_bot")

    @agent.task(timeout="30s", effect="idempotent", **QUICK_RETRIES)
    async def create_record(new: NewEmployee, ctx: Context) -> Record:
        """Opens a personnel record."""
        await pace.breath()
        return Record.model_validate(await world.hr.create(new.employee, new.department, by=ctx))

    @create_record.compensate
    async def remove_record(new: NewEmployee, record: Record | None, ctx: Context) -> None:
        await pace.breath()
        await world.hr.remove(by=ctx)

    return agent

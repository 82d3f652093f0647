"""The agents that ship with Handrail: the demo's, and the `simulator` that scenarios and benchmarks drive."""

from __future__ import annotations

from handrail_agents.catalog.bank import bank
from handrail_agents.catalog.hardware import hardware_procurement_bot
from handrail_agents.catalog.hr import hr_bot
from handrail_agents.catalog.mailbox import mailbox_bot
from handrail_agents.catalog.pace import Pace
from handrail_agents.catalog.payroll import payroll_bot
from handrail_agents.catalog.refund import refund_assistant
from handrail_agents.catalog.simulator import simulator
from handrail_sdk.agent import Agent
from handrail_simulators import World

__all__ = ["agents"]


def agents(world: World, *, delay_ms: int = 300) -> list[Agent]:
    """Every agent of the catalog. `delay_ms`: what each demo task takes at least, so that a person can watch it."""
    pace = Pace(delay_ms)
    return [
        hr_bot(world, pace),
        mailbox_bot(world, pace),
        hardware_procurement_bot(world, pace),
        payroll_bot(world, pace),
        bank(world, pace),
        refund_assistant(pace),
        simulator(world),
    ]

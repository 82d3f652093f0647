"""The agents that ship with Handrail: the demo's, and the `simulator` that scenarios and benchmarks drive."""

from __future__ import annotations

from handrail_agents.catalog.bank import bank
from handrail_agents.catalog.hardware import hardware_procurement_bot
from handrail_agents.catalog.hr import hr_bot
from handrail_agents.catalog.mailbox import mailbox_bot
from handrail_agents.catalog.pace import Pace
from handrail_agents.catalog.payroll import payroll_bot
from handrail_agents.catalog.planner import PlanMaker, planner, recorded_plans
from handrail_agents.catalog.refund import refund_assistant
from handrail_agents.catalog.simulator import simulator
from handrail_sdk.agent import Agent
from handrail_sdk.llm import ChatModel
from handrail_sdk.triggers import Scorer
from handrail_simulators import World

__all__ = ["agents"]


def agents(
    world: World,
    *,
    delay_ms: int = 300,
    model: ChatModel | None = None,
    scorer: Scorer | None = None,
    maker: PlanMaker | None = None,
) -> list[Agent]:
    """Every agent of the catalog. `delay_ms`: what each demo task takes at least, so that a person can watch it. `model` and
    `scorer` think for the refund assistant, `maker` plans; without them they play what was recorded."""
    pace = Pace(delay_ms)
    return [
        hr_bot(world, pace),
        mailbox_bot(world, pace),
        hardware_procurement_bot(world, pace),
        payroll_bot(world, pace),
        bank(world, pace),
        refund_assistant(world, pace, model, scorer),
        planner(maker or recorded_plans()),
        simulator(world),
    ]

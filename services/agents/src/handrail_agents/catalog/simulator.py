"""The agent that does what its inputs say: scenarios, benchmarks and outside checks drive it with explicit plans."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_sdk.failures import NOT_FOUND, Fail, Garbage, Silence
from handrail_simulators import World

_OUTCOME = re.compile(r"ok|hang|garbage|(error|fatal|escalate):.+|(late|busy):\d{1,9}", re.DOTALL)


def _known(outcome: str) -> str:
    if not _OUTCOME.fullmatch(outcome):
        raise ValueError(
            "Expected ok, error:<CODE>, fatal:<CODE>, escalate:<reason>, hang, late:<ms>, busy:<ms> or garbage, "
            f"but found {outcome[:80]!r}"
        )
    return outcome


Outcome = Annotated[str, AfterValidator(_known)]


class Script(BaseModel):
    """Attempt k takes the k-th outcome, later ones the last; `undo` likewise. With no `output` the inputs are echoed."""

    model_config = ConfigDict(extra="allow")

    outcomes: list[Outcome] = Field(default=["ok"], min_length=1)
    output: Any = None
    duration_ms: int = Field(default=0, ge=0)
    undo: list[Outcome] = Field(default=["ok"], min_length=1)
    undo_duration_ms: int = Field(default=0, ge=0)
    keyless: bool = False

    def answer(self) -> Any:
        """What `ok` answers."""
        return self.output if "output" in self.model_fields_set else self.model_dump(exclude_unset=True)


def simulator(world: World) -> Agent:
    """The agent `simulator`."""
    agent = Agent("simulator")
    ledger = world.ledger

    @agent.task()
    async def script(script: Script, ctx: Context) -> Any:
        """Ends each attempt as the script says; an `ok` is written to the ledger."""
        await _wait(script.duration_ms)
        late_ms = await _play(script.outcomes, ctx)
        answer = await ledger.do(ctx, script.answer(), keyless=script.keyless)
        await _late(late_ms, ctx)
        return answer

    @script.compensate
    async def undo_script(script: Script, answer: Any, ctx: Context) -> dict[str, bool]:
        await _wait(script.undo_duration_ms)
        late_ms = await _play(script.undo, ctx)
        undone = await ledger.undo(ctx, keyless=script.keyless)
        await _late(late_ms, ctx)
        return {"undone": True} if undone else {"undone": False, "nothing_to_undo": True}

    @script.look_up
    async def find_script(script: Script, ctx: Context) -> Any:
        found, answer = await ledger.find(ctx)
        if not found:
            raise Fail(NOT_FOUND, "The ledger has no such effect.")
        return answer

    @agent.task()
    async def noop(inputs: dict[str, Any]) -> dict[str, Any]:
        """Does nothing and echoes its inputs."""
        return inputs

    return agent


async def _play(outcomes: list[str], ctx: Context) -> int:
    """Ends the attempt as its outcome says, or gives how long to wait (ms) between the effect and the answer."""
    outcome = outcomes[min(ctx.attempt, len(outcomes)) - 1]
    word, _, said = outcome.partition(":")
    match word:
        case "ok":
            return 0
        case "late":
            return int(said)
        case "busy":
            raise Fail("BUSY", f"Come again in {said} ms.", evidence={"error": "BUSY"}, retry_after_s=int(said) / 1000)
        case "error":
            raise Fail(said, f"The script says {outcome}.", evidence={"error": said})
        case "fatal":
            raise Fail(said, f"The script says {outcome}.", evidence={"error": said}, retryable=False)
        case "escalate":
            return await ctx.escalate_to_human(said)
        case "garbage":
            raise Garbage
        case _:
            raise Silence


async def _wait(ms: int) -> None:
    if ms:
        await asyncio.sleep(ms / 1000)


async def _late(ms: int, ctx: Context) -> None:
    """Past its lease if `ms` is: nobody hears of the attempt meanwhile."""
    if ms:
        ctx.fall_silent()
        await asyncio.sleep(ms / 1000)

"""The workloads on Restate's Python SDK; served by hypercorn in the peer's own environment."""

from __future__ import annotations

import logging

import restate
from restate import Context, Service, Workflow, WorkflowContext, WorkflowSharedContext

logging.basicConfig(level=logging.ERROR)
bench = Service("Bench")
paused = Workflow("Paused")


async def step(d: dict) -> dict:
    """The step that does next to nothing."""
    return {**d, "n": d["n"] + 1}


@bench.handler()
async def diamond(ctx: Context, d: dict) -> dict:
    """a, then b, c, d at once, then e."""
    a = await ctx.run_typed("a", step, restate.RunOptions(), d)
    middle = [ctx.run_typed(name, step, restate.RunOptions(), a) for name in ("b", "c", "d")]
    await restate.gather(*middle)
    return await ctx.run_typed("e", step, restate.RunOptions(), await middle[0])


@bench.handler()
async def chain10(ctx: Context, d: dict) -> dict:
    """Ten in a row."""
    for i in range(10):
        d = await ctx.run_typed(f"n{i}", step, restate.RunOptions(), d)
    return d


@paused.main()
async def run(ctx: WorkflowContext, d: dict) -> dict:
    """a, then a person, then b."""
    d = await ctx.run_typed("a", step, restate.RunOptions(), d)
    await ctx.promise("decision", type_hint=bool).value()
    return await ctx.run_typed("b", step, restate.RunOptions(), d)


@paused.handler()
async def decide(ctx: WorkflowSharedContext, ok: bool) -> None:
    """The person's answer."""
    await ctx.promise("decision", type_hint=bool).resolve(ok)


app = restate.app(services=[bench, paused])

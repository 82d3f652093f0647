"""What is asked of a target: W1 diamond, W2 chain10, W3 resume, W6 accept, W7 rehydrate. Each yields one row per run."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.load import PAYLOAD, STEPS, closed_loop, row
from benchmarks.machine import Cpu
from benchmarks.targets import ENDS, PAUSED, Target

Rows = AsyncIterator[dict[str, Any]]
WARM_S = 8.0
"""A broker and a database need some seconds of load until their times stand still."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it: levels of concurrency, runs of each, seconds and calls of a run at most."""

    levels: tuple[int, ...] = (1, 20, 100)
    repeats: int = 3
    seconds: float = 10.0
    cap: int = 4000
    effect: str = "pure"
    warm_s: float = WARM_S


def node(id_: str, *after: str, effect: str = "pure", value: Any = None) -> dict[str, Any]:
    """A step that does nothing and gives back what it got."""
    source: Any = {"$from": f"nodes.{after[0]}.output"} if after else {"$from": "input"}
    one: dict[str, Any] = {"id": id_, "agent": "simulator", "action": "noop", "depends_on": list(after)}
    one["inputs"] = {"value": source if value is None else value}
    return one if effect == "pure" else {**one, "effect_class": effect, "compensation": "none"}


def nodes(shape: str, effect: str = "pure") -> list[dict[str, Any]]:
    """The DAG of a workload."""
    if shape == "diamond":
        after = {"a": (), "b": ("a",), "c": ("a",), "d": ("a",), "e": ("b", "c", "d")}
        return [node(id_, *deps, effect=effect) for id_, deps in after.items()]
    return [node("n0", effect=effect), *(node(f"n{i}", f"n{i - 1}", effect=effect) for i in range(1, 10))]


def start(plan: list[dict[str, Any]]) -> Callable[[str], bytes]:
    """The body of a start, by trace_id."""
    rest = json.dumps({"input": PAYLOAD, "plan": {"nodes": plan}})[1:]
    return lambda trace_id: f'{{"trace_id":"{trace_id}",{rest}'.encode()


async def run_through(target: Target, body: Callable[[str], bytes]) -> None:
    """Starts a workflow and waits for its end."""
    trace_id = uuid.uuid4().hex
    end = target.watch(trace_id, ENDS)
    await target.http.post("/workflows", body(trace_id))
    async with asyncio.timeout(60):
        kind = await end
    if kind != "WORKFLOW_COMPLETED":
        raise RuntimeError(f"{trace_id} ended with {kind}")


async def dag(target: Target, shape: str, p: Plan) -> Rows:
    """W1 and W2: from POST to the terminal event, closed loop."""
    body = start(nodes(shape, p.effect))

    async def one(_: int) -> None:
        await run_through(target, body)

    await closed_loop(one, 20_000, 50, p.warm_s)
    for concurrency in p.levels:
        for rep in range(p.repeats):
            most = p.cap
            with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
                wall, lat = await closed_loop(one, most, concurrency, p.seconds)
            more = {"effect": p.effect, **cpu.per(len(lat) * STEPS[shape])}
            yield row(f"handrail-{target.name}", shape, concurrency, rep, wall, lat, **more)


async def resume(target: Target, p: Plan, count: int = 200) -> Rows:
    """W3: a → pause → resume over the API → b; from the resume call to the end."""
    asks: dict[str, Any] = {"id": "ask", "agent": "simulator", "action": "script", "depends_on": ["a"]}
    asks["inputs"] = {"outcomes": ["escalate:approve?"]}
    body = start([node("a"), asks, node("b", "ask", value=PAYLOAD)])
    decision = json.dumps({"action_id": "RES_CLOSE"}).encode()
    for concurrency in (c for c in p.levels if c <= 20):
        for rep in range(p.repeats):
            ids = [uuid.uuid4().hex for _ in range(count)]

            async def pause(i: int, ids: list[str] = ids) -> None:
                paused = target.watch(ids[i], PAUSED)
                await target.http.post("/workflows", body(ids[i]))
                async with asyncio.timeout(60):
                    await paused

            async def go_on(i: int, ids: list[str] = ids) -> None:
                end = target.watch(ids[i], ENDS)
                await target.http.post(f"/workflows/{ids[i]}/resume", decision)
                async with asyncio.timeout(60):
                    await end

            await closed_loop(pause, count, 20, 120)
            await asyncio.sleep(1.0)
            with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
                wall, lat = await closed_loop(go_on, count, concurrency, 120)
            yield row(f"handrail-{target.name}", "resume", concurrency, rep, wall, lat, **cpu.per(len(lat)))


async def accept(target: Target, p: Plan) -> Rows:
    """W6: POST /workflows per second, while the system works on what it accepts. `drain_s` is how long it then still does."""
    body = start([node("only")])

    async def one(_: int) -> None:
        await target.http.post("/workflows", body(uuid.uuid4().hex))

    await closed_loop(one, 2000, 20, 2.0)
    for rep in range(p.repeats):
        last = uuid.uuid4().hex
        with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
            wall, lat = await closed_loop(one, 100_000, 20, p.seconds)
        end = target.watch(last, ENDS)
        await target.http.post("/workflows", body(last))
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(300):
            await end
        drain = {"drain_s": round(asyncio.get_running_loop().time() - began, 2)}
        yield row(f"handrail-{target.name}", "accept", 20, rep, wall, lat, **drain, **cpu.per(len(lat)))


async def rehydrate(target: Target, p: Plan) -> Rows:
    """W7: GET state with its history per second, over 500 workflows that have just ended."""
    body = start(nodes("diamond"))
    ids = [uuid.uuid4().hex for _ in range(500)]

    async def make(i: int) -> None:
        end = target.watch(ids[i], ENDS)
        await target.http.post("/workflows", body(ids[i]))
        async with asyncio.timeout(60):
            await end

    async def one(i: int) -> None:
        await target.http.get(f"/workflows/{ids[i % len(ids)]}/state?history=true")

    await closed_loop(make, len(ids), 20, 120)
    await asyncio.sleep(1.0)
    await closed_loop(one, 1000, 20, 2.0)
    for rep in range(p.repeats):
        with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
            wall, lat = await closed_loop(one, 200_000, 20, p.seconds)
        yield row(f"handrail-{target.name}", "rehydrate", 20, rep, wall, lat, **cpu.per(len(lat)))

"""W5: DAGs of 10,000 nodes in four shapes: time to accept, nodes per second to the end, memory of the orchestrator."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from typing import Any

from benchmarks.load import row
from benchmarks.machine import Cpu, rss_mb
from benchmarks.targets import ENDS, Target
from benchmarks.workloads import Rows

SHAPES = ("fan", "layers", "random", "chains")


def shape(name: str, count: int, seed: int = 7) -> list[dict[str, Any]]:
    """`count` nodes: one to many to one; layers of 100, each node on three of the layer before; up to three of the 200
    nodes before; 100 chains side by side."""
    rng = random.Random(seed)
    deps: list[list[int]] = []
    for i in range(count):
        match name:
            case "fan":
                deps.append([] if i == 0 else list(range(1, count - 1)) if i == count - 1 else [0])
            case "layers":
                low = (i // 100 - 1) * 100
                deps.append(sorted(rng.sample(range(low, low + 100), 3)) if i >= 100 else [])
            case "random":
                low = max(0, i - 200)
                deps.append(sorted(rng.sample(range(low, i), min(i - low, rng.randint(1, 3)))) if i else [])
            case _:
                deps.append([i - 100] if i >= 100 else [])
    agent = {"agent": "simulator", "action": "noop"}
    return [{"id": f"n{i}", **agent, "depends_on": [f"n{d}" for d in on]} for i, on in enumerate(deps)]


async def big(target: Target, count: int = 10_000) -> Rows:
    """One run of each shape."""
    for name in SHAPES:
        trace_id = uuid.uuid4().hex
        body = json.dumps({"trace_id": trace_id, "plan": {"nodes": shape(name, count)}}).encode()
        end = target.watch(trace_id, ENDS)
        at = time.perf_counter()
        with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
            await target.http.post("/workflows", body)
            accepted = time.perf_counter() - at
            async with asyncio.timeout(300):
                kind = await end
        wall = time.perf_counter() - at
        more = {"end": kind, "accept_s": round(accepted, 2), "steps_s": round(count / wall, 1), **cpu.per(count)}
        rss = rss_mb(target.roots)
        yield row(f"handrail-{target.name}", f"big-{name}", 1, 0, wall, [wall], nodes=count, rss_mb=rss, **more)

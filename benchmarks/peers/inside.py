"""The runs of a peer that is a library: driver and engine are one process."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from benchmarks.load import STEPS, closed_loop, row
from benchmarks.machine import Cpu

OfThread = Callable[[str], Awaitable[None]]


async def measure(
    peer: str, asked: Mapping[str, Any], one: OfThread, pause: OfThread, go_on: OfThread, roots: dict[str, int]
) -> None:
    """One repeat of each workload and level; prints a JSON line each."""
    for shape in (w for w in asked["workloads"] if w != "resume"):

        async def call(_: int, shape: str = shape) -> None:
            await one(shape)

        await closed_loop(call, 20_000, 50, asked["warm_s"])
        for concurrency in asked["levels"]:
            with Cpu(roots) as cpu:
                wall, lat = await closed_loop(
                    call, asked["cap"] if concurrency > 1 else 300, concurrency, asked["seconds"]
                )
            _told(
                row(
                    peer, shape, concurrency, asked["rep"], wall, lat, effect="pure", **cpu.per(len(lat) * STEPS[shape])
                )
            )
    for concurrency in (c for c in asked["levels"] if c <= 20 and "resume" in asked["workloads"]):
        ids = [uuid.uuid4().hex for _ in range(200)]

        async def stop(i: int, ids: list[str] = ids) -> None:
            await pause(ids[i])

        async def resume(i: int, ids: list[str] = ids) -> None:
            await go_on(ids[i])

        await closed_loop(stop, len(ids), 20, 120)
        await asyncio.sleep(1.0)
        with Cpu(roots) as cpu:
            wall, lat = await closed_loop(resume, len(ids), concurrency, 120)
        _told(row(peer, "resume", concurrency, asked["rep"], wall, lat, **cpu.per(len(lat))))


def _told(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)

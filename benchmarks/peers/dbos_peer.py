"""DBOS in one process on PostgreSQL, in the peer's own environment. `python dbos_peer.py <dsn> <json>`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop
from dbos import DBOS, SetWorkflowID

from benchmarks.load import PAYLOAD
from benchmarks.peers.inside import measure

DBOS(config={"name": "bench", "system_database_url": sys.argv[1], "log_level": "WARNING"})


@DBOS.step()
async def step(d: dict) -> dict:
    return {**d, "n": d["n"] + 1}


@DBOS.workflow()
async def diamond(d: dict) -> dict:
    a = await step(d)
    b, _, _ = await asyncio.gather(step(a), step(a), step(a))
    return await step(b)


@DBOS.workflow()
async def chain10(d: dict) -> dict:
    for _ in range(10):
        d = await step(d)
    return d


@DBOS.workflow()
async def paused(d: dict) -> dict:
    d = await step(d)
    await DBOS.set_event_async("state", "paused")
    await DBOS.recv_async("decision", timeout_seconds=600)
    return await step(d)


async def main() -> None:
    asked = json.loads(sys.argv[2])
    DBOS.launch()
    handles: dict[str, Any] = {}

    async def one(shape: str) -> None:
        handle = await DBOS.start_workflow_async(diamond if shape == "diamond" else chain10, PAYLOAD)
        await handle.get_result()

    async def pause(thread: str) -> None:
        with SetWorkflowID(thread):
            handles[thread] = await DBOS.start_workflow_async(paused, PAYLOAD)
        await DBOS.get_event_async(thread, "state", 60)

    async def go_on(thread: str) -> None:
        await DBOS.send_async(thread, True, "decision")
        await handles.pop(thread).get_result()

    try:
        await measure("dbos", asked, one, pause, go_on, {"postgres": asked["postgres_pid"], "dbos": os.getpid()})
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    uvloop.run(main())

"""LangGraph with its PostgreSQL saver (durability `async`, its default), in the peer's own environment.

`python langgraph_peer.py <dsn> <json>`: prints one JSON line per run.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import Annotated, Any, TypedDict

import uvloop
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.load import PAYLOAD
from benchmarks.peers.inside import measure


class State(TypedDict):
    d: Annotated[dict, lambda old, new: new]


async def step(state: State) -> dict:
    return {"d": {**state["d"], "n": state["d"]["n"] + 1}}


async def ask(state: State) -> dict:
    interrupt({"ask": "approve?"})
    return {}


def graph(shape: str, saver: Any) -> Any:
    g = StateGraph(State)
    if shape == "diamond":
        for name in "abcde":
            g.add_node(name, step)
        g.add_edge(START, "a")
        for name in "bcd":
            g.add_edge("a", name)
        g.add_edge(["b", "c", "d"], "e")
        g.add_edge("e", END)
        return g.compile(checkpointer=saver)
    names = [f"n{i}" for i in range(10)] if shape == "chain10" else ["a", "ask", "b"]
    for name in names:
        g.add_node(name, ask if name == "ask" else step)
    for before, after in zip([START, *names], [*names, END], strict=True):
        g.add_edge(before, after)
    return g.compile(checkpointer=saver)


async def main() -> None:
    dsn, asked = sys.argv[1], json.loads(sys.argv[2])
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(dsn, min_size=20, max_size=20, kwargs=settings) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        graphs = {shape: graph(shape, saver) for shape in ("diamond", "chain10", "resume")}

        def invoke(shape: str, what: Any, thread: str) -> Any:
            return graphs[shape].ainvoke(what, {"configurable": {"thread_id": thread}}, durability="async")

        async def one(shape: str) -> None:
            await invoke(shape, {"d": PAYLOAD}, uuid.uuid4().hex)

        async def pause(thread: str) -> None:
            await invoke("resume", {"d": PAYLOAD}, thread)

        async def go_on(thread: str) -> None:
            await invoke("resume", Command(resume=True), thread)

        await measure(
            "langgraph", asked, one, pause, go_on, {"postgres": asked["postgres_pid"], "langgraph": os.getpid()}
        )


if __name__ == "__main__":
    uvloop.run(main())

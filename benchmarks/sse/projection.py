"""Events per second into Redis, on one core: the projection alone, fed with batches as the bus would."""

from __future__ import annotations

import json
import time
from typing import Any

from handrail_contracts import topics
from handrail_contracts.events import NodeStatus
from handrail_contracts.ids import workflow_key
from handrail_notifier import bootstrap
from handrail_notifier.adapters.journal import PostgresJournal
from handrail_notifier.adapters.redis_view import RedisView
from handrail_notifier.application.projection import Projection
from handrail_runtime.ports import Record
from handrail_store import connect

WORKFLOWS, NODES, BATCH = 500, 5, 500
AT = "2026-11-20T09:00:00.000Z"


def events(trace_id: str) -> list[dict[str, Any]]:
    """The life of a diamond: 18 events."""
    common: dict[str, Any] = {"trace_id": trace_id, "at": AT}
    nodes = [
        {"id": f"n{i}", "agent": "simulator", "action": "noop", "depends_on": [], "state": "PENDING", "attempt": 0,
         "max_attempts": 3}
        for i in range(NODES)
    ]  # fmt: skip
    order = {"intent": "bench", "blueprint": None, "input": {"x": "y" * 160}, "labels": {}, "status": "RUNNING"}
    told: list[dict[str, Any]] = [
        {"event_type": "WORKFLOW_ACCEPTED", **common, **order},
        {
            "event_type": "WORKFLOW_PLANNED",
            **common,
            "nodes": nodes,
            "node_count": NODES,
            "edge_count": 0,
            "digest": "x",
        },
    ]
    for node in nodes:
        was = NodeStatus.PENDING
        for to in (NodeStatus.SCHEDULED, NodeStatus.IN_PROGRESS, NodeStatus.COMPLETE):
            done: dict[str, Any] = {"output": {"x": "y" * 160}} if to == NodeStatus.COMPLETE else {}
            move = {"node_id": node["id"], "from": was, "to": to, "attempt": 1}
            told.append({"event_type": "NODE_STATE_CHANGED", **common, **move, **done})
            was = to
    ending: dict[str, Any] = {"status": "COMPLETED", "output": {}, "reason": None}
    told.append({"event_type": "WORKFLOW_COMPLETED", **common, **ending})
    return [{**one, "seq": seq} for seq, one in enumerate(told, 1)]


def records() -> list[Record]:
    """All events, those of 20 workflows at a time interleaved."""
    lives = [events(f"p{n}") for n in range(WORKFLOWS)]
    found: list[Record] = []
    for begin in range(0, WORKFLOWS, 20):
        for step in zip(*lives[begin : begin + 20], strict=True):
            for one in step:
                key, value = workflow_key("bench", one["trace_id"]).encode(), json.dumps(one).encode()
                found.append(Record(topics.EVENTS, 0, len(found), key, value, [], 0))
    return found


async def measure(dsn: str, redis_url: str) -> dict[str, Any]:
    """One line."""
    pool, redis = await connect.pool(dsn, app="bench-projection", max_size=1), bootstrap.connect_redis(redis_url)
    journal = PostgresJournal(pool, "bench")
    projection = Projection(journal, RedisView(redis), journal, "bench")
    given = records()
    cpu, began = time.process_time(), time.perf_counter()
    for begin in range(0, len(given), BATCH):
        await projection.apply(given[begin : begin + BATCH])
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await redis.aclose()
    await pool.close()
    per_s = round(len(given) / took)
    return {
        "what": "projection",
        "events": len(given),
        "per_s": per_s,
        "cpu_us_per_event": round(cpu / len(given) * 1e6, 1),
    }

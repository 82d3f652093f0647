"""What a full database costs: `make grow WORKFLOWS=1000000`.

Measures diamonds, then loads finished workflows (13 events each, as a diamond has) and 10,000 open pauses by SQL, then
measures diamonds, lists, searches and the inbox again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.load import closed_loop, emit, row
from benchmarks.machine import versions
from benchmarks.targets import Target, stack
from benchmarks.workloads import Plan, dag

EVENTS = 13
CHUNK = 50_000
_WORKFLOWS = """
INSERT INTO handrail.workflow (trace_id, p, born, blueprint, intent, status, labels, counts, seq, created_at, updated_at, ended_at)
SELECT 'old-' || i, i % $3, to_char(at, 'IYYYIW')::int, (ARRAY['employee-onboarding', 'bank-transfer', 'refund-support'])[1 + i % 3],
       'Onboard employee number ' || i, (ARRAY['COMPLETED', 'COMPLETED', 'COMPLETED_WITH_SKIPS', 'COMPENSATED'])[1 + i % 4],
       jsonb_build_object('team', 't' || i % 200), '{"COMPLETE": 5}', 13, at, at, at
  FROM (SELECT i, handrail.clock() - make_interval(secs => (i % 1000000) * 2.0) AS at FROM generate_series($1::int, $2::int) AS i) x
"""
_JOURNAL = """
INSERT INTO handrail.journal (born, trace_id, seq, p, pseq, type, data, meta, at)
SELECT w.born, w.trace_id, s, w.p, -(substr(w.trace_id, 5)::bigint * 13 + s), 'NODE_STATE_CHANGED',
       json_build_object('event_type', 'NODE_STATE_CHANGED', 'trace_id', w.trace_id, 'seq', s, 'at', w.created_at, 'node_id', 'n' || s,
                         'from', 'SCHEDULED', 'to', 'COMPLETE', 'attempt', 1, 'worker', 'loader', 'output', json_build_object('note', repeat('x', 120))),
       NULL, w.created_at
  FROM generate_series($1::int, $2::int) AS i JOIN handrail.workflow w ON w.tenant = 'default' AND w.trace_id = 'old-' || i,
       generate_series(1, 13) AS s
"""
_PAUSES = """
WITH made AS (
  INSERT INTO handrail.workflow (trace_id, p, born, blueprint, intent, status, seq, created_at, updated_at, parked_reason)
  SELECT 'waits-' || i, 0, to_char(handrail.clock(), 'IYYYIW')::int, 'employee-onboarding', 'Waits for a person', 'PAUSED_HITL', 17,
         handrail.clock(), handrail.clock(), 'loaded by a benchmark' FROM generate_series(1, $1::int) AS i RETURNING trace_id
)
INSERT INTO handrail.pause (pause_id, trace_id, seq, node_id, kind, data, failed_agent, error_code, opened_at)
SELECT 'p' || trace_id, trace_id, 17, 'hardware_procurement', 'failure',
       json_build_object('event_type', 'WORKFLOW_PAUSED_HITL', 'trace_id', trace_id, 'pause_id', 'p' || trace_id, 'seq', 17,
                         'failed_agent', 'hardware_procurement_bot', 'failure_reason', 'All approved vendors returned 404.', 'kind', 'failure',
                         'node_id', 'hardware_procurement', 'at', handrail.clock(), 'attempts', '[]'::json, 'available_resolutions', '[]'::json,
                         'context_snapshot', '{}'::json, 'raw_evidence', NULL, 'transcript', NULL, 'proposed_action', NULL),
       'hardware_procurement_bot', 'SKU_UNAVAILABLE', handrail.clock() - make_interval(secs => length(trace_id)) FROM made
"""
LISTS = {
    "newest": "/workflows?limit=50",
    "by-status": "/workflows?limit=50&status=COMPENSATED",
    "by-blueprint": "/workflows?limit=50&blueprint=bank-transfer",
    "by-label": "/workflows?limit=50&label=team:t77",
    "search-intent": "/workflows?limit=50&q=number%20123",
    "search-rare": "/workflows?limit=50&q=number%20777777",
    "search-nothing": "/workflows?limit=50&q=no%20such%20words",
    "inbox": "/inbox?limit=50",
    "inbox-search": "/inbox?limit=50&q=vendors",
}


async def load(dsn: str, workflows: int, pauses: int, partitions: int) -> None:
    """Fills the database; progress on the way."""
    connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
    began = time.perf_counter()
    try:
        for week in range(60):  # where the loaded weeks would fall into the default partition
            day = await connection.fetchval("SELECT (handrail.clock() - make_interval(weeks => $1))::date", week)
            low, high = (int(f"{y}{w:02d}") for y, w, _ in (day.isocalendar(), day.isocalendar()))
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS handrail.journal_{low} PARTITION OF handrail.journal FOR VALUES FROM ({low}) TO ({high + 1})"
            )
        for low in range(1, workflows + 1, CHUNK):
            high = min(workflows, low + CHUNK - 1)
            await connection.execute(_WORKFLOWS, low, high, partitions)
            await connection.execute(_JOURNAL, low, high)
            print(f"# {high} of {workflows} workflows after {time.perf_counter() - began:.0f} s", flush=True)
        await connection.execute(_PAUSES, pauses)
        for table in ("workflow", "journal", "pause"):
            await connection.execute(f"ANALYZE handrail.{table}")
    finally:
        await connection.close()


async def lists(target: Target, seconds: float, when: str) -> list[dict[str, Any]]:
    """Each list and search, four at once."""
    rows: list[dict[str, Any]] = []
    for name, path in LISTS.items():

        async def one(_: int, path: str = path) -> None:
            await target.http.get(path)

        await closed_loop(one, 20, 4, 2.0)
        wall, lat = await closed_loop(one, 2000, 4, seconds)
        rows.append(row(f"handrail-{target.name}", f"list-{name}", 4, 0, wall, lat, when=when))
        emit(rows[-1])
    return rows


async def main() -> None:
    """Parses, measures before and after, prints the ratio."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    workflows = int(os.environ.get("WORKFLOWS", "1000000"))
    p.add_argument("--workflows", type=int, default=workflows, help="finished workflows to load")
    p.add_argument("--pauses", type=int, default=10_000, help="open pauses to load")
    p.add_argument("--seconds", type=float, default=8, help="of each run")
    a = p.parse_args()
    plan = Plan(levels=(100,), repeats=3, seconds=a.seconds, cap=20_000)
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="handrail-grow-") as folder:
        async with stack(Path(folder)) as target:
            print(json.dumps({"target": target.name, **versions(**target.engines)}), flush=True)
            for when in ("before", "after"):
                found[when] = [{**r, "when": when} async for r in dag(target, "diamond", plan)]
                for r in found[when]:
                    emit(r)
                if when == "before":
                    await load(target.dsn, a.workflows, a.pauses, 4)
            listed = await lists(target, a.seconds / 2, "after")
    before, after = (sorted(r["steps_s"] for r in found[w])[1] for w in ("before", "after"))
    cost = [sorted(r["cpu_ms_all"] for r in found[w])[1] for w in ("before", "after")]
    print(f"\nnodes/s {before:.0f} → {after:.0f} ({after / before:.2f}), CPU ms per node {cost[0]:.3f} → {cost[1]:.3f}")
    for r in listed:
        print(f"{r['wl']:22} p50 {r['p50_ms']:7.1f} ms  p99 {r['p99_ms']:7.1f} ms")


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())

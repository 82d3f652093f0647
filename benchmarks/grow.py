"""What a full database costs: `make grow WORKFLOWS=1000000`.

Measures diamonds, then loads finished workflows (13 events each, as a diamond has), 10,000 open pauses and a fifth as many
resolved ones as workflows by SQL; then measures diamonds again, every list and search, and what it means to those who work
meanwhile that a week of the journal is archived and dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.load import closed_loop, emit, percentile, row
from benchmarks.machine import versions
from benchmarks.soak import DEAD
from benchmarks.targets import ENDS, Target, stack
from benchmarks.workloads import Plan, dag, nodes, start
from handrail_store import archive

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
_COMMANDS = """
INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at, applied_pseq)
SELECT 'start-' || w.trace_id, w.trace_id, w.p, 'start', json_build_object('intent', w.intent, 'blueprint', w.blueprint), w.created_at, 1
  FROM generate_series($1::int, $2::int) AS i JOIN handrail.workflow w ON w.tenant = 'default' AND w.trace_id = 'old-' || i
"""
_RESOLVED = """
WITH made AS (
  INSERT INTO handrail.pause (pause_id, trace_id, seq, node_id, kind, data, state, failed_agent, error_code, opened_at, closed_at)
  SELECT 'c' || trace_id, trace_id, 9, 'hardware_procurement', (ARRAY['failure', 'gate'])[1 + i % 2],
         json_build_object('event_type', 'WORKFLOW_PAUSED_HITL', 'trace_id', trace_id, 'pause_id', 'c' || trace_id, 'seq', 9,
                           'failed_agent', 'bot-' || i % 9, 'failure_reason', 'Vendor ' || i || ' returned 404.', 'kind', 'failure',
                           'node_id', 'hardware_procurement', 'at', created_at, 'attempts', '[]'::json, 'available_resolutions', '[]'::json,
                           'context_snapshot', '{}'::json, 'raw_evidence', NULL, 'transcript', NULL, 'proposed_action', NULL),
         'decided', 'bot-' || i % 9, 'SKU_UNAVAILABLE', created_at, created_at + interval '5 min'
    FROM (SELECT 'old-' || i * 5 AS trace_id, i FROM generate_series(1, $1::int / 5) AS i) x JOIN handrail.workflow w USING (trace_id)
  RETURNING pause_id, trace_id, failed_agent, closed_at
), letters AS (
  INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, kind, agent, error_code, data, pause_id, state, at)
  SELECT 'd' || trace_id, trace_id, 'hardware_procurement', 'task', failed_agent, 'SKU_UNAVAILABLE', '{}', pause_id, 'closed', closed_at FROM made
)
INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at, applied)
SELECT pause_id, trace_id, 'decided', 'RES_SKIP', 'loader', 'api', closed_at, true FROM made
"""
LISTS = {
    "newest": "/workflows?limit=50",
    "by-status": "/workflows?limit=50&status=COMPENSATED",
    "by-two-statuses": "/workflows?limit=50&status=COMPENSATED,FAILED",
    "by-blueprint": "/workflows?limit=50&blueprint=bank-transfer",
    "by-no-blueprint": "/workflows?limit=50&blueprint=nowhere",
    "by-label": "/workflows?limit=50&label=team:t77",
    "search-intent": "/workflows?limit=50&q=number%20123",
    "search-rare": "/workflows?limit=50&q=number%20777777",
    "search-nothing": "/workflows?limit=50&q=no%20such%20words",
    "inbox": "/inbox?limit=50",
    "inbox-search": "/inbox?limit=50&q=vendors",
    "inbox-nothing": "/inbox?limit=50&q=no%20such%20words",
    "inbox-by-blueprint": "/inbox?limit=50&blueprint=employee-onboarding",
    "resolved": "/inbox?limit=50&state=resolved",
    "resolved-search": "/inbox?limit=50&state=resolved&q=vendor%2012345",
    "resolved-by-agent": "/inbox?limit=50&state=resolved&agent=bot-3",
    "dead-letters-open": "/dead-letters?limit=50&state=open",
    "dead-letters-agent": "/dead-letters?limit=50&agent=nobody",
    "state": "/workflows/old-4711/state",
    "explain": "/workflows/waits-1/explain",
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
            await connection.execute(_COMMANDS, low, high)
            print(f"# {high} of {workflows} workflows after {time.perf_counter() - began:.0f} s", flush=True)
        await connection.execute(_RESOLVED, workflows)
        await connection.execute(_PAUSES, pauses)
        for table in ("workflow", "journal", "pause", "command", "decision", "dead_letter"):
            await connection.execute(f"VACUUM (ANALYZE) handrail.{table}")
        await connection.execute("CHECKPOINT")  # what loading leaves to be done is not the price of what is loaded
        print(f"# vacuumed after {time.perf_counter() - began:.0f} s", flush=True)
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


async def archived(target: Target, folder: Path) -> dict[str, Any]:
    """The weeks that may go, written and dropped while workflows run, 20 at once."""
    body, done = start(nodes("diamond")), asyncio.Event()

    async def work() -> list[float]:
        latencies: list[float] = []
        while not done.is_set():
            at, trace_id = time.perf_counter(), uuid.uuid4().hex
            end = target.watch(trace_id, ENDS)
            await target.http.post("/workflows", body(trace_id))
            await end
            latencies.append(time.perf_counter() - at)
        return latencies

    working = [asyncio.create_task(work()) for _ in range(20)]
    try:
        command = [sys.executable, "-m", "handrail", "db", "archive", "--json", "--keep", f"{archive.LEAST_DAYS}d"]
        began = time.time()
        child = await asyncio.create_subprocess_exec(
            *command, "--to", str(folder), "--postgres", target.dsn, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        ended = time.time()
    finally:
        done.set()
    latencies = [one for task in working for one in await task]
    weeks = json.loads(output)["archived"]
    files = {entry.name: entry.stat() for entry in os.scandir(folder)}
    # Its manifest is the last that is written of a week; of the last week the rest is the drop.
    written = max(stat.st_mtime for name, stat in files.items() if name.endswith(".json"))
    return {
        "weeks": len(weeks),
        "workflows": sum(w["workflows"] for w in weeks),
        "rows": sum(w["rows"] for w in weeks),
        "mb": round(sum(stat.st_size for stat in files.values()) / 1e6, 1),
        "all_s": round(ended - began, 1),
        "drop_s": round(ended - written, 1),
        "diamonds": len(latencies),
        "p50_ms": round(percentile(latencies, 50) * 1e3, 1),
        "p99_ms": round(percentile(latencies, 99) * 1e3, 1),
        "worst_ms": round(max(latencies) * 1e3, 1),
    }


async def dead_rows(dsn: str) -> dict[str, list[int]]:
    """[live, dead] by table."""
    connection = await asyncpg.connect(dsn)
    try:
        return {r["relname"]: [r["live"], r["dead"]] for r in await connection.fetch(DEAD)}
    finally:
        await connection.close()


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
            listed = await lists(target, a.seconds / 4, "after")
            print(json.dumps({"archive": await archived(target, Path(folder) / "weeks")}), flush=True)
            print(json.dumps({"rows [live, dead]": await dead_rows(target.dsn)}), flush=True)
    before, after = (sorted(r["steps_s"] for r in found[w])[1] for w in ("before", "after"))
    cost = [sorted(r["cpu_ms_all"] for r in found[w])[1] for w in ("before", "after")]
    print(f"\nnodes/s {before:.0f} → {after:.0f} ({after / before:.2f}), CPU ms per node {cost[0]:.3f} → {cost[1]:.3f}")
    for r in listed:
        print(f"{r['wl']:22} p50 {r['p50_ms']:7.1f} ms  p99 {r['p99_ms']:7.1f} ms")


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())

"""A steady load for as long as you like: `make soak MINUTES=30`.

At least 1,000 node executions per second through the whole system (real Kafka, PostgreSQL, Redis projection, SSE
clients). Every ten seconds a JSON line: rate, latency, memory by process, age of events at an SSE client, dead tuples.
The last line is the verdict; the command fails when a promise is broken: the rate, flat memory after minute 5 (±5 %), p99 of
event → SSE under 500 ms, dead tuples bounded.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.fanout import Client
from benchmarks.load import emit, percentile
from benchmarks.machine import Cpu, rss_mb
from benchmarks.targets import ENDS, Target, embedded, stack
from benchmarks.workloads import nodes, start

WINDOW_S = 10.0
SETTLED_S = 300.0
SSE_MS = 500.0
MEMORY_MAY_GROW = 1.05
DEAD_PER_LIVE = 2.0
"""Dead rows per live one, at most, in any table of more than 10,000 rows."""
DEAD = (
    "SELECT relname, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables"
    " WHERE schemaname IN ('handrail', 'agents') AND n_live_tup + n_dead_tup > 10000"
)


class Load:
    """Starts `rate` diamonds per second, `most` at once; every hundredth is watched over SSE."""

    def __init__(self, target: Target, rate: float, most: int) -> None:
        self._target, self._rate, self._most = target, rate, most
        self._body = start(nodes("diamond"))
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self.failed: list[str] = []

    async def run(self, seconds: float) -> None:
        """Returns when the time is over and what was started has ended."""
        began, number = time.perf_counter(), iter(range(10**9))

        async def worker() -> None:
            for i in number:
                wait = began + i / self._rate - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                if time.perf_counter() - began > seconds:
                    return
                await self._one(i)

        async with asyncio.TaskGroup() as workers:
            for _ in range(self._most):
                workers.create_task(worker())

    async def _one(self, i: int) -> None:
        trace_id, at = uuid.uuid4().hex, time.perf_counter()
        end = self._target.watch(trace_id, ENDS)
        try:
            await self._target.http.post("/workflows", self._body(trace_id))
            if i % 100 == 0:
                await self._watched(trace_id)
            async with asyncio.timeout(60):
                kind = await end
            if kind != "WORKFLOW_COMPLETED":
                self.failed.append(f"{trace_id} ended with {kind}")
        except (OSError, RuntimeError, TimeoutError) as e:
            self.failed.append(f"{trace_id}: {type(e).__name__} {e}")
        self.latencies.append(time.perf_counter() - at)

    async def _watched(self, trace_id: str) -> None:
        t, loop = self._target, asyncio.get_running_loop()
        request = f"GET /workflows/{trace_id}/events HTTP/1.1\r\nhost: {t.host}:{t.stream_port}\r\n\r\n".encode()
        ended: asyncio.Future[None] = loop.create_future()
        client = Client(request, ended, self.lags)
        await loop.create_connection(lambda: client, t.host, t.stream_port)
        try:
            async with asyncio.timeout(60):
                await ended
        finally:
            client.transport.close()


async def windows(target: Target, load: Load, busy: asyncio.Task[None]) -> list[dict[str, Any]]:
    """A line every ten seconds until the load ends."""
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    connection = await asyncpg.connect(target.dsn)
    try:
        while not busy.done():
            seen, lagged = len(load.latencies), len(load.lags)
            with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
                await asyncio.wait({busy}, timeout=WINDOW_S)
            lat, lags = load.latencies[seen:], load.lags[lagged:]
            dead = {r["relname"]: [r["live"], r["dead"]] for r in await connection.fetch(DEAD)}
            found = {
                "at_s": round(time.perf_counter() - began),
                "nodes_s": round(len(lat) * 5 / cpu.wall_s, 1),
                "p50_ms": round(percentile(lat, 50) * 1e3, 1),
                "p99_ms": round(percentile(lat, 99) * 1e3, 1),
                "sse_p99_ms": round(percentile(lags, 99) * 1e3, 1),
                "rss_mb": rss_mb(target.roots),
                "dead": dead,
                "failed": len(load.failed),
                **cpu.per(len(lat) * 5),
            }
            rows.append(found)
            emit(found)
    finally:
        await connection.close()
    return rows[:-1] if len(rows) > 1 else rows  # the last window is cut short


def verdict(rows: Sequence[dict[str, Any]], failed: Sequence[str], wanted: float) -> dict[str, Any]:
    """What was promised, and whether it held. Memory is judged of our processes only: a database is meant to fill its cache."""
    settled = [r for r in rows if r["at_s"] > SETTLED_S] or list(rows[len(rows) // 2 :])
    ours = [name for name in rows[0]["rss_mb"] if name not in ("kafka", "postgres", "valkey")]
    growth: dict[str, float] = {}
    for name in ours:
        each = [r["rss_mb"].get(name, 0.0) for r in settled]
        third = max(1, len(each) // 3)
        growth[name] = round(sum(each[-third:]) / max(0.1, sum(each[:third])), 3)
    rate = sum(r["nodes_s"] for r in rows) / len(rows)
    lag = percentile([r["sse_p99_ms"] for r in settled if r["sse_p99_ms"] == r["sse_p99_ms"]], 50)
    dead = max((d / max(1, live) for live, d in settled[-1]["dead"].values()), default=0.0)
    held = {
        "nodes_s": rate >= wanted * 0.99,
        "memory": all(g <= MEMORY_MAY_GROW for g in growth.values()),
        "sse": lag < SSE_MS,
        "dead_tuples": dead <= DEAD_PER_LIVE,
        "nothing_failed": not failed,
    }
    figures = {"nodes_s": round(rate, 1), "memory_growth": growth, "sse_p99_ms": lag, "dead_per_live": round(dead, 2)}
    return {"held": held, **figures, "failures": list(failed[:3])}


async def main() -> int:
    """Parses, runs, prints; 1 when a promise did not hold."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "5")), help="how long")
    p.add_argument("--nodes", type=float, default=1000, help="node executions per second")
    p.add_argument("--most", type=int, default=300, help="workflows at once at most")
    p.add_argument("--on", default="stack", choices=["stack", "embedded"], help="the system")
    a = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="handrail-soak-") as folder:
        made = stack(Path(folder)) if a.on == "stack" else embedded(Path(folder))
        async with made as target:
            load = Load(target, a.nodes / 5, a.most)
            busy = asyncio.create_task(load.run(a.minutes * 60))
            rows = await windows(target, load, busy)
            await busy
    found = verdict(rows, load.failed, a.nodes)
    print(json.dumps({"verdict": found}))
    return 0 if all(found["held"].values()) else 1


if __name__ == "__main__":
    import uvloop

    sys.exit(uvloop.run(main()))

"""A closed loop at a fixed concurrency, and what is kept of a run: one JSON line. Nothing but the standard library, so
that the peers' own environments can run it."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

PAYLOAD = {
    "workflow": "bench",
    "customer": "c-000123456789",
    "amount": 1299,
    "currency": "EUR",
    "items": [{"sku": "A-100", "qty": 2}, {"sku": "B-200", "qty": 1}],
    "note": "x" * 52,
    "n": 0,
}
"""What each step takes and gives: about 200 bytes of JSON."""
STEPS = {"diamond": 5, "chain10": 10, "resume": 2}
REPEAT_S = 6.0

One = Callable[[int], Awaitable[None]]


async def closed_loop(one: One, most: int, concurrency: int, seconds: float) -> tuple[float, list[float]]:
    """Calls `one` up to `most` times, so many at once; none begins after `seconds`. Answers (wall s, latencies s); the
    first that fails ends the run with its exception."""
    latencies: list[float] = []
    numbers = iter(range(most))
    began = time.perf_counter()

    async def worker() -> None:
        for i in numbers:
            at = time.perf_counter()
            if at - began > seconds:
                return
            await one(i)
            latencies.append(time.perf_counter() - at)

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())
    return time.perf_counter() - began, latencies


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] if ordered else float("nan")


def row(
    peer: str, workload: str, concurrency: int, rep: int, wall: float, latencies: Sequence[float], **more: Any
) -> dict[str, Any]:
    """One run as it is kept. `wf_s` are calls per second; `steps_s` where a call is a workflow of known size."""
    n = len(latencies)
    found: dict[str, Any] = {
        "t": time.strftime("%H:%M:%S"),
        "peer": peer,
        "wl": workload,
        "conc": concurrency,
        "rep": rep,
        "n": n,
        "errs": 0,
        "wall": round(wall, 3),
        "wf_s": round(n / wall, 1),
        "p50_ms": round(percentile(latencies, 50) * 1e3, 2),
        "p99_ms": round(percentile(latencies, 99) * 1e3, 2),
        "load1": round(os.getloadavg()[0], 2),
    }
    if workload in STEPS:
        found["steps_s"] = round(n * STEPS[workload] / wall, 1)
    return {**found, **more}


def emit(found: Mapping[str, Any]) -> None:
    """Prints it, and adds it to the file that BENCH_RESULTS names."""
    line = json.dumps(found)
    print(line, flush=True)
    if path := os.environ.get("BENCH_RESULTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def median(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """The median of a figure over repeats."""
    return statistics.median(float(r[name]) for r in rows)

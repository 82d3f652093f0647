"""Diamonds and chains: `python -m benchmarks.run`, or `make bench`.

Closed loop at a fixed concurrency, through the public API: POST /workflows, then wait for the terminal event. On
the stack the driver learns of ends from the topic `handrail.events`, as a consumer of ours would (Redis projection and
SSE notifier run beside it); on embedded, from each workflow's own SSE stream. Every line is JSON; medians at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.http import Connection, until_end
from benchmarks.machine import Cpu, rss_mb, versions
from handrail_contracts import topics
from handrail_contracts.events import TERMINAL_EVENTS
from handrail_runtime.bus_kafka import KafkaBus

PAYLOAD = {
    "workflow": "bench",
    "customer": "c-000123456789",
    "amount": 1299,
    "currency": "EUR",
    "items": [{"sku": "A-100", "qty": 2}, {"sku": "B-200", "qty": 1}],
    "note": "x" * 52,
    "n": 0,
}
STEPS = {"diamond": 5, "chain10": 10}


def plan(shape: str, effect: str) -> dict[str, Any]:
    """The workload's DAG of no-op nodes, 200 bytes in and out."""

    def node(id_: str, *after: str) -> dict[str, Any]:
        source: Any = {"$from": f"nodes.{after[0]}.output"} if after else {"$from": "input"}
        one = {
            "id": id_,
            "agent": "simulator",
            "action": "noop",
            "depends_on": list(after),
            "inputs": {"value": source},
        }
        return one if effect == "pure" else {**one, "effect_class": effect, "compensation": "none"}

    if shape == "diamond":
        return {"nodes": [node("a"), node("b", "a"), node("c", "a"), node("d", "a"), node("e", "b", "c", "d")]}
    return {"nodes": [node("n0"), *(node(f"n{i}", f"n{i - 1}") for i in range(1, 10))]}


@dataclass(slots=True)
class Target:
    """A running system: where it is, whose processes it is made of, how to learn that a workflow ended."""

    name: str
    host: str
    port: int
    roots: dict[str, int]
    ended: Callable[[str], Awaitable[str]]
    engines: dict[str, str]


class Ends:
    """Terminal events from Kafka, as they come."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._bus = KafkaBus(bootstrap, client_id="bench")
        self._partitions = partitions
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads from the end."""
        self._reader = await self._bus.reader()
        self._reader.assign({(topics.EVENTS, p): None for p in range(self._partitions)})
        await self._reader.read(1, 1.0)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        types = {f"dev.handrail.{t.lower()}.v1".encode(): t for t in TERMINAL_EVENTS}
        while True:
            for r in await self._reader.read(2000, 1.0):
                headers = dict(r.headers)
                kind = types.get(headers["ce_type"])
                if kind is not None:
                    waiting = self._waiting.pop(headers["ce_subject"].decode(), None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(kind)

    def expect(self, trace_id: str) -> asyncio.Future[str]:
        """Resolves with the type of its terminal event."""
        return self._waiting.setdefault(trace_id, asyncio.get_running_loop().create_future())

    async def close(self) -> None:
        """Lets go."""
        if self._task is not None:
            self._task.cancel()
        await self._bus.close()


@asynccontextmanager
async def stack(data: Path, partitions: int, orchestrators: int, agents: int) -> AsyncIterator[Target]:
    """The services as processes on real Kafka."""
    from handrail.engines.kafka_jars import VERSION
    from handrail.stack import Options, Stack

    port = int(os.environ.get("BENCH_PORT", "18080"))
    environment = {"HANDRAIL_LOG_LEVEL": "warning", "HANDRAIL_AGENTS__DEMO_DELAY_MS": "0"}
    system = Stack(
        Options(
            data, port=port, partitions=partitions, orchestrators=orchestrators, agents=agents, environment=environment
        )
    )
    await system.start()
    ends = Ends(system.kafka.bootstrap_servers, partitions)
    try:
        await ends.start()
        roots = {n: p.pid for n, p in system.parts.items() if p.pid is not None}
        roots |= {"kafka": system.kafka.pid, "postgres": system.postgres.pid, "valkey": system.valkey.pid}
        yield Target(
            "stack",
            "127.0.0.1",
            port,
            roots,
            lambda t: ends.expect(t),
            {"kafka": VERSION, "postgres": "18", "valkey": "9.1"},
        )
    finally:
        await ends.close()
        await system.stop()


@asynccontextmanager
async def embedded(data: Path) -> AsyncIterator[Target]:
    """`handrail up` in a process of its own."""
    port = int(os.environ.get("BENCH_PORT", "18080"))
    command = [sys.executable, "-m", "handrail", "up", "--data", str(data), "--port", str(port), "--delay-ms", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield Target(
            "embedded",
            "127.0.0.1",
            port,
            {"handrail": process.pid},
            lambda t: until_end("127.0.0.1", port, t),
            {"bus": "memory", "postgres": "18"},
        )
    finally:
        process.terminate()
        await process.wait()


async def closed_loop(
    target: Target, body: Callable[[str], bytes], most: int, concurrency: int, seconds: float
) -> tuple[float, list[float]]:
    """Runs up to `most` workflows, so many at once, for so long. Answers (wall s, latencies s). Raises on any that failed."""
    latencies: list[float] = []
    numbers = iter(range(most))
    began = time.perf_counter()

    async def worker() -> None:
        connection = Connection(target.host, target.port)
        try:
            for _ in numbers:
                at = time.perf_counter()
                if at - began > seconds:
                    return
                trace_id = uuid.uuid4().hex
                end = target.ended(trace_id) if target.name == "stack" else None
                await connection.post("/workflows", body(trace_id))
                kind = await asyncio.wait_for(end if end is not None else target.ended(trace_id), 60)
                if kind != "WORKFLOW_COMPLETED":
                    raise RuntimeError(f"{trace_id} ended with {kind}")
                latencies.append(time.perf_counter() - at)
        finally:
            connection.close()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.perf_counter() - began, latencies


def percentile(values: list[float], q: float) -> float:
    """The q-th percentile, nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))]


async def measure(target: Target, a: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of one target."""
    rows: list[dict[str, Any]] = []
    print(json.dumps({"target": target.name, **versions(**target.engines)}), flush=True)
    roots = {**target.roots, "driver": os.getpid()}
    for effect in a.effects.split(","):
        for shape in a.shapes.split(","):
            nodes = json.dumps(plan(shape, effect)["nodes"])
            payload = json.dumps(PAYLOAD)

            def body(trace_id: str, nodes: str = nodes, payload: str = payload) -> bytes:
                return f'{{"trace_id":"{trace_id}","input":{payload},"plan":{{"nodes":{nodes}}}}}'.encode()

            await closed_loop(target, body, 200, 20, 10)
            for concurrency in map(int, a.levels.split(",")):
                for repeat in range(a.repeats):
                    with Cpu(roots) as cpu:
                        wall, lat = await closed_loop(
                            target, body, a.cap if concurrency > 1 else min(a.cap, 200), concurrency, a.seconds
                        )
                    steps = len(lat) * STEPS[shape]
                    row = {
                        "peer": f"handrail-{target.name}",
                        "wl": shape,
                        "effect": effect,
                        "conc": concurrency,
                        "rep": repeat,
                        "n": len(lat),
                        "errs": 0,
                        "wall": round(wall, 3),
                        "wf_s": round(len(lat) / wall, 1),
                        "steps_s": round(steps / wall, 1),
                        "p50_ms": round(percentile(lat, 50) * 1e3, 2),
                        "p99_ms": round(percentile(lat, 99) * 1e3, 2),
                        "cpu_ms_per_node": {k: round(v / steps * 1e3, 4) for k, v in cpu.by_process.items()},
                        "cores": round(cpu.ours_s / wall, 2),
                        "others": cpu.others_cores,
                        "load1": round(os.getloadavg()[0], 2),
                    }
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    print(json.dumps({"target": target.name, "rss_mb": rss_mb(target.roots)}), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the repeats."""
    lines = [
        f"{'target':22} {'workload':9} {'effect':11} {'at':>4} {'wf/s':>8} {'nodes/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'cpu ms/node':>12}"
    ]
    keys = list(dict.fromkeys((r["peer"], r["wl"], r["effect"], r["conc"]) for r in rows))
    for key in keys:
        same = [r for r in rows if (r["peer"], r["wl"], r["effect"], r["conc"]) == key]

        def mid(name: str, same: list[dict[str, Any]] = same) -> float:
            return statistics.median(r[name] for r in same)

        cpu = statistics.median(sum(v for k, v in r["cpu_ms_per_node"].items() if k != "driver") for r in same)
        lines.append(
            f"{key[0]:22} {key[1]:9} {key[2]:11} {key[3]:4} {mid('wf_s'):8.1f} {mid('steps_s'):9.0f} {mid('p50_ms'):8.1f} {mid('p99_ms'):8.1f} {cpu:12.3f}"
        )
    return "\n".join(lines)


async def main() -> None:
    """Parses, measures, prints."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--on", default="embedded,stack", help="targets, in this order")
    p.add_argument("--shapes", default="diamond,chain10", help="workloads")
    p.add_argument("--effects", default="pure,idempotent", help="effect classes of the nodes")
    p.add_argument("--levels", default="1,20,100", help="concurrencies")
    p.add_argument("--repeats", type=int, default=3, help="runs of each")
    p.add_argument("--seconds", type=float, default=10, help="a run begins no more workflows after this")
    p.add_argument("--cap", type=int, default=2000, help="workflows of a run at most")
    p.add_argument("--partitions", type=int, default=24, help="P of the stack")
    p.add_argument("--orchestrators", type=int, default=1, help="processes of the stack")
    p.add_argument("--agents", type=int, default=1, help="processes of the stack")
    a = p.parse_args()
    rows: list[dict[str, Any]] = []
    for name in a.on.split(","):
        with tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
            made = (
                embedded(Path(folder))
                if name == "embedded"
                else stack(Path(folder), a.partitions, a.orchestrators, a.agents)
            )
            async with made as target:
                rows.extend(await measure(target, a))
    print("\nmedians\n" + table(rows))


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())

"""The live view beside nginx + nchan and a sse-starlette loop: `make bench-sse`.

One run, one machine, one load generator (load.c, built here): readers by epoll, the time of publishing inside of each
event. Then what only Handrail is asked for: a herd that comes back with positions, events per second into Redis, and
GET state at 500/s. Every measurement is a line of JSON; a table at the end. What a machine lacks is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from benchmarks.sse import nchan, projection, state
from benchmarks.sse.server import BORN, TRACE_ID, event
from handrail.engines.postgres import LocalPostgres
from handrail.engines.valkey import LocalValkey
from handrail_contracts.ids import partition
from handrail_contracts.live import view_key
from handrail_notifier.bootstrap import connect_redis
from handrail_store import connect, migrate

HERE = Path(__file__).parent
EVENTS = f"/workflows/{TRACE_ID}/events"


@dataclass
class Server:
    """What is under load."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    stream: str

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children."""
        root = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in (root, *root.children(recursive=True)))

    def cpu_s(self) -> float:
        """CPU time so far."""
        root = psutil.Process(self.process.pid)
        return sum(sum(p.cpu_times()[:2]) for p in (root, *root.children(recursive=True)))


def built(folder: Path) -> Path:
    """The load generator."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit(
            "Expected a C compiler for the load generator, but there is none. apt-get install gcc libc6-dev"
        )
    subprocess.run([compiler, "-O2", "-o", str(folder / "load"), str(HERE / "load.c"), "-lpthread"], check=True)
    return folder / "load"


async def load(binary: Path, server: Server, *args: str) -> dict[str, Any]:
    """One measurement."""
    before, began = server.cpu_s(), time.perf_counter()
    idle = server.rss_bytes()
    process = await asyncio.create_subprocess_exec(
        str(binary), "127.0.0.1", str(server.port), server.stream, *args, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    peak = idle
    reading = asyncio.create_task(process.stdout.read())
    while not reading.done():
        peak = max(peak, server.rss_bytes())
        await asyncio.wait({reading}, timeout=0.25)
    if await process.wait():
        raise SystemExit(f"{server.name}: the load generator ended with {process.returncode}")
    line = json.loads(await reading)
    cpu_s = server.cpu_s() - before
    cpu = cpu_s / (time.perf_counter() - began)
    each = round(cpu_s / max(1, line["deliveries"]) * 1e6, 2)
    per_client = round((peak - idle) / line["clients"] / 1024, 1)
    return {
        "server": server.name,
        **line,
        "server_cores": round(cpu, 2),
        "cpu_us_each": each,
        "rss_kb_per_client": per_client,
    }


def python(*args: str) -> subprocess.Popen[bytes]:
    """A process of ours that lives until it is killed."""
    return subprocess.Popen([sys.executable, "-m", *args], stdout=subprocess.DEVNULL)


async def answers(port: int) -> None:
    """Waits until somebody listens."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit(f"Expected a server on port {port}, but none came up.")


@asynccontextmanager
async def serving(name: str, process: subprocess.Popen[bytes], port: int, stream: str) -> AsyncIterator[Server]:
    """A server for the length of a block."""
    try:
        await answers(port)
        await asyncio.sleep(1.0)
        yield Server(name, process, port, stream)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def accepted(dsn: str, events: int) -> None:
    """The workflow under load, with so many events in its journal."""
    await migrate.upgrade(dsn, 4)
    pool = await connect.pool(dsn, app="bench-sse-setup", max_size=1)
    first = (
        b'{"event_type":"WORKFLOW_ACCEPTED","trace_id":"w","seq":1,"at":"2026-11-20T09:00:00.000Z","intent":"bench",'
    )
    first += b'"blueprint":null,"input":{},"labels":{},"status":"RUNNING"}'
    rows = [("WORKFLOW_ACCEPTED", first)]
    rows += [("RESULT_IGNORED", event(n, b'{"t":0,"n":%d,"pad":"%s"}' % (n, b"x" * 160))) for n in range(2, events + 1)]
    p = partition("default", TRACE_ID, 4)
    await pool.execute(
        "INSERT INTO handrail.workflow (tenant, trace_id, p, born, status, created_at, updated_at)"
        " VALUES ('default', $1, $2, $3, 'RUNNING', now(), now())",
        TRACE_ID, p, BORN,
    )  # fmt: skip
    await pool.executemany(
        "INSERT INTO handrail.journal (born, tenant, trace_id, seq, p, pseq, type, data, at)"
        " VALUES ($1, 'default', $2, $3, $4, $5, $6, ($7::text)::json, now())",
        [(BORN, TRACE_ID, n, p, n, kind, data.decode()) for n, (kind, data) in enumerate(rows, 1)],
    )
    await pool.close()


def stats(port: int) -> dict[str, Any]:
    """What the bench's notifier counted."""
    with urlopen(f"http://127.0.0.1:{port}/stats", timeout=5) as answer:
        return json.load(answer)


async def emptied(redis_url: str) -> dict[str, Any]:
    """How soon a watched workflow is back in Redis after everything there was lost."""
    redis = connect_redis(redis_url)
    await redis.flushall()
    began = time.perf_counter()
    while not await redis.exists(view_key("default", TRACE_ID)):  # noqa: ASYNC110  another process writes it
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    await redis.aclose()
    return {"what": "Redis emptied", "watched_back_ms": round(took * 1000)}


async def measure(chosen: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Everything, in order; prints as it goes."""
    rows: list[dict[str, Any]] = []

    def say(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps({**row, "load1": round(os.getloadavg()[0], 2)}), flush=True)

    binary = built(folder)
    postgres, valkey = await LocalPostgres.start(folder / "pg"), await LocalValkey.start(folder / "valkey")
    try:
        await accepted(postgres.dsn, chosen.journal)
        ladder = [tuple(step.split(":")) for step in chosen.ladder.split(",") if step]
        for clients, rate in ladder:
            port = chosen.port
            options = ("--dsn", postgres.dsn, "--redis", valkey.url)
            ours = python("benchmarks.sse.server", "handrail", str(port), *options)
            async with serving("handrail", ours, port, f"{EVENTS}?after={chosen.journal}") as server:
                say(await load(binary, server, "/pub", clients, rate, str(chosen.seconds)))
            if chosen.only != "handrail":
                theirs = python("benchmarks.sse.server", "loop", str(port + 1))
                async with serving("sse-starlette loop", theirs, port + 1, "/sse") as server:
                    say(await load(binary, server, "/pub", clients, rate, str(chosen.seconds)))
                peer = nchan.start(folder, port + 2)
                if isinstance(peer, str):
                    print(json.dumps({"server": "nginx + nchan", "not run": peer}), flush=True)
                else:
                    async with serving("nginx + nchan", peer, port + 2, "/sse") as server:
                        say(await load(binary, server, "/pub", clients, rate, str(chosen.seconds)))
        ours = python(
            "benchmarks.sse.server", "handrail", str(chosen.port), "--dsn", postgres.dsn, "--redis", valkey.url
        )
        async with serving("handrail, herd", ours, chosen.port, EVENTS) as server:
            before = stats(server.port)["postgres"]
            row = await load(binary, server, "-", str(chosen.herd), str(chosen.journal - 400), str(chosen.journal))
            # Their events were published long ago: only how soon the last client has the last one is of interest.
            row = {name: value for name, value in row.items() if not name.endswith("_ms") and name != "published"}
            say({**row, "postgres_queries": stats(server.port)["postgres"] - before})
            say(await emptied(valkey.url))
        say(await projection.measure(postgres.dsn, valkey.url))
        say(await state.measure(folder / "data"))
    finally:
        await valkey.stop()
        await postgres.stop()
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The fan-out as a table in Markdown."""
    names = (
        "server",
        "clients",
        "rate",
        "per_s",
        "p50_ms",
        "p99_ms",
        "holes",
        "cpu_us_each",
        "server_cores",
        "rss_kb_per_client",
    )
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows if "rate" in row]
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ladder", default="1000:60,1000:120,5000:10,5000:20", help="clients:events per second, …")
    parser.add_argument("--seconds", type=float, default=6.0, help="of publishing per step")
    parser.add_argument("--journal", type=int, default=900, help="events that the workflow has already")
    parser.add_argument("--herd", type=int, default=2000, help="clients that come back at once")
    parser.add_argument("--port", type=int, default=26100)
    parser.add_argument("--only", choices=["handrail", "all"], default="all")
    chosen = parser.parse_args()
    print(json.dumps({"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}))
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as folder:
        rows = asyncio.run(measure(chosen, Path(folder)))
    print("\n" + table(rows))


if __name__ == "__main__":
    main()

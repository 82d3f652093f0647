"""Restate: its server (RocksDB, WAL fsync on, its defaults) and the Python service, driven through its HTTP ingress."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.http import Connection, Connections, Refused
from benchmarks.load import PAYLOAD, closed_loop, row
from benchmarks.machine import Cpu
from benchmarks.peers.environment import ROOT, python_of, restate_server
from benchmarks.workloads import Plan, Rows

INGRESS, ADMIN, NODE, SERVICE = 0, 1, 2, 3
_CONFIG = """
node-name = "bench"
base-dir = "{base}"
bind-address = "127.0.0.1:{node}"
advertised-address = "http://127.0.0.1:{node}"
listen-mode = "tcp"
disable-telemetry = true
log-filter = "warn"
[admin]
bind-address = "127.0.0.1:{admin}"
[ingress]
bind-address = "127.0.0.1:{ingress}"
"""


@asynccontextmanager
async def running(port: int) -> AsyncGenerator[tuple[Connections, dict[str, int]]]:
    """A fresh server with the service registered; answers its ingress, and its processes."""
    program, python = await restate_server(), await python_of("restate")
    with tempfile.TemporaryDirectory(prefix="handrail-restate-") as folder:
        config = Path(folder) / "restate.toml"
        ports = {"ingress": port + INGRESS, "admin": port + ADMIN, "node": port + NODE}
        config.write_text(_CONFIG.format(base=folder, **ports))
        quiet: dict[str, Any] = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
        server = await asyncio.create_subprocess_exec(str(program), "-c", str(config), "--no-logo", **quiet)
        serve = ("-m", "hypercorn", "-w", "1", "-k", "uvloop", "--bind", f"127.0.0.1:{port + SERVICE}")
        environment = {**os.environ, "RESTATE_LOGGING": "ERROR", "PYTHONPATH": str(ROOT / "benchmarks" / "peers")}
        service = await asyncio.create_subprocess_exec(
            str(python), *serve, "--log-level", "warning", "restate_service:app", env=environment, **quiet
        )
        http = Connections("127.0.0.1", port + INGRESS)
        try:
            await _register(port)
            yield http, {"restate": server.pid, "service": service.pid}
        finally:
            http.close()
            for process in (service, server):
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    process.kill()
                    await process.wait()


async def _register(port: int) -> None:
    body = json.dumps({"uri": f"http://127.0.0.1:{port + SERVICE}"}).encode()
    for attempt in range(120):
        admin = Connection("127.0.0.1", port + ADMIN)
        try:
            await admin.post("/deployments", body)
            return
        except (OSError, Refused, asyncio.IncompleteReadError):
            if attempt == 119:
                raise
            await asyncio.sleep(0.5)
        finally:
            admin.close()


async def measure(workloads: tuple[str, ...], p: Plan, port: int, rep: int) -> Rows:
    """One repeat of each workload and level."""
    payload = json.dumps(PAYLOAD).encode()
    async with running(port) as (http, roots):
        roots = {**roots, "driver": os.getpid()}
        for name in (w for w in workloads if w != "resume"):

            async def one(_: int, name: str = name) -> None:
                await http.post(f"/Bench/{name}", payload)

            await closed_loop(one, 20_000, 50, p.warm_s)
            for concurrency in p.levels:
                with Cpu(roots) as cpu:
                    wall, lat = await closed_loop(one, p.cap if concurrency > 1 else 300, concurrency, p.seconds)
                steps = len(lat) * (5 if name == "diamond" else 10)
                yield row("restate", name, concurrency, rep, wall, lat, effect="pure", **cpu.per(steps))
        if "resume" in workloads:
            for concurrency in (c for c in p.levels if c <= 20):
                yield await _resume(http, roots, payload, concurrency, rep)


async def _resume(
    http: Connections, roots: dict[str, int], payload: bytes, concurrency: int, rep: int, count: int = 200
) -> dict[str, Any]:
    ids = [uuid.uuid4().hex for _ in range(count)]

    async def pause(i: int) -> None:
        await http.post(f"/Paused/{ids[i]}/run/send", payload)

    async def go_on(i: int) -> None:
        await http.post(f"/Paused/{ids[i]}/decide", b"true")
        await http.get(f"/restate/workflow/Paused/{ids[i]}/attach")

    await closed_loop(pause, count, 20, 60)
    await asyncio.sleep(3.0)  # its answer to `send` comes before the workflow has reached its promise
    with Cpu(roots) as cpu:
        wall, lat = await closed_loop(go_on, count, concurrency, 120)
    return row("restate", "resume", concurrency, rep, wall, lat, **cpu.per(len(lat)))

"""GET state at a fixed rate, on a whole Handrail in one process of its own: an open loop, so that waiting counts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

RATE, SECONDS, PORT = 500, 6.0, 26150
CONNECTIONS = 20
NODES = [
    {"id": f"n{i}", "agent": "simulator", "action": "noop", "depends_on": [f"n{i - 1}"] if i else [], "inputs": {}}
    for i in range(5)
]


class Reader:
    """A kept-alive connection."""

    async def get(self, path: bytes) -> None:
        """One GET, read to its end."""
        self.writer.write(b"GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % path)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head[:100]
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(length)

    async def open(self, port: int) -> Reader:
        """Connects."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self


async def ready(url: str) -> None:
    """Waits until it is."""
    async with httpx2.AsyncClient() as http:
        for _ in range(600):
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise SystemExit(f"Expected {url} to be ready within a minute, but it is not.")


async def measure(data: Path) -> dict[str, Any]:
    """One line."""
    url = f"http://127.0.0.1:{PORT}"
    command = [sys.executable, "-m", "handrail", "up", "--data", str(data), "--port", str(PORT)]
    quiet = {**os.environ, "HANDRAIL_LOG_LEVEL": "error"}
    up = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, env=quiet)
    try:
        await ready(url)
        async with httpx2.AsyncClient() as http:
            trace_id = (await http.post(f"{url}/workflows", json={"plan": {"nodes": NODES}})).json()["trace_id"]
            async with http.stream("GET", f"{url}/workflows/{trace_id}/events") as response:
                await response.aread()
        return await loop(f"/workflows/{trace_id}/state".encode())
    finally:
        up.terminate()
        await asyncio.wait_for(up.wait(), 30)


async def loop(path: bytes) -> dict[str, Any]:
    """500 a second, each timed from when it was due."""
    free: asyncio.Queue[Reader] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Reader().open(PORT))
    took: list[float] = []

    async def one(due: float) -> None:
        reader = await free.get()
        await reader.get(path)
        took.append(time.perf_counter() - due)
        free.put_nowait(reader)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for n in range(int(RATE * SECONDS)):
            due = began + n / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(due))
    took.sort()
    p50, p99 = (round(took[int(len(took) * p)] * 1000, 2) for p in (0.5, 0.99))
    return {"what": "GET state", "asked_per_s": RATE, "answered": len(took), "p50_ms": p50, "p99_ms": p99}

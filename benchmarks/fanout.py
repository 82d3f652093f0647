"""W4: one workflow watched by many SSE clients, every event to every client.

The workflow is a number of lanes of tasks that each take a while, so that events come at a steady rate; deliveries per
second are what the clients received. One client in fifty reads the event's own time: how long it took from the journal
to the client.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from datetime import datetime
from typing import Any, cast

from benchmarks.load import percentile, row
from benchmarks.machine import Cpu, rss_mb
from benchmarks.targets import Target
from benchmarks.workloads import Rows, start

TASK_MS = 200
SAMPLED = 50


class Client(asyncio.Protocol):
    """Counts frames; a sampled one also measures their age."""

    def __init__(self, request: bytes, ended: asyncio.Future[None], lags: list[float] | None) -> None:
        self._request, self._ended, self._lags = request, ended, lags
        self._tail = b""
        self.frames = 0
        self.opened = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.opened = True
        self.frames += data.count(b"\nevent: NODE_STATE_CHANGED\n")
        if self._lags is not None:
            self._age(data)
        if b"event: end" in data and not self._ended.done():
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(f"a stream was cut: {exc}"))

    def _age(self, data: bytes) -> None:
        assert self._lags is not None
        now = time.time()
        at = data.find(b'"at":"')
        while at >= 0:
            text = data[at + 6 : at + 30]
            if len(text) == 24 and text.endswith(b"Z"):
                self._lags.append(now - datetime.fromisoformat(text.decode()).timestamp())
            at = data.find(b'"at":"', at + 30)


async def fanout(target: Target, clients: int, lanes: int, seconds: float) -> Rows:
    """One run with `clients` streams and about 15 events per second and lane, for `seconds`."""
    length = max(1, int(seconds * 1000 / (TASK_MS + 10)))
    plan: list[dict[str, Any]] = [
        {
            "id": f"n{lane}-{i}",
            "agent": "simulator",
            "action": "script",
            "inputs": {"duration_ms": TASK_MS, "output": {"lane": lane}},
            "depends_on": [f"n{lane}-{i - 1}"] if i else ["gate"],
        }
        for i in range(length)
        for lane in range(lanes)
    ]
    first = {"id": "gate", "agent": "simulator", "action": "script", "inputs": {"duration_ms": 8000 + clients}}
    trace_id = uuid.uuid4().hex
    await target.http.post("/workflows", start([first, *plan])(trace_id))
    where = f"host: {target.host}:{target.stream_port}\r\naccept: text/event-stream\r\n\r\n"
    request = f"GET /workflows/{trace_id}/events HTTP/1.1\r\n{where}".encode()
    loop, lags = asyncio.get_running_loop(), list[float]()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    made: list[Client] = []
    for i in range(clients):
        client = Client(request, ends[i], lags if i % SAMPLED == 0 else None)
        await loop.create_connection(lambda client=client: client, target.host, target.stream_port)
        made.append(client)
        if i % 100 == 99:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(60):
        while not all(c.opened for c in made):  # noqa: ASYNC110  a benchmark's clients tell nobody
            await asyncio.sleep(0.05)
    before, at = sum(c.frames for c in made), time.perf_counter()
    lags.clear()
    with Cpu({**target.roots, "driver": os.getpid()}) as cpu:
        async with asyncio.timeout(seconds * 10 + 120):
            await asyncio.gather(*ends)
    wall = time.perf_counter() - at
    received = sum(c.frames for c in made)
    for c in made:
        c.transport.close()
    expected = (2 + 3 * len(plan)) * clients - before
    more = {
        "deliveries_s": round((received - before) / wall),
        "complete": bool(received - before >= expected * 0.6),
        "lag_p50_ms": round(percentile(lags, 50) * 1e3, 1),
        "lag_p99_ms": round(percentile(lags, 99) * 1e3, 1),
    }
    yield row(
        f"handrail-{target.name}",
        f"fanout-{clients}",
        clients,
        0,
        wall,
        [wall],
        rss_mb=rss_mb(target.roots),
        **more,
        **cpu.per(received),
    )

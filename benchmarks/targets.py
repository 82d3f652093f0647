"""The systems that are measured: the services as processes on real Kafka, and `handrail up` in one process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.http import Connections, until
from benchmarks.machine import postgres_version
from handrail_contracts import topics
from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_runtime.bus_kafka import KafkaBus

ENDS = frozenset(map(str, TERMINAL_EVENTS))
PAUSED = frozenset({EventType.WORKFLOW_PAUSED_HITL.value})


@dataclass(slots=True)
class Target:
    """A running system: where it is, whose processes it is made of, how to learn what became of a workflow.

    `watch` is called before the workflow is started and awaited afterwards; it answers the type of the first event of the
    asked kinds. `dsn` is its database; `stream_port` is where a proxy would send streams.
    """

    name: str
    host: str
    port: int
    roots: dict[str, int]
    watch: Callable[[str, frozenset[str]], Awaitable[str]]
    engines: dict[str, str]
    dsn: str
    stream_port: int
    http: Connections = field(init=False)

    def __post_init__(self) -> None:
        self.http = Connections(self.host, self.port)


class Ends:
    """Events of the asked kinds from Kafka, as they come: what a consumer of ours would do."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._bus = KafkaBus(bootstrap, client_id="bench")
        self._partitions = partitions
        self._waiting: dict[tuple[str, str], asyncio.Future[str]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads from the end."""
        self._reader = await self._bus.reader()
        self._reader.assign({(topics.EVENTS, p): None for p in range(self._partitions)})
        await self._reader.read(1, 1.0)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        types = {f"dev.handrail.{t.lower()}.v1".encode(): t for t in ENDS | PAUSED}
        while True:
            for r in await self._reader.read(2000, 1.0):
                kind = types.get(r.headers[2][1])  # ce_type, as our publisher writes it
                if kind is not None and r.key is not None:
                    waiting = self._waiting.pop((r.key.decode().rpartition("/")[2], kind), None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(kind)

    def watch(self, trace_id: str, kinds: frozenset[str]) -> asyncio.Future[str]:
        """Resolves with the type of the first event of one of the kinds."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for kind in kinds:
            self._waiting[trace_id, kind] = future
        future.add_done_callback(lambda _: [self._waiting.pop((trace_id, kind), None) for kind in kinds])
        return future

    async def close(self) -> None:
        """Lets go."""
        if self._task is not None:
            self._task.cancel()
        await self._bus.close()


def port() -> int:
    """The first of about eight ports that a target takes."""
    return int(os.environ.get("BENCH_PORT", "18080"))


@asynccontextmanager
async def stack(data: Path, *, partitions: int = 4, orchestrators: int = 1, agents: int = 1) -> AsyncGenerator[Target]:
    """The services as processes on real Kafka."""
    from handrail.engines.kafka_jars import VERSION
    from handrail.stack import Options, Stack

    environment = {"HANDRAIL_LOG_LEVEL": "warning", "HANDRAIL_AGENTS__DEMO_DELAY_MS": "0"}
    options = Options(data, "127.0.0.1", port(), partitions, orchestrators, agents, environment)
    system = Stack(options)
    await system.start()
    ends = Ends(system.kafka.bootstrap_servers, partitions)
    try:
        await ends.start()
        roots = {n: p.pid for n, p in system.parts.items() if p.pid is not None}
        roots |= {"kafka": system.kafka.pid, "postgres": system.postgres.pid, "valkey": system.valkey.pid}
        dsn = system.postgres.dsn
        engines = {"kafka": VERSION, "postgres": await postgres_version(dsn), "partitions": str(partitions)}
        yield Target("stack", "127.0.0.1", port(), roots, ends.watch, engines, dsn, port() + 1)
    finally:
        await ends.close()
        await system.stop()


@asynccontextmanager
async def embedded(data: Path) -> AsyncGenerator[Target]:
    """`handrail up` in a process of its own."""
    command = [sys.executable, "-m", "handrail", "up", "--data", str(data), "--port", str(port()), "--delay-ms", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port())
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        dsn = _dsn(data)
        engines = {"bus": "memory", "postgres": await postgres_version(dsn)}

        def watch(trace_id: str, kinds: frozenset[str]) -> Awaitable[str]:
            return until("127.0.0.1", port(), trace_id, kinds)

        yield Target("embedded", "127.0.0.1", port(), {"handrail": process.pid}, watch, engines, dsn, port())
    finally:
        process.terminate()
        await process.wait()


def _dsn(data: Path) -> str:
    told = (data / "postgres" / "pgdata" / "postmaster.pid").read_text().splitlines()
    return f"postgresql://handrail@/handrail?host={told[4]}&port={told[3]}"

"""The services as separate processes on real engines, without Docker: Kafka by Maven, PostgreSQL and Valkey from wheels.

What the compose stack is to a machine with Docker, this is to a laptop with Java. Every process is ours, is stopped by
its own id, and dies with us. A service that ends is started again, as `restart: unless-stopped` would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from handrail.engines.addresses import require_port
from handrail.engines.errors import EngineStartFailed
from handrail.engines.kafka import LocalKafka
from handrail.engines.postgres import LocalPostgres
from handrail.engines.valkey import LocalValkey
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import backoff
from handrail_runtime.topic_plan import topic_plan
from handrail_store import migrate

Progress = Callable[[str, float], None]
READY_S = 60.0
STOP_S = 20.0
PARTITIONS = 4
"""Of new data: a fetch costs broker and client for each; four let four orchestrators share a laptop."""


@dataclass(slots=True)
class Options:
    """What `handrail stack` lets a person choose. Services take the ports from `port` on: gateway, then notifier,
    orchestrators, agents. `partitions` None: what the data was made with, `PARTITIONS` where there is none yet."""

    data: Path = field(default_factory=lambda: Path(".handrail/stack"))
    host: str = "127.0.0.1"
    port: int = 8080
    partitions: int | None = None
    orchestrators: int = 1
    agents: int = 1
    environment: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Part:
    """One service process. `port` answers /readyz."""

    name: str
    module: str
    port: int
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None


class Stack:
    """Everything, started in order and stopped in reverse. `parts` and `engines` are open to tests that kill and stop."""

    def __init__(self, options: Options, told: Progress | None = None) -> None:
        self.options = options
        self._told = told or (lambda what, seconds: None)
        self._exit = AsyncExitStack()
        self._stopping = False
        self._partitions = PARTITIONS
        self._minders: list[asyncio.Task[None]] = []
        self.parts: dict[str, Part] = {}
        self.kafka: LocalKafka
        self.postgres: LocalPostgres
        self.valkey: LocalValkey

    @property
    def url(self) -> str:
        """Where everything is served."""
        return f"http://{self.options.host}:{self.options.port}"

    async def start(self) -> None:
        """Starts engines, makes tables and topics, starts services, waits until all are ready. Raises EngineError, and
        Misconfigured where a port of ours is taken: another stack would answer there in our name."""
        for part in self._planned():
            require_port(self.options.host, part.port)
        try:
            await self._engines()
            await self._services()
        except BaseException:
            await self.stop()
            raise

    async def _engines(self) -> None:
        data = self.options.data
        at = time.monotonic()

        def told(what: str) -> None:
            nonlocal at
            self._told(what, time.monotonic() - at)
            at = time.monotonic()

        say = lambda text: self._told(text, 0.0)  # noqa: E731  one line, used thrice
        self.postgres = await LocalPostgres.start(data / "postgres", on_progress=say)
        self._exit.push_async_callback(self.postgres.stop)
        told("PostgreSQL")
        self.valkey = await LocalValkey.start(data / "valkey")
        self._exit.push_async_callback(self.valkey.stop)
        told("Valkey")
        self.kafka = await LocalKafka.start(data / "kafka", on_progress=say)
        self._exit.push_async_callback(self.kafka.stop)
        told(f"Kafka at {self.kafka.bootstrap_servers}")
        self._partitions = await partitions_of(self.postgres.dsn, self.options.partitions)
        await migrate.upgrade(self.postgres.dsn, self._partitions)
        bus = KafkaBus(self.kafka.bootstrap_servers, client_id="handrail-stack")
        try:
            await bus.ensure_topics(topic_plan(self._partitions))
        finally:
            await bus.close()
        told("tables and topics")

    async def _services(self) -> None:
        o = self.options
        for part in self._planned():
            self.parts[part.name] = part
            self._minders.append(asyncio.create_task(self._mind(part), name=f"mind {part.name}"))
        for part in self.parts.values():
            at = time.monotonic()
            await self._ready(part, o.host)
            self._told(f"{part.name} (pid {part.pid})", time.monotonic() - at)

    def _planned(self) -> list[Part]:
        o = self.options
        port = o.port
        notifier = port + 1
        found: list[Part] = []

        def add(service: str, name: str, module: str, at: int, **more: str) -> None:
            prefix = f"HANDRAIL_{service.upper()}__"
            found.append(Part(name, module, at, {prefix + "HOST": o.host, prefix + "PORT": str(at), **more}))

        at = port + 2
        for i in range(o.orchestrators):
            add("orchestrator", f"orchestrator-{i + 1}", "handrail_orchestrator", at + i)
        at += max(1, o.orchestrators)
        for i in range(o.agents):
            add("agents", f"agents-{i + 1}", "handrail_agents", at + i)
        desk = {"HANDRAIL_NOTIFIER__GATEWAY_URL": f"http://{o.host}:{port}"}
        add("notifier", "notifier", "handrail_notifier", notifier, **desk)
        forward = {"HANDRAIL_GATEWAY__NOTIFIER_URL": f"http://{o.host}:{notifier}"}
        add("gateway", "gateway", "handrail.demo_gateway", port, **forward)
        return found

    def environment(self) -> dict[str, str]:
        """The settings that every service of this stack gets."""
        return {
            "HANDRAIL_POSTGRES_DSN": self.postgres.dsn,
            "HANDRAIL_REDIS_URL": self.valkey.url,
            "HANDRAIL_KAFKA": self.kafka.bootstrap_servers,
            "HANDRAIL_PARTITIONS": str(self._partitions),
            "HANDRAIL_LOG_LEVEL": "info",
            **self.options.environment,
        }

    async def _mind(self, part: Part) -> None:
        """Keeps one service running."""
        delays = backoff(0.2, 5.0)
        log_dir = self.options.data / "logs"
        log_dir.mkdir(parents=True, exist_ok=True)
        while not self._stopping:
            began = time.monotonic()
            with (log_dir / f"{part.name}.log").open("ab") as log:
                part.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    part.module,
                    env={**os.environ, **self.environment(), **part.environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            code = await part.process.wait()
            if self._stopping:
                return
            self._told(f"{part.name} ended with {code}: starting it again", time.monotonic() - began)
            if time.monotonic() - began > 30:
                delays = backoff(0.2, 5.0)
            await asyncio.sleep(next(delays))

    async def _ready(self, part: Part, host: str) -> None:
        url = f"http://{host}:{part.port}/readyz"
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(URLError, OSError, TimeoutError):
                if await asyncio.to_thread(_status, url) == 200:
                    if not _listens(part):  # two that start at once both found the port free
                        raise Misconfigured(
                            f"Expected {part.name} to answer at {url}, but another process does. "
                            "Stop what listens there, or choose another with --port."
                        )
                    return
            await asyncio.sleep(0.1)
        raise EngineStartFailed(
            part.name, f"{url} is not ready after {READY_S:.0f} s", self.options.data / "logs" / f"{part.name}.log"
        )

    async def stop(self) -> None:
        """Services first (SIGTERM; the notifier, whose streams the gateway forwards, then the others in reverse), then engines.
        Idempotent."""
        self._stopping = True
        parts = list(reversed(self.parts.values()))
        parts.sort(key=lambda part: part.name != "notifier")
        for part in parts:
            await _ended(part)
        for minder in self._minders:
            minder.cancel()
        await asyncio.gather(*self._minders, return_exceptions=True)
        await self._exit.aclose()

    async def run(self, until: asyncio.Event) -> None:
        """Waits; raises EngineStartFailed when an engine ends by itself."""
        waits: dict[asyncio.Task[Any], str] = {
            asyncio.create_task(self.kafka.wait()): "Kafka",
            asyncio.create_task(self.postgres.wait()): "PostgreSQL",
            asyncio.create_task(self.valkey.wait()): "Valkey",
        }
        asked = asyncio.create_task(until.wait())
        done, _ = await asyncio.wait({asked, *waits}, return_when=asyncio.FIRST_COMPLETED)
        for task in (asked, *waits):
            task.cancel()
        ended = next((waits[t] for t in done if t in waits), None)
        if ended is not None and not until.is_set():
            raise EngineStartFailed(ended, "it ended", self.options.data)


async def partitions_of(dsn: str, asked: int | None) -> int:
    """P for this database: what somebody asked for, else what it was made with, else `PARTITIONS`. Whether the data can do
    what was asked for is judged by `migrate.upgrade`."""
    return asked if asked is not None else await migrate.made_with(dsn) or PARTITIONS


def _status(url: str) -> int:
    with urlopen(url, timeout=2) as answer:
        return answer.status


def _listens(part: Part) -> bool:
    try:
        found = psutil.Process(part.pid).net_connections("tcp") if part.pid is not None else []
    except psutil.NoSuchProcess:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == part.port for c in found if c.laddr)


async def _ended(part: Part) -> None:
    process = part.process
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

"""Handrail in one process: real PostgreSQL, real Valkey, the in-memory bus, all four services, one address.

The same services as everywhere, on engines that start and end with this process. Data is kept in one folder; the bus
starts empty every time, and the orchestrator takes that in its stride (DESIGN section 5, Ownership).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import SecretStr

import handrail_simulators as simulators
from handrail.engines.addresses import require_port
from handrail.engines.errors import DataDirectoryInUse, DiskFull, EngineError, StorageUnusable
from handrail.engines.postgres import LocalPostgres
from handrail.engines.valkey import LocalValkey
from handrail.origin import one_origin
from handrail_agents import bootstrap as agents
from handrail_agents.settings import AgentsSettings
from handrail_gateway import bootstrap as gateway
from handrail_gateway.settings import GatewaySettings
from handrail_notifier import bootstrap as notifier
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_notifier.settings import NotifierSettings
from handrail_orchestrator import bootstrap as orchestrator
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.lifecycle import Service, supervise
from handrail_runtime.memory import Heap, keep_small
from handrail_runtime.settings import EngineSettings, load, load_all
from handrail_store import connect, migrate

PARTITIONS = 4
Progress = Callable[[str, float], None]
"""Told (what is ready, seconds it took)."""


@dataclass(slots=True)
class Options:
    """What `handrail up` lets a person choose."""

    data: Path = field(default_factory=lambda: Path(".handrail"))
    host: str = "127.0.0.1"
    port: int = 8080
    demo_delay_ms: int | None = None
    tenant: str = "default"


class Embedded:
    """The whole system as one `lifecycle.Service`. `ready` is told as each part comes up."""

    name = "handrail"

    def __init__(self, options: Options, ready: Progress | None = None) -> None:
        self.options = options
        self._ready = ready or (lambda what, seconds: None)
        self._stack = AsyncExitStack()
        self._services: list[Service] = []
        self._stopping = asyncio.Event()
        self._engines: dict[str, Any] = {}
        self._lock: IO[bytes] | None = None
        self._origin: Any = None

    async def start(self) -> None:
        """Engines, then migrations, then services, then the door. Raises EngineError or Misconfigured with one line, SystemExit
        where settings are wrong: all of them are told, before anything is started."""
        o = self.options
        load_all(AgentsSettings, OrchestratorSettings, NotifierSettings, ChannelSettings, GatewaySettings)
        require_port(o.host, o.port)
        self._claim(o.data)
        started = time.monotonic()

        def told(what: str) -> None:
            nonlocal started
            now = time.monotonic()
            self._ready(what, now - started)
            started = now

        postgres = await LocalPostgres.start(o.data / "postgres")
        self._stack.push_async_callback(postgres.stop)
        self._engines["PostgreSQL"] = postgres
        told("PostgreSQL")
        valkey = await LocalValkey.start(o.data / "valkey")
        self._stack.push_async_callback(valkey.stop)
        self._engines["Valkey"] = valkey
        told("Valkey" if valkey.real else "Redis stand-in (fakeredis)")
        bus = MemoryBus()
        self._stack.push_async_callback(bus.close)
        await migrate.upgrade(postgres.dsn, PARTITIONS)
        told("database schema")
        await self._build(postgres.dsn, valkey.url, bus)
        for service in self._services:
            await service.start()
            told(service.name)

    async def _build(self, dsn: str, redis_url: str, bus: MemoryBus) -> None:
        o = self.options

        async def pool(app: str, size: int) -> Any:
            made = await connect.pool(dsn, app=f"handrail-{app}", max_size=size)
            self._stack.callback(made.terminate)
            return made

        redis = notifier.connect_redis(redis_url)
        self._stack.push_async_callback(redis.aclose)
        world_pool = await pool("simulators", 4)
        await simulators.ensure(world_pool)

        async def ledger(tenant: str, trace_id: str) -> list[dict[str, Any]]:
            return await simulators.ledger(world_pool, tenant, trace_id)

        engines = load(
            EngineSettings,
            postgres_dsn=SecretStr(dsn),
            redis_url=SecretStr(redis_url),
            partitions=PARTITIONS,
            tenant=o.tenant,
        )
        common: dict[str, Any] = {"bus": bus, "tenant": o.tenant}
        hands = (
            AgentsSettings(driver="bus")
            if o.demo_delay_ms is None
            else AgentsSettings(driver="bus", demo_delay_ms=o.demo_delay_ms)
        )
        workers = agents.build(hands, pool=await pool("agents", 4), partitions=PARTITIONS, **common)
        owner = orchestrator.build(
            OrchestratorSettings(), pool=await pool("orchestrator", 4), partitions=PARTITIONS, **common
        )
        streams = notifier.build(
            NotifierSettings(),
            pool=await pool("notifier", 4),
            redis=redis,
            origins=engines.origins(),
            gateway_url=lambda: self.url,
            channels=load(ChannelSettings),
            **common,
        )
        settings = GatewaySettings(host=o.host, port=o.port)
        door = gateway.build(
            settings,
            engines,
            bus=bus,
            ledger=ledger,
            more_checks=self._other_checks,
            listen=False,
            dev=on_a_desk(o.host),
        )
        self._origin = one_origin(door, streams, o.host, o.port)
        self._services = [owner, workers, streams, self._origin]

    @property
    def url(self) -> str:
        """Where everything is served, once `start` has returned."""
        return f"http://{self.options.host}:{self._origin.port}"

    def _other_checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {name: check for s in self._services[:-1] for name, check in s.checks().items()}

    async def run(self) -> None:
        """Runs everything until `stop`; raises when a part or an engine fails."""
        engines = [self._outlive(name, engine) for name, engine in self._engines.items()]
        keeping = asyncio.create_task(keep_small(Heap.of_this_process()), name="memory")
        try:
            await supervise(*(s.run() for s in self._services), *engines, until=self._stopping)
        finally:
            keeping.cancel()

    async def _outlive(self, name: str, engine: Any) -> None:
        ended = asyncio.ensure_future(engine.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                raise EngineError(
                    f"Expected {name} to run on, but it ended. Its log is in {self.options.data}. Start again: nothing is lost."
                )
        finally:
            ended.cancel()
            stopping.cancel()

    async def stop(self) -> None:
        """The door first, then streams, agents, the owner; then the engines. Idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for service in reversed(self._services):
            await service.stop()

    async def close(self) -> None:
        """Ends the engines and gives the folder up. Idempotent."""
        await self._stack.aclose()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """All checks of all services."""
        return {f"{s.name}.{name}": check for s in self._services for name, check in s.checks().items()}

    def _claim(self, data: Path) -> None:
        """One Handrail per folder: the lock ends with the process, however that ends."""
        try:
            data.mkdir(parents=True, exist_ok=True)
            lock = (data / "handrail.lock").open("ab+", buffering=0)
        except OSError as e:
            raise StorageUnusable(
                f"Expected a folder to write to at '{data}', but: {e.strerror}. Choose another with --data."
            ) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            lock.seek(0)
            holder = lock.read().decode().strip()
            lock.close()
            raise DataDirectoryInUse("Handrail", data, int(holder) if holder.isdigit() else None) from e
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except OSError as e:
            lock.close()
            if e.errno == errno.ENOSPC:
                raise DiskFull("Handrail", data) from e
            raise StorageUnusable(
                f"Expected to write to '{data}', but: {e.strerror}. Choose another with --data."
            ) from e
        self._lock = lock


def on_a_desk(host: str) -> bool:
    """Whether only this machine can reach us."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The agents service: registers what it can do, reads tasks by a driver, runs them in slots, drains at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.claim import Ledger
from handrail_agents.runtime.worker import Worker
from handrail_contracts import topics
from handrail_runtime.health import bus_check
from handrail_runtime.lifecycle import supervise
from handrail_runtime.ports import Bus
from handrail_runtime.topic_plan import topic_plan
from handrail_sdk.agent import Agent

_log = structlog.get_logger(__name__)


class Driver(Protocol):
    """Reads task records and offers them, in order per partition; acknowledges at hand-off."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def run(self) -> None:
        """Reads until `stop`; raises when reading fails for good."""
        ...

    async def stop(self) -> None:
        """Takes nothing more; returns when `run` has let go of the record in hand. Idempotent."""
        ...

    async def close(self) -> None:
        """Acknowledges what was handed off, and lets go. Idempotent."""
        ...


class Registry(Protocol):
    """The rows that say what this process can do."""

    async def register(self) -> None: ...
    async def run(self, stopping: asyncio.Event, every_s: float = 5.0) -> None: ...


class Clock(Protocol):
    """The database's time."""

    async def sync(self) -> None: ...
    async def run(self, stopping: asyncio.Event, every_s: float = 1.0) -> None: ...


class AgentsService:
    """`lifecycle.Service` around slots and a driver."""

    name = "agents"

    def __init__(
        self,
        agents: Sequence[Agent],
        *,
        bus: Bus,
        partitions: int,
        worker: Worker,
        answers: Answers,
        ledger: Ledger,
        registry: Registry,
        clock: Clock,
        driver: Driver,
        drain_s: float,
    ) -> None:
        self._agents, self._bus, self._partitions = agents, bus, partitions
        self._worker, self._answers, self._ledger = worker, answers, ledger
        self._registry, self._clock, self._driver, self._drain_s = registry, clock, driver, drain_s
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._began = False

    async def start(self) -> None:
        """Makes the task topics, then registers: an agent that can be named has a topic."""
        await self._bus.ensure_topics(topic_plan(self._partitions, map(topics.tasks, self._names())))
        await self._clock.sync()
        await self._registry.register()
        await self._answers.start()
        await self._driver.start()

    def _names(self) -> list[str]:
        return [agent.name for agent in self._agents]

    async def run(self) -> None:
        """Works until `stop`; raises when a part fails."""
        self._began = True
        await supervise(
            self._driver.run(),
            self._answers.run(),
            self._ledger.run(),
            self._worker.timers.run(),
            self._clock.run(self._stopping),
            self._registry.run(self._stopping),
            until=self._stopping,
        )

    async def stop(self) -> None:
        """Takes nothing more, lets attempts finish, sends what they answered. Idempotent."""
        if self._stopping.is_set():
            await self._stopped.wait()
            return
        self._stopping.set()
        await self._driver.stop()
        if self._began:
            await self._worker.drain(self._drain_s)
            await self._answers.flushed(3.0)
        await self._driver.close()
        self._worker.timers.stop()
        await self._ledger.close()
        await self._worker.close()
        self._answers.stop()
        await self._answers.close()
        self._stopped.set()

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The bus answers."""
        return {"bus": bus_check(self._bus, topics.RESULTS)}

"""An agents service under test: tasks in, answers out, the ledger beside them. The bus and the driver are parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import asyncpg

from handrail_agents.bootstrap import build
from handrail_agents.runtime.service import AgentsService
from handrail_agents.settings import AgentsSettings
from handrail_contracts import topics
from handrail_contracts.codec import Undecodable, decode, encode
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.ids import attempt_ce_id, effect_key, task_id, undo_key
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import Heartbeat, Outcome, Progress, Result, Task, TaskKind
from handrail_runtime.ports import Bus, BusError, Outgoing, Producer, Reader, Record, TopicPartition
from handrail_runtime.testing import wait_until
from handrail_runtime.topic_plan import topic_plan
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context

Play = Callable[[Context], Awaitable[Any]]
_READ = (topics.RESULTS, topics.HEARTBEATS, topics.PROGRESS, topics.QUARANTINE)


class Stage:
    """An agent whose tasks do what a test lays down for the workflow: `plays` for the task, `undos`, `look_ups`."""

    def __init__(self, *, max_in_flight: int | None = None) -> None:
        self.plays: dict[str, Play] = {}
        self.undos: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {}
        self.look_ups: dict[str, Play] = {}
        self.runs: list[tuple[str, str, int]] = []  # trace_id, node_id, attempt
        self.agent = Agent(f"a{uuid4().hex[:10]}", max_in_flight=max_in_flight)

        @self.agent.task(effect="queryable")
        async def act(_: dict[str, Any], ctx: Context) -> Any:
            self.runs.append((ctx.trace_id, ctx.node_id, ctx.attempt))
            play = self.plays.get(ctx.trace_id)
            return await play(ctx) if play is not None else {"attempt": ctx.attempt}

        @act.compensate
        async def unact(_: dict[str, Any], output: Any, ctx: Context) -> Any:
            self.runs.append((ctx.trace_id, "undo", ctx.attempt))
            undo = self.undos.get(ctx.trace_id)
            return await undo(output, ctx) if undo is not None else {"undone": output}

        @act.look_up
        async def find_act(_: dict[str, Any], ctx: Context) -> Any:
            self.runs.append((ctx.trace_id, "look_up", ctx.attempt))
            return await self.look_ups[ctx.trace_id](ctx)

        @self.agent.task(effect="idempotent")
        async def repair(_: dict[str, Any], ctx: Context) -> Any:
            return {"repaired": ctx.do_key}

        del unact, find_act, repair

    def count(self, trace_id: str) -> int:
        """How often anything of a workflow ran."""
        return sum(1 for run in self.runs if run[0] == trace_id)


class Rig:
    """Sends tasks, gathers what comes back. One for all tests on a bus; `serve` starts services on it."""

    def __init__(self, bus: Bus, pool: asyncpg.Pool[asyncpg.Record], driver: str) -> None:
        self.bus, self.pool, self.driver = bus, pool, driver
        self.partitions = 4
        self.results: list[Result] = []
        self.raw: list[Record] = []
        self.heartbeats: list[Heartbeat] = []
        self.progress: list[Progress] = []
        self.copies: list[Record] = []
        self.services: list[tuple[AgentsService, asyncio.Task[None]]] = []
        self._producer: Producer | None = None
        self._reader: Reader | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.partitions = await self.bus.partitions(topics.RESULTS) or self.partitions
        await self.bus.ensure_topics(topic_plan(self.partitions))
        parts = [(name, p) for name in _READ for p in range(await self.bus.partitions(name))]
        self._producer, self._reader = await self.bus.producer(), await self.bus.reader()

        async def ends() -> dict[TopicPartition, int | None]:
            try:
                return {at: log.end for at, log in (await self.bus.ranges(parts)).items()}
            except BusError:  # topics made just now have no leader yet
                return {}

        self._reader.assign(await wait_until(ends, description="leaders of all topics", timeout_s=30))
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        for service, _ in list(self.services):
            await self.stop(service)
        assert self._reading is not None and self._reader is not None and self._producer is not None
        self._reading.cancel()
        await self._reader.close()
        await self._producer.close()

    async def serve(
        self, agents: Sequence[Agent], *, group: str | None = None, bus: Bus | None = None, **settings: Any
    ) -> AgentsService:
        made = AgentsSettings(driver=self.driver, group=group or f"g-{uuid4().hex[:10]}", **settings)  # type: ignore[arg-type]
        service = build(made, bus=bus or self.bus, pool=self.pool, partitions=self.partitions, agents=agents)
        await service.start()
        self.services.append((service, asyncio.create_task(service.run())))
        return service

    async def stop(self, service: AgentsService) -> None:
        running = next(task for s, task in self.services if s is service)
        self.services = [(s, task) for s, task in self.services if s is not service]
        await service.stop()
        await running

    async def now_ms(self) -> int:
        return await self.pool.fetchval("SELECT (extract(epoch FROM handrail.clock()) * 1000)::bigint")

    async def send(self, *tasks: Task) -> None:
        assert self._producer is not None
        assert await self._producer.send([self.record(task) for task in tasks]) == [None] * len(tasks)

    async def send_raw(self, *messages: Outgoing) -> None:
        assert self._producer is not None
        assert await self._producer.send(messages) == [None] * len(messages)

    def record(self, task: Task) -> Outgoing:
        key = task_id(task.tenant, task.trace_id, task.node_id).encode()
        ce_id = attempt_ce_id(task.effect_key, task.attempt, task.kind)
        e = Envelope(ce_id, ce_type(f"task_{task.kind.value}"), "/test", subject=task.trace_id)
        return Outgoing(topics.task_topic(task.agent), key, encode(task), to_headers(e))

    async def task(self, stage: Stage, trace_id: str | None = None, *, in_s: float = 120, **fields: Any) -> Task:
        trace_id = trace_id or f"t{uuid4().hex[:12]}"
        node_id = fields.pop("node_id", "n")
        given: dict[str, Any] = {
            "trace_id": trace_id,
            "node_id": node_id,
            "agent": stage.agent.name,
            "action": "act",
            "attempt": 1,
            "max_attempts": 3,
            "effect_key": effect_key("default", trace_id, node_id, 0),
            "effect_class": EffectClass.IDEMPOTENT,
            "start_before": iso(await self.now_ms() + int(in_s * 1000)),
            **fields,
        }
        return Task(**given)

    def undo_of(self, task: Task, *, attempt: int = 1, output: Any = None) -> Task:
        return task.model_copy(
            update={
                "kind": TaskKind.COMPENSATE,
                "attempt": attempt,
                "effect_class": EffectClass.IDEMPOTENT,
                "effect_key": undo_key(task.effect_key, 0),
                "do_key": task.effect_key,
                "output": output,
            }
        )

    def of(self, task: Task, *outcomes: Outcome) -> list[Result]:
        """What was answered about a task's effect key, of these outcomes (all)."""
        wanted = set(outcomes or Outcome)
        return [r for r in self.results if r.effect_key == task.effect_key and r.outcome in wanted]

    async def answer(self, task: Task, *outcomes: Outcome, count: int = 1) -> list[Result]:
        """Waits for so many answers."""
        await wait_until(
            lambda: len(self.of(task, *outcomes)) >= count,
            description=f"{count} answers about {task.effect_key} in {[r.outcome.value for r in self.of(task)]}",
            timeout_s=30,
        )
        return self.of(task, *outcomes)

    async def settled(self, stage: Stage, after: Task) -> None:
        """Waits for the answer to a task sent now behind `after`, in its partition: what was sent before is decided."""
        probe = await self.task(stage, after.trace_id, effect_key=f"probe/{uuid4().hex}", node_id=after.node_id)
        stage.plays[after.trace_id] = _nothing
        await self.send(probe)
        await self.answer(probe)

    async def row(self, key: str) -> asyncpg.Record | None:
        return await self.pool.fetchrow("SELECT * FROM agents.effect WHERE effect_key = $1", key)

    async def _read(self) -> None:
        assert self._reader is not None
        while True:
            for r in await self._reader.read(500, 0.5):
                self._sort(r)

    def _sort(self, r: Record) -> None:
        if r.topic == topics.QUARANTINE:
            self.copies.append(r)
            return
        try:
            _, message = decode(r.topic, r.headers, r.value)
        except Undecodable:
            self.raw.append(r)
            return
        match message:
            case Result():
                self.results.append(message)
            case Heartbeat():
                self.heartbeats.append(message)
            case Progress():
                self.progress.append(message)
            case _:
                raise AssertionError(r.topic)


async def _nothing(_: Context) -> Any:
    return None

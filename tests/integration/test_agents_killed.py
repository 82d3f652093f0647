"""Two Faust workers on a real Kafka, one of them killed by SIGKILL amid its tasks: every task ends, each effect happens once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.waiting import wait_until

from handrail_contracts import codec, ids, topics
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.model import iso
from handrail_contracts.tasks import Heartbeat, Outcome, Result, Task
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.ports import Outgoing
from handrail_runtime.topic_plan import topic_plan
from handrail_simulators import ensure, ledger
from handrail_store import connect, migrate

pytestmark = pytest.mark.kafka
TASKS = 60
LEASE_S = 1.0
CLAIM_S = 2.0


@dataclass
class Line:
    """One task as its owner sees it: the attempt that is out, and when a sign of life came last."""

    task: Task
    seen: float
    claimed: bool = False
    end: Result | None = None


@dataclass
class Owner:
    """Does for tasks what the orchestrator does: sends, hears, and sends again when a worker falls silent."""

    bus: KafkaBus
    partitions: int
    producer: Any
    lines: dict[str, Line] = field(default_factory=dict[str, Line])
    workers: dict[str, str] = field(default_factory=dict[str, str])  # effect key -> who started it

    async def begin(self, count: int) -> None:
        run = uuid4().hex[:8]
        for i in range(count):
            task = Task(
                trace_id=f"killed-{run}-{i}",
                node_id="n",
                agent="simulator",
                action="script",
                attempt=1,
                max_attempts=50,
                effect_key=ids.effect_key("default", f"killed-{run}-{i}", "n", 0),
                effect_class="idempotent",  # type: ignore[arg-type]  # pydantic takes the word
                inputs={"duration_ms": 400, "output": i},
                start_before="",
                lease_s=LEASE_S,
            )
            self.lines[task.effect_key] = Line(task, 0.0)
        await self.send(list(self.lines.values()))

    async def send(self, lines: list[Line]) -> None:
        records: list[Outgoing] = []
        for line in lines:
            t = line.task = line.task.model_copy(update={"start_before": iso(int((time.time() + CLAIM_S) * 1000))})
            line.seen, line.claimed = time.monotonic(), False
            headers = to_headers(Envelope(ids.attempt_ce_id(t.effect_key, t.attempt, t.kind), ce_type("task"), "/test"))
            where = ids.partition(t.tenant, t.trace_id, self.partitions)
            records.append(Outgoing(topics.task_topic(t.agent), t.trace_id.encode(), codec.encode(t), headers, where))
        assert await self.producer.send(records) == [None] * len(records)

    def hear(self, said: Any) -> None:
        line = self.lines.get(getattr(said, "effect_key", ""))
        if line is None or line.end is not None or said.attempt != line.task.attempt:
            if line is not None and isinstance(said, Result) and said.outcome is Outcome.OK and line.end is None:
                line.end = said  # a late success: the owner would know of it too
            return
        line.seen, line.claimed = time.monotonic(), True
        if isinstance(said, Result):
            self.workers[said.effect_key] = said.worker or ""
            if said.outcome is not Outcome.STARTED:
                line.end = said

    async def wake(self) -> None:
        """What is due: a claimed attempt that fell silent counts, an unclaimed one is sent again under its number."""
        now = time.monotonic()
        due: list[Line] = []
        for line in self.lines.values():
            if line.end is not None:
                continue
            if line.claimed and now - line.seen > 2 * LEASE_S:
                line.task = line.task.model_copy(update={"attempt": line.task.attempt + 1})
                due.append(line)
            elif not line.claimed and now - line.seen > CLAIM_S + 2.0:
                due.append(line)
        if due:
            await self.send(due)


class Worker:
    """`python -m handrail_agents`, a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "handrail_agents", env={**os.environ, **self.environment}
        )

    def has(self, worker: str) -> bool:
        assert self.process is not None
        return f"-{self.process.pid}-" in worker

    async def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.process.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    made = await connect.pool(empty_database, app="test-agents-killed", max_size=4)
    await ensure(made)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def owner(kafka_bootstrap: str, empty_database: str, pool: Any) -> AsyncGenerator[Owner]:
    bus = KafkaBus(kafka_bootstrap)
    count = await bus.partitions(topics.RESULTS) or 4
    await migrate.upgrade(empty_database, count)
    await bus.ensure_topics(topic_plan(count, [topics.tasks("simulator")]))
    for name in (topics.RESULTS, topics.HEARTBEATS, topics.PROGRESS):
        if not await bus.partitions(name):
            await bus.ensure_topics({name: (count, {})})
    reader = await bus.reader()
    reader.assign({(t, p): None for t in (topics.RESULTS, topics.HEARTBEATS) for p in range(count)})
    await reader.read(1, 1.0)  # the end, as it stands now
    made = Owner(bus, count, await bus.producer())

    async def listen() -> None:
        while True:
            for record in await reader.read(500, 0.2):
                _, said = codec.decode(record.topic, record.headers, record.value)
                if isinstance(said, Result | Heartbeat):
                    made.hear(said)
            await made.wake()

    listening = asyncio.create_task(listen())
    yield made
    listening.cancel()
    await asyncio.wait({listening})
    await bus.close()


async def test_a_worker_killed_amid_its_tasks_costs_attempts_and_doubles_no_effect(
    owner: Owner, pool: Any, kafka_bootstrap: str, empty_database: str
) -> None:
    environment = {
        "HANDRAIL_KAFKA": kafka_bootstrap,
        "HANDRAIL_POSTGRES_DSN": empty_database,
        "HANDRAIL_PARTITIONS": str(owner.partitions),
        "HANDRAIL_AGENTS__DRIVER": "faust",
        "HANDRAIL_AGENTS__GROUP": f"killed-{uuid4().hex[:8]}",
        "HANDRAIL_AGENTS__PORT": "0",
        "HANDRAIL_LOG_LEVEL": "warning",
    }
    workers = [Worker(environment), Worker(environment)]
    try:
        for worker in workers:
            await worker.start()

        async def both() -> bool:
            """Both have a share: each has ended something. Until then there is always work."""
            if all(line.end for line in owner.lines.values()):
                await owner.begin(2 * owner.partitions)
            return all(any(w.has(name) for name in owner.workers.values()) for w in workers)

        await wait_until(both, description="both workers work", timeout_s=60)
        victim = workers[0]

        def amid() -> list[str]:
            return [
                key for key, line in owner.lines.items()
                if line.claimed and line.end is None and victim.has(owner.workers.get(key, ""))
            ]  # fmt: skip

        async def caught() -> bool:
            if all(line.end for line in owner.lines.values()):
                await owner.begin(TASKS)
            return bool(amid())

        await wait_until(caught, description="the victim is amid a task", timeout_s=60)
        held = amid()
        assert await victim.end(signal.SIGKILL) == -signal.SIGKILL
        await wait_until(
            lambda: all(line.end for line in owner.lines.values()), description="every task has ended", timeout_s=90
        )
        ends = [line.end for line in owner.lines.values()]
        assert {r.outcome for r in ends if r is not None} == {Outcome.OK}
        assert any(owner.lines[key].task.attempt > 1 for key in held)
        for line in owner.lines.values():
            rows = await ledger(pool, "default", line.task.trace_id)
            assert [row["kind"] for row in rows] == ["do"], line.task.effect_key
        states = await pool.fetch("SELECT state, count(*) AS n FROM agents.effect GROUP BY state")
        assert {row["state"]: row["n"] for row in states} == {"DONE": len(owner.lines)}
        assert await workers[1].end(signal.SIGTERM) == 0
    finally:
        for worker in workers:
            if worker.process is not None:
                await worker.end(signal.SIGKILL)

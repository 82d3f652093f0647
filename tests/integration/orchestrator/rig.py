"""An orchestrator on a real PostgreSQL and the memory bus, with a scripted agent in place of the outside world."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.waiting import wait_until

from handrail_contracts import codec, ids, topics
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.plan import Plan
from handrail_contracts.tasks import Failure, Outcome, Result, Task
from handrail_contracts.view import WorkflowView
from handrail_engine.evolve import fold
from handrail_engine.plan import compile_plan, validate
from handrail_engine.state import Row, WorkflowState
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_orchestrator.bootstrap import build
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.ports import Outgoing
from handrail_store import connect, migrate

P = 4
REGISTRY = {("worker", "do"): {"effect_class": "idempotent", "compensatable": True}}
Answer = Callable[[Task], Result | None]


def ok(task: Task, output: Any = None) -> Result:
    return Result(
        kind=task.kind,
        trace_id=task.trace_id,
        node_id=task.node_id,
        attempt=task.attempt,
        effect_key=task.effect_key,
        outcome=Outcome.OK,
        output=output if output is not None else {"by": task.node_id},
    )


def started(task: Task) -> Result:
    return ok(task).model_copy(update={"outcome": Outcome.STARTED, "output": None})


def failed(task: Task, code: str = "BROKEN", *, retryable: bool = True) -> Result:
    error = Failure(code=code, message="it broke", evidence={"error": code}, retryable=retryable)
    return ok(task).model_copy(update={"outcome": Outcome.FAILED, "output": None, "error": error})


def node(id_: str, *after: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "agent": "worker",
        "action": "do",
        "depends_on": list(after),
        "retry": {"max_attempts": 2, "initial_delay_s": 0},
        **more,
    }


DIAMOND = [node("a"), node("b", "a"), node("c", "a"), node("d", "a"), node("e", "b", "c", "d")]


class Rig:
    """One database, one bus, any number of orchestrators, one agent."""

    def __init__(self, dsn: str, pool: Any) -> None:
        self.dsn, self.pool = dsn, pool
        self.bus = MemoryBus()
        self.answer: Answer = ok
        self.tasks: list[Task] = []
        self._running: dict[Orchestrator, asyncio.Task[None]] = {}
        self._agent: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.bus.ensure_topics({topics.task_topic("worker"): (P, {})})
        self._agent = asyncio.create_task(self._work())

    async def new_bus(self) -> None:
        """As after a restart of the embedded process: an empty log."""
        assert self._agent is not None
        self._agent.cancel()
        self.bus = MemoryBus()
        await self.begin()

    def exchange(self, p: int, records: list[Outgoing]) -> int:
        """As when the results' topic is deleted and made anew in the same cluster, and has grown again before anybody looks.
        Answers where the old log ended."""
        log = self.bus._logs[topics.RESULTS][p]
        end = log.end
        log.drop_before(end)
        log.start = 0
        for r in records:
            log.append(r.key, r.value, tuple(r.headers), 0)
        return end

    async def _work(self) -> None:
        reader, producer = await self.bus.reader(), await self.bus.producer()
        reader.assign({(topics.task_topic("worker"), p): 0 for p in range(P)})
        while True:
            answers: list[Outgoing] = []
            for r in await reader.read(500, 1.0):
                _, task = codec.decode(r.topic, r.headers, r.value)
                assert isinstance(task, Task)
                self.tasks.append(task)
                result = self.answer(task)
                if result is not None:
                    answers.append(self.record(result))
            if answers:
                await producer.send(answers)

    @staticmethod
    def record(result: Result) -> Outgoing:
        key = ids.workflow_key("default", result.trace_id).encode()
        e = Envelope(ids.attempt_ce_id(result.effect_key, result.attempt, result.outcome), ce_type("result"), "/test")
        return Outgoing(
            topics.RESULTS, key, codec.encode(result), to_headers(e), ids.partition("default", result.trace_id, P)
        )

    async def send(self, *records: Outgoing) -> None:
        producer = await self.bus.producer()
        assert await producer.send(list(records)) == [None] * len(records)

    async def orchestrator(self, **settings: Any) -> Orchestrator:
        o = build(OrchestratorSettings(**{"poll_s": 0.05, **settings}), bus=self.bus, pool=self.pool, partitions=P)
        await o.start()
        self._running[o] = asyncio.create_task(o.run())
        return o

    async def end(self, o: Orchestrator) -> None:
        """A clean stop."""
        await o.stop()
        await self._running.pop(o)

    async def ended(self, o: Orchestrator) -> None:
        """It ends by itself; raises what it ended with. Its process would be gone: its leases run out at once."""
        task = self._running.pop(o)
        try:
            async with asyncio.timeout(30):
                await task
        finally:
            await self._left()

    async def crash(self, o: Orchestrator) -> None:
        """As SIGKILL: nothing is given back, nothing is flushed. Its leases run out at once, so that the test need not wait."""
        task = self._running.pop(o)
        task.cancel()
        await asyncio.wait({task})
        await self._left()

    async def _left(self) -> None:
        await self.pool.execute("UPDATE handrail.partition SET lease_until = clock_timestamp() - interval '1 s'")
        await self.pool.execute("DELETE FROM handrail.member")

    async def start(self, trace_id: str, nodes: list[dict[str, Any]] = DIAMOND, **body: Any) -> str:
        plan = Plan.model_validate({"nodes": nodes})
        assert not validate(plan, REGISTRY)
        full = {
            "intent": None,
            "blueprint": None,
            "input": {},
            "labels": {},
            "plan": compile_plan(plan, REGISTRY),
            **body,
        }
        await self.command(trace_id, "start", full)
        return trace_id

    async def command(self, trace_id: str, kind: str, body: dict[str, Any], command_id: str | None = None) -> None:
        await self.pool.execute(
            "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at) VALUES ($1, $2, $3, $4, $5, handrail.clock())",
            command_id or f"{trace_id}-{kind}-{asyncio.get_running_loop().time()}",
            trace_id,
            ids.partition("default", trace_id, P),
            kind,
            body,
        )

    async def press(self, trace_id: str, action_id: str, input_: Any = None, actor: str = "ana") -> None:
        """What the gateway does with a decision: the row and the command in one transaction, under the pause's lock."""
        async with self.pool.acquire() as c, c.transaction():
            pause_id = await c.fetchval(
                "SELECT pause_id FROM handrail.pause WHERE trace_id = $1 AND state = 'open' FOR UPDATE", trace_id
            )
            await c.execute(
                "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, input, actor, channel, decided_at) "
                "VALUES ($1, $2, 'decided', $3, $4, $5, 'api', handrail.clock())",
                pause_id,
                trace_id,
                action_id,
                input_,
                actor,
            )
            await c.execute(
                "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at) VALUES ($1, $2, $3, 'decide', $4, handrail.clock())",
                f"decide-{pause_id}",
                trace_id,
                ids.partition("default", trace_id, P),
                {"pause_id": pause_id},
            )

    async def status(self, trace_id: str) -> str | None:
        return await self.pool.fetchval("SELECT status FROM handrail.workflow WHERE trace_id = $1", trace_id)

    async def until(self, trace_id: str, *statuses: str, timeout_s: float = 30.0) -> None:
        async def there() -> bool:
            for o, task in self._running.items():
                if task.done():
                    task.result()
                    raise AssertionError(f"{o} ended")
            return await self.status(trace_id) in statuses

        await wait_until(there, description=f"{trace_id} is {' or '.join(statuses)}", timeout_s=timeout_s)

    async def rows(self, trace_id: str) -> list[Row]:
        found = await self.pool.fetch(
            "SELECT seq, type, data, meta, (extract(epoch FROM at) * 1000)::bigint AS at FROM handrail.journal WHERE trace_id = $1 ORDER BY seq",
            trace_id,
        )
        return [Row(r["seq"], r["type"], r["data"], r["meta"], r["at"]) for r in found]

    async def fold(self, trace_id: str) -> WorkflowState:
        return fold("default", trace_id, await self.rows(trace_id))

    async def view(self, trace_id: str) -> dict[str, Any]:
        view = WorkflowView(trace_id)
        view.apply_all(r.data for r in await self.rows(trace_id))
        return view.state()

    async def published(self) -> dict[str, list[int]]:
        """The `seq`s on the events topic, in order, by workflow."""
        reader = await self.bus.reader()
        reader.assign({(topics.EVENTS, p): 0 for p in range(P)})
        found: dict[str, list[int]] = {}
        while records := await reader.read(10_000, 0.0):
            for r in records:
                event = json.loads(r.value or b"")
                found.setdefault(event["trace_id"], []).append(event["seq"])
        await reader.close()
        return found

    async def check(self) -> None:
        """The invariants that hold whatever happened: dense seqs, dense pseqs, everything published, every result once."""
        journal = await self.pool.fetch(
            "SELECT trace_id, array_agg(seq ORDER BY seq) AS seqs FROM handrail.journal GROUP BY trace_id"
        )
        for r in journal:
            assert list(r["seqs"]) == list(range(1, len(r["seqs"]) + 1)), r["trace_id"]
        for r in await self.pool.fetch(
            "SELECT p, array_agg(pseq ORDER BY pseq) AS pseqs FROM handrail.journal GROUP BY p"
        ):
            assert list(r["pseqs"]) == list(range(1, len(r["pseqs"]) + 1)), r["p"]
        moves = Counter(
            (r["trace_id"], r["node"], r["attempt"])
            for r in await self.pool.fetch(
                "SELECT trace_id, data->>'node_id' AS node, data->>'attempt' AS attempt FROM handrail.journal "
                "WHERE type = 'NODE_STATE_CHANGED' AND data->>'to' = 'COMPLETE'"
            )
        )
        assert all(n == 1 for n in moves.values())

    async def close(self) -> None:
        for o in list(self._running):
            await self.end(o)
        if self._agent is not None:
            self._agent.cancel()
        await self.bus.close()


@asynccontextmanager
async def rig_on(dsn: str) -> Any:
    await migrate.upgrade(dsn, P)
    pool = await connect.pool(dsn, app="test", max_size=12)
    rig = Rig(dsn, pool)
    await rig.begin()
    try:
        yield rig
    finally:
        await rig.close()
        pool.terminate()

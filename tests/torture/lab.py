"""Real orchestrators and agents as processes of their own, which die at named points, are stopped, and are started again.

The lab starts workflows and decides pauses as a gateway would (command and decision rows), and reads a History at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import sys
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from handrail_agents.bootstrap import simulators
from handrail_contracts.ids import partition
from handrail_contracts.plan import Plan
from handrail_engine.plan import compile_plan
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.topic_plan import topic_plan
from handrail_store import connect, migrate
from tests.torture.checker.history import Accepted, History
from tests.torture.checker.reading import read
from tests.waiting import wait_until

P = 4
SKIP = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
ABORT = {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate"}


def _dies_with_us() -> None:
    """A test that is killed leaves nothing behind (Linux; elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@dataclass
class Proc:
    """One service process, minded: when it ends it is started again, armed with the next point of `plan`."""

    name: str
    module: str
    environment: dict[str, str]
    log: Path
    plan: deque[str] = field(default_factory=deque)
    hits: Counter[str] = field(default_factory=Counter)
    deaths: list[int] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False
    armed: str | None = None
    python: str = sys.executable
    """Whose packages it runs; what is set here counts from its next start on."""
    _minder: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._minder = asyncio.create_task(self._mind())

    async def _mind(self) -> None:
        while not self.stopping:
            self.armed = self.plan[0] if self.plan else None
            environment = {**os.environ, **self.environment}
            if self.armed is not None:
                environment["HANDRAIL_CRASHPOINT"] = self.armed
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    self.python, "-m", self.module, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=_dies_with_us,
                )  # fmt: skip
            code = await self.process.wait()
            self.deaths.append(code)
            if self.armed is not None and code == -signal.SIGKILL and self.plan and self.plan[0] == self.armed:
                self.plan.popleft()
                self.hits[self.armed.split(":")[0]] += 1
            elif not self.stopping:
                await asyncio.sleep(0.3)

    @property
    def pid(self) -> int:
        """Its process, 0 before the first."""
        return 0 if self.process is None else self.process.pid

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self) -> None:
        self.stopping = True
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                self.signal(signal.SIGKILL)
        if self._minder is not None:
            await self._minder


class Lab:
    """Engines are given; `orchestrators` and `agents` run on them. `accepted` is what a client was told."""

    def __init__(self, dsn: str, bootstrap: str, data: Path, seed: int) -> None:
        self.dsn, self.bootstrap, self.data = dsn, bootstrap, data
        self.rng = random.Random(seed)
        self.procs: dict[str, Proc] = {}
        self.accepted: list[Accepted] = []
        self.names: list[str] = []
        self.registry: dict[tuple[str, str], dict[str, Any]] = {}
        self.pool: Any = None

    async def prepare(self) -> None:
        await migrate.upgrade(self.dsn, P)
        self.pool = await connect.pool(self.dsn, app="lab", max_size=12, statement_timeout_ms=60_000)
        await simulators(self.pool)

    async def begin(self, orchestrators: int, agents: int) -> None:
        await self.prepare()
        bus = KafkaBus(self.bootstrap, client_id="lab")
        try:
            await bus.ensure_topics(topic_plan(P))
        finally:
            await bus.close()
        for i in range(orchestrators):
            self._add(f"o{i + 1}", "handrail_orchestrator", HANDRAIL_ORCHESTRATOR__LEASE_S="1",
                      HANDRAIL_ORCHESTRATOR__SEEN_S="1.5", HANDRAIL_ORCHESTRATOR__POLL_S="0.2",
                      HANDRAIL_ORCHESTRATOR__PORT="0")  # fmt: skip
        for i in range(agents):
            self._add(f"a{i + 1}", "handrail_agents", HANDRAIL_AGENTS__DRIVER="bus", HANDRAIL_AGENTS__PORT="0",
                      HANDRAIL_AGENTS__DEMO_DELAY_MS="0")  # fmt: skip
        for proc in self.procs.values():
            proc.start()
        await self.registered()

    async def registered(self, action: tuple[str, str] = ("simulator", "script")) -> None:
        """Waits until the agents have said that they can do this."""

        async def registered() -> bool:
            rows = await self.pool.fetch("SELECT name, action, manifest FROM handrail.agent")
            self.registry = {(r["name"], r["action"]): _json(r["manifest"]) for r in rows}
            return action in self.registry

        await wait_until(registered, description=f"{action} is registered", timeout_s=90)

    def _add(self, name: str, module: str, **environment: str) -> None:
        shared = {
            "HANDRAIL_POSTGRES_DSN": self.dsn,
            "HANDRAIL_KAFKA": self.bootstrap,
            "HANDRAIL_PARTITIONS": str(P),
            "HANDRAIL_LOG_LEVEL": "warning",
        }
        self.procs[name] = Proc(name, module, {**shared, **environment}, self.data / f"{name}.log")

    # what a gateway does

    async def start(self, name: str) -> None:
        """A diamond with a node that may need a person: its third kind fails for good, its fourth needs retries."""
        k = len(self.names) % 4
        bad = {2: ["fatal:NO"], 3: ["error:FLAKY", "ok"]}.get(k, ["ok"])
        await self.order(
            name, [_node("a"), _node("b", "a", outcomes=bad), _node("c", "a", duration_ms=60), _node("d", "b", "c")]
        )

    async def order(self, name: str, nodes: list[dict[str, Any]]) -> None:
        """Starts a workflow of this plan."""
        body = {"intent": None, "blueprint": None, "input": {}, "labels": {},
                "plan": compile_plan(Plan.model_validate({"nodes": nodes}), self.registry)}  # fmt: skip
        await self._insistent(lambda c: self._command(c, name, "start", body, f"start-{name}"))
        self.accepted.append(Accepted("start", name, f"start-{name}"))
        self.names.append(name)

    async def _command(self, c: Any, trace_id: str, kind: str, body: dict[str, Any], command_id: str) -> None:
        await c.execute(
            "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at) "
            "VALUES ($1, $2, $3, $4, $5, handrail.clock()) ON CONFLICT DO NOTHING",
            command_id, trace_id, partition("default", trace_id, P), kind, body,
        )  # fmt: skip

    async def _insistent(self, act: Callable[[Any], Any]) -> None:
        """A client tries again until the database answers."""
        for _ in range(2_000):
            try:
                async with self.pool.acquire() as c, c.transaction():
                    await act(c)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return
        raise AssertionError("Expected the database to come back, but it did not.")

    async def press(self) -> None:
        """Decides what waits."""

        async def act(c: Any) -> None:
            rows = await c.fetch(
                "SELECT p.pause_id, p.trace_id, p.data FROM handrail.pause p WHERE p.state = 'open' AND NOT EXISTS "
                "(SELECT FROM handrail.decision d WHERE d.pause_id = p.pause_id) ORDER BY pause_id LIMIT 20 FOR UPDATE SKIP LOCKED"
            )
            for r in rows:
                offered = [b for b in _json(r["data"])["available_resolutions"] if b["kind"] in _ENDING]
                await self._decide(c, r["pause_id"], r["trace_id"], self.rng.choice(offered)["action_id"])

        await self._insistent(act)

    async def _decide(self, c: Any, pause_id: str, trace_id: str, action_id: str) -> None:
        await c.execute(
            "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at) "
            "VALUES ($1, $2, 'decided', $3, 'ana', 'api', handrail.clock())",
            pause_id, trace_id, action_id,
        )  # fmt: skip
        await self._command(c, trace_id, "decide", {"pause_id": pause_id}, f"decide-{pause_id}")

    async def load(self, until: asyncio.Event, every_s: float = 0.15) -> None:
        """Starts workflows and decides pauses until told to stop."""
        while not until.is_set():
            await self.start(f"w{len(self.names)}")
            if len(self.names) % 3 == 0:
                await self.press()
            await asyncio.sleep(every_s)

    async def all_ended(self) -> bool:
        await self.press()
        try:
            open_ = await self.pool.fetchval(
                "SELECT count(*) FROM handrail.command c LEFT JOIN handrail.workflow w USING (tenant, trace_id) "
                "WHERE c.kind = 'start' AND w.ended_at IS NULL"
            )
            behind = await self.pool.fetchval(
                "SELECT count(*) FROM handrail.partition WHERE published_upto < next_pseq - 1"
            )
            waiting = await self.pool.fetchval("SELECT count(*) FROM handrail.command WHERE applied_pseq IS NULL")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return open_ == 0 and behind == 0 and waiting == 0

    async def history(self, **more: Any) -> History:
        """Waits until everything has ended and is read, then reads it all."""
        await wait_until(self.all_ended, description="every workflow has ended and is published", timeout_s=240)
        bus = KafkaBus(self.bootstrap, client_id="lab")
        h = History([], [])

        async def read_all() -> bool:
            nonlocal h
            async with self.pool.acquire() as c:
                h = await read(c, bus, accepted=self.accepted, least_ended=len(self.names), **more)
            return all(
                x.offsets.get(t, (0, None))[0] >= end
                for x in h.partitions
                for (t, p), end in (h.ends or {}).items()
                if p == x.p
            )

        try:
            await wait_until(read_all, description="every input is read to its end", timeout_s=60)
            return h  # this one: what is read anew may end with an answer that came late, and is not read yet
        finally:
            await bus.close()

    async def end(self) -> None:
        await asyncio.gather(*(p.stop() for p in self.procs.values()))
        if self.pool is not None:
            self.pool.terminate()


_ENDING = ("skip", "compensate", "accept", "resume")


def _node(id_: str, *after: str, **inputs: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "agent": "simulator",
        "action": "script",
        "depends_on": list(after),
        "effect_class": "idempotent",
        "retry": {"max_attempts": 30, "initial_delay_s": 0.1, "max_delay_s": 0.5},
        "timeouts": {"lease_s": 1.0, "schedule_to_start_s": 120},
        "inputs": inputs,
        "compensation": {"retry": {"max_attempts": 30, "initial_delay_s": 0.1, "max_delay_s": 0.5}},
        "resolutions": [SKIP, ABORT],
    }


def _json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, (str, bytes)) else value


@asynccontextmanager
async def working(service: Any) -> AsyncGenerator[None]:
    """The service works in this process meanwhile; if it ends by itself, its error is ours."""
    await service.start()
    run = asyncio.create_task(service.run())
    try:
        yield
    finally:
        await service.stop()
        await run


@asynccontextmanager
async def lab(
    dsn: str, bootstrap: str, data: Path, *, seed: int, orchestrators: int, agents: int
) -> AsyncGenerator[Lab]:
    made = Lab(dsn, bootstrap, data, seed)
    try:
        await made.begin(orchestrators, agents)
        yield made
    finally:
        await made.end()

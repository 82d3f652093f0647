"""The agents service of the simulated world: the real runtime and the real `simulator` agent; ledger and outside are simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from handrail_agents.catalog.planner import RecordedPlans, planner
from handrail_agents.catalog.simulator import simulator
from handrail_agents.drivers.bus import BusDriver
from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.claim import Claim, LedgerClosed, Row, State
from handrail_agents.runtime.service import AgentsService
from handrail_agents.runtime.worker import Worker
from handrail_contracts.topics import task_topic
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Record
from handrail_simulators import Withdrawn
from tests.torture.checker.history import Effect
from tests.torture.sim.bus import Connection
from tests.torture.sim.faults import SLOWEST_S
from tests.torture.sim.loop import Process
from tests.torture.sim.plans import Plans
from tests.torture.sim.store import Server
from tests.torture.sim.teller import teller

T = TypeVar("T")


@dataclass
class LedgerRow:
    """A row of `agents.effect`. `doubt`: an earlier attempt under this key was never closed."""

    attempt: int
    state: State
    worker: str | None
    claimed_ms: int
    result: bytes | None = None
    doubt: bool = False

    def row(self) -> Row:
        shown = self.result if self.state in (State.DONE, State.FAILED) else None
        return Row(self.attempt, self.state, self.worker, self.claimed_ms, shown)


@dataclass
class Outside:
    """What really happened: a provider with idempotency keys, and the ledger of claims beside it."""

    claims: dict[str, LedgerRow] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)  # do key -> undo key
    withdrawn: set[str] = field(default_factory=set)  # do keys whose undo came first
    plans: Plans | None = None
    repeats: int = 0
    overtaken: int = 0

    def may_happen(self, trace_id: str, node_id: str, living: set[str]) -> bool:
        """Whether an effect of this node stands, or somebody who lives may still make one."""
        if any(e.kind == "do" and (e.trace_id, e.node_id) == (trace_id, node_id) for e in self.effects):
            return True
        mine = (r for k, r in self.claims.items() if k.startswith(f"default/{trace_id}/{node_id}/"))
        return any(r.state is State.INTENT and r.worker in living for r in mine)

    def history(self) -> list[Effect]:
        return [replace(e, undone=e.kind == "do" and e.effect_key in self.undone) for e in self.effects]


class Provider:
    """`World.ledger` of the simulators, by one process: each call takes a while, and happens even when its caller dies.

    So an undo may overtake what it undoes. As the real one does, it refuses what comes later by its key, and waits for what
    has none.
    """

    def __init__(self, server: Server, process: Process, outside: Outside) -> None:
        self._server, self._process, self._o = server, process, outside

    async def do(self, by: Any, answer: Any, *, keyless: bool = False) -> Any:
        def act() -> Any:
            o = self._o
            if by.effect_key in o.answers and not keyless:
                o.repeats += 1
                return o.answers[by.effect_key]
            if by.effect_key in o.withdrawn and not keyless:
                o.overtaken += 1
                return Withdrawn
            o.effects.append(Effect(by.trace_id, by.node_id, by.effect_key, "do", keyless, answer=answer))
            return o.answers.setdefault(by.effect_key, answer)

        said = await self._ask(act)
        if said is Withdrawn:
            raise Withdrawn(by.effect_key)
        return said

    async def undo(self, by: Any, *, keyless: bool = False) -> bool:
        def act() -> bool:
            o = self._o
            if by.effect_key in o.undone.values():
                o.repeats += 1
                return True
            if by.do_key not in o.answers or by.do_key in o.undone:
                o.withdrawn.add(by.do_key)
                return False
            o.undone[by.do_key] = by.effect_key
            o.effects.append(Effect(by.trace_id, by.node_id, by.effect_key, "undo", keyless))
            return True

        if not (undone := await self._ask(act)) and keyless:
            await asyncio.sleep(SLOWEST_S)
            undone = await self._ask(act)
        return undone

    async def find(self, by: Any) -> tuple[bool, Any]:
        def act() -> tuple[bool, Any]:
            return by.effect_key in self._o.answers, self._o.answers.get(by.effect_key)

        found, answer = await self._ask(act)
        if not found:
            await asyncio.sleep(SLOWEST_S)
            found, answer = await self._ask(act)
        return found, answer

    async def _ask(self, act: Callable[[], T]) -> T:
        return await self._server.ask(self._process, act, what="provider")


class SimLedger:
    """Implements `runtime.claim.Ledger`: the rules of `adapters/ledger.py`, row by row."""

    def __init__(self, server: Server, process: Process, outside: Outside, worker: str) -> None:
        self._server, self._process, self._o, self._worker = server, process, outside, worker
        self._closed = asyncio.Event()

    async def claim(self, key: str, attempt: int, start_before_ms: int) -> Claim:
        tried = False

        def act() -> Claim:
            row, now = self._o.claims.get(key), self._server.database.now_ms()
            if row is None:
                if now >= start_before_ms:
                    return None
                self._o.claims[key] = LedgerRow(attempt, State.INTENT, self._worker, now)
                return True
            free = row.attempt < attempt and row.state not in (State.DONE, State.TOMBSTONE) and now < start_before_ms
            if free:
                doubt = row.state is State.INTENT
                self._o.claims[key] = LedgerRow(attempt, State.INTENT, self._worker, now, None, doubt)
                return True
            mine = row.state is State.INTENT and row.worker == self._worker and row.attempt == attempt
            return True if tried and mine else row.row()

        delays = backoff(0.05, 2.0)
        while True:
            try:
                return await self._ask(act)
            except OSError:
                tried = True
                await asyncio.sleep(next(delays))

    async def done(self, key: str, attempt: int, result: bytes) -> None:
        def act() -> None:
            row = self._o.claims.get(key)
            if row is None:
                self._o.claims[key] = LedgerRow(attempt, State.DONE, self._worker, 0, result)
            elif row.state in (State.INTENT, State.FAILED):
                row.attempt = max(row.attempt, attempt)
                row.state, row.result = State.DONE, result

        await self._again(act)

    async def failed(self, key: str, attempt: int, result: bytes | None, *, certain: bool = False) -> None:
        def act() -> None:
            row = self._o.claims.get(key)
            if row is None:
                self._o.claims[key] = LedgerRow(attempt, State.FAILED, None if certain else self._worker, 0, result)
            elif row.state is State.INTENT and row.attempt == attempt and not (row.doubt and not certain):
                row.state, row.result = State.FAILED, result

        await self._again(act)

    async def bury(self, key: str, attempt: int, *, running_too: bool) -> Row:
        def act() -> Row:
            row = self._o.claims.get(key)
            if row is None:
                row = self._o.claims[key] = LedgerRow(attempt, State.TOMBSTONE, None, 0)
            elif row.state is State.FAILED or (running_too and row.state is State.INTENT):
                row.worker = row.worker if row.state is State.INTENT else None
                row.state, row.result = State.TOMBSTONE, None
            return row.row()

        return await self._again(act)

    async def _ask(self, act: Callable[[], T]) -> T:
        if self._closed.is_set():
            raise LedgerClosed
        return await self._server.ask(self._process, act)

    async def _again(self, act: Callable[[], T]) -> T:
        delays = backoff(0.05, 2.0)
        while True:
            try:
                return await self._ask(act)
            except OSError:
                await asyncio.sleep(next(delays))

    async def run(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        self._closed.set()


class SimClock:
    """The database's time: exact, as long as the machine's clock is."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def now_ms(self) -> int:
        return self._server.database.now_ms()

    async def sync(self) -> None:
        """Nothing to ask."""

    async def run(self, stopping: asyncio.Event, every_s: float = 1.0) -> None:
        await stopping.wait()


class _Registry:
    def __init__(self, server: Server, agents: list[Any]) -> None:
        self._server, self._agents = server, agents

    async def register(self) -> None:
        for agent in self._agents:
            for action, task in agent.tasks.items():
                self._server.database.registry[agent.name, action] = task.manifest()

    async def run(self, stopping: asyncio.Event, every_s: float = 5.0) -> None:
        await stopping.wait()


class _Quarantine:
    async def put(self, record: Record, reason: str) -> None:
        raise AssertionError(f"a task could not be read: {reason}")


def agents_service(
    server: Server, bus: Connection, process: Process, outside: Outside, worker: str, partitions: int
) -> AgentsService:
    """As `handrail_agents.bootstrap.build`, on simulated engines."""
    world = SimpleNamespace(ledger=Provider(server, process, outside))
    agents = [simulator(cast(Any, world))]
    plans = outside.plans
    if plans is not None and (plans.gated or plans.planned):
        agents.append(teller(world.ledger))
    if plans is not None and plans.planned:
        agents.append(planner(RecordedPlans(plans.recordings)))
    answers = Answers(bus, partitions, worker)
    ledger, clock = SimLedger(server, process, outside, worker), SimClock(server)
    hands = Worker(agents, ledger=ledger, answers=answers, clock=clock, quarantine=_Quarantine(), slots=8, short_s=0.05)
    return AgentsService(
        agents,
        bus=bus,
        partitions=partitions,
        worker=hands,
        answers=answers,
        ledger=ledger,
        registry=_Registry(server, agents),
        clock=clock,
        driver=BusDriver(bus, "agents", [task_topic(a.name) for a in agents], hands),
        drain_s=3.0,
    )

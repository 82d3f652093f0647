"""One seed, played: two orchestrators and two agents services, people, and a nemesis; then it heals, and all must end.

`simulate(seed)` answers what came of it; the same seed answers the same `digest`, in any process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import structlog

import handrail_runtime.crashpoints as crashpoints
from handrail_contracts.envelope import header
from handrail_contracts.topics import OWNER_INPUTS
from handrail_orchestrator.application import snapshots
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_runtime.topic_plan import topic_plan
from tests.torture.checker.history import Command, Decision, Entry, History, Letter, Partition, Pause, Seen, Summary
from tests.torture.checker.invariants import Violation, check
from tests.torture.sim.agents import Outside, agents_service
from tests.torture.sim.bus import Connection, SimBus
from tests.torture.sim.database import Database
from tests.torture.sim.faults import Faults
from tests.torture.sim.loop import Killed, Process, SimLoop, Stuck, current
from tests.torture.sim.people import People
from tests.torture.sim.plans import STANDING, Plans
from tests.torture.sim.store import Server, SimStore

P = 3
LEASE_S = 2.0
FAULTS_S = 14.0
MOST_S = 1_500.0
UPTIME_S = 86_400.0  # no machine is younger than its processes
MOST_STEPS = 3_000_000


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    digest: str
    violations: list[Violation]
    faults: Counter[str]
    totals: Counter[str]
    history: History
    lasted_s: float = 0.0

    @property
    def again(self) -> str:
        return f"make sim FIRST={self.seed} SEEDS=1"


@dataclass(eq=False)
class Node:
    """A place where a process runs, and is started again when it is gone."""

    kind: str
    name: str
    process: Process
    service: Any = None
    task: asyncio.Task[Any] | None = None
    born: int = 0
    down_until: float = 0.0


@dataclass
class Simulation:
    """One world. `hook(sim)` may plant a bug once it is built."""

    seed: int
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.loop = SimLoop()
        self.faults = Faults(self.rng, aside=Random(f"aside {self.seed}"))
        self.bus = SimBus(self.loop, self.faults)
        self.database = Database(P, self.loop.time, self._log)
        if self.rng.random() < 0.4:
            self.database.limits = self.rng.choice(({"simulator": 2}, {"simulator/script": 1}, {"simulator": 3}))
        self.server = Server(self.loop, self.faults, self.database)
        self.plans = Plans(self.rng, self.seed)
        self.plans.stand(self.database)
        self.outside = Outside(plans=self.plans)
        self.people = People(self.rng, self.server, self.bus, P, self.plans, self.outside, self._living)
        self.deaths: list[str] = []
        self.healed = False

    def _log(self, topic: str, p: int, bus_id: str | None) -> Any:
        return self.bus.logs.get((topic, p)) if bus_id == self.bus.id else None

    def _living(self) -> set[str]:
        return {n.process.name for n in self.nodes if n.process.alive}

    def uptime(self) -> float:
        return self.loop.time() + UPTIME_S

    # playing

    def run(self) -> Outcome:
        with _one_world(self):
            try:
                self.loop.run_until_complete(self._play())
                history = self._history(quiet=True)
            except Stuck as e:
                self.deaths.append(str(e))
                history = self._history(quiet=True)
            finally:
                for node in self.nodes:
                    node.process.alive = False
                self.loop.bury()
        found = [Violation("I9", d, "a process ended that should have gone on") for d in self.deaths]
        found += [Violation("I9", t, f"it is parked: {why}") for t, why in self.database.parked.items()]
        return self._outcome(history, [*found, *check(history)])

    async def _play(self) -> None:
        for name in ("o1", "o2")[: self.rng.choice((1, 2, 2, 2))]:
            self._boot(Node("orchestrator", name, Process(name)))
        for name in ("a1", "a2")[: self.rng.choice((1, 2, 2))]:
            self._boot(Node("agents", name, Process(name)))
        while not self.database.registry or len(self.bus.counts) < 7:  # noqa: ASYNC110  time is simulated
            await asyncio.sleep(0.05)
        clients = asyncio.create_task(self._clients())
        nemesis = asyncio.create_task(self._nemesis())
        keeper = asyncio.create_task(self._keep())
        await asyncio.gather(clients, nemesis)
        self._heal()
        await self._end()
        keeper.cancel()

    def _boot(self, node: Node) -> None:
        """Starts a process at a node, in place of the one that was there."""
        if node not in self.nodes:
            self.nodes.append(node)
        node.born += 1
        node.process = Process(f"{node.name}.{node.born}")
        node.task = self.loop.spawn(node.process, self._live(node, node.process))

    async def _live(self, node: Node, process: Process) -> None:
        connection = Connection(self.bus, process)
        if node.kind == "orchestrator":
            node.service = self._orchestrator(connection, process)
        else:
            node.service = agents_service(self.server, connection, process, self.outside, process.name, P)
        await node.service.start()
        await node.service.run()

    def _orchestrator(self, connection: Connection, process: Process) -> Orchestrator:
        store = SimStore(self.server, process, process.name, LEASE_S)

        async def prepare() -> None:
            await connection.ensure_topics(topic_plan(P))

        return Orchestrator(
            store, connection, "default", P, seen_s=2.5, batch=50, poll_s=0.5, cached_nodes=10,
            adopt_foreign=True, bus_check_s=5.0, prepare=prepare,
        )  # fmt: skip

    async def _keep(self) -> None:
        """What ended is started again: as a supervisor would. What ended by itself with an error is judged."""
        while True:
            await asyncio.sleep(0.1)
            for node in self.nodes:
                over = not node.process.alive or (node.task is not None and node.task.done())
                if not over or self.loop.time() < node.down_until:
                    continue
                if node.process.alive and node.task is not None and not node.task.cancelled():
                    error = node.task.exception()
                    if error is not None and not isinstance(error, (Killed, OSError)) and not _of_the_bus(error):
                        self.deaths.append(f"{node.process.name}: {type(error).__name__}: {error}")
                self.loop.kill(node.process)
                node.down_until = self.loop.time() + self.rng.uniform(0.1, 1.5)
                self._boot(node)

    async def _clients(self) -> None:
        rng, people = self.rng, self.people
        for i in range(rng.choice((2, 3, 4, 6))):
            await people.start(f"s{self.seed}-{i}")
            await asyncio.sleep(rng.uniform(0.0, 2.5))
        while self.loop.time() < FAULTS_S:
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            await people.look(healed=False)
            one = rng.choice(people.started)
            if self.plans.gated and rng.random() < 0.15:
                self.plans.change(self.database)
            if rng.random() < 0.06:
                await people.panic(one)
            if rng.random() < 0.04:
                await people.cancel(one)

    # the nemesis

    async def _nemesis(self) -> None:
        rng, f = self.rng, self.faults
        while self.loop.time() < FAULTS_S:
            await asyncio.sleep(rng.uniform(0.3, 3.0) / max(0.2, f.nemesis))
            if f.nemesis:
                await rng.choices(
                    (self._kill, self._stop, self._restart, self._database_away, self._bus_away, self._bus_new),
                    (4, 3, 2, 2, 2, 1 if f.new_bus else 0),
                )[0]()

    def _any(self) -> Node | None:
        living = [n for n in self.nodes if n.process.alive and not n.process.paused]
        return self.rng.choice(living) if living else None

    async def _kill(self) -> None:
        if (node := self._any()) is not None:
            self.faults.counts[f"{node.kind} killed"] += 1
            self._crash(node.process)

    def _crash(self, process: Process) -> None:
        self.loop.kill(process)
        for node in self.nodes:
            if node.process is process:
                node.down_until = self.loop.time() + self.rng.choice((0.1, 0.5, 3.0))

    async def _stop(self) -> None:
        """SIGSTOP, and SIGCONT when its leases are probably over: a zombie."""
        if (node := self._any()) is None:
            return
        self.faults.counts[f"{node.kind} stopped"] += 1
        process = node.process
        self.loop.pause(process)
        self.loop.outside(self.rng.uniform(0.5, 6.0), lambda: self.loop.resume(process))

    async def _restart(self) -> None:
        """SIGTERM."""
        node = self._any()
        if node is None or node.service is None or node.task is None or node.task.done():
            return
        self.faults.counts[f"{node.kind} restarted"] += 1
        process = node.process
        self.loop.spawn(process, node.service.stop())
        self.loop.outside(self.rng.uniform(2.0, 6.0), lambda: self._crash(process) if node.process is process else None)

    async def _database_away(self) -> None:
        self.faults.counts["database restarted"] += 1
        self.server.restart()
        self.loop.outside(self.rng.uniform(0.1, 2.5), self.server.up)

    async def _bus_away(self) -> None:
        self.faults.counts["bus down"] += 1
        self.bus.down = True
        self.loop.outside(self.rng.uniform(0.2, 5.0), lambda: setattr(self.bus, "down", False))

    async def _bus_new(self) -> None:
        self.faults.counts["bus lost its log"] += 1
        self.bus.new_incarnation()

    def _heal(self) -> None:
        self.faults.on = False
        self.healed = True
        self.server.up()
        self.bus.down = False
        for node in self.nodes:
            if node.process.paused:
                self.loop.resume(node.process)

    # the end

    async def _end(self) -> None:
        """Until everything that was started has ended and is published, or far too much time has gone by."""
        calm = 0
        until = self.loop.time() + MOST_S
        while calm < 3 and not self.deaths and self.loop.time() < until and self.loop.steps < MOST_STEPS:
            await asyncio.sleep(1.0)
            await self.people.look(healed=True)
            calm = calm + 1 if self._over() else 0
        self.until_calm_s = self.loop.time() - FAULTS_S

    def _over(self) -> bool:
        db = self.database
        ended = all((w := db.workflows.get(t)) is not None and w.ended_ms is not None for t in self.people.started)
        rows = db.partitions.values()
        published = all(r.published_upto == r.next_pseq - 1 for r in rows)
        read = all(r.offsets.get(t, (0, None))[0] == len(self.bus.logs[t, r.p]) for r in rows for t in OWNER_INPUTS)
        return ended and published and read and not db.unapplied

    def _history(self, *, quiet: bool) -> History:
        db, bus = self.database, self.bus
        orchestrators = [n.service for n in self.nodes if n.kind == "orchestrator" and n.process.alive and n.service]
        return History(
            journal=[
                Entry(
                    r.trace_id, r.seq, r.p, r.pseq, r.type, orjson.loads(r.data),
                    orjson.loads(r.meta) if r.meta else None, r.at_ms, r.causation,
                )
                for r in db.journal
            ],
            effects=self.outside.history(),
            partitions=[
                Partition(r.p, r.epoch, r.next_pseq, r.published_upto, dict(r.offsets)) for r in db.partitions.values()
            ],
            workflows=[
                Summary(w.trace_id, w.status, w.seq, w.ended_ms is not None, w.wake_ms is not None, w.trace_id in db.parked)
                for w in db.workflows.values()
            ],
            pauses=[Pause(p.pause_id, p.trace_id, p.state) for p in db.pauses.values()],
            decisions=[
                Decision(d.pause_id, d.trace_id, d.outcome, d.action_id, d.applied) for d in db.decisions.values()
            ],
            commands=[Command(c.command_id, c.trace_id, c.kind, c.applied_pseq is not None) for c in db.commands],
            letters=[Letter(r[0], r[1], r[2], r[3]) for r in db.letters.values()],
            accepted=list(self.people.accepted),
            events=[_seen(r) for r in bus.archive],
            ends={(t, p): len(bus.logs.get((t, p), ())) for t in OWNER_INPUTS for p in range(P)},
            ce_ids={  # an owner verifies when it acquires: until then what it remembers is of the log that is gone
                (t, row.p, r.offset): (header(list(r.headers), "ce_id") or b"").decode()
                for t in OWNER_INPUTS
                for row in db.partitions.values()
                if row.bus_id == bus.id
                for r in bus.logs.get((t, row.p), ())[-1:]
            },
            commits=db.commits,
            torn=db.torn,
            standing=STANDING if self.plans.gated or self.plans.planned else [],
            cached=[c for o in orchestrators for c in _cached(o, {r.p: r.owner for r in db.partitions.values()})],
            queues={
                **{f"{i} publisher": o._publisher.queued for i, o in enumerate(orchestrators)},
                **{f"place of {k}": n for k, n in db.places.items()},
            },
            quiet=quiet,
            adopted=self.bus.id != "bus-1",
            faults=self.faults.counts,
            least_ended=len(self.people.started),
        )  # fmt: skip

    def _outcome(self, h: History, violations: list[Violation]) -> Outcome:
        self.faults.counts["zombie fenced"] += self.database.fenced
        totals = Counter(
            {
                "workflows": len(h.workflows), "rows": len(h.journal), "effects": len(h.effects),
                "effects asked for again": self.outside.repeats, "effects overtaken by their undo": self.outside.overtaken,
                "commits": len(self.database.commits),
                "events on the topic": len(self.bus.archive), "decisions": len(h.decisions), "races": self.people.races,
                "epochs": sum(p.epoch for p in h.partitions), "steps": self.loop.steps,
                "parked": len(self.database.parked), "snapshots taken up": self.database.taken_up,
            }
        )  # fmt: skip
        totals.update(f"ended {w.status}" for w in h.workflows)
        totals.update(_played(h))
        return Outcome(
            self.seed,
            _digest(h),
            violations,
            Counter(self.faults.counts),
            totals,
            h,
            getattr(self, "until_calm_s", 0.0),
        )


def simulate(seed: int) -> Outcome:
    """Plays a seed."""
    return Simulation(seed).run()


def _of_the_bus(error: BaseException) -> bool:
    return any(k.__name__ == "BusError" for k in type(error).__mro__)


def _seen(r: Any) -> Seen:
    data = orjson.loads(r.value)
    return Seen(r.partition, r.offset, data["trace_id"], data["seq"], data)


def _cached(o: Orchestrator, owners: dict[int, str | None]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    member = o._store._member  # type: ignore[attr-defined]
    for trace_id, entry in o._cache._entries.items():
        if owners[entry.p] == member and entry.state.exists:
            yield trace_id, entry.state.seq, entry.state.facts()


def _played(h: History) -> Iterator[str]:
    """What of gates, planners, partial rollbacks and conversations was played."""
    gates = set[str]()
    for r in h.journal:
        d = r.data
        if r.type == "GATE_EVALUATED":
            yield f"gate says {d['decide']}"
        elif r.type == "WORKFLOW_PAUSED_HITL" and d["kind"] == "gate":
            gates.add(d["pause_id"])
        elif r.type == "HITL_RESOLVED" and (
            d["pause_id"] in gates or d["action_id"] in ("RES_HAND_BACK", "RES_AMOUNT")
        ):
            yield f"{d['outcome']} {d['action_id'] or 'gate'}"
        elif r.type == "WORKFLOW_COMPENSATING" and d["scope"].startswith(("savepoint", "subtree")):
            yield f"rolled back a {d['scope'].split(':')[0]}"
        elif r.type == "NODE_STATE_CHANGED" and (r.meta or {}).get("plan"):
            yield "planned by an agent"
        elif r.type == "HITL_RESOLVED" and d["action_id"] == "RES_DID_NOT_HAPPEN":
            yield "not happened, it was sworn"
    yield from ("effects without a key" for e in h.effects if e.keyless)


def _digest(h: History) -> str:
    seen = hashlib.sha256()
    for r in h.journal:
        seen.update(orjson.dumps((r.trace_id, r.seq, r.p, r.pseq, r.type, r.data, r.meta, r.causation)))
    for e in h.effects:
        seen.update(orjson.dumps((e.trace_id, e.node_id, e.effect_key, e.kind)))
    for s in h.events or ():
        seen.update(orjson.dumps((s.partition, s.trace_id, s.seq)))
    for c in h.commits or ():
        seen.update(orjson.dumps((c.p, c.epoch)))
    return seen.hexdigest()[:16]


@contextlib.contextmanager
def _one_world(sim: Simulation) -> Iterator[None]:
    """Time, chance and crash points are the simulation's while it plays."""

    def hit(name: str) -> None:
        process = current()
        if process is not None and process.alive and sim.faults.crashes(name):
            sim._crash(process)
            raise Killed(name)

    real = (time.monotonic, crashpoints._hit, crashpoints._armed, crashpoints._waits)
    kept, told = random.getstate(), structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    random.seed(sim.seed)
    least, snapshots.LEAST_EVENTS = snapshots.LEAST_EVENTS, 12
    time.monotonic = sim.uptime
    crashpoints._hit, crashpoints._armed = hit, True
    crashpoints._waits = lambda name: sim.faults.on and name in sim.faults.points and sim.rng.random() < 0.2
    try:
        yield
    finally:
        time.monotonic, crashpoints._hit, crashpoints._armed, crashpoints._waits = real
        random.setstate(kept)
        snapshots.LEAST_EVENTS = least
        structlog.configure(**told)

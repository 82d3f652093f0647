"""The simulated store answers what the real one does: one story, told to both, call by call.

What `tests/torture/sim/database.py` promises about locks, fences and offsets is only worth what PostgreSQL does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from tests.torture.sim.database import Database
from tests.torture.sim.faults import Faults
from tests.torture.sim.loop import Process
from tests.torture.sim.store import Server, SimStore
from tests.waiting import wait_until

from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application.ports import Batch, CommitUnknown, Fenced, Position, Store, StoredRow, Summary
from handrail_store import connect, migrate
from handrail_store.journal_weeks import born_at

P = 4
JOURNAL = Path(__file__).parents[2] / "contracts" / "journals" / "paused-by-hand-with-a-deadline.jsonl"
EVENTS: list[dict[str, Any]] = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
PAUSE: dict[str, Any] = next(e["data"] for e in EVENTS if e["type"] == "WORKFLOW_PAUSED_HITL")
PAUSED_AT = next(e["seq"] for e in EVENTS if e["type"] == "WORKFLOW_PAUSED_HITL")
BORN = born_at(EVENTS[0]["at_ms"])


@dataclass
class Twin:
    """One of the two. `store(member, lease_s)` is a process's connection; `order` and `decide` are what the
    gateway does; `decide` says when it has the pause's lock, and keeps it until it may go."""

    name: str
    store: Callable[[str, float], Store]
    decide: Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]]
    order: Callable[[str, str], Awaitable[None]]


class _RealTime:
    """What the simulated server needs of its loop, on the real one."""

    @staticmethod
    def outside(delay: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay, act)

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()


def simulated() -> Twin:
    faults = Faults(Random(1), on=False)
    database = Database(P, _RealTime.time, lambda topic, p, bus_id: None)
    server: Any = Server(_RealTime(), faults, database)  # type: ignore[arg-type]

    async def decide(held: asyncio.Event, go: asyncio.Event) -> None:
        tx = database.begin()
        database.lock(tx, PAUSE["pause_id"])
        held.set()
        await go.wait()
        database.decide(database.pauses[PAUSE["pause_id"]], "RES_RESUME", None, "ada", "api")
        database.end(tx, commit=True)

    async def order(trace_id: str, kind: str) -> None:
        database.add_command(trace_id, 0, kind, {"compensate": True}, "ada", "api")

    return Twin("simulated", lambda member, s: SimStore(server, Process(member), member, s), decide, order)


def real(pool: Any) -> Twin:
    async def decide(held: asyncio.Event, go: asyncio.Event) -> None:
        async with pool.acquire() as c, c.transaction():
            await c.fetchval("SELECT pause_id FROM handrail.pause WHERE pause_id = $1 FOR UPDATE", PAUSE["pause_id"])
            held.set()
            await go.wait()
            await c.execute(
                "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at) "
                "VALUES ($1, 'w', 'decided', 'RES_RESUME', 'ada', 'api', handrail.clock())",
                PAUSE["pause_id"],
            )

    async def order(trace_id: str, kind: str) -> None:
        await pool.execute(
            "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, actor, channel, at)"
            " VALUES ($2 || '-1', $1, 0, $2, $3, 'ada', 'api', handrail.clock())",
            trace_id,
            kind,
            {"compensate": True},
        )

    return Twin("real", lambda member, s: PostgresStore(pool, member, "default", s), decide, order)


@pytest_asyncio.fixture(loop_scope="session")
async def twins(empty_database: str) -> AsyncGenerator[tuple[Twin, Twin]]:
    await migrate.upgrade(empty_database, P)
    pool = await connect.pool(empty_database, app="test", max_size=6)
    yield real(pool), simulated()
    pool.terminate()


def batch(
    epoch: int, first: int, last: int, *, results: int, count: int = 0, commands: list[tuple[int, int]] | None = None
) -> Batch:
    """Events `first` to `last` of the story, in partition 0 after `count` batches; its offset of results moves to `results`."""
    events = EVENTS[first - 1 : last]
    rows = [
        StoredRow(
            BORN,
            "w",
            e["seq"],
            0,
            e["seq"],
            e["type"],
            json.dumps(e["data"]).encode(),
            json.dumps(e["meta"]).encode() if e["meta"] is not None else None,
            None,
            e["at_ms"],
        )
        for e in events
    ]
    at = events[-1]["at_ms"]
    summary = Summary("w", 0, BORN, None, None, "RUNNING", b"{}", b"{}", last, at, at, None, at + 500)
    offsets = {"handrail.results": (results, f"id-{results}")}
    made = Batch("default", [Position(0, epoch, last + 1, first - 1, offsets, "bus-1", count)], rows, [summary])
    made.commands = commands or []
    for e in events:
        if e["type"] == "WORKFLOW_PAUSED_HITL":
            d = e["data"]
            body = json.dumps(d).encode()
            made.pauses.append((d["pause_id"], "w", e["seq"], None, d["kind"], body, None, None, e["at_ms"], None))
        if e["type"] == "HITL_RESOLVED":
            closed = ("decided", "resume", "RES_RESUME", "ada", "api", None, e["at_ms"])
            made.closed.append((PAUSE["pause_id"], "w", *closed))
    return made


async def refused(work: Awaitable[Any]) -> str:
    try:
        return f"answered {await work}"
    except Fenced:
        return "fenced"


async def partitions(twin: Twin) -> list[Any]:
    """Claims, leases and fences."""
    a, b = twin.store("a", 60.0), twin.store("b", 60.0)
    told: list[Any] = [await a.beat(60.0), await b.beat(60.0)]
    told += [by_p(await a.acquire(3)), by_p(await b.acquire(9)), by_p(await a.acquire(9))]
    told += [await a.renew({0: (1, 0, 0), 1: (1, 7, 0), 2: (2, 0, 0), 3: (1, 0, 0)}), await b.renew({})]
    await a.release({0: (1, 0), 1: (1, 0), 3: (1, 0)})
    told.append(by_p(await b.acquire(9)))
    told.append(await refused(a.commit(batch(1, 1, 2, results=3))))
    told.append(await refused(a.committed([Position(0, 1, 3, 0, {}, None)], {0: 0})))
    told.append(await b.committed([Position(0, 2, 3, 0, {}, None)], {0: 0}))
    short = twin.store("short", 0.05)
    await b.release({0: (2, 0)})
    told.append(by_p(await short.acquire(1)))
    taken: list[Any] = []

    async def over() -> bool:
        taken.extend(by_p(await b.acquire(1)))
        return bool(taken)

    await wait_until(over, description=f"a lease of {twin.name} runs out")
    told += [taken, await short.renew({0: (3, 0, 0)}), await refused(short.commit(batch(3, 1, 2, results=3)))]
    told.append(await b.load(["w"]))
    await a.leave()
    return [*told, await b.beat(60.0)]


async def a_pause(twin: Twin) -> list[Any]:
    """Batches with offsets, a decision under its pause's lock, what is read back."""
    a = twin.store("a", 60.0)
    told: list[Any] = [by_p(await a.acquire(P)), await a.load(["w", "nobody"])]
    told.append(await a.renew({0: (1, 0, 0), 1: (1, 0, 1)}))
    told.append(await refused(a.commit(batch(1, 1, 2, results=3, count=1))))
    assert told[-2:] == [{0}, "fenced"], "what knows of more batches than the row is of another database"
    for count in ((1, 2), (299, 397), (150, 200), (3, 3)):
        told.append(await a.track_record({("bot", "act"): count, ("bot", "look"): (1, 1)}))
    told.append(await a.track_record({}))
    await twin.order("w", "start")
    (start,) = await a.commands([0, 1], 10)
    told.append((start.kind, start.unborn))
    await a.commit(batch(1, 1, PAUSED_AT - 1, results=3))
    (start,) = await a.commands([0, 1], 10)
    told.append((start.kind, start.unborn))
    await a.commit(batch(1, PAUSED_AT, PAUSED_AT, results=4, count=1, commands=[(start.n, 1)]))
    told.append(await refused(a.commit(batch(1, PAUSED_AT + 1, PAUSED_AT + 1, results=5, count=1))))
    told.append(await a.renew({0: (1, 0, 1), 1: (1, 0, 0)}))
    assert told[-2:] == ["fenced", {1}], "what knows of fewer has missed a commit of its own"
    told += [await a.load(["w"]), await a.open_workflows([0, 1], "", 10), await a.open_workflows([1], "", 10)]
    told += [await a.unpublished(0, PAUSED_AT - 2, 10), await a.last_events(["w"])]
    asked = [("w", 1), ("w", PAUSED_AT), ("w", PAUSED_AT + 1), ("nobody", 1)]
    told += [await a.journaled(asked), await a.journaled([])]
    assert [j.newest for j in told[-2].values()] == [PAUSED_AT] * 3
    assert told[-2]["w", PAUSED_AT][1:] == ("WORKFLOW_PAUSED_HITL", PAUSE["at"])
    assert told[-2]["w", PAUSED_AT + 1][1:] == (None, None)
    again = a.commit(batch(1, 1, 2, results=4, count=2))
    with pytest.raises(Exception) as violated:
        await again
    told.append(a.is_transient(violated.value))
    async with a.transaction() as tx:
        told.append(await tx.decisions([PAUSE["pause_id"], "unknown"]))
    await twin.order("w", "cancel")
    (command,) = await a.commands([0, 1], 10)
    assert not command.unborn
    told += [(command.trace_id, command.p, command.kind, command.body, command.actor), await a.commands([1], 10)]
    told.append(await decided_meanwhile(twin, a))
    last = PAUSED_AT + 2
    async with a.transaction() as tx:
        told.append(await tx.decisions([PAUSE["pause_id"]]))
        await tx.write(batch(1, PAUSED_AT + 1, last, results=9, count=2, commands=[(command.n, last)]))
        doubt = [Position(0, 1, last + 1, 0, {}, None)], {0: 2}
        with pytest.raises(CommitUnknown):
            await a.committed(*doubt)  # as long as a lock is waited for
        asking = asyncio.create_task(a.committed(*doubt))
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done, "it waits for the transaction"
    told.append(await asyncio.wait_for(asking, 30))
    assert told[-1] is True
    async with a.transaction() as tx:
        told.append(await tx.decisions([PAUSE["pause_id"]]))
    told += [await a.load(["w"]), await a.commands([0], 10)]
    await a.release({0: (1, last)})
    return [*told, by_p(await twin.store("b", 60.0).acquire(1))]


async def snapshots(twin: Twin) -> list[Any]:
    """Which snapshot stays, which rows come with it."""
    a = twin.store("a", 60.0)
    told: list[Any] = [by_p(await a.acquire(P))]
    await a.commit(batch(1, 1, PAUSED_AT, results=3))
    await a.save_snapshot("nobody", 1, 7, b"unknown")
    for seq, version, state in ((2, 7, b"two"), (1, 7, b"older"), (3, 7, b"three"), (1, 8, b"of another version")):
        await a.save_snapshot("w", seq, version, state)
        told += [await a.load(["w", "nobody"], 7), await a.load(["w"], 8)]
    await a.save_snapshot("w", PAUSED_AT, 8, b"the last row")
    return [*told, await a.load(["w"], 8), await a.load(["w"], 7), await a.load(["w"])]


async def decided_meanwhile(twin: Twin, store: Store) -> list[Any]:
    """A transaction that has to wait for a pause's lock sees what the holder decided."""
    held, go = asyncio.Event(), asyncio.Event()

    async def look() -> list[Any]:
        async with store.transaction() as tx:
            return list(await tx.decisions([PAUSE["pause_id"]]))

    deciding = asyncio.create_task(twin.decide(held, go))
    await asyncio.wait_for(held.wait(), 30)
    looking = asyncio.create_task(look())
    done, _ = await asyncio.wait({looking}, timeout=0.2)
    assert not done, "it waits for the lock"
    go.set()
    await asyncio.wait_for(deciding, 30)
    return await asyncio.wait_for(looking, 30)


def by_p(owned: list[Any]) -> list[Any]:
    return sorted(owned, key=lambda o: o.p)


@pytest.mark.parametrize("story", [partitions, a_pause, snapshots])
async def test_both_stores_answer_the_same_to_the_same_story(
    twins: tuple[Twin, Twin], story: Callable[[Twin], Awaitable[list[Any]]]
) -> None:
    first, second = [await story(twin) for twin in twins]
    for number, (expected, found) in enumerate(zip(first, second, strict=True)):
        assert found == expected, f"answer {number} of the simulated store"
    assert len(first) > 10

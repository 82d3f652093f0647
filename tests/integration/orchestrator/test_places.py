"""`max_in_flight` over all orchestrators, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest_asyncio
from tests.integration.orchestrator.rig import Rig, node, ok, rig_on, started
from tests.waiting import wait_until

from handrail_contracts.tasks import Result, Task


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


async def register(rig: Rig, **manifest: Any) -> None:
    await rig.pool.execute(
        "INSERT INTO handrail.agent (name, action, version, manifest, registered_at, last_seen)"
        " VALUES ('worker', 'do', '1', $1, handrail.clock(), handrail.clock())"
        " ON CONFLICT (tenant, name, action, version) DO UPDATE SET manifest = excluded.manifest",
        {"effect_class": "idempotent", "compensatable": True, **manifest},
    )


class Hands:
    """An agent that begins what it is sent and ends it when told; counts what it has in hand."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.open, self.most, self.begun = rig, dict[tuple[str, str], Task](), 0, set[tuple[str, str]]()
        rig.answer = self.take

    def take(self, task: Task) -> Result | None:
        key = task.trace_id, task.node_id
        if key in self.begun:
            return None
        self.begun.add(key)
        self.open[key] = task
        self.most = max(self.most, len(self.open))
        return started(task)

    async def finish_one(self) -> None:
        key = next(iter(self.open))
        await self.rig.send(self.rig.record(ok(self.open.pop(key))))


async def test_two_orchestrators_together_hold_back_what_exceeds_max_in_flight(rig: Rig) -> None:
    await register(rig, agent_max_in_flight=3, max_in_flight=3)
    hands = Hands(rig)
    await rig.orchestrator(lease_s=5.0)
    await rig.orchestrator(lease_s=5.0)

    async def shared() -> bool:
        return await rig.pool.fetchval("SELECT count(DISTINCT owner) FROM handrail.partition") == 2

    await wait_until(shared, description="both own partitions")
    names = [f"w{i}" for i in range(12)]
    for name in names:
        await rig.start(name, [node("a"), node("b"), node("c", "a", "b")])
    for name in names:
        await rig.until(name, "RUNNING")
    await wait_until(lambda: len(hands.open) == 3, description="three attempts are out")
    assert await rig.pool.fetchval("SELECT taken FROM handrail.place WHERE key = 'worker'") == 3

    async def fed() -> bool:
        if hands.open:
            await hands.finish_one()
        return len(hands.begun) == 36 and not hands.open

    await wait_until(fed, description="all 36 nodes had their turn", timeout_s=120)
    for name in names:
        await rig.until(name, "COMPLETED")
    assert hands.most == 3, "never more than three, over both orchestrators"
    places = await rig.pool.fetch("SELECT key, taken FROM handrail.place")
    assert {r["key"]: r["taken"] for r in places} == {"worker": 0, "worker/do": 0}
    await rig.check()


async def test_a_limit_survives_its_owner_and_ends_with_its_registration(rig: Rig) -> None:
    await register(rig, max_in_flight=1)
    hands = Hands(rig)
    first = await rig.orchestrator()
    await rig.start("w", [node("a"), node("b"), node("c")])
    await wait_until(lambda: len(hands.open) == 1, description="one attempt is out")
    await rig.crash(first)
    await rig.orchestrator()
    await hands.finish_one()
    await wait_until(lambda: len(hands.begun) == 2, description="the next owner lets the next one begin")
    assert hands.most == 1
    await register(rig)
    await wait_until(lambda: len(hands.begun) == 3, description="without a limit nothing is held back")
    while hands.open:
        await hands.finish_one()
    await rig.until("w", "COMPLETED")
    assert await rig.pool.fetchval("SELECT taken FROM handrail.place") == 0

"""A standby without the tail takes the database's place under a running owner: it must not write on from what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.integration.orchestrator.rig import P, Rig, rig_on
from tests.waiting import wait_until

from handrail_contracts.ids import partition
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_runtime.errors import Misconfigured

LOST = 3


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


async def lose(rig: Rig, trace_id: str) -> None:
    """The last commit of that workflow's partition never was; owner, epoch and lease are as they were."""
    async with rig.pool.acquire() as c, c.transaction():
        p = partition("default", trace_id, P)
        last = await c.fetchval("SELECT next_pseq - 1 FROM handrail.partition WHERE p = $1 FOR UPDATE", p)
        await c.execute("DELETE FROM handrail.journal WHERE p = $1 AND pseq > $2", p, last - LOST)
        await c.execute(
            "UPDATE handrail.partition SET next_pseq = $2, published_upto = $3, batch = batch - 1 WHERE p = $1",
            p,
            last - LOST + 1,
            last - LOST,
        )


async def published(rig: Rig) -> None:
    async def all_of_it() -> bool:
        behind = "SELECT count(*) FROM handrail.partition WHERE published_upto < next_pseq - 1"
        return await rig.pool.fetchval(behind) == 0

    await wait_until(all_of_it, description="all of it is published")


async def ended(rig: Rig, o: Orchestrator) -> str:
    """What a person is told when it ends by itself."""
    task = rig._running.pop(o)
    with pytest.raises(Misconfigured) as refused:
        await asyncio.wait_for(task, 30)
    return str(refused.value)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "amid work"])
async def test_an_owner_whose_database_went_back_in_time_under_it_writes_nothing_and_refuses(
    rig: Rig, busy: bool
) -> None:
    o = await rig.orchestrator(lease_s=1.0)
    await rig.start("w")
    await rig.until("w", "COMPLETED")
    await published(rig)
    before = len(await rig.rows("w"))
    if busy:
        o._stepped += 60.0  # no renewal comes first: the batch itself meets it
    await lose(rig, "w")
    other = next(f"x{i}" for i in range(99) if partition("default", f"x{i}", P) == partition("default", "w", P))
    if busy:
        await rig.start(other)
    said = await ended(rig, o)
    assert f"event {before} of workflow 'w'" in said and f"ends at {before - LOST}" in said
    assert len(await rig.rows("w")) == before - LOST and await rig.rows(other) == []

"""Large values beside the journal, on a real PostgreSQL: each workflow has its own, as long as its week of the journal."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest_asyncio
from tests.integration.orchestrator.rig import P, Rig, node, ok, rig_on, started
from tests.integration.revisions import upgraded_to
from tests.waiting import wait_until

from handrail_contracts.tasks import Result, Task
from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.adapters.statements import BLOBS
from handrail_store import archive, clock, connect, migrate

BIG = {"text": "x" * 150_000}
READS = [node("a"), node("b", "a", inputs={"all": {"$from": "input.all"}})]
DAY_MS = 86_400_000


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


def read(rig: Rig, trace_id: str) -> list[Any]:
    return [t.inputs["all"] for t in rig.tasks if (t.trace_id, t.node_id) == (trace_id, "b")]


async def archived(rig: Rig, folder: Path) -> list[str]:
    """Takes every week away that may go; the names of those that held workflows."""
    async with rig.pool.acquire() as connection:
        gone = [w for w in await archive.weeks(connection, 30) if w.stays is None]
        for week in gone:
            await archive.archive(connection, week, folder)
        return [w.name for w in gone if w.workflows]


async def days_pass(rig: Rig, days: int) -> None:
    async with rig.pool.acquire() as connection:
        await clock.advance(connection, days * DAY_MS)


async def published(rig: Rig) -> None:
    async def all_of_it() -> bool:
        return not await rig.pool.fetchval(
            "SELECT count(*) FROM handrail.partition WHERE next_pseq > published_upto + 1"
        )

    await wait_until(all_of_it, description="every row is published, and its partition says so")


async def test_what_two_workflows_have_stored_stays_with_one_when_the_week_of_the_other_is_archived(
    rig: Rig, tmp_path: Path
) -> None:
    let_go = False

    def answer(task: Task) -> Result:
        return ok(task) if let_go or task.trace_id == "old" or task.node_id != "a" else started(task)

    rig.answer = answer
    orchestrator = await rig.orchestrator()
    await rig.start("old", READS, input={"all": BIG})
    await rig.until("old", "COMPLETED")
    await published(rig)
    await rig.end(orchestrator)
    await days_pass(rig, 60)
    await rig.orchestrator()
    await rig.start("young", READS, input={"all": BIG})

    async def at_work() -> bool:
        return any(t.trace_id == "young" for t in rig.tasks)

    await wait_until(at_work, description="the younger one runs")
    assert len(await archived(rig, tmp_path)) == 1
    assert [r["trace_id"] for r in await rig.pool.fetch("SELECT trace_id FROM handrail.blob")] == ["young"]
    let_go = True
    await rig.send(rig.record(ok(next(t for t in rig.tasks if t.trace_id == "young"))))
    await rig.until("young", "COMPLETED")
    assert read(rig, "young") == [BIG]


async def test_nobody_is_sent_what_another_workflow_has_stored(rig: Rig) -> None:
    await rig.orchestrator()
    await rig.start("w", READS, input={"all": BIG})
    await rig.until("w", "COMPLETED")
    digest = await rig.pool.fetchval("SELECT digest FROM handrail.blob")
    for of in ("w", "other"):
        forged = {"$ref": f"/workflows/{of}/blobs/{digest}", "bytes": 1, "preview": "x"}
        await rig.start(f"reads-{of}", READS, input={"all": forged})
        await rig.until(f"reads-{of}", "COMPLETED")
        assert read(rig, f"reads-{of}") == [forged]


async def test_what_was_stored_before_each_workflow_had_its_own_serves_all_of_that_time_and_nobody_younger(
    empty_database: str, tmp_path: Path
) -> None:
    await upgraded_to("0013", empty_database, P)
    pool = await connect.pool(empty_database, app="test")
    store = PostgresStore(pool, "m", "default", 5.0)
    workflow = (
        "INSERT INTO handrail.workflow (trace_id, p, born, status, created_at, updated_at, ended_at)"
        " VALUES ($1, 0, $2, 'COMPLETED', handrail.clock(), handrail.clock(), $3)"
    )
    try:
        ended = await pool.fetchval("SELECT handrail.clock()")
        await pool.execute(workflow, "owner", 202501, ended)
        await pool.execute(workflow, "shares", 202502, None)
        await pool.execute(BLOBS, "default", "sha256:d", "owner", "application/json", b"1")
        await pool.execute(BLOBS, "default", "sha256:d", "shares", "application/json", b"1")
        assert await pool.fetchval("SELECT count(*) FROM handrail.blob") == 1
        await migrate.upgrade(empty_database, P)
        await pool.execute(workflow, "younger", 999901, None)

        async def found() -> dict[str, list[str]]:
            return {t: list(await store.blobs(t, ["sha256:d"])) for t in ("owner", "shares", "younger")}

        assert await found() == {"owner": ["sha256:d"], "shares": ["sha256:d"], "younger": []}
        await pool.execute(BLOBS, "default", "sha256:d", "younger", "application/json", b"1")
        assert (await found())["younger"] == ["sha256:d"]
        for trace_id, left in (("owner", ["owner", "younger"]), ("shares", ["younger"])):
            key = await pool.fetchval("SELECT born FROM handrail.workflow WHERE trace_id = $1", trace_id)
            await pool.execute("UPDATE handrail.workflow SET ended_at = now() WHERE trace_id = $1", trace_id)
            await pool.execute(
                f"CREATE TABLE handrail.journal_{key} PARTITION OF handrail.journal FOR VALUES FROM ({key}) TO ({key + 1})"
            )
            async with pool.acquire() as connection:
                (week,) = [w for w in await archive.weeks(connection, 30) if w.born == key]
                await archive.archive(connection, week, tmp_path)
            kept = await pool.fetch("SELECT trace_id FROM handrail.blob ORDER BY trace_id")
            assert [r["trace_id"] for r in kept] == left
    finally:
        pool.terminate()

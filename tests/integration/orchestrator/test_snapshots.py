"""Snapshots of long workflows on a real PostgreSQL: written behind the batches, taken up by the next owner, never the truth."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.orchestrator.rig import Rig, failed, node, ok, rig_on
from tests.waiting import wait_until

from handrail_engine.state import FOLD_VERSION
from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application import snapshots
from handrail_orchestrator.application.loading import Loading

CHAIN = [node("n0"), *(node(f"n{i}", f"n{i - 1}") for i in range(1, 30))]


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LEAST_EVENTS", 1)


def loading(rig: Rig) -> Loading:
    return Loading(PostgresStore(rig.pool, "test", "default", 5.0), "default", lambda: 1_800_000_000_000, {})


async def kept(rig: Rig, trace_id: str) -> tuple[int, int] | None:
    return await rig.pool.fetchrow("SELECT seq, fold_version FROM handrail.snapshot WHERE trace_id = $1", trace_id)


async def stopped_halfway(rig: Rig) -> int:
    """A chain that stands at n20, its owner dead; answers at which row its snapshot is."""
    rig.answer = lambda task: ok(task) if task.node_id != "n20" else None
    owner = await rig.orchestrator()
    await rig.start("w", CHAIN)
    await wait_until(lambda: any(t.node_id == "n20" for t in rig.tasks), description="n20 was sent")

    async def there() -> bool:
        return await kept(rig, "w") is not None

    await wait_until(there, description="a snapshot is stored")
    await rig.crash(owner)
    found = await kept(rig, "w")
    assert found is not None and found[1] == FOLD_VERSION
    return found[0]


async def goes_on(rig: Rig) -> None:
    """The next owner brings it to its end, and every row is there once."""
    rig.answer = ok
    await rig.orchestrator()
    for task in [t for t in rig.tasks if t.node_id == "n20"]:
        await rig.send(rig.record(ok(task)))
    await rig.until("w", "COMPLETED")
    await rig.check()
    assert len((await rig.view("w"))["nodes"]) == len(CHAIN)


@pytest.mark.usefixtures("often")
async def test_a_new_owner_takes_a_long_workflow_up_from_its_snapshot(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await stopped_halfway(rig)
    assert at >= len(CHAIN)
    read: list[tuple[int, int]] = []
    real = PostgresStore.load

    async def load(self: Any, *a: Any) -> Any:
        found = await real(self, *a)
        read.extend((s.snapshot[0], len(s.rows)) for s in found if s.snapshot is not None)
        return found

    monkeypatch.setattr(PostgresStore, "load", load)
    rows = len(await rig.rows("w"))
    await goes_on(rig)
    assert read[0] == (at, rows - at)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "spoilt",
    ["fold_version = 0", "state = 'no snapshot'", "seq = seq - 1", "seq = seq + 1000", "state = substr(state, 1, 40)"],
)
async def test_a_snapshot_that_is_none_is_passed_over(rig: Rig, spoilt: str) -> None:
    await stopped_halfway(rig)
    await rig.pool.execute(f"UPDATE handrail.snapshot SET {spoilt}")
    with capture_logs() as told:
        await goes_on(rig)
    assert ("snapshot_not_read" in [t["event"] for t in told]) == (spoilt != "fold_version = 0")


@pytest.mark.usefixtures("often")
async def test_a_snapshot_gives_what_the_whole_journal_gives(rig: Rig) -> None:
    """Also what is noted beside the state: which dead letter a node's pause belongs to."""
    rig.answer = lambda task: failed(task, retryable=False)
    owner = await rig.orchestrator()
    await rig.start("w", [node("a")])
    await rig.until("w", "PAUSED_HITL")

    async def at_the_pause() -> bool:
        found = await kept(rig, "w")
        return found is not None and found[0] == len(await rig.rows("w"))

    await wait_until(at_the_pause, description="a snapshot of the last row")
    await rig.crash(owner)
    (quick,) = (await loading(rig).entries(["w"])).values()
    await rig.pool.execute("DELETE FROM handrail.snapshot")
    (whole,) = (await loading(rig).entries(["w"])).values()
    assert quick.snapshot_seq == quick.state.seq and whole.snapshot_seq == 0
    assert quick.state == whole.state
    assert (
        quick.letters
        == whole.letters
        == {"a": await rig.pool.fetchval("SELECT dead_letter_id FROM handrail.dead_letter")}
    )


async def test_small_workflows_leave_none_and_one_that_has_ended_gets_none(rig: Rig) -> None:
    await rig.orchestrator()
    await rig.start("w", CHAIN)
    await rig.until("w", "COMPLETED")
    store = PostgresStore(rig.pool, "test", "default", 5.0)
    await store.save_snapshot("w", 7, FOLD_VERSION, b"late")
    await store.save_snapshot("nobody", 7, FOLD_VERSION, b"unknown")
    assert await rig.pool.fetchval("SELECT count(*) FROM handrail.snapshot") == 0


@pytest.mark.usefixtures("often")
async def test_a_snapshot_that_cannot_be_stored_stops_nothing(rig: Rig) -> None:
    await rig.pool.execute("ALTER TABLE handrail.snapshot ADD CONSTRAINT full_disk CHECK (seq < 0)")
    with capture_logs() as told:
        await rig.orchestrator()
        await rig.start("w", CHAIN)
        await rig.until("w", "COMPLETED")
        await wait_until(
            lambda: any(t["event"] == "snapshot_not_stored" for t in told),
            description="it is told that it was not stored",
        )
    await rig.check()

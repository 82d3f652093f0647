"""A COMMIT whose connection breaks while PostgreSQL is still at it: a standby that is slow, a flush that hangs, a statement
that is still on its way. Nobody knows yet what will come of it, so nobody may write the same a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.orchestrator.rig import Rig, rig_on
from tests.waiting import wait_until

from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_orchestrator.application.ports import Batch, CommitUnknown, Fenced, Position

NAMES = [f"w{i}" for i in range(12)]
HOLD = 20_261_128
"""Whoever has this advisory lock holds up every commit of a batch, as a standby that does not answer would."""


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        await made.pool.execute(
            f"CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS "
            f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({HOLD}); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER held_up AFTER UPDATE OF batch ON handrail.partition "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION held_up()"
        )
        yield made


async def under_way(rig: Rig) -> int:
    """The server process of a commit that is held up."""
    found: list[int] = []

    async def one() -> bool:
        query = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {HOLD} AND NOT granted"
        found.extend(r["pid"] for r in await rig.pool.fetch(query))
        return bool(found)

    await wait_until(one, description="a batch commits, and its commit is held up")
    return found[0]


def cut(rig: Rig, pid: int) -> None:
    """Breaks the connection to that server process, which does not notice: it has nothing to tell yet."""
    (connection,) = [h._con for h in rig.pool._holders if h._con is not None and h._con.get_server_pid() == pid]
    connection.terminate()


async def complete(rig: Rig, told: list[Any]) -> None:
    """All of it ran to its end, stands in the journal once, and was published."""
    for name in NAMES:
        await rig.until(name, "COMPLETED")
    assert "batch_cannot_be_stored" not in [t["event"] for t in told]

    async def published() -> bool:
        found = await rig.published()
        rows = {name: len(await rig.rows(name)) for name in NAMES}
        return all(list(dict.fromkeys(found.get(n, ()))) == list(range(1, rows[n] + 1)) for n in NAMES)

    await wait_until(published, description="every row was published, in order")
    await rig.check()


@pytest.mark.parametrize("long", [False, True], ids=["for a moment", "for longer than anybody waits"])
async def test_a_commit_that_is_under_way_when_its_connection_breaks_is_not_written_twice(rig: Rig, long: bool) -> None:
    o = await rig.orchestrator(lease_s=1.0)
    with capture_logs() as told:
        async with rig.pool.acquire() as holder:
            await holder.execute("SELECT pg_advisory_lock($1::bigint)", HOLD)
            for name in NAMES:
                await rig.start(name)
            pid = await under_way(rig)
            cut(rig, pid)

            async def asked() -> bool:
                query = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
                return await rig.pool.fetchval(query, pid) > 0

            await wait_until(asked, description="its owner waits for what comes of it")
            if long:
                await wait_until(lambda: not o._own.held, description="its owner gives its partitions up")
            await holder.execute("SELECT pg_advisory_unlock($1::bigint)", HOLD)
        await complete(rig, told)


class Late:
    """The first batch of several rows is lost on its way; `land` lets it arrive after all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit = PostgresStore.commit
        self.batch: Batch | None = None
        self.landed = asyncio.Event()
        monkeypatch.setattr(PostgresStore, "commit", lambda store, batch: self.commit(store, batch))

    async def commit(self, store: PostgresStore, batch: Batch) -> None:
        if self.batch is None and len(batch.rows) > 3:
            self.batch = batch
            raise CommitUnknown("the connection broke")
        await self._commit(store, batch)

    async def land(self, store: PostgresStore) -> None:
        assert self.batch is not None
        self.landed.set()
        await self._commit(store, self.batch)


async def test_a_commit_that_arrives_once_its_owner_has_asked_is_not_written_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, committed = Late(monkeypatch), PostgresStore.committed
    asked: set[int] = set()

    async def answered(self: PostgresStore, positions: list[Position], batches: dict[int, int]) -> bool:
        answer = await committed(self, positions, batches)
        asked.update(x.p for x in positions)
        if not late.landed.is_set() and asked == set(batches):
            await late.land(self)
        return answer

    monkeypatch.setattr(PostgresStore, "committed", answered)
    with capture_logs() as told:
        for name in NAMES:
            await rig.start(name)
        await rig.orchestrator(lease_s=1.0)
        await asyncio.wait_for(late.landed.wait(), 30)
        await complete(rig, told)


async def test_a_commit_that_arrives_after_its_repetition_changes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(monkeypatch)
    for name in NAMES:
        await rig.start(name)
    o: Orchestrator = await rig.orchestrator()
    with capture_logs() as told:
        await complete(rig, told)
    assert late.batch is not None
    late.batch.rows, late.batch.summaries, late.batch.commands = [], [], []  # what no other constraint would keep out
    before = await rig.pool.fetch("SELECT * FROM handrail.partition ORDER BY p")
    with pytest.raises(Fenced):
        await late.land(o._store)  # type: ignore[arg-type]  it is the real one
    after = await rig.pool.fetch("SELECT * FROM handrail.partition ORDER BY p")
    assert [dict(r) | {"lease_until": None} for r in after] == [dict(r) | {"lease_until": None} for r in before]

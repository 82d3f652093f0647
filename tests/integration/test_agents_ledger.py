"""The effect ledger on a real PostgreSQL whose connection breaks: before a statement came, or before its answer did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg
import pytest
import pytest_asyncio

from handrail_agents.adapters.ledger import PostgresLedger
from handrail_agents.runtime.claim import TAKEN, Row, State
from handrail_runtime.testing import wait_until
from handrail_store import connect, migrate

WORKER = "worker-1"


Fault = Literal["unheard", "unanswered"] | None


@dataclass
class Flaky:
    """A pool that loses its connection at the next writes: before them (unheard) or behind them (unanswered)."""

    pool: Any
    faults: list[Fault] = field(default_factory=list[Fault])
    meanwhile: asyncio.Event | None = None

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        if "INSERT" not in sql:
            return await self.pool.fetch(sql, *args)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "unheard":
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        rows = await self.pool.fetch(sql, *args)
        if fault == "unanswered":
            if self.meanwhile is not None:
                await self.meanwhile.wait()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return rows

    async def execute(self, sql: str, *args: Any) -> str:
        return await self.pool.execute(sql, *args)


class Bench:
    """Ledgers of one database, each with a connection of its own to break."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._running: list[tuple[PostgresLedger, asyncio.Task[None]]] = []

    def worker(self, name: str = WORKER) -> tuple[PostgresLedger, Flaky]:
        flaky = Flaky(self._pool)
        ledger = PostgresLedger(flaky, name)  # type: ignore[arg-type]  # only what the ledger asks of a pool
        self._running.append((ledger, asyncio.create_task(ledger.run())))
        return ledger, flaky

    async def in_s(self, seconds: float) -> int:
        now = await self._pool.fetchval("SELECT (extract(epoch FROM handrail.clock()) * 1000)::bigint")
        return now + int(seconds * 1000)

    async def close(self) -> None:
        for ledger, running in self._running:
            await ledger.close()
            await running


@pytest_asyncio.fixture(loop_scope="session")
async def bench(postgres_dsn: str) -> AsyncGenerator[Bench]:
    await migrate.upgrade(postgres_dsn, 4)
    pool = await connect.pool(postgres_dsn, app="test-ledger", max_size=4)
    made = Bench(pool)
    yield made
    await made.close()
    await pool.close()


def _held(claim: object) -> bool:
    return isinstance(claim, Row) and claim.state is State.INTENT and claim.worker == WORKER


async def test_a_record_that_comes_again_while_the_database_blinks_does_not_start_its_attempt_again(
    bench: Bench,
) -> None:
    ledger, flaky = bench.worker()
    soon = await bench.in_s(60)
    assert await ledger.claim("again", 1, soon) is TAKEN  # it runs and ends in doubt
    assert _held(await ledger.claim("again", 1, soon))
    flaky.faults = ["unheard"]
    assert _held(await ledger.claim("again", 1, soon))
    flaky.faults = ["unanswered", "unheard"]
    assert _held(await ledger.claim("again", 1, soon))
    assert await ledger.claim("again", 2, soon) is TAKEN


@pytest.mark.parametrize("first", [None, "unheard", "unanswered"])
@pytest.mark.parametrize("second", ["unheard", "unanswered"])
async def test_a_record_that_comes_twice_at_once_starts_its_attempt_once_whenever_the_database_blinks(
    bench: Bench, first: Fault, second: Fault
) -> None:
    ledger, flaky = bench.worker()
    key, soon = f"twice/{first}/{second}", await bench.in_s(60)
    flaky.faults = [None, second] if first is None else [first, None, second]
    claims = await asyncio.gather(*(ledger.claim(key, 1, soon) for _ in range(3)))
    assert not flaky.faults
    assert claims[0] is TAKEN
    assert all(_held(claim) for claim in claims[1:])


async def test_a_claim_whose_answer_was_lost_is_had_all_the_same(bench: Bench) -> None:
    ledger, flaky = bench.worker()
    soon = await bench.in_s(60)
    flaky.faults = ["unanswered", "unheard", "unanswered"]
    claims = await asyncio.gather(*(ledger.claim(f"lost/{i}", 1, soon) for i in range(20)))
    assert claims == [TAKEN] * 20


async def test_a_claim_whose_answer_was_lost_until_its_window_was_over_starts_nothing(bench: Bench) -> None:
    ledger, flaky = bench.worker()
    flaky.faults, flaky.meanwhile = ["unanswered"], asyncio.Event()
    end = await bench.in_s(2)
    claiming = asyncio.ensure_future(ledger.claim("late", 1, end))
    await wait_until(lambda: not flaky.faults, description="a statement sent", timeout_s=30)

    async def over() -> bool:
        return await bench.in_s(0) > end

    await wait_until(over, description="the window over", timeout_s=30)
    flaky.meanwhile.set()
    assert _held(await claiming)


async def test_a_worker_that_starts_again_under_its_name_takes_nothing_that_was_claimed_before(bench: Bench) -> None:
    before, _ = bench.worker()
    soon = await bench.in_s(60)
    assert await before.claim("before", 1, soon) is TAKEN
    await before.close()
    again, flaky = bench.worker()
    flaky.faults = ["unheard"]
    assert _held(await again.claim("before", 1, soon))


async def test_a_connection_that_breaks_while_a_refused_value_is_looked_for_ends_no_ledger(bench: Bench) -> None:
    ledger, flaky = bench.worker()
    flaky.faults = [None, "unheard"]
    window = await bench.in_s(30)
    claims = [ledger.claim(key, 1, window) for key in ("refused/\x00", "refused/after", "refused/last")]
    found = await asyncio.wait_for(asyncio.gather(*claims, return_exceptions=True), 10)
    assert isinstance(found[0], asyncpg.DataError) and found[1:] == [TAKEN, TAKEN]
    assert await ledger.claim("refused/later", 1, window) is TAKEN

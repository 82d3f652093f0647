"""PostgreSQL restarted every few seconds, Kafka gone for half a minute: nothing lost, nothing doubled.

How long it takes until work goes on is printed (RELIABILITY G8), and bounded generously: machines that run this are busy.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from handrail.engines.kafka import LocalKafka
from handrail.engines.postgres import LocalPostgres
from tests.engines import fresh_database
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, lab
from tests.waiting import wait_until

LONG = os.environ.get("HANDRAIL_TORTURE") == "long"
pytestmark = [pytest.mark.torture, pytest.mark.timeout(7_200)]


async def _ended(it: Lab) -> int:
    return await it.pool.fetchval("SELECT count(*) FROM handrail.workflow WHERE ended_at IS NOT NULL")


async def _until_work_goes_on(it: Lab) -> float:
    """Seconds until a workflow ends that had not before."""
    began = time.monotonic()
    before: list[int] = []

    async def more() -> bool:
        try:
            n = await _ended(it)
        except Exception:  # noqa: BLE001  the database is on its way back
            return False
        before.append(n)
        return n > before[0]

    await wait_until(more, description="work goes on", timeout_s=120)
    return time.monotonic() - began


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"median {ordered[len(ordered) // 2]:.1f} s, worst {ordered[-1]:.1f} s of {len(ordered)}"


@pytest.mark.kafka
async def test_a_database_that_restarts_every_few_seconds_loses_nothing(broker: LocalKafka, tmp_path: Path) -> None:
    postgres = await LocalPostgres.start(tmp_path / "postgres")
    try:
        async with lab(postgres.dsn, broker.bootstrap_servers, tmp_path, seed=3, orchestrators=2, agents=2) as it:
            over = asyncio.Event()
            load = asyncio.create_task(it.load(over))
            await _until_work_goes_on(it)
            waits: list[float] = []
            for _ in range(100 if LONG else 8):
                await asyncio.sleep(it.rng.uniform(1.0, 3.0))  # some moment: the moment is what this is about
                await postgres.restart("immediate")
                waits.append(await _until_work_goes_on(it))
            over.set()
            await load
            h = await it.history(faults=Counter({"restart": len(waits)}), expected_faults=frozenset({"restart"}))
            judge(h)
            print(
                f"PostgreSQL restarted {len(waits)} times: work goes on after {_spread(waits)}; {len(it.names)} workflows"
            )
    finally:
        await postgres.stop()


@pytest.mark.kafka
async def test_a_bus_that_is_gone_for_half_a_minute_loses_nothing(
    broker: LocalKafka, postgres_server: str, tmp_path: Path
) -> None:
    dsn = await fresh_database(postgres_server)
    async with lab(dsn, broker.bootstrap_servers, tmp_path, seed=4, orchestrators=2, agents=2) as it:
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over, every_s=0.3))
        await _until_work_goes_on(it)
        await broker.kill()
        rows = await it.pool.fetchval("SELECT count(*) FROM handrail.journal")
        await asyncio.sleep(30)  # so long is it gone
        stored = await it.pool.fetchval("SELECT count(*) FROM handrail.journal") - rows
        assert stored > 0, "nothing was accepted while the bus was away"
        await broker.restart()
        waited = await _until_work_goes_on(it)
        over.set()
        await load
        judge(await it.history(faults=Counter({"away": 1}), expected_faults=frozenset({"away"})))
        print(
            f"Kafka gone for 30 s: {stored} rows stored meanwhile, work goes on after {waited:.1f} s; {len(it.names)} workflows"
        )

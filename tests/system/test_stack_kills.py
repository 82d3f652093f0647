"""Services on a real Kafka, killed by SIGKILL at random while 200 workflows run: nothing is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from handrail.stack import Options, Stack
from handrail_runtime.bus_kafka import KafkaBus
from handrail_sdk.client import Client
from tests.system.house import DIAMOND, check_invariants, free_ports
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def stack(data: Path, **options: int) -> AsyncIterator[Stack]:
    environment = {
        "HANDRAIL_AGENTS__DEMO_DELAY_MS": "0",
        "HANDRAIL_ORCHESTRATOR__LEASE_S": "1",
        "HANDRAIL_ORCHESTRATOR__SEEN_S": "1.5",
    }
    system = Stack(Options(data, port=free_ports(16), partitions=8, environment=environment, **options))
    await system.start()
    try:
        yield system
    finally:
        await system.stop()


async def test_killing_any_service_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    seed = random.Random(7)
    async with stack(tmp_path, orchestrators=2, agents=2) as system, Client(system.url) as client:
        names = [f"w{i}" for i in range(200)]

        async def begin() -> None:
            for name in names:
                while True:
                    with contextlib.suppress(
                        Exception
                    ):  # a gateway that is being killed: ask again, the trace_id makes it safe
                        await client.start(plan={"nodes": DIAMOND}, trace_id=name)
                        break
                    if await _exists(client, name):
                        break
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.02)

        async def kill() -> int:
            count = 0
            while not begun.done() or count < 12:
                await asyncio.sleep(seed.uniform(0.2, 0.9))
                part = seed.choice(list(system.parts.values()))
                if part.process is not None and part.pid is not None:
                    part.process.kill()
                    count += 1
            return count

        begun = asyncio.create_task(begin())
        kills = await kill()
        await begun
        assert kills >= 12

        async def all_ended() -> bool:
            ended = "SELECT count(*) FROM handrail.workflow WHERE ended_at IS NOT NULL"
            return await postgres.fetchval(ended) == 200

        postgres = await asyncpg.connect(system.postgres.dsn)
        bus = KafkaBus(system.kafka.bootstrap_servers, client_id="test")
        try:
            await wait_until(all_ended, description="all 200 workflows have ended", timeout_s=180)
            assert await check_invariants(postgres, bus) == {"COMPLETED": 200}
            assert await postgres.fetchval("SELECT count(*) FROM simulators.ledger WHERE kind = 'do'") == 1000
        finally:
            await bus.close()
            await postgres.close()


async def _exists(client: Client, name: str) -> bool:
    try:
        await client.state(name)
    except Exception:  # noqa: BLE001  not there, or nobody answers: the caller asks again
        return False
    return True

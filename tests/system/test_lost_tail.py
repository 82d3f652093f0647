"""Services on a real Kafka find a database that lost its tail: a copy of it takes its place, as a standby would that lags behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from handrail.stack import Options, Stack
from handrail_contracts.topics import EVENTS
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.errors import EXIT_MISCONFIGURED
from handrail_sdk.client import Client
from tests.engines import database_of, dsn_of, fresh_database
from tests.system.house import DIAMOND, check_invariants, free_ports
from tests.torture.checker.reading import read
from tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

P = 4


class House(Stack):
    """A stack whose services can be stopped while its engines go on."""

    async def services(self, dsn: str) -> None:
        self.options.environment["HANDRAIL_POSTGRES_DSN"] = dsn
        await self._services()

    async def at_rest(self) -> None:
        """Ends the services; what they published is known to be."""
        for minder in self._minders:
            minder.cancel()
        for part in self.parts.values():
            if part.process is not None and part.pid is not None:
                part.process.send_signal(signal.SIGTERM)
                await part.process.wait()
        self._minders.clear()
        self.parts.clear()

    async def orchestrator(self) -> tuple[int, str]:
        """Runs one to its end: its exit code, and the line that it told a person."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "handrail_orchestrator",
            env={**os.environ, **self.environment(), "HANDRAIL_ORCHESTRATOR__PORT": "0"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
        (line,) = [one for one in said.decode().splitlines() if one.startswith("Handrail cannot start")]
        return process.returncode or 0, line


async def run(system: Stack, trace_id: str) -> None:
    async with Client(system.url) as client:
        await client.start(plan={"nodes": DIAMOND}, trace_id=trace_id)

        async def ended() -> bool:
            return (await client.state(trace_id)).status == "COMPLETED"

        await wait_until(ended, description=f"{trace_id} has ended", timeout_s=60)


async def published(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)

    async def everything() -> bool:
        behind = "SELECT count(*) FROM handrail.partition WHERE published_upto < next_pseq - 1"
        return await connection.fetchval(behind) == 0

    try:
        await wait_until(everything, description="all of it is published")
    finally:
        await connection.close()


async def test_a_database_that_lost_its_tail_is_refused_and_there_are_two_ways_on(tmp_path: Path) -> None:
    system = House(
        Options(tmp_path, port=free_ports(8), partitions=P, environment={"HANDRAIL_AGENTS__DEMO_DELAY_MS": "0"})
    )
    try:
        await system.start()
        dsn = system.postgres.dsn
        for i in range(6):
            await run(system, f"kept-{i}")
        await published(dsn)
        await system.at_rest()
        standby = await fresh_database(dsn_of(dsn, "template1"), template=database_of(dsn))

        await system.services(dsn)
        await run(system, "lost")
        await published(dsn)
        await system.at_rest()

        system.options.environment["HANDRAIL_POSTGRES_DSN"] = standby
        code, line = await system.orchestrator()
        assert code == EXIT_MISCONFIGURED
        assert re.search(rf"of {EVENTS} has event \d+ of workflow 'lost' \(WORKFLOW_COMPLETED of ", line), line
        assert "the journal does not know this workflow" in line
        assert await system.orchestrator() == (code, line), "and again, until somebody does something"

        await system.services(dsn)  # the one way: the database that has it
        await run(system, "more")
        await published(dsn)
        await system.at_rest()

        await forget_events(system)  # the other: what was published is taken back
        await system.services(standby)
        await run(system, "lost")
        await run(system, "after")
        await published(standby)
        await system.at_rest()
        await system.services(standby)
        await run(system, "at-last")
        await published(standby)
        bus, connection = KafkaBus(system.kafka.bootstrap_servers, client_id="test"), await asyncpg.connect(standby)
        try:
            assert await check_invariants(connection) == {"COMPLETED": 9}
            history = await read(connection, bus)
        finally:
            await bus.close()
            await connection.close()
        journal = {(e.trace_id, e.seq): e.data for e in history.journal}
        told = {(e.trace_id, e.seq): e.data for e in history.events or ()}
        assert told == {k: data for k, data in journal.items() if not k[0].startswith("kept")}
        assert "cannot start" not in (tmp_path / "logs" / "orchestrator-1.log").read_text()
    finally:
        await system.stop()


async def forget_events(system: Stack) -> None:
    """What the refusal tells a person to do."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([EVENTS])

        async def gone() -> bool:
            return EVENTS not in await admin.list_topics()

        await wait_until(gone, description="the topic is gone")
    finally:
        await admin.close()
    redis = Redis.from_url(system.valkey.url)
    await redis.flushall()
    await redis.aclose()

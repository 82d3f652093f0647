"""`kill -9` of the whole embedded process, at any moment: every accepted workflow still ends, no effect happens twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import asyncpg

from handrail.engines.postgres import LocalPostgres
from handrail_sdk.client import Client
from tests.system.house import DIAMOND, Up, check_invariants, free_port
from tests.waiting import wait_until


async def _ended(client: Client, names: list[str]) -> bool:
    for name in names:
        if (await client.state(name)).status not in ("COMPLETED", "COMPLETED_WITH_SKIPS"):
            return False
    return True


async def test_killing_everything_mid_run_loses_no_workflow_and_doubles_no_effect(tmp_path: Path) -> None:
    seed = random.Random(20261121)
    up = Up(tmp_path / "data")
    names: list[str] = []
    for round_ in range(4):
        await up.start()
        async with Client(up.url) as client:
            mine = [f"r{round_}-{i}" for i in range(25)]
            await asyncio.gather(*(client.start(plan={"nodes": DIAMOND}, trace_id=name) for name in mine))
            names.extend(mine)
            await asyncio.sleep(seed.uniform(0.0, 0.8))  # any moment: the moment is what this test is about
        await up.kill()
    await up.start()
    async with Client(up.url) as client:
        await wait_until(lambda: _ended(client, names), description="every workflow has ended", timeout_s=120)
        states = [await client.state(name) for name in names]
    assert {s.status for s in states} == {"COMPLETED"}
    assert await up.stop() == 0
    postgres = await LocalPostgres.start(tmp_path / "data" / "postgres")
    try:
        connection = await asyncpg.connect(postgres.dsn)
        assert await check_invariants(connection) == {"COMPLETED": 100}
        assert await connection.fetchval("SELECT count(*) FROM simulators.ledger WHERE kind = 'do'") == 500
        await connection.close()
    finally:
        await postgres.stop()


async def test_the_next_start_goes_on_and_complains_about_nothing(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    await up.start()
    async with Client(up.url) as client:
        await client.start(blueprint="employee-onboarding", input={"sku": "MBP-OUT-OF-STOCK"}, trace_id="ada")

        async def waits() -> bool:
            return (await client.state("ada")).status == "PAUSED_HITL"

        await wait_until(waits, description="a person is asked", timeout_s=60)
        assert await up.stop() == 0
        await up.start()
        await client.resume("ada", "RES_SKIP")
        await wait_until(lambda: _ended(client, ["ada"]), description="it goes on", timeout_s=60)
    assert await up.stop() == 0
    said = (tmp_path / "data" / "up.log").read_text()
    assert not [line for line in said.splitlines() if '"level":"error"' in line or '"level":"warning"' in line], said


async def test_a_second_instance_and_a_taken_port_are_told_in_one_line(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    await first.start()
    try:
        same_port = Up(tmp_path / "other", first.port)
        same_data = Up(tmp_path / "data")
        for other, words in ((same_port, "Expected port"), (same_data, "Expected to be the only Handrail")):
            code, said = await other.refused()
            assert code == 78
            assert said.strip().splitlines()[-1].startswith("Handrail cannot start: " + words), said
            assert "Traceback" not in said
    finally:
        assert await first.stop() == 0


async def test_a_second_start_finds_the_first_ones_workflows(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    await up.start()
    async with Client(up.url) as client:
        await client.start(plan={"nodes": DIAMOND}, trace_id="kept")
        await wait_until(lambda: _ended(client, ["kept"]), description="it ended")
    assert await up.stop() == 0
    await up.start()
    async with Client(up.url) as client:
        assert (await client.state("kept")).status == "COMPLETED"
    assert await up.stop() == 0


async def test_a_folder_that_takes_no_byte_is_told_in_one_line(tmp_path: Path) -> None:
    """`ulimit -f 0` stands for a full disk: files are made, but nothing can be written to them."""
    command = f"ulimit -f 0; exec {sys.executable} -m handrail up --data {tmp_path / 'data'} --port {free_port()}"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 78
    assert said.decode().strip().splitlines()[-1].startswith("Handrail cannot start: Expected to write to"), said
    assert b"Traceback" not in said

"""The gateway's process, killed at K13, K14 and K15 of RELIABILITY: what was answered is stored, and stored once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import PARTITIONS, Rig, node, running_gateway
from tests.waiting import wait_until

PLAN = {"plan": {"nodes": [node("a")]}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    """A gateway that lives on, to look with."""
    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as running:
        await running.register()
        yield running
    await drop_database(postgres_server, dsn)


@asynccontextmanager
async def process(dsn: str, log: Path, crashpoint: str = "") -> AsyncGenerator[tuple[Any, httpx2.AsyncClient]]:
    """`python -m handrail_gateway` as an operator starts it, without a Kafka to speak to."""
    names = {
        "HANDRAIL_POSTGRES_DSN": dsn,
        "HANDRAIL_KAFKA": "127.0.0.1:1",
        "HANDRAIL_REDIS_URL": "redis://127.0.0.1:1/0",
        "HANDRAIL_PARTITIONS": str(PARTITIONS),
        "HANDRAIL_GATEWAY__PORT": "0",
        "HANDRAIL_CRASHPOINT": crashpoint,
    }
    with log.open("wb") as out:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "handrail_gateway", env={**os.environ, **names}, stdout=out, stderr=out
        )
    try:

        def port() -> int | None:
            assert child.returncode is None, log.read_text()
            for line in log.read_text().splitlines():
                if '"gateway_listening"' in line:
                    return int(line.split('"port":')[1].split(",")[0].rstrip("}"))
            return None

        await wait_until(port, description="the gateway to listen")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port()}", timeout=20, trust_env=False) as client:
            yield child, client
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def killed(child: Any, client: httpx2.AsyncClient, path: str, body: Any, key: str) -> None:
    """A request that the process does not survive."""
    with pytest.raises(httpx2.HTTPError):
        await client.post(path, json=body, headers={"Idempotency-Key": key})
    assert await child.wait() == -9


@pytest.mark.parametrize(("crashpoint", "stored"), [("K13", 0), ("K14", 1)])
@pytest.mark.parametrize("chosen", [False, True])
async def test_a_start_that_was_cut_off_is_there_once_after_the_client_tries_again(
    rig: Rig, tmp_path: Path, crashpoint: str, stored: int, chosen: bool
) -> None:
    key = f"{crashpoint}-{chosen}"
    body = {**PLAN, "labels": {"crash": key}, **({"trace_id": key} if chosen else {})}

    async def commands() -> int:
        return await rig.db.fetchval("SELECT count(*) FROM handrail.command WHERE body->'labels'->>'crash' = $1", key)

    async with process(rig.dsn, tmp_path / "a.log", crashpoint) as (child, client):
        await killed(child, client, "/workflows", body, key)
    assert await commands() == stored
    async with process(rig.dsn, tmp_path / "b.log") as (_, client):
        answer = await client.post("/workflows", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 202
        assert ("idempotent-replayed" in answer.headers) == bool(stored)
        state = await client.get(answer.headers["location"])
        assert (state.status_code, state.json()["labels"]) == (200, {"crash": key})
    assert await commands() == 1


@pytest.mark.parametrize(("crashpoint", "stored"), [("K13", 0), ("K14", 1), ("K15", 1)])
async def test_a_decision_that_was_cut_off_is_there_once_after_the_client_tries_again(
    rig: Rig, tmp_path: Path, crashpoint: str, stored: int
) -> None:
    trace_id, pause_id = await rig.paused()
    path, body, key = (
        f"/workflows/{trace_id}/resume",
        {"action_id": "RES_SKIP", "pause_id": pause_id},
        f"r-{crashpoint}",
    )
    async with process(rig.dsn, tmp_path / "a.log", crashpoint) as (child, client):
        await killed(child, client, path, body, key)
    assert len(await rig.commands(trace_id, "decide")) == stored
    # The pause that was locked is free: the database has ended the dead process's transaction.
    again = await rig.client.post(path, json=body, headers={"Idempotency-Key": key})
    assert again.status_code == (200 if stored else 202)
    assert len(await rig.commands(trace_id, "decide")) == 1
    assert await rig.db.fetchval("SELECT count(*) FROM handrail.decision WHERE pause_id = $1", pause_id) == 1


async def test_a_stopped_process_ends_clean(rig: Rig, tmp_path: Path) -> None:
    async with process(rig.dsn, tmp_path / "a.log") as (child, client):
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/workflows", json=PLAN)).status_code == 202
        child.terminate()
        assert await child.wait() == 0


async def test_a_process_that_is_misconfigured_says_so_in_one_line(rig: Rig, tmp_path: Path) -> None:
    env = {**os.environ, "HANDRAIL_POSTGRES_DSN": rig.dsn, "HANDRAIL_PARTITIONS": "7", "HANDRAIL_GATEWAY__PORT": "0"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "handrail_gateway",
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await child.communicate()
    assert child.returncode == 78
    assert f"HANDRAIL_PARTITIONS={PARTITIONS}" in err.decode()
    assert "Traceback" not in err.decode()

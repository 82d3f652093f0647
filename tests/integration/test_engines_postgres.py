"""PostgreSQL without Docker: what it keeps, where it listens, what it starts over from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from tests.engines import refusal, running

from handrail.engines import postgres
from handrail.engines.errors import (
    DataDirectoryInUse,
    EngineStartFailed,
    StorageUnusable,
)
from handrail.engines.postgres import LocalPostgres


async def write_row(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    await connection.close()


async def ask(dsn: str, question: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
async def test_postgres_keeps_committed_rows_over_a_restart(mode: Any, tmp_path: Path) -> None:
    async with running(LocalPostgres, tmp_path) as server:
        await write_row(server.dsn)
        before = server.pid
        await server.restart(mode)
        assert server.pid != before
        assert await ask(server.dsn, "SELECT count(*) FROM kept") == 1


async def test_postgres_finds_the_data_of_an_earlier_start(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with running(LocalPostgres, tmp_path) as server:
            await write_row(server.dsn)
            assert await ask(server.dsn, "SELECT count(*) FROM kept") == expected


async def test_postgres_is_durable_and_takes_settings(tmp_path: Path) -> None:
    async with running(LocalPostgres, tmp_path, settings={"work_mem": "7MB"}) as server:
        asked = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum", "max_connections", "work_mem")
        found = [await ask(server.dsn, f"SHOW {name}") for name in asked]
        assert found == ["on", "on", "on", "on", "200", "7MB"]


async def test_postgres_listens_on_no_port_unless_asked_and_then_wants_the_password(tmp_path: Path) -> None:
    async with running(LocalPostgres, tmp_path) as server:
        assert await ask(server.dsn, "SHOW listen_addresses") == ""
        assert await ask(server.dsn, "SELECT inet_server_addr()") is None
    async with running(LocalPostgres, tmp_path, port=0) as server:
        assert str(await ask(server.tcp_dsn, "SELECT host(inet_server_addr())")) == "127.0.0.1"
        assert await ask(server.dsn, "SELECT inet_server_addr()") is None
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://handrail:guess@127.0.0.1:{server.port}/handrail")


async def test_postgres_starts_when_a_stranger_has_the_pid_of_its_crashed_server(tmp_path: Path) -> None:
    server = await LocalPostgres.start(tmp_path)
    await write_row(server.dsn)
    pid_file = server.data / "postmaster.pid"
    remains = pid_file.read_text().splitlines()
    await server.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *remains[1:]]) + "\n")
    async with running(LocalPostgres, tmp_path) as again:
        assert await ask(again.dsn, "SELECT count(*) FROM kept") == 1


async def test_postgres_refuses_data_that_a_server_started_elsewhere_holds(tmp_path: Path) -> None:
    first = await LocalPostgres.start(tmp_path)
    first._directory.release()  # nothing of ours knows about it any more
    try:
        assert f"process {first.pid}" in await refusal(LocalPostgres.start(tmp_path), DataDirectoryInUse)
        assert await ask(first.dsn, "SELECT 1") == 1
    finally:
        await first.stop()


async def test_postgres_starts_over_after_a_first_start_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "pgdata.new").mkdir()
    (tmp_path / "pgdata.new" / "PG_VERSION").write_text("18\n")
    async with running(LocalPostgres, tmp_path) as server:
        assert await ask(server.dsn, "SELECT 1") == 1


async def test_postgres_refuses_data_of_another_version(tmp_path: Path) -> None:
    async with running(LocalPostgres, tmp_path):
        pass
    (tmp_path / "pgdata" / "PG_VERSION").write_text("12\n")
    assert "version 12 wrote it" in await refusal(LocalPostgres.start(tmp_path), StorageUnusable)


async def test_postgres_tells_why_it_would_not_start(tmp_path: Path) -> None:
    line = await refusal(LocalPostgres.start(tmp_path, settings={"no_such_setting": "1"}), EngineStartFailed)
    assert 'unrecognized configuration parameter "no_such_setting"' in line
    async with running(LocalPostgres, tmp_path):  # the failure left nothing claimed
        pass


async def test_postgres_runs_in_a_directory_that_is_closed_to_others(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with running(LocalPostgres, private / "data") as server:
        if os.geteuid() == 0:
            assert psutil.Process(server.pid).uids().effective != 0
        assert await ask(server.dsn, "SELECT 1") == 1
    assert private.stat().st_mode & 0o777 == 0o700


async def test_postgres_runs_from_programs_in_a_directory_that_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone below root's home: initdb looks for its server by access(2), which has rules of its own."""
    programs, major = postgres._programs()
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    wheel, install = programs.parents[1], programs.parent.name
    libraries = f"{wheel.name}.libs"
    shutil.copytree(programs.parent, private / wheel.name / install, symlinks=True)
    shutil.copytree(wheel.with_name(libraries), private / libraries)
    monkeypatch.setattr(postgres, "_programs", lambda: (private / wheel.name / install / "bin", major))
    async with running(LocalPostgres, private / "data") as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(private)
        if os.geteuid() == 0:
            assert _capabilities(server.pid) <= {1, 2}, "Expected no more than to search directories."
        assert await ask(server.dsn, "SELECT 1") == 1


def _capabilities(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in status if line.startswith(("CapPrm", "CapEff", "CapInh", "CapAmb"))]
    return {bit for mask in masks for bit in range(64) if mask >> bit & 1}

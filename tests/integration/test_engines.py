"""Every engine that runs without Docker: started for real, killed for real, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.engines import refusal, running
from tests.waiting import wait_until

from handrail.engines.addresses import SOCKET_PATH_LIMIT_BYTES
from handrail.engines.errors import (
    DataDirectoryInUse,
    DiskFull,
    PortTaken,
    StorageUnusable,
)
from handrail.engines.kafka import LocalKafka
from handrail.engines.postgres import LocalPostgres
from handrail.engines.valkey import LocalValkey

ENGINES = [
    pytest.param(LocalPostgres, id="postgres"),
    pytest.param(LocalValkey, id="valkey"),
    pytest.param(LocalKafka, id="kafka", marks=pytest.mark.kafka),
]


@contextmanager
def listener() -> Generator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system with 4 MB on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
        refused = made.stderr.splitlines()[0] if made.returncode else None
    except FileNotFoundError:
        refused = "there is no mount command"
    if refused is not None:
        pytest.skip(f"a small file system needs the right to mount one: {refused}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_second_instance_on_the_same_data_is_refused(engine: Any, tmp_path: Path) -> None:
    async with running(engine, tmp_path / "data"):
        line = await refusal(engine.start(tmp_path / "data"), DataDirectoryInUse)
        assert f"process {os.getpid()}" in line
    async with running(engine, tmp_path / "data"):
        pass


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_taken_port_is_named(engine: Any, tmp_path: Path) -> None:
    with listener() as port:
        line = await refusal(engine.start(tmp_path / "data", port=port), PortTaken)
    assert str(port) in line
    async with running(engine, tmp_path / "data", port=port) as server:
        assert server.port == port


@pytest.mark.parametrize("engine", ENGINES)
async def test_data_below_a_file_is_refused(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in await refusal(engine.start(tmp_path / "file" / "data"), StorageUnusable)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_disk_without_room_is_refused_before_anything_is_written(engine: Any, small_disk: Path) -> None:
    data = small_disk / "data"
    await refusal(engine.start(data), DiskFull)
    assert {path.name for path in data.iterdir()} == {"instance.lock"}


LONG = "deep" * 30
ODD = "a,b; c'd%20é?x=#1"


@pytest.mark.parametrize("name", [LONG, ODD], ids=["long", "odd"])
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_data_directory_may_have_any_name(engine: Any, name: str, tmp_path: Path) -> None:
    data = tmp_path / name / "data"
    if name == LONG:
        assert len(os.fsencode(data)) > SOCKET_PATH_LIMIT_BYTES
    async with running(engine, data) as server:
        await server.restart()


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_that_ends_by_itself_is_noticed(engine: Any, tmp_path: Path) -> None:
    async with running(engine, tmp_path / "data") as server:
        os.kill(server.pid, signal.SIGKILL)
        assert await server.wait() == -signal.SIGKILL
        await server.restart()
        assert psutil.pid_exists(server.pid)


OWNER = """
import asyncio, sys
from pathlib import Path
from handrail.engines.{module} import {name}
async def own():
    server = await {name}.start(Path(sys.argv[1]))
    print(server.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(own())
"""


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_dies_with_its_killed_owner_and_its_data_starts_again(engine: Any, tmp_path: Path) -> None:
    code = OWNER.format(module=engine.__module__.rpartition(".")[2], name=engine.__name__)
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    owner = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    line = await refusal(engine.start(tmp_path / "data"), DataDirectoryInUse)
    assert f"process {owner.pid}" in line
    owner.kill()
    await owner.wait()
    async with running(engine, tmp_path / "data") as server:
        assert server.pid != pid
        await wait_until(lambda: not psutil.pid_exists(pid), description="the first engine is gone")


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_left_behind_by_a_dead_owner_is_ended_and_replaced(engine: Any, tmp_path: Path) -> None:
    """Where the kernel cannot end it for us: an orphan that is still healthy when the next owner comes."""
    data = tmp_path / "data"
    first = await engine.start(data)
    record = (data / "engine.json").read_text()
    first._directory.release()  # as if the owner had died; the engine goes on
    (data / "engine.json").write_text(record)
    async with running(engine, data) as second:
        assert second.pid != first.pid
        assert await asyncio.wait_for(first.wait(), 10) is not None


async def test_a_process_that_was_given_a_dead_engines_pid_is_left_alone(tmp_path: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        (tmp_path / "engine.json").write_text(json.dumps({"pid": bystander.pid, "started": 1.0}))
        async with running(LocalValkey, tmp_path):
            assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.wait()

"""A client whose network is gone: no FIN, no RST, just silence. Needs a network namespace of its own.

On the hot route the kernel is told how long silence may last; under another ASGI server it is the proxy's task.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Story
from tests.notifier_rig import PARTITIONS, running, topics_for
from tests.waiting import wait_until

from handrail_runtime.bus_memory import MemoryBus
from handrail_store import connect, migrate

NAME = f"hr{os.getpid() % 100_000}"
OURS, THEIRS = "10.213.77.1", "10.213.77.2"
CLIENT = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"GET /workflows/gone/events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
while s.recv(65536):
    pass
time.sleep(600)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def network() -> Generator[None]:
    """A second host: a namespace joined to ours by a cable that can be cut."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("Expected root and the program ip, to make a network that can be cut.")
    try:
        ip("netns", "add", NAME)
    except subprocess.CalledProcessError:
        pytest.skip("Expected to be allowed to make a network namespace.")
    try:
        ip("link", "add", NAME, "type", "veth", "peer", "name", "eth0", "netns", NAME)
        ip("addr", "add", f"{OURS}/30", "dev", NAME)
        ip("link", "set", NAME, "up")
        ip("-n", NAME, "addr", "add", f"{THEIRS}/30", "dev", "eth0")
        ip("-n", NAME, "link", "set", "eth0", "up")
        yield
    finally:
        subprocess.run(["ip", "link", "del", NAME], check=False, capture_output=True)
        ip("netns", "del", NAME)


@pytest_asyncio.fixture(loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-half-open")
    yield pool
    await pool.close()


@pytest.mark.torture
async def test_a_client_whose_network_is_gone_is_reaped_within_45_seconds(
    network: None, pool: Any, redis_url: str
) -> None:
    bus = MemoryBus()
    await topics_for(bus)
    async with running(pool=pool, bus=bus, redis_url=redis_url, tenant="gone", host=OURS) as rig:
        story = Story("gone")
        story.accepted()
        await rig.source.both(story.events)
        child = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", NAME, sys.executable, "-c", CLIENT, OURS, str(rig.port)
        )
        try:
            await wait_until(lambda: len(rig.notifier.hub) == 1, description="the client is connected")
            ip("-n", NAME, "link", "set", "eth0", "down")
            await wait_until(lambda: len(rig.notifier.hub) == 0, description="the client is let go", timeout_s=45)
        finally:
            child.kill()
            await child.wait()

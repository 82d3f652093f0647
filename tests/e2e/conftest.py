"""Where the black-box tests find a running Handrail: `HANDRAIL_E2E_URL`, else they start one."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from handrail.stack import Options, Stack
from tests.e2e.strange import Strange
from tests.system.house import Up, free_ports

_QUICK = {"HANDRAIL_AGENTS__DEMO_DELAY_MS": "0", "HANDRAIL_AGENTS__LOAD": "examples.my_agents"}


@pytest_asyncio.fixture(
    scope="session",
    loop_scope="session",
    params=["embedded", pytest.param("stack", marks=[pytest.mark.kafka, pytest.mark.torture])],
)
async def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """The address of the one process, and in the long proofs that of the services on a real Kafka."""
    data = tmp_path_factory.mktemp(request.param)
    if given := os.environ.get("HANDRAIL_E2E_URL"):
        yield given.rstrip("/")
    elif request.param == "embedded":
        up = Up(data, **_QUICK)
        await up.start()
        yield up.url
        await up.stop()
    else:
        stack = Stack(Options(data, port=free_ports(16), partitions=4, environment=_QUICK))
        await stack.start()
        yield stack.url
        await stack.stop()


@pytest.fixture(scope="session")
def handrail(url: str) -> Strange:
    return Strange(url)

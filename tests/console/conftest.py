"""One Handrail and one Chromium for all tests of the console; where there is none, it says why."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.console.rig import Console, missing, running
from tests.engines import required


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Console]:
    """The embedded stack, its tasks slow enough to be looked at."""
    if reason := missing():
        if required("console"):
            pytest.fail(f"HANDRAIL_REQUIRE names the console, but {reason}", pytrace=False)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("console")
    async with running(folder, HANDRAIL_AGENTS__DEMO_DELAY_MS="150") as made:
        yield made

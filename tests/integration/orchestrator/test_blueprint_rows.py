"""Blueprints as rows, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio
from tests.integration.orchestrator.rig import Rig, rig_on


@pytest_asyncio.fixture(loop_scope="session")
async def rig(empty_database: str) -> AsyncGenerator[Rig]:
    async with rig_on(empty_database) as made:
        yield made


DECLARED = ["employee", "department", "sku", "budget", "fail_compensation"]


async def test_inputs_keep_the_order_of_their_author_also_where_an_older_version_stored_them_sorted(rig: Rig) -> None:
    async def stored() -> tuple[list[str], str]:
        row = await rig.pool.fetchrow("SELECT body, digest FROM handrail.blueprint WHERE name = 'employee-onboarding'")
        return list(row["body"]["input_schema"]["properties"]), row["digest"]

    first = await rig.orchestrator()
    fields, digest = await stored()
    assert fields == DECLARED
    await rig.end(first)
    await rig.pool.execute("UPDATE handrail.blueprint SET body = body::jsonb::json")
    assert (await stored())[0] != DECLARED
    await rig.orchestrator()
    assert await stored() == (DECLARED, digest)

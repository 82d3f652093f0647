"""What PostgreSQL plans for the hot statements while the tables are still empty: prepared statements keep such plans."""

from __future__ import annotations

import asyncpg
import pytest

from handrail_orchestrator.adapters.statements import COMMANDS, STATES
from handrail_store import migrate


@pytest.mark.parametrize(
    ("statement", "types", "values"),
    [
        pytest.param(COMMANDS, "int[], text, int", "'{0,1,2,3}', 'default', 200", id="commands"),
        pytest.param(STATES, "text, text[], int", "'default', '{a,b}', 1", id="states"),
    ],
)
async def test_a_plan_made_on_empty_tables_looks_each_workflow_up_by_its_key(
    empty_database: str, statement: str, types: str, values: str
) -> None:
    await migrate.upgrade(empty_database, 4)
    c = await asyncpg.connect(empty_database)
    try:
        await c.execute("SET plan_cache_mode = force_generic_plan")
        await c.execute(f"PREPARE hot ({types}) AS {statement}")
        plan = "\n".join(r[0] for r in await c.fetch(f"EXPLAIN EXECUTE hot ({values})"))
    finally:
        await c.close()
    # A join filter compares every workflow of the tenant with every row of the other side.
    assert "Join Filter" not in plan, plan
    assert "Seq Scan" not in plan, plan

"""The migrations make what the tables say, once, whoever else is at it."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import asyncpg
import pytest
from tests.integration.revisions import upgraded_to

from handrail_store import clock, connect
from handrail_store.journal_weeks import born, ensure_journal_weeks, existing_weeks, weeks_from
from handrail_store.migrate import MigrationError, head, upgrade
from handrail_store.tables import metadata


async def test_a_fresh_database_has_exactly_the_tables_of_the_metadata(empty_database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy.ext.asyncio import create_async_engine

    await upgrade(empty_database, 4)
    made_by_hand = ("journal_", "alembic_version")

    def differences(sync_connection: Any) -> list[Any]:
        def wanted(thing: Any, name: str | None, kind: str, reflected: bool, _: Any) -> bool:
            table = thing if kind == "table" else getattr(thing, "table", None)
            by_hand = name == "workflow_trace_prefix" or (table is not None and table.name.startswith(made_by_hand))
            return not (reflected and by_hand)

        options = {
            "include_schemas": True,
            "compare_type": True,
            "compare_server_default": True,
            "include_object": wanted,
            "include_name": lambda name, kind, _: kind != "schema" or name in ("handrail", "agents"),
        }
        return compare_metadata(MigrationContext.configure(sync_connection, opts=options), metadata)

    # A user named as a schema would make that schema the default one, which reflection then shows without a name.
    settings = {"search_path": "public"}
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_database, server_settings=settings)
    )
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            await connection.exec_driver_sql("ALTER TABLE handrail.pause DROP COLUMN expires_at")
            assert len(await connection.run_sync(differences)) == 1
    finally:
        await engine.dispose()


async def test_services_that_start_together_migrate_once(empty_database: str) -> None:
    await asyncio.gather(*(upgrade(empty_database, 4) for _ in range(4)))
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("SELECT version_num FROM handrail.alembic_version") == head()
        assert [r["p"] for r in await connection.fetch("SELECT p FROM handrail.partition ORDER BY p")] == [0, 1, 2, 3]
    finally:
        await connection.close()


async def test_another_partition_count_is_refused_with_the_one_that_fits(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    with pytest.raises(MigrationError, match="HANDRAIL_PARTITIONS=4"):
        await upgrade(empty_database, 24)


async def test_a_database_of_a_newer_handrail_is_refused(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute("UPDATE handrail.alembic_version SET version_num = '9999'")
    finally:
        await connection.close()
    with pytest.raises(MigrationError, match="9999"):
        await upgrade(empty_database, 4)


async def test_names_of_workflows_that_were_archived_before_are_found_by_what_stays_of_them(
    empty_database: str,
) -> None:
    await upgraded_to("0014", empty_database, 4)
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(
            "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at) VALUES ('p', 'asked', 1, 'gate', '{}', now())"
        )
        await connection.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, created_at, updated_at)"
            " VALUES ('lives', 0, 1, 'RUNNING', now(), now())"
        )
        await connection.execute(
            "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at) VALUES ('c', 'starts', 0, 'start', '{}', now())"
        )
        await connection.execute(
            "INSERT INTO agents.effect (effect_key, attempt, state, claimed_at) SELECT 'default/' || t || '/a/1', 1, 'DONE', now()"
            " FROM unnest('{asked,did,lives,starts}'::text[]) AS t"
        )
        await upgrade(empty_database, 4)
        found = await connection.fetch("SELECT tenant, trace_id, born FROM handrail.archived ORDER BY trace_id")
        assert [tuple(r) for r in found] == [("default", "asked", None), ("default", "did", None)]
    finally:
        await connection.close()


async def test_journal_weeks_are_made_ahead_and_follow_the_clock(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test")
    try:
        async with pool.acquire() as connection:
            assert await ensure_journal_weeks(connection) == []
            before = await existing_weeks(connection)
            assert len(before) == 1 + 9
            await clock.advance(connection, 7 * 86_400_000)
            assert len(await ensure_journal_weeks(connection)) == 1
            assert len(await existing_weeks(connection)) == 11
    finally:
        await pool.close()


async def test_every_week_of_the_journal_is_sampled_sparingly(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test")
    try:
        async with pool.acquire() as connection:
            await clock.advance(connection, 7 * 86_400_000)
            await ensure_journal_weeks(connection)
            otherwise = await connection.fetch(
                "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
                " AND attstattarget IS DISTINCT FROM 10 AND (attrelid IN ('handrail.command'::regclass,"
                " 'handrail.idempotency'::regclass) OR attrelid IN (SELECT inhrelid FROM pg_inherits"
                " WHERE inhparent = 'handrail.journal'::regclass))"
            )
        assert otherwise == []
    finally:
        await pool.close()


async def test_a_week_with_rows_in_the_default_partition_is_left_there(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test")
    try:
        async with pool.acquire() as connection:
            await clock.advance(connection, 9 * 7 * 86_400_000)
            today = await connection.fetchval("SELECT (handrail.clock() AT TIME ZONE 'UTC')::date")
            await connection.execute(
                "INSERT INTO handrail.journal (born, tenant, trace_id, seq, p, pseq, type, data, at)"
                " VALUES ($1, 'default', 't', 1, 0, 1, 'X', '{}', handrail.clock())",
                born(today),
            )
            made = await ensure_journal_weeks(connection)
            assert f"journal_{born(today)}" not in made
            assert len(made) == 8
    finally:
        await pool.close()


async def test_the_clock_is_real_time_plus_the_offset_also_inside_a_transaction(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test")
    try:
        async with pool.acquire() as connection, connection.transaction():
            first = await clock.now_ms(connection)
            assert await clock.advance(connection, 3_600_000) == 3_600_000
            assert await clock.offset_ms(connection) == 3_600_000
            second = await clock.now_ms(connection)
            assert second >= first + 3_600_000
            frozen, moving = await connection.fetchrow("SELECT now(), clock_timestamp()")
            assert moving > frozen
            with pytest.raises(ValueError, match="forward"):
                await clock.advance(connection, -1)
    finally:
        await pool.close()


async def test_json_goes_in_as_values_or_bytes_and_comes_out_as_asked(empty_database: str) -> None:
    await upgrade(empty_database, 4)
    parsed = await connect.pool(empty_database, app="test")
    raw = await connect.pool(empty_database, app="test", raw_json=True)
    try:
        assert await parsed.fetchval("SELECT $1::jsonb", {"a": [1, None]}) == {"a": [1, None]}
        assert await parsed.fetchval("SELECT $1::json", b'{"a":  1}') == {"a": 1}
        assert await raw.fetchval("SELECT $1::json", b'{"a":  1}') == b'{"a":  1}'
        assert await raw.fetchval("SELECT $1::jsonb", b'{"a":1}') == b'{"a": 1}'
        assert await parsed.fetch("SELECT * FROM unnest($1::json[])", [{"a": 1}, b"2"]) == [({"a": 1},), (2,)]
        assert await parsed.fetchval("SHOW statement_timeout") == "5s"
        assert await parsed.fetchval("SHOW lock_timeout") == "2s"
    finally:
        await parsed.close()
        await raw.close()


def test_weeks_cross_the_year_where_iso_says_so() -> None:
    assert weeks_from(date(2026, 12, 28), 1) == [(202653, 202701), (202701, 202702)]

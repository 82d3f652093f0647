"""Brings a database to the newest shape: schemas, tables, the clock, journal weeks, one row per partition."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import asyncpg

from handrail_store.journal_weeks import ensure_journal_weeks, existing_weeks, weeks_from

VERSION_TABLE = "alembic_version"
_MIGRATIONS = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME = 0x48616E647261696C  # "Handrail": the advisory lock that services starting together queue for
_CONNECT_TIMEOUT_S = 5.0


class MigrationError(Exception):
    """The database cannot be brought to what the settings ask for; the message says what to change."""


async def upgrade(dsn: str, partitions: int) -> None:
    """Makes everything that Handrail keeps in PostgreSQL; `partitions` is P, fixed for the life of the database.

    Idempotent, safe to call from many processes at once, and a handful of reads when nothing is to do.
    Raises MigrationError when the database was made with another P or by a newer Handrail, OSError or
    asyncpg.PostgresError when PostgreSQL does not answer.
    """
    if partitions < 1:
        raise MigrationError(f"Expected at least 1 partition, but {partitions} are configured.")
    connection: Any = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S, server_settings={"timezone": "UTC"})
    try:
        if await _is_current(connection, partitions):
            return
        await connection.execute("SELECT pg_advisory_lock($1)", _ONE_AT_A_TIME)
        if await _revision(connection) != head():
            await _migrate(dsn, await _revision(connection))
        await ensure_journal_weeks(connection)
        await _ensure_partitions(connection, partitions)
    finally:
        await connection.close()


async def made_with(dsn: str) -> int | None:
    """P of this database; None where Handrail has made nothing yet. Raises OSError or asyncpg.PostgresError as `upgrade`."""
    connection: Any = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)
    try:
        if await connection.fetchval("SELECT to_regclass('handrail.partition')") is None:
            return None
        return await connection.fetchval("SELECT count(*) FROM handrail.partition") or None
    finally:
        await connection.close()


def head() -> str:
    """The newest revision that this code knows: the name of the last file in `migrations/versions`."""
    return _revisions()[-1]


def _revisions() -> list[str]:
    return sorted(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


async def _revision(connection: Any) -> str | None:
    if await connection.fetchval(f"SELECT to_regclass('handrail.{VERSION_TABLE}')") is None:
        return None
    return await connection.fetchval(f"SELECT version_num FROM handrail.{VERSION_TABLE}")


async def _is_current(connection: Any, partitions: int) -> bool:
    if await _revision(connection) != head():
        return False
    rows, today = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM handrail.partition), (handrail.clock() AT TIME ZONE 'UTC')::date"
    )
    wanted = {f"journal_{low}" for low, _ in weeks_from(today)}
    return rows == partitions and wanted <= await existing_weeks(connection)


async def _ensure_partitions(connection: Any, partitions: int) -> None:
    there = await connection.fetchval("SELECT count(*) FROM handrail.partition")
    if there not in (0, partitions):
        raise MigrationError(
            f"Expected {there} partitions, with which this database was made, but {partitions} are configured. "
            f"Set HANDRAIL_PARTITIONS={there}, or use another database."
        )
    await connection.execute(
        "INSERT INTO handrail.partition (p) SELECT generate_series(0, $1::int - 1) ON CONFLICT (p) DO NOTHING",
        partitions,
    )


async def _migrate(dsn: str, found: str | None) -> None:
    if found is not None and found not in _revisions():
        raise MigrationError(
            f"Expected a database at revision {head()} or older, but it is at {found}. Start the newer Handrail on it."
        )
    # A second is spent on importing Alembic and SQLAlchemy: only here, where there is something to do.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    def run(connection: Any) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def connect() -> Any:
        return await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)

    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await asyncio.shield(engine.dispose())

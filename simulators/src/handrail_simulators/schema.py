"""The simulators' own tables, as a provider outside of Handrail would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

_LOCK = 7_301_155_002
_DDL = """
CREATE SCHEMA IF NOT EXISTS simulators;
CREATE TABLE IF NOT EXISTS simulators.ledger (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    trace_id text NOT NULL,
    node_id text NOT NULL,
    attempt integer NOT NULL,
    effect_key text NOT NULL,
    kind text NOT NULL CONSTRAINT ledger_kinds CHECK (kind IN ('do', 'undo', 'tombstone')),
    keyless boolean NOT NULL DEFAULT false,
    repeats integer NOT NULL DEFAULT 0,
    answer text NOT NULL,
    undone_by text,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX IF NOT EXISTS ledger_once ON simulators.ledger (tenant, effect_key) WHERE NOT keyless;
CREATE INDEX IF NOT EXISTS ledger_keyless ON simulators.ledger (tenant, effect_key) WHERE keyless;
CREATE INDEX IF NOT EXISTS ledger_trace ON simulators.ledger (tenant, trace_id, n);
CREATE TABLE IF NOT EXISTS simulators.account (
    tenant text NOT NULL,
    trace_id text NOT NULL,
    balance_cents bigint NOT NULL,
    PRIMARY KEY (tenant, trace_id)
);
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'simulators.ledger'::regclass AND conname = 'ledger_kind_check') THEN
        ALTER TABLE simulators.ledger DROP CONSTRAINT ledger_kind_check;  -- of a table made before there were tombstones
        ALTER TABLE simulators.ledger ADD CONSTRAINT ledger_kinds CHECK (kind IN ('do', 'undo', 'tombstone'));
    END IF;
END $$;
"""


async def ensure(pool: Pool) -> None:
    """Makes the schema `simulators` where it is missing. Idempotent, also when several processes call it at once.

    Raises asyncpg.PostgresError, OSError.
    """
    async with pool.acquire() as connection, connection.transaction():
        # CREATE ... IF NOT EXISTS races with itself; the lock does not.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_DDL)

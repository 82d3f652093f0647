"""Connections to PostgreSQL: pools with limits that keep a sick statement from holding everybody up, JSON by orjson."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record]
    PooledConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    AnyConnection = Connection | PooledConnection

STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 2_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 3.0
_JSONB_VERSION = b"\x01"


async def pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    app: str,
    raw_json: bool = False,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
) -> Pool:
    """A pool of connections that give up a statement after 5 s, a lock after 2 s, an idle transaction after 10 s.

    `dsn` is `postgresql://user:password@host:port/db` or `postgresql://user@/db?host=/socket/folder`; `app` is what
    pg_stat_activity shows. json and jsonb come and go as Python values; `bytes` given as a parameter are taken for
    encoded JSON and sent as they are. With `raw_json` values are read as `bytes`, undecoded.
    A connection is given back as it is (an open transaction is rolled back): no SET, LISTEN or session lock on one.
    Raises OSError or asyncpg.PostgresError where PostgreSQL does not answer.
    """

    async def prepare(connection: Any) -> None:
        await use_orjson(connection, raw=raw_json)

    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        init=prepare,
        reset=_nothing,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={
            "application_name": app,
            "statement_timeout": str(statement_timeout_ms),
            "lock_timeout": str(min(LOCK_TIMEOUT_MS, statement_timeout_ms)),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
            "jit": "off",
            "timezone": "UTC",
        },
    )


async def use_orjson(connection: Any, *, raw: bool = False) -> None:
    """Sets the JSON codecs that `pool` describes on one connection. Idempotent."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_encode, decoder=bytes if raw else orjson.loads, format="binary"
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_encode_jsonb,
        decoder=_raw_jsonb if raw else _decode_jsonb,
        format="binary",
    )


async def _nothing(connection: Any) -> None:
    """Instead of asyncpg's RESET ALL, which costs a round trip after every use."""


def _encode(value: Any) -> bytes:
    return value if type(value) is bytes else orjson.dumps(value)


def _encode_jsonb(value: Any) -> bytes:
    return _JSONB_VERSION + _encode(value)


def _decode_jsonb(value: bytes) -> Any:
    return orjson.loads(memoryview(value)[1:])


def _raw_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])

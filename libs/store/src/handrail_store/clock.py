"""The clock that all SQL uses: `handrail.clock()` is real time plus an offset that only a development machine moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection


async def now_ms(connection: AnyConnection) -> int:
    """What `handrail.clock()` shows, in milliseconds since 1970 UTC. Real time, also inside of a transaction."""
    return int(await connection.fetchval("SELECT (extract(epoch FROM handrail.clock()) * 1000)::bigint"))


async def offset_ms(connection: AnyConnection) -> int:
    """How far the clock is moved, in milliseconds."""
    return int(await connection.fetchval("SELECT coalesce((SELECT offset_ms FROM handrail.clock), 0)"))


async def advance(connection: AnyConnection, by_ms: int) -> int:
    """Moves the clock on by `by_ms` (never back: leases would live twice) and answers the new offset. Not idempotent."""
    if by_ms < 0:
        raise ValueError(f"Expected a clock that moves forward, but {by_ms} ms is negative.")
    return int(
        await connection.fetchval(
            "INSERT INTO handrail.clock (one, offset_ms) VALUES (true, $1)"
            " ON CONFLICT (one) DO UPDATE SET offset_ms = clock.offset_ms + excluded.offset_ms RETURNING offset_ms",
            by_ms,
        )
    )

"""The time by the database's clock, told without asking it each time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import structlog

from handrail_store import clock

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_log = structlog.get_logger(__name__)


class Clock:
    """`now_ms()` is what `handrail.clock()` shows, give or take half a round trip and what it moved in the last second."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._offset_ms = time.time_ns() / 1e6 - time.monotonic() * 1e3

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return int(time.monotonic() * 1e3 + self._offset_ms)

    async def sync(self) -> None:
        """Asks the database once. Raises asyncpg.PostgresError, OSError."""
        async with self._pool.acquire() as connection:
            before = time.monotonic()
            at_ms = await clock.now_ms(connection)
            self._offset_ms = at_ms - (before + time.monotonic()) / 2 * 1e3

    async def run(self, stopping: asyncio.Event, every_s: float = 1.0) -> None:
        """Asks again and again until `stopping`; while the database is away the last offset holds."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await stopping.wait()
                    return
            except TimeoutError:
                pass
            try:
                await self.sync()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as e:
                _log.warning("clock_sync_failed", kind=type(e).__name__)

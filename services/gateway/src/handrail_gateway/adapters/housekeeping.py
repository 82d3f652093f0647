"""What the gateway tidies: idempotency keys past their 7 days, journal weeks that will be needed."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from handrail_gateway.adapters.postgres import Database
from handrail_gateway.application.faults import StoreFault
from handrail_store.intake import forget_keys
from handrail_store.journal_weeks import ensure_journal_weeks

KEPT_DAYS = 7
PORTION = 5_000

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Rounds every `every_s` seconds; what a round could not do, the next one does."""

    def __init__(self, database: Database, every_s: float) -> None:
        self._database, self._every_s = database, every_s

    async def run(self, stopping: asyncio.Event) -> None:
        """Makes rounds until `stopping` is set."""
        while not stopping.is_set():
            try:
                await self.round()
            except (StoreFault, asyncpg.PostgresError) as e:
                _log.warning("housekeeping_failed", kind=type(e).__name__)
            try:
                async with asyncio.timeout(self._every_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def round(self) -> tuple[int, list[str]]:
        """One round: (how many keys were forgotten, which weeks were made). Idempotent. Raises StoreFault."""
        forgotten, portion = 0, PORTION
        while portion == PORTION:
            async with self._database.connection() as connection:
                portion = await forget_keys(connection, KEPT_DAYS, PORTION)
            forgotten += portion
        async with self._database.connection() as connection:
            made = await ensure_journal_weeks(connection)
        if forgotten or made:
            _log.info("housekeeping_done", keys_forgotten=forgotten, weeks_made=len(made))
        return forgotten, made

"""The planner's statistics while a database is young.

Statements are planned while the tables are empty and any index looks as good as the right one; prepared, such a plan stays
until statistics come. Autovacuum takes a minute to bring the first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import structlog

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_log = structlog.get_logger(__name__)
_ANALYZE = "ANALYZE handrail.workflow, handrail.command, handrail.pause"
_AFTER = (500, 5_000, 50_000)
"""Journal rows that this process has written."""


class Statistics:
    """`written` counts journal rows; `refresh_if_due` analyzes the tables beside them in the background, three times at most."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._at = list(_AFTER)
        self._task: asyncio.Task[None] | None = None
        self.written = 0

    def refresh_if_due(self) -> None:
        """Called once a second; costs nothing where nothing is due."""
        if self._at and self.written >= self._at[0]:
            self._at = [n for n in self._at if n > self.written]
            self._task = asyncio.create_task(self._analyze(), name="orchestrator.analyze")

    async def _analyze(self) -> None:
        try:
            await self._pool.execute(_ANALYZE)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as e:
            _log.info("statistics_not_refreshed", kind=type(e).__name__)  # autovacuum brings them too, later

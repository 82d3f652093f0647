"""Task records that could not be read, where people look for them: the table behind `GET /quarantine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import orjson
import structlog

from handrail_runtime.ports import Bus, BusError, Record

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_log = structlog.get_logger(__name__)

_PUT = """
INSERT INTO handrail.quarantine (tenant, topic, partition, "offset", bus_id, key, value, headers, reason, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, handrail.clock()) ON CONFLICT DO NOTHING
"""


class PostgresQuarantine:
    """Implements `runtime.worker.Quarantine`."""

    def __init__(self, pool: Pool, bus: Bus, tenant: str) -> None:
        self._pool, self._bus, self._tenant = pool, bus, tenant

    async def put(self, record: Record, reason: str) -> None:
        """As the port says."""
        headers = [[name, value.decode("utf-8", "replace")] for name, value in record.headers]
        at = (record.topic, record.partition, record.offset)
        try:
            bus_id = await self._bus.bus_id()  # asked each time: offsets mean nothing beside another log
            await self._pool.execute(
                _PUT, self._tenant, *at, bus_id, record.key, record.value, orjson.dumps(headers), reason
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, BusError) as e:
            # Its copy on handrail.quarantine stays.
            _log.warning("quarantine_row_not_written", kind=type(e).__name__, topic=record.topic, offset=record.offset)

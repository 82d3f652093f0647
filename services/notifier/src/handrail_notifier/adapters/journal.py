"""The journal and the open pauses in PostgreSQL, read-only, and the quarantine. Raw asyncpg; no connection is held across anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from pydantic_core import from_json, to_json

from handrail_notifier.application.ports import Head, Key, Row, Unavailable
from handrail_runtime.ports import Record
from handrail_store.search import labelled

ACQUIRE_S = 2.0
QUERY_S = 5.0
_TROUBLE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# The text of a json column is the event byte for byte; as bytea it comes past whatever codec the pool has for json.
_HEADS = """
SELECT k.tenant, k.trace_id, coalesce(w.born, 0) AS born, coalesce(j.seq, 0) AS seq,
       convert_to(c.body::text, 'UTF8') AS body, c.at
FROM unnest($1::text[], $2::text[]) AS k(tenant, trace_id)
LEFT JOIN handrail.workflow w ON w.tenant = k.tenant AND w.trace_id = k.trace_id
LEFT JOIN LATERAL (SELECT seq FROM handrail.journal
                   WHERE born = w.born AND tenant = k.tenant AND trace_id = k.trace_id
                   ORDER BY seq DESC LIMIT 1) j ON true
LEFT JOIN LATERAL (SELECT body, at FROM handrail.command
                   WHERE kind = 'start' AND tenant = k.tenant AND trace_id = k.trace_id AND j.seq IS NULL) c ON true
WHERE w.trace_id IS NOT NULL OR c.at IS NOT NULL
"""
_PAGE = """
SELECT seq, type, convert_to(data::text, 'UTF8') AS data FROM handrail.journal
WHERE born = $1 AND tenant = $2 AND trace_id = $3 AND seq > $4 ORDER BY seq LIMIT $5
"""
_OPEN_PAUSES = """
SELECT convert_to(data::text, 'UTF8') AS data, claimed_by, claimed_until, claimed_until > handrail.clock() AS claimed
FROM handrail.pause WHERE tenant = $1 AND state = 'open' ORDER BY opened_at DESC, pause_id DESC LIMIT $2
"""
_RUNNING_WITH = """
SELECT trace_id FROM handrail.workflow WHERE tenant = $1 AND ended_at IS NULL AND {carried}
ORDER BY created_at DESC, trace_id DESC LIMIT $2
"""
_QUARANTINE = """
INSERT INTO handrail.quarantine (tenant, topic, partition, "offset", bus_id, key, value, headers, reason, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, handrail.clock()) ON CONFLICT DO NOTHING
"""


class PostgresJournal:
    """Implements `ports.Journal`, `ports.OpenPauses`, `ports.Labels` and `ports.Quarantine` on any asyncpg pool."""

    def __init__(self, pool: Any, tenant: str) -> None:
        self._pool, self._tenant = pool, tenant

    async def heads(self, keys: Sequence[Key]) -> dict[Key, Head]:
        """As the port says."""
        rows = await self._fetch(_HEADS, [tenant for tenant, _ in keys], [trace_id for _, trace_id in keys])
        return {
            (row["tenant"], row["trace_id"]): Head(
                row["seq"],
                row["born"],
                from_json(row["body"]) if row["body"] is not None else {},
                _iso(row["at"]) if row["at"] is not None else "",
            )
            for row in rows
        }

    async def page(self, key: Key, born: int, after: int, limit: int) -> list[Row]:
        """As the port says."""
        rows = await self._fetch(_PAGE, born, key[0], key[1], after, limit)
        return [Row(row["seq"], row["type"], row["data"]) for row in rows]

    async def open_pauses(self, limit: int) -> list[dict[str, Any]]:
        """As the port says."""
        pauses: list[dict[str, Any]] = []
        for row in reversed(await self._fetch(_OPEN_PAUSES, self._tenant, limit)):
            claimed = bool(row["claimed"])
            claim = {
                "claimed_by": row["claimed_by"] if claimed else None,
                "claimed_until": _iso(row["claimed_until"]) if claimed else None,
            }
            pauses.append({**from_json(row["data"]), **claim})
        return pauses

    async def running_with(self, label: str, limit: int) -> list[Key]:
        """As the port says."""
        arguments: list[Any] = [self._tenant, limit]

        def bind(value: object) -> str:
            arguments.append(value)
            return f"${len(arguments)}"

        asked = _RUNNING_WITH.format(carried=labelled(label, bind).by_index)
        rows = await self._fetch(asked, *arguments)
        return [(self._tenant, row["trace_id"]) for row in rows]

    async def put(self, record: Record, bus_id: str, reason: str) -> None:
        """As the port says."""
        headers = [[name, value.decode("utf-8", "replace")] for name, value in record.headers]
        await self._fetch(
            _QUARANTINE,
            self._tenant,
            record.topic,
            record.partition,
            record.offset,
            bus_id,
            record.key,
            record.value,
            to_json(headers),
            reason,
        )

    async def _fetch(self, sql: str, *args: Any) -> list[Any]:
        try:
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                return await connection.fetch(sql, *args, timeout=QUERY_S)
        except _TROUBLE as e:
            raise Unavailable(f"Expected PostgreSQL to answer, but: {type(e).__name__}.") from e


def _iso(at: Any) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"

"""How often actions succeed, over all orchestrators and restarts: one small row per (agent, action)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_MOST = 400
_TELL = f"""
INSERT INTO handrail.track_record AS t (tenant, agent, action, ok, total)
SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::int[], $5::int[]) AS u(agent, action, ok, total)
ON CONFLICT (tenant, agent, action) DO UPDATE
   SET ok = (t.ok + excluded.ok) / CASE WHEN t.total + excluded.total >= {_MOST} THEN 2 ELSE 1 END,
       total = (t.total + excluded.total) / CASE WHEN t.total + excluded.total >= {_MOST} THEN 2 ELSE 1 END
"""


class TrackRecord:
    """The part of the store that counts."""

    _pool: Pool
    _tenant: str

    async def track_record(
        self, told: Mapping[tuple[str, str], tuple[int, int]]
    ) -> dict[tuple[str, str], tuple[int, int]]:
        """See the port."""
        if told:
            rows = sorted((*key, *count) for key, count in told.items())  # always the same order: no deadlock
            await self._pool.execute(_TELL, self._tenant, *(list(column) for column in zip(*rows, strict=True)))
        query = "SELECT agent, action, ok, total FROM handrail.track_record WHERE tenant = $1"
        known = await self._pool.fetch(query, self._tenant)
        return {(r["agent"], r["action"]): (r["ok"], r["total"]) for r in known}

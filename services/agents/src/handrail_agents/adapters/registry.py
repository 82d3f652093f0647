"""What this process can do, told to the registry (`handrail.agent`), and that it still lives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import structlog

from handrail_sdk.agent import Agent
from handrail_store.views import MANIFEST

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_log = structlog.get_logger(__name__)

_REGISTER = """
INSERT INTO handrail.agent AS a (tenant, name, action, version, manifest, manifest_as_written, registered_at, last_seen)
SELECT $1, o.name, o.action, o.version, o.manifest::jsonb, o.manifest, handrail.clock(), handrail.clock()
FROM unnest($2::text[], $3::text[], $4::text[], $5::json[]) AS o(name, action, version, manifest)
ORDER BY o.name, o.action, o.version
ON CONFLICT (tenant, name, action, version) DO UPDATE SET manifest = excluded.manifest,
  manifest_as_written = excluded.manifest_as_written, last_seen = excluded.last_seen
"""
_SEEN = """
UPDATE handrail.agent a SET last_seen = handrail.clock()
FROM (SELECT tenant, name, action, version FROM handrail.agent
      JOIN unnest($2::text[], $3::text[]) AS o(n, v) ON name = o.n AND version = o.v
      WHERE tenant = $1 ORDER BY name, action, version FOR UPDATE) seen
WHERE a.tenant = seen.tenant AND a.name = seen.name AND a.action = seen.action AND a.version = seen.version
"""


class Registry:
    """The rows of `agents`."""

    def __init__(self, pool: Pool, tenant: str, agents: Sequence[Agent]) -> None:
        self._pool, self._tenant, self._agents = pool, tenant, agents

    async def register(self) -> None:
        """Writes a row per action. Idempotent. Raises asyncpg.PostgresError, OSError."""
        rows = [
            (agent.name, action, agent.version, orjson.dumps({**task.manifest(), **task.facts}))
            for agent in self._agents
            for action, task in agent.tasks.items()
        ]
        names, actions, versions, manifests = (list(column) for column in zip(*rows, strict=True))
        await self._pool.execute(_REGISTER, self._tenant, names, actions, versions, manifests)

    async def known(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(agent, action) -> the newest manifest of everything that ever registered, here or elsewhere."""
        rows = await self._pool.fetch(
            f"SELECT name, action, {MANIFEST} FROM handrail.agent WHERE tenant = $1 ORDER BY registered_at",
            self._tenant,
        )
        return {(r["name"], r["action"]): r["manifest"] for r in rows}

    async def run(self, stopping: asyncio.Event, every_s: float = 5.0) -> None:
        """Renews `last_seen` until `stopping`; a database that is away is tried again."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await stopping.wait()
                    return
            except TimeoutError:
                pass
            try:
                await self._pool.execute(
                    _SEEN, self._tenant, [a.name for a in self._agents], [a.version for a in self._agents]
                )
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as e:
                _log.warning("registry_renewal_failed", kind=type(e).__name__)

"""Policies as rows: one per version, written once. In force is the newest version of each name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handrail_store.views import Rows

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection

_COLUMNS = "n, name, version, blueprint, digest, body, comment, actor, channel, at"


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """One version. `body` is encoded JSON."""

    tenant: str
    name: str
    version: int
    blueprint: str | None
    digest: str
    body: bytes
    comment: str | None
    actor: str
    channel: str


async def in_force(connection: AnyConnection, tenant: str) -> Rows:
    """The newest version of each policy, by name."""
    return await connection.fetch(
        f"SELECT DISTINCT ON (name) {_COLUMNS} FROM handrail.policy WHERE tenant = $1 ORDER BY name, version DESC",
        tenant,
    )


async def versions(connection: AnyConnection, tenant: str, name: str) -> Rows:
    """Every version of one policy, newest first."""
    return await connection.fetch(
        f"SELECT {_COLUMNS} FROM handrail.policy WHERE tenant = $1 AND name = $2 ORDER BY version DESC", tenant, name
    )


async def serial(connection: AnyConnection, tenant: str) -> int:
    """Grows with every version that is applied; 0 when there is none."""
    found = await connection.fetchval("SELECT coalesce(max(n), 0) FROM handrail.policy WHERE tenant = $1", tenant)
    return int(found)


async def lock(connection: AnyConnection, tenant: str) -> None:
    """Lets one transaction at a time add versions, so that the serial grows in the order of the commits."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('policy ' || $1, 0))", tenant)


async def newest(connection: AnyConnection, tenant: str, name: str) -> Any:
    """The newest version of one policy, or None."""
    rows = await versions(connection, tenant, name)
    return rows[0] if rows else None


async def add(connection: AnyConnection, new: NewPolicy) -> None:
    """Stores a version; the caller holds the lock and knows that it is the next one."""
    await connection.execute(
        "INSERT INTO handrail.policy (tenant, name, version, blueprint, digest, body, comment, actor, channel, at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, handrail.clock())",
        new.tenant,
        new.name,
        new.version,
        new.blueprint,
        new.digest,
        new.body,
        new.comment,
        new.actor,
        new.channel,
    )

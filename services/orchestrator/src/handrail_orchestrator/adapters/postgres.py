"""The store port on PostgreSQL: ownership, states, commands, and the batch.

The batch is one statement where it can be (partitions, journal, workflow summaries, applied commands) and one
transaction always. `handrail.fence` makes it fail as a whole when a partition's epoch or its count of batches has moved on:
the zombie fence (DESIGN D4). Only `commit` and `write` store what workflows did.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from handrail_contracts.policy import Policy
from handrail_orchestrator.adapters.rows import journal_row, workflows
from handrail_orchestrator.adapters.statements import (
    ACQUIRE,
    BLOBS,
    CLOSED,
    COMMANDS,
    COMMIT,
    COMMITTED,
    DEAD_LETTERS,
    GIVEN_UP,
    JOURNALED,
    LETTERS_OVER,
    LIMITS,
    MESSAGES,
    OUTBOUND,
    PARKED,
    PAUSES,
    PAYLOADS,
    PLACES,
    QUARANTINE,
    REFUSED,
    RENEW,
    ROW,
    SNAPSHOT,
    STATES,
)
from handrail_orchestrator.adapters.statistics import Statistics
from handrail_orchestrator.adapters.track_record import TrackRecord
from handrail_orchestrator.application.ports import (
    Batch,
    Command,
    CommitUnknown,
    Decided,
    Fenced,
    Journaled,
    JournalRow,
    Owned,
    Position,
    Stored,
)
from handrail_runtime.crashpoints import crashpoint
from handrail_store import policies
from handrail_store.views import MANIFEST

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection, Pool

FENCED = "HR001"
_TAKEN = "SELECT key, taken FROM handrail.place WHERE tenant = $1 AND key = ANY($2::text[])"
_DETERMINISTIC = ("22", "23", "42")
"""Classes of SQLSTATE that the same statement would meet again: bad data, violated constraints, bad statements."""


class PostgresStore(TrackRecord):
    """The orchestrator's side of PostgreSQL. One instance per process; `member` is its id, `tenant` whom it serves."""

    def __init__(self, pool: Pool, member: str, tenant: str, lease_s: float) -> None:
        self._pool = pool
        self._member = member
        self._tenant = self.tenant = tenant
        self._lease_s = lease_s
        self._statistics = Statistics(pool)

    async def now_ms(self) -> int:
        """`handrail.clock()` in ms."""
        return await self._pool.fetchval("SELECT (extract(epoch FROM handrail.clock()) * 1000)::bigint")

    async def beat(self, seen_within_s: float) -> tuple[int, int]:
        """Says that we live; answers (live members, partitions in all)."""
        row = await self._pool.fetchrow(
            "WITH me AS (INSERT INTO handrail.member (id, seen_at) VALUES ($1, clock_timestamp()) "
            "ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()) "
            "SELECT (SELECT count(*) FROM handrail.member WHERE id <> $1 AND seen_at > clock_timestamp() - "
            "make_interval(secs => $2)) + 1 AS live, (SELECT count(*) FROM handrail.partition) AS partitions",
            self._member,
            seen_within_s,
        )
        assert row is not None
        self._statistics.refresh_if_due()
        return row["live"], row["partitions"]

    async def leave(self) -> None:
        """Takes our row out of the members; old rows of the dead go too."""
        await self._pool.execute(
            "DELETE FROM handrail.member WHERE id = $1 OR seen_at < clock_timestamp() - interval '1 day'", self._member
        )

    async def acquire(self, most: int) -> list[Owned]:
        """Takes up to `most` partitions that are free or whose lease is over; their epoch grows."""
        rows = await self._pool.fetch(ACQUIRE, self._member, most, self._lease_s)
        return [
            Owned(
                r["p"],
                r["epoch"],
                r["bus_id"],
                {t: (o[0], o[1]) for t, o in r["offsets"].items()},
                r["next_pseq"],
                r["published_upto"],
                r["batch"],
            )
            for r in rows
        ]

    async def renew(self, held: Mapping[int, tuple[int, int, int]]) -> set[int]:
        """See the port."""
        if not held:
            return set()
        told = zip(*held.values(), strict=True)
        rows = await self._pool.fetch(RENEW, self._member, self._lease_s, list(held), *map(list, told))
        return {r["p"] for r in rows}

    async def release(self, held: Mapping[int, tuple[int, int]]) -> None:
        """Gives partitions back, with how far they are published."""
        await self._pool.execute(
            "UPDATE handrail.partition t SET owner = NULL, lease_until = NULL, published_upto = greatest(t.published_upto, u.published) "
            "FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS u(p, epoch, published) "
            "WHERE t.p = u.p AND t.epoch = u.epoch AND t.owner = $1",
            self._member,
            list(held),
            [e for e, _ in held.values()],
            [u for _, u in held.values()],
        )

    async def load(self, trace_ids: Sequence[str], fold_version: int | None = None) -> list[Stored]:
        """See the port."""
        return workflows(await self._pool.fetch(STATES, self._tenant, list(trace_ids), fold_version))

    async def save_snapshot(self, trace_id: str, seq: int, fold_version: int, state: bytes) -> None:
        """See the port."""
        await self._pool.execute(SNAPSHOT, self._tenant, trace_id, seq, fold_version, state)

    async def open_workflows(
        self, partitions: Sequence[int], after: str, limit: int
    ) -> list[tuple[int, str, int | None]]:
        """See the port."""
        rows = await self._pool.fetch(
            "SELECT p, trace_id, (extract(epoch FROM wake_at) * 1000)::bigint AS wake FROM handrail.workflow "
            "WHERE tenant = $1 AND p = ANY($2::int[]) AND ended_at IS NULL AND parked_reason IS NULL AND trace_id > $3 "
            "ORDER BY trace_id LIMIT $4",
            self._tenant,
            list(partitions),
            after,
            limit,
        )
        return [(r["p"], r["trace_id"], r["wake"]) for r in rows]

    async def commands(self, partitions: Sequence[int], limit: int) -> list[Command]:
        """Commands that were not applied, in order."""
        rows = await self._pool.fetch(COMMANDS, list(partitions), self._tenant, limit)
        return [Command(**dict(r)) for r in rows]

    async def unpublished(self, p: int, after: int, limit: int) -> list[JournalRow]:
        """See the port."""
        rows = await self._pool.fetch(
            f"SELECT {ROW} FROM handrail.journal j WHERE j.p = $1 AND j.pseq > $2 ORDER BY j.pseq LIMIT $3",
            p,
            after,
            limit,
        )
        return [journal_row(r) for r in rows]

    async def last_events(self, trace_ids: Sequence[str]) -> list[JournalRow]:
        """See the port."""
        rows = await self._pool.fetch(
            f"SELECT DISTINCT ON (j.trace_id) {ROW} FROM handrail.workflow w "
            "JOIN handrail.journal j ON j.born = w.born AND j.tenant = w.tenant AND j.trace_id = w.trace_id "
            "WHERE w.tenant = $1 AND w.trace_id = ANY($2::text[]) ORDER BY j.trace_id, j.seq DESC",
            self._tenant,
            list(trace_ids),
        )
        return [journal_row(r) for r in rows]

    async def journaled(self, events: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Journaled]:
        """See the port."""
        rows = await self._pool.fetch(JOURNALED, self._tenant, [t for t, _ in events], [seq for _, seq in events])
        return {(r["trace_id"], r["seq"]): Journaled(r["newest"], r["type"], r["at"]) for r in rows}

    async def blobs(self, trace_id: str, digests: Sequence[str]) -> dict[str, bytes]:
        """See the port."""
        rows = await self._pool.fetch(PAYLOADS, self._tenant, trace_id, list(digests))
        return {r["digest"]: r["body"] for r in rows}

    async def registry(self) -> dict[tuple[str, str], dict[str, Any]]:
        """See the port."""
        rows = await self._pool.fetch(
            f"SELECT name, action, {MANIFEST} FROM handrail.agent WHERE tenant = $1 ORDER BY registered_at",
            self._tenant,
        )
        return {(r["name"], r["action"]): r["manifest"] for r in rows}

    async def limits(self) -> dict[str, int]:
        """See the port."""
        return {r["key"]: r["most"] for r in await self._pool.fetch(LIMITS, self._tenant)}

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        """See the port."""
        return {r["key"]: r["taken"] for r in await self._pool.fetch(_TAKEN, self._tenant, list(keys))}

    async def save_blueprint(self, name: str, version: int, digest: str, body: bytes) -> str | None:
        """See the port."""
        return await self._pool.fetchval(
            "WITH new AS (INSERT INTO handrail.blueprint AS b (tenant, name, version, digest, body, loaded_at) "
            "VALUES ($1, $2, $3, $4, $5, handrail.clock()) ON CONFLICT (tenant, name, version) DO UPDATE SET body = "
            "excluded.body WHERE b.digest = excluded.digest AND b.body::text <> excluded.body::text RETURNING digest) "
            "SELECT digest FROM new UNION ALL SELECT digest FROM handrail.blueprint WHERE tenant = $1 AND name = $2 AND version = $3",
            self._tenant,
            name,
            version,
            digest,
            body,
        )

    async def policies(self) -> tuple[int, list[tuple[str, int, str | None, Any]]]:
        """See the port."""
        async with self._pool.acquire() as c:
            rows = await policies.in_force(c, self._tenant)
        found = [(r["name"], r["version"], r["blueprint"], r["body"]) for r in rows]
        return max((r["n"] for r in rows), default=0), found

    async def save_policy(self, policy: Policy, digest: str, body: bytes) -> str | None:
        """See the port."""
        async with self._pool.acquire() as c, c.transaction():
            await policies.lock(c, self._tenant)
            stand = await policies.versions(c, self._tenant, policy.name)
            if not stand or stand[0]["version"] < policy.version:
                new = (self._tenant, policy.name, policy.version, policy.blueprint, digest, body)
                await policies.add(c, policies.NewPolicy(*new, "loaded at start", "system", "system"))
                return digest
            return next((r["digest"] for r in stand if r["version"] == policy.version), None)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresTransaction]:
        """See the port."""
        try:
            async with self._pool.acquire() as c, c.transaction():
                yield PostgresTransaction(c, self)
        except asyncpg.PostgresError as e:
            raise self._translated(e) from e
        except (OSError, asyncpg.InterfaceError, TimeoutError) as e:
            raise CommitUnknown(str(e)) from e

    async def committed(self, positions: Sequence[Position], batches: Mapping[int, int]) -> bool:
        """See the port."""
        try:
            rows = await self._pool.fetch(COMMITTED, [x.p for x in positions])
        except asyncpg.LockNotAvailableError as e:
            raise CommitUnknown(f"It is still under way: {e}") from e
        now = {r["p"]: r for r in rows}
        moved = [now[x.p]["batch"] > batches[x.p] and now[x.p]["epoch"] == x.epoch for x in positions]
        if all(moved):
            return True
        if any(r["owner"] != self._member for r in rows) or any(now[x.p]["epoch"] != x.epoch for x in positions):
            raise Fenced("Partitions changed hands while a commit was under way.")
        return False

    async def commit(self, batch: Batch) -> None:
        """See the port."""
        if batch.rare:
            async with self.transaction() as t:
                await t.write(batch)
            return
        try:
            await self._pool.fetchval(COMMIT, *self.arguments(batch))
            self._statistics.written += len(batch.rows)
        except asyncpg.PostgresError as e:
            raise self._translated(e) from e
        except (OSError, asyncpg.InterfaceError, TimeoutError) as e:
            raise CommitUnknown(str(e)) from e

    def is_transient(self, error: BaseException) -> bool:
        """See the port."""
        if isinstance(error, asyncpg.PostgresError):
            return (error.sqlstate or "")[:2] not in _DETERMINISTIC
        return isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError))

    @staticmethod
    def _translated(e: asyncpg.PostgresError) -> Exception:
        if e.sqlstate == FENCED:
            return Fenced(str(e))
        if isinstance(e, asyncpg.PostgresConnectionError) or (e.sqlstate or "")[:2] == "57":
            return CommitUnknown(str(e))
        return e

    def arguments(self, b: Batch) -> tuple[Any, ...]:
        """The parameters of the one statement. Rows and summaries go by the places of their fields, as their types have them."""
        pos = b.positions
        return (
            self._member,
            [x.p for x in pos],
            [x.epoch for x in pos],
            [x.next_pseq for x in pos],
            [x.published_upto for x in pos],
            [orjson.dumps(x.offsets).decode() for x in pos],
            self._lease_s,
            [x.bus_id for x in pos],
            b.tenant,
            b.rows,
            b.summaries,
            [n for n, _ in b.commands],
            [pseq for _, pseq in b.commands],
            [x.batch for x in pos],
        )


class PostgresTransaction:
    """An open transaction."""

    def __init__(self, connection: AnyConnection, store: PostgresStore) -> None:
        self._c = connection
        self._store = store

    async def decisions(self, pause_ids: Sequence[str]) -> list[Decided]:
        """See the port."""
        ids = sorted(pause_ids)
        await self._c.execute(
            "SELECT FROM handrail.pause WHERE pause_id = ANY($1::text[]) ORDER BY pause_id FOR UPDATE", ids
        )
        # A statement of its own: its snapshot is taken after the locks, so it sees what their last holders decided.
        rows = await self._c.fetch(
            "SELECT pause_id, trace_id, action_id, input, comment, actor, channel FROM handrail.decision "
            "WHERE pause_id = ANY($1::text[]) AND NOT applied ORDER BY decided_at, pause_id",
            ids,
        )
        return [Decided(**dict(r)) for r in rows]

    async def messages(self, partitions: Sequence[int], trace_ids: Sequence[str]) -> list[Command]:
        """See the port."""
        rows = await self._c.fetch(MESSAGES, list(partitions), self._store.tenant, list(trace_ids))
        return [Command(**dict(r)) for r in rows]

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        """See the port."""
        rows = await self._c.fetch(f"{_TAKEN} ORDER BY key FOR UPDATE", self._store.tenant, list(keys))
        return {r["key"]: r["taken"] for r in rows}

    async def write(self, batch: Batch) -> None:
        """See the port."""
        b, c = batch, self._c
        await c.fetchval(COMMIT, *self._store.arguments(b))
        crashpoint("K2")
        for sql, rows in (
            (PAUSES, b.pauses),
            (DEAD_LETTERS, b.dead_letters),  # before what closes a pause, and its letter with it
            (LETTERS_OVER, b.letters_over),
            (CLOSED, b.closed),
            (REFUSED, b.refused),
            (PLACES, b.places),
            (QUARANTINE, b.quarantine),
            (BLOBS, b.blobs),
            (OUTBOUND, b.outbound),
            (GIVEN_UP, b.given_up),
        ):
            if rows:
                await c.executemany(sql, [(b.tenant, *r) for r in rows])
        if b.parked:
            await c.executemany(PARKED, [(b.tenant, *x._replace(reason=x.reason[:500])) for x in b.parked])

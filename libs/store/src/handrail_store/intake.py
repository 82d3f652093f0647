"""What the gateway writes: idempotency keys, commands, decisions, claims. One connection in, nothing committed here.

Every function works inside of the caller's transaction, except `start_many`, which is one statement and so its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from handrail_store.views import SHARED

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection


class KeyUse(NamedTuple):
    """One use of an idempotency key; `body_digest` tells whether a second use carries the same body."""

    tenant: str
    method: str
    path: str
    key: str
    body_digest: str


class KeptAnswer(NamedTuple):
    """The first answer to a key. `headers` is a JSON object, `body` the bytes as sent."""

    body_digest: str
    status: int
    headers: bytes
    body: bytes


class NewCommand(NamedTuple):
    """A command row. `body` is encoded JSON; `p` the partition of the workflow."""

    command_id: str
    tenant: str
    trace_id: str
    p: int
    kind: str
    body: bytes
    actor: str
    channel: str
    traceparent: str | None = None


class NewStart(NamedTuple):
    """A start command, and where it came with a key the answer that is kept for it."""

    command: NewCommand
    use: KeyUse | None
    answer: KeptAnswer | None


@dataclass(frozen=True, slots=True)
class NewDecision:
    """The one decision of a pause. `input` is encoded JSON or None."""

    tenant: str
    pause_id: str
    trace_id: str
    outcome: str
    action_id: str | None
    input: bytes | None
    comment: str | None
    actor: str
    channel: str
    evidence_digest: str | None


# A key is locked by its hash before its row is written, so that a batch never has to wait for a row: it takes the keys
# that are free and leaves the others.
_LOCK = "hashtextextended({tenant} || ' ' || {method} || ' ' || {path} || ' ' || {key}, 0)"
_START_MANY = f"""
WITH asked AS MATERIALIZED (
  SELECT *, key IS NULL OR pg_try_advisory_xact_lock({_LOCK.format(tenant="tenant", method="'POST'", path="path", key="key")}) AS free
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::json[], $6::text[], $7::text[], $8::text[],
                       $9::text[], $10::text[], $11::text[], $12::smallint[], $13::json[], $14::bytea[])
    WITH ORDINALITY AS a (command_id, tenant, trace_id, p, body, actor, channel, traceparent,
                          path, key, digest, status, headers, answer, i)
), clock AS MATERIALIZED (SELECT handrail.clock() AS now
), kept AS (
  INSERT INTO handrail.idempotency (tenant, method, path, key, body_digest, status, headers, body, at)
  SELECT tenant, 'POST', path, key, digest, status, headers, answer, now FROM asked, clock WHERE key IS NOT NULL AND free
  ON CONFLICT DO NOTHING RETURNING tenant, path, key
)
INSERT INTO handrail.command (command_id, tenant, trace_id, p, kind, body, actor, channel, traceparent, at)
SELECT command_id, tenant, trace_id, p, 'start', body, actor, channel, traceparent, now FROM asked, clock
 WHERE (key IS NULL OR (tenant, path, key) IN (SELECT tenant, path, key FROM kept))
   AND NOT EXISTS (SELECT FROM handrail.archived a WHERE a.tenant = asked.tenant AND a.trace_id = asked.trace_id)
 ORDER BY i
ON CONFLICT (tenant, trace_id) WHERE kind = 'start' DO NOTHING
RETURNING command_id
"""


async def start_many(connection: AnyConnection, starts: Sequence[NewStart]) -> set[str]:
    """Stores many starts in one statement, each with its key; answers the command_ids that were stored.

    Left out are those whose key was used before or is in use (wait with `recall`) and those whose trace_id is taken. A key and a
    trace_id chosen by the client do not go together here (a taken trace_id would leave its key behind): use `recall`,
    `add_command` and `keep`. No key may stand twice in `starts`.
    """
    commands = [s.command for s in starts]
    rows = await connection.fetch(
        _START_MANY,
        [c.command_id for c in commands],
        [c.tenant for c in commands],
        [c.trace_id for c in commands],
        [c.p for c in commands],
        [c.body for c in commands],
        [c.actor for c in commands],
        [c.channel for c in commands],
        [c.traceparent for c in commands],
        [s.use.path if s.use else None for s in starts],
        [s.use.key if s.use else None for s in starts],
        [s.use.body_digest if s.use else None for s in starts],
        [s.answer.status if s.answer else None for s in starts],
        [s.answer.headers if s.answer else None for s in starts],
        [s.answer.body if s.answer else None for s in starts],
    )
    return {row["command_id"] for row in rows}


_NO_ANSWER_YET = 0


async def recall(connection: AnyConnection, use: KeyUse) -> KeptAnswer | None:
    """The answer that was kept for this key, or None: then the key is ours until the transaction ends.

    Waits for a transaction that holds the key. Raises asyncpg.LockNotAvailableError past lock_timeout.
    """
    ours = await connection.fetchval(
        "INSERT INTO handrail.idempotency (tenant, method, path, key, body_digest, status, headers, body, at)"
        " SELECT $1, $2, $3, $4, $5, $6, '{}', '', handrail.clock()"
        f" FROM (SELECT pg_advisory_xact_lock({_LOCK.format(tenant='$1', method='$2', path='$3', key='$4')})) AS locked"
        " ON CONFLICT DO NOTHING RETURNING true",
        use.tenant,
        use.method,
        use.path,
        use.key,
        use.body_digest,
        _NO_ANSWER_YET,
    )
    if ours:
        return None
    row = await connection.fetchrow(
        "SELECT body_digest, status, headers, body FROM handrail.idempotency"
        " WHERE (tenant, method, path, key) = ($1, $2, $3, $4)",
        use.tenant,
        use.method,
        use.path,
        use.key,
    )
    if row is None:  # deleted by housekeeping between the two statements
        return await recall(connection, use)
    return KeptAnswer(row["body_digest"], row["status"], bytes(row["headers"]), row["body"])


async def keep(connection: AnyConnection, use: KeyUse, answer: KeptAnswer) -> None:
    """Keeps the answer under the key that `recall` reserved in this transaction."""
    await connection.execute(
        "UPDATE handrail.idempotency SET status = $5, headers = $6, body = $7"
        " WHERE (tenant, method, path, key) = ($1, $2, $3, $4)",
        use.tenant,
        use.method,
        use.path,
        use.key,
        answer.status,
        answer.headers,
        answer.body,
    )


async def forget_keys(connection: AnyConnection, older_than_days: int, limit: int = 5_000) -> int:
    """Deletes keys that are older, at most `limit` of them; answers how many. Idempotent."""
    done = await connection.execute(
        "DELETE FROM handrail.idempotency WHERE ctid IN (SELECT ctid FROM handrail.idempotency"
        " WHERE at < handrail.clock() - make_interval(days => $1) LIMIT $2)",
        older_than_days,
        limit,
    )
    return int(done.split()[1])


async def add_command(connection: AnyConnection, command: NewCommand) -> bool:
    """Stores a command; False when it is a start whose trace_id is taken, be it by a workflow that was archived."""
    return bool(
        await connection.fetchval(
            "INSERT INTO handrail.command (command_id, tenant, trace_id, p, kind, body, actor, channel, traceparent, at)"
            " SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, handrail.clock() WHERE $5 <> 'start'"
            " OR NOT EXISTS (SELECT FROM handrail.archived WHERE tenant = $2 AND trace_id = $3)"
            " ON CONFLICT (tenant, trace_id) WHERE kind = 'start' DO NOTHING RETURNING true",
            command.command_id,
            command.tenant,
            command.trace_id,
            command.p,
            command.kind,
            command.body,
            command.actor,
            command.channel,
            command.traceparent,
        )
    )


async def lock_pause(connection: AnyConnection, tenant: str, pause_id: str) -> Any:
    """The pause `FOR UPDATE` with its decision (columns `d_…`) and the clock as `now`, or None. Raises
    asyncpg.LockNotAvailableError past lock_timeout."""
    locked = await connection.fetchval(
        "SELECT pause_id FROM handrail.pause WHERE tenant = $1 AND pause_id = $2 FOR UPDATE", tenant, pause_id
    )
    if locked is None:
        return None
    # A statement of its own: its snapshot is taken after the lock, so it sees what the last holder committed.
    return await connection.fetchrow(
        "SELECT p.pause_id, p.trace_id, p.node_id, p.kind, p.state, p.data, p.opened_at, p.closed_at, p.expires_at,"
        " p.claimed_by, p.claimed_until, d.outcome AS d_outcome, d.action_id AS d_action_id, d.input AS d_input,"
        " d.actor AS d_actor, d.channel AS d_channel, d.decided_at AS d_decided_at, d.applied AS d_applied,"
        " handrail.clock() AS now"
        " FROM handrail.pause p LEFT JOIN handrail.decision d USING (pause_id) WHERE p.pause_id = $1",
        pause_id,
    )


async def add_decision(connection: AnyConnection, decision: NewDecision) -> datetime:
    """Stores the decision of a pause that the caller has locked and found undecided; answers when."""
    return await connection.fetchval(
        "INSERT INTO handrail.decision (tenant, pause_id, trace_id, outcome, action_id, input, comment, actor, channel,"
        " evidence_digest, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, handrail.clock())"
        " RETURNING decided_at",
        decision.tenant,
        decision.pause_id,
        decision.trace_id,
        decision.outcome,
        decision.action_id,
        decision.input,
        decision.comment,
        decision.actor,
        decision.channel,
        decision.evidence_digest,
    )


async def set_claim(connection: AnyConnection, pause_id: str, by: str | None, seconds: int | None) -> datetime | None:
    """Claims a pause that the caller has locked for `by`, or frees it; answers until when."""
    return await connection.fetchval(
        "UPDATE handrail.pause SET claimed_by = $2,"
        " claimed_until = handrail.clock() + make_interval(secs => $3::double precision)"
        " WHERE pause_id = $1 RETURNING claimed_until",
        pause_id,
        by,
        seconds,
    )


async def close_dead_letter(
    connection: AnyConnection, dead_letter_id: str, state: str, reason: str | None, actor: str, channel: str
) -> None:
    """Marks a dead letter that the caller has locked as `replayed` or `discarded`, by whom and why."""
    await connection.execute(
        "UPDATE handrail.dead_letter SET state = $2, reason = $3, closed_by = $4, closed_channel = $5,"
        " closed_at = handrail.clock() WHERE dead_letter_id = $1",
        dead_letter_id,
        state,
        reason,
        actor,
        channel,
    )


async def copy_payloads(connection: AnyConnection, tenant: str, of: str, to: str, digests: Collection[str]) -> None:
    """Stores what workflow `of` has under these digests for workflow `to`, too. Idempotent; what is not there is left out."""
    await connection.execute(
        "INSERT INTO handrail.blob (tenant, digest, trace_id, content_type, body, at)"
        " SELECT DISTINCT ON (digest) tenant, digest, $3, content_type, body, handrail.clock() FROM handrail.blob"
        f" WHERE tenant = $1 AND digest = ANY($4::text[]) AND (trace_id = $2 OR {SHARED}) ON CONFLICT DO NOTHING",
        tenant,
        of,
        to,
        list(digests),
    )


async def close_quarantined(
    connection: AnyConnection, record_id: int, state: str, reason: str | None, actor: str, channel: str
) -> None:
    """Marks a quarantined record that the caller has locked as `replayed` or `discarded`, by whom and why."""
    await connection.execute(
        "UPDATE handrail.quarantine SET state = $2, state_reason = $3, closed_by = $4, closed_channel = $5,"
        " closed_at = handrail.clock() WHERE id = $1",
        record_id,
        state,
        reason,
        actor,
        channel,
    )


async def hold_parked(connection: AnyConnection, tenant: str, record_id: int) -> None:
    """Holds the row of the workflow that a record of kind `parked` belongs to, until the transaction ends. To be asked for before
    the record: in the order of whoever gives workflows up."""
    await connection.execute(
        "SELECT FROM handrail.workflow WHERE tenant = $1 AND trace_id = (SELECT trace_id FROM handrail.quarantine"
        " WHERE tenant = $1 AND id = $2 AND kind = 'parked') FOR UPDATE",
        tenant,
        record_id,
    )


async def unpark(connection: AnyConnection, tenant: str, record_id: int) -> None:
    """Lets the workflow go on that an open record of kind `parked` belongs to; nothing for any other. Idempotent."""
    await connection.execute(
        "UPDATE handrail.workflow w SET parked_reason = NULL, wake_at = handrail.clock() FROM handrail.quarantine q"
        " WHERE q.tenant = $1 AND q.id = $2 AND q.kind = 'parked' AND q.state = 'open' AND w.tenant = $1"
        " AND w.trace_id = q.trace_id AND w.parked_reason IS NOT NULL",
        tenant,
        record_id,
    )


async def spoken(connection: AnyConnection, tenant: str, trace_id: str) -> int:
    """How many messages were ever accepted for the workflow."""
    return await connection.fetchval(
        "SELECT count(*) FROM handrail.command WHERE tenant = $1 AND trace_id = $2 AND kind = 'message'",
        tenant,
        trace_id,
    )


async def command_waits(connection: AnyConnection, tenant: str, trace_id: str, p: int, kind: str) -> bool:
    """True when a command of that kind is stored for the workflow (of partition `p`) and not yet applied."""
    return await connection.fetchval(
        "SELECT EXISTS (SELECT FROM handrail.command WHERE p = $3 AND applied_pseq IS NULL AND tenant = $1"
        " AND trace_id = $2 AND kind = $4)",
        tenant,
        trace_id,
        p,
        kind,
    )

"""The queue in PostgreSQL. What is to be told is read off the tables that decide, so nothing depends on a message getting through.

A notice has one id for ever: whoever writes it twice writes it once. Claiming pushes `due_at` past the time a try may take, so
that a courier that dies leaves its notice to the next one, under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from pydantic_core import from_json, to_json

from handrail_notifier.application.ports import Unavailable
from handrail_notifier.outbound.marked import without_marked
from handrail_notifier.outbound.notices import Kind, Notice

LEASE_S = 60
_TROUBLE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

_OPENED = """
INSERT INTO handrail.outbound (tenant, id, channel, kind, trace_id, pause_id, body, due_at)
SELECT p.tenant, p.tenant || '/' || c || '/opened/' || p.pause_id, c, 'opened', p.trace_id, p.pause_id,
       json_build_object('event', p.data), handrail.clock()
FROM handrail.pause p CROSS JOIN unnest($2::text[]) c
WHERE p.tenant = $1 AND p.state = 'open'
  AND NOT EXISTS (SELECT 1 FROM handrail.decision d WHERE d.pause_id = p.pause_id)
  AND NOT EXISTS (SELECT 1 FROM handrail.outbound o WHERE o.id = p.tenant || '/' || c || '/opened/' || p.pause_id)
ORDER BY p.opened_at LIMIT 200 ON CONFLICT DO NOTHING
"""
_RESOLVED = """
WITH closed AS (
  SELECT o.id, o.tenant, o.channel, o.trace_id, o.pause_id, p.data AS pause, e.data AS event
  FROM handrail.outbound o
  JOIN handrail.pause p ON p.pause_id = o.pause_id AND p.state <> 'open'
  JOIN handrail.workflow w ON w.tenant = o.tenant AND w.trace_id = o.trace_id
  JOIN LATERAL (SELECT j.data FROM handrail.journal j
                WHERE j.born = w.born AND j.tenant = o.tenant AND j.trace_id = o.trace_id AND j.seq > p.seq
                  AND j.type = 'HITL_RESOLVED' AND j.data ->> 'pause_id' = p.pause_id LIMIT 1) e ON true
  WHERE o.tenant = $1 AND o.channel = ANY($2::text[]) AND o.kind = 'opened' AND NOT o.followed
  LIMIT 200 FOR UPDATE OF o SKIP LOCKED
), followed AS (
  UPDATE handrail.outbound o SET followed = true FROM closed WHERE o.id = closed.id
)
INSERT INTO handrail.outbound (tenant, id, channel, kind, trace_id, pause_id, body, due_at)
SELECT tenant, tenant || '/' || channel || '/resolved/' || pause_id, channel, 'resolved', trace_id, pause_id,
       json_build_object('event', event, 'pause', pause), handrail.clock()
FROM closed ON CONFLICT DO NOTHING
"""
_ENDED = """
WITH closed AS (
  SELECT o.id, o.tenant, o.channel, o.trace_id, o.body -> 'event' ->> 'channel' AS decided_by, e.data AS event
  FROM handrail.outbound o
  JOIN handrail.workflow w ON w.tenant = o.tenant AND w.trace_id = o.trace_id AND w.ended_at IS NOT NULL
  JOIN LATERAL (SELECT j.data FROM handrail.journal j
                WHERE j.born = w.born AND j.tenant = o.tenant AND j.trace_id = o.trace_id
                ORDER BY j.seq DESC LIMIT 1) e ON true
  WHERE o.tenant = $1 AND o.channel = ANY($2::text[]) AND o.kind = 'resolved' AND NOT o.followed
  LIMIT 200 FOR UPDATE OF o SKIP LOCKED
), followed AS (
  UPDATE handrail.outbound o SET followed = true FROM closed WHERE o.id = closed.id
)
INSERT INTO handrail.outbound (tenant, id, channel, kind, trace_id, body, due_at)
SELECT DISTINCT ON (tenant, channel, trace_id) tenant, tenant || '/' || channel || '/ended/' || trace_id, channel, 'ended',
       trace_id, json_build_object('event', event), handrail.clock()
FROM closed
WHERE CASE WHEN channel = 'slack' THEN decided_by = 'slack'
           WHEN channel IN ('email', 'text') THEN decided_by IS DISTINCT FROM 'slack' ELSE true END
ON CONFLICT DO NOTHING
"""
_CLAIM = """
WITH mine AS (
  UPDATE handrail.outbound SET attempts = attempts + 1, due_at = handrail.clock() + make_interval(secs => $4)
  WHERE id IN (SELECT id FROM handrail.outbound
               WHERE state = 'due' AND due_at <= handrail.clock() AND tenant = $1 AND channel = ANY($2::text[])
               ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
  RETURNING *
)
SELECT m.id, m.channel, m.kind, m.trace_id, m.pause_id, m.attempts, convert_to(m.body::text, 'UTF8') AS body,
       convert_to(coalesce(first.answer, m.answer)::text, 'UTF8') AS answer, first.state AS first_state,
       convert_to((m.answer -> 'reached')::text, 'UTF8') AS reached,
       convert_to(closing.body::text, 'UTF8') AS closed
FROM mine m
LEFT JOIN LATERAL (SELECT o.answer, o.state FROM handrail.outbound o
                   WHERE m.kind IN ('resolved', 'ended') AND o.tenant = m.tenant AND o.channel = m.channel AND o.kind = 'opened'
                     AND (o.pause_id = m.pause_id OR (m.kind = 'ended' AND o.trace_id = m.trace_id))
                   ORDER BY o.answer IS NULL, o.id DESC LIMIT 1) first ON true
LEFT JOIN handrail.outbound closing ON m.kind = 'opened' AND closing.id = m.tenant || '/' || m.channel || '/resolved/' || m.pause_id
ORDER BY m.kind DESC, m.id
"""
_SENT = """
UPDATE handrail.outbound SET state = 'sent', due_at = NULL, answer = $2, error = NULL, sent_at = handrail.clock() WHERE id = $1
"""
_LATER = """
UPDATE handrail.outbound SET due_at = handrail.clock() + make_interval(secs => $2), error = $3, attempts = attempts - $4,
  answer = coalesce($5, answer)
WHERE id = $1 AND state = 'due'
"""
_PARKED = "UPDATE handrail.outbound SET state = 'parked', due_at = NULL, error = $2 WHERE id = $1 AND state = 'due'"
_NEXT = """
SELECT extract(epoch FROM min(due_at) - handrail.clock())::float8 FROM handrail.outbound
WHERE state = 'due' AND tenant = $1 AND channel = ANY($2::text[])
"""
_SWEPT = """
DELETE FROM handrail.outbound WHERE id IN (
  SELECT id FROM handrail.outbound o WHERE state = 'sent' AND sent_at < handrail.clock() - interval '30 days'
    AND (kind NOT IN ('opened', 'resolved') OR followed) LIMIT 1000)
"""
_SEEN = """
INSERT INTO handrail.idempotency (tenant, method, path, key, body_digest, status, headers, body, at)
VALUES ($1, 'SLACK', '/slack/interactions', $2, $2, 200, '{}', '', handrail.clock()) ON CONFLICT DO NOTHING
"""
_HOW_IT_ENDED = """
SELECT convert_to(body::text, 'UTF8') AS body FROM handrail.outbound
WHERE tenant = $1 AND id = $1 || '/' || $2 || '/resolved/' || $3
"""


class Queue:
    """The notices of one tenant. Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, pool: Any, tenant: str) -> None:
        self._pool, self._tenant = pool, tenant

    async def feed(self, channels: Sequence[str]) -> int:
        """Writes what these channels have not been told of yet: pauses that opened, were closed, workflows that ended.
        Idempotent, from any number of processes; answers how many notices are new."""
        found = 0
        for sql in (_OPENED, _RESOLVED, _ENDED):
            found += int((await self._execute(sql, self._tenant, list(channels))).rsplit(" ", 1)[1])
        return found

    async def claim(self, channels: Sequence[str], limit: int, lease_s: float = LEASE_S) -> list[Notice]:
        """Notices that are due, for this caller alone until the lease ends."""
        rows = await self._fetch(_CLAIM, self._tenant, list(channels), limit, lease_s)
        return [
            Notice(
                row["id"],
                row["channel"],
                Kind(row["kind"]),
                row["trace_id"],
                row["pause_id"],
                without_marked(from_json(row["body"])),
                row["attempts"],
                _json(row["answer"]),
                without_marked(_json(row["closed"])) if row["closed"] is not None else None,
                _json(row["reached"]) or (),
            )
            for row in rows
        ]

    async def sent(self, notice_id: str, answer: Any = None) -> None:
        """It is out; `answer` says where."""
        await self._execute(_SENT, notice_id, to_json(answer) if answer is not None else None)

    async def later(
        self, notice_id: str, after_s: float, why: str, *, counts: bool = True, reached: Sequence[str] = ()
    ) -> None:
        """It is tried again after so many seconds, for all but those whom it has `reached` (none: as was known before)."""
        got = to_json({"reached": list(reached)}) if reached else None
        await self._execute(_LATER, notice_id, float(after_s), why[:500], 0 if counts else 1, got)

    async def park(self, notice_id: str, why: str) -> None:
        """It is not tried again by itself."""
        await self._execute(_PARKED, notice_id, why[:500])

    async def next_s(self, channels: Sequence[str]) -> float | None:
        """Seconds until something is due; negative when it is, None when nothing waits."""
        return (await self._fetch(_NEXT, self._tenant, list(channels)))[0][0]

    async def sweep(self) -> None:
        """Forgets what was sent a month ago."""
        await self._execute(_SWEPT)

    async def first_seen(self, mark: str) -> bool:
        """True once for each mark; remembered for a week."""
        return (await self._execute(_SEEN, self._tenant, mark)).endswith(" 1")

    async def how_it_ended(self, channel: str, pause_id: str) -> dict[str, Any] | None:
        """`{event, pause}` of a pause that is over, once the channel is to be told."""
        rows = await self._fetch(_HOW_IT_ENDED, self._tenant, channel, pause_id)
        return dict(without_marked(from_json(rows[0]["body"]))) if rows else None

    async def _fetch(self, sql: str, *args: Any) -> list[Any]:
        try:
            async with self._pool.acquire(timeout=2.0) as connection:
                return await connection.fetch(sql, *args, timeout=5.0)
        except _TROUBLE as e:
            raise Unavailable(f"Expected PostgreSQL to answer, but: {type(e).__name__}.") from e

    async def _execute(self, sql: str, *args: Any) -> str:
        try:
            async with self._pool.acquire(timeout=2.0) as connection:
                return await connection.execute(sql, *args, timeout=5.0)
        except _TROUBLE as e:
            raise Unavailable(f"Expected PostgreSQL to answer, but: {type(e).__name__}.") from e


def _json(value: bytes | None) -> Any:
    return from_json(value) if value is not None else None

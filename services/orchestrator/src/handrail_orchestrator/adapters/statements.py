"""The statements of the orchestrator's store. Times in parameters are ms since 1970; `handrail.clock()` is the one clock."""

from __future__ import annotations

from handrail_store.views import SHARED

# By the count of batches, too: while the epoch is ours nobody else counts. A row with another count than ours knows of less
# (its database lost some) or of more (a commit of ours has landed whose answer we never had): it is not what we decided on.
COMMIT = """
WITH cas AS (
  UPDATE handrail.partition t
     SET offsets = t.offsets || u.offsets::jsonb, next_pseq = u.next_pseq, bus_id = u.bus_id, batch = t.batch + 1,
         published_upto = greatest(t.published_upto, u.published),
         lease_until = clock_timestamp() + make_interval(secs => $7)
    FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $8::text[],
                $14::bigint[]) AS u(p, epoch, next_pseq, published, offsets, bus_id, batch)
   WHERE t.p = u.p AND t.epoch = u.epoch AND t.owner = $1 AND t.batch = u.batch RETURNING t.p
), fence AS MATERIALIZED (
  SELECT handrail.fence((SELECT count(*) FROM cas), cardinality($2::int[])) AS ok
), j AS (
  INSERT INTO handrail.journal (born, tenant, trace_id, seq, p, pseq, type, data, meta, causation, at)
  SELECT born, $9, trace_id, seq, p, pseq, type, data, meta, causation, to_timestamp(at_ms / 1000::float8)
    FROM fence, unnest($10::handrail.stored_row[]) WHERE fence.ok
), w AS (
  INSERT INTO handrail.workflow AS t (tenant, trace_id, p, born, blueprint, intent, status, labels, counts, seq, created_at,
                                      updated_at, ended_at, wake_at)
  SELECT $9, trace_id, p, born, blueprint, intent, status, labels, counts, seq, to_timestamp(created_ms / 1000::float8),
         to_timestamp(updated_ms / 1000::float8), to_timestamp(ended_ms / 1000::float8), to_timestamp(wake_ms / 1000::float8)
    FROM fence, unnest($11::handrail.summary[]) WHERE fence.ok
  ON CONFLICT (tenant, trace_id) DO UPDATE SET status = excluded.status, counts = excluded.counts, seq = excluded.seq,
     updated_at = excluded.updated_at, ended_at = excluded.ended_at, wake_at = excluded.wake_at
), c AS (
  UPDATE handrail.command t SET applied_pseq = u.pseq
    FROM fence, unnest($12::bigint[], $13::bigint[]) AS u(n, pseq) WHERE fence.ok AND t.n = u.n
)
SELECT ok FROM fence
"""

ACQUIRE = """
UPDATE handrail.partition t SET owner = $1, epoch = t.epoch + 1, lease_until = clock_timestamp() + make_interval(secs => $3)
  FROM (SELECT p FROM handrail.partition WHERE owner IS NULL OR lease_until IS NULL OR lease_until < clock_timestamp()
         ORDER BY p LIMIT $2 FOR UPDATE SKIP LOCKED) AS free
 WHERE t.p = free.p RETURNING t.p, t.epoch, t.bus_id, t.offsets, t.next_pseq, t.published_upto, t.batch
"""

# A row with another count of batches than ours is not ours before it is taken anew (see COMMIT).
RENEW = """
UPDATE handrail.partition t SET lease_until = clock_timestamp() + make_interval(secs => $2),
       published_upto = greatest(t.published_upto, u.published)
  FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u(p, epoch, published, batch)
 WHERE t.p = u.p AND t.epoch = u.epoch AND t.owner = $1 AND t.batch = u.batch RETURNING t.p
"""

# The lock waits for a transaction that is still at it: what is read without it may change a moment later.
COMMITTED = "SELECT p, epoch, batch, owner FROM handrail.partition WHERE p = ANY($1::int[]) ORDER BY p FOR UPDATE"

ROW = (
    "j.trace_id, j.p, j.born, j.pseq, j.seq, j.type, j.data::text AS data, j.meta::text AS meta, "
    "(extract(epoch FROM j.at) * 1000)::bigint AS at"
)

# One statement sees one moment: a snapshot and exactly the rows after it. Its bytes come once, with the first of them.
# OFFSET 0 keeps the subquery one, so that the index begins at the snapshot: as a join it would read the rows before it too.
STATES = f"""
SELECT {ROW}, w.trace_id AS workflow, w.p AS partition, w.born AS week, w.status, w.parked_reason,
       (extract(epoch FROM w.wake_at) * 1000)::bigint AS wake, s.seq AS snapshot_seq,
       CASE WHEN j.seq IS NULL OR j.seq = s.seq + 1 THEN s.state END AS snapshot
  FROM handrail.workflow w
  LEFT JOIN handrail.snapshot s ON s.tenant = w.tenant AND s.trace_id = w.trace_id AND s.fold_version = $3
  LEFT JOIN LATERAL (
   SELECT * FROM handrail.journal WHERE born = w.born AND tenant = w.tenant AND trace_id = w.trace_id
      AND seq > coalesce(s.seq, 0) OFFSET 0) j ON true
 WHERE w.tenant = $1 AND w.trace_id = ANY($2::text[]) ORDER BY w.trace_id, j.seq
"""

SNAPSHOT = """
INSERT INTO handrail.snapshot AS t (tenant, trace_id, seq, fold_version, state)
SELECT w.tenant, w.trace_id, $3, $4, $5 FROM handrail.workflow w
 WHERE w.tenant = $1 AND w.trace_id = $2 AND w.ended_at IS NULL
ON CONFLICT (tenant, trace_id) DO UPDATE SET seq = excluded.seq, fold_version = excluded.fold_version, state = excluded.state
 WHERE t.seq < excluded.seq OR t.fold_version <> excluded.fold_version
"""

# By the workflow's week: without it every week of the journal would be looked through.
JOURNALED = """
SELECT e.trace_id, e.seq, j.type, j.data->>'at' AS at, newest.seq AS newest
  FROM unnest($2::text[], $3::int[]) AS e(trace_id, seq)
  JOIN handrail.workflow w ON w.tenant = $1 AND w.trace_id = e.trace_id
  JOIN LATERAL (
   SELECT seq FROM handrail.journal WHERE born = w.born AND tenant = w.tenant AND trace_id = w.trace_id
    ORDER BY seq DESC LIMIT 1) AS newest ON true
  LEFT JOIN handrail.journal j ON j.born = w.born AND j.tenant = w.tenant AND j.trace_id = w.trace_id AND j.seq = e.seq
"""

PAUSES = """
INSERT INTO handrail.pause (tenant, pause_id, trace_id, seq, node_id, kind, data, failed_agent, error_code, opened_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::bigint / 1000.0), to_timestamp($11::bigint / 1000.0))
"""

CLOSED = """
WITH closed AS (
  UPDATE handrail.pause SET state = $4, closed_at = to_timestamp($10::bigint / 1000.0) WHERE tenant = $1 AND pause_id = $2
), letters AS (
  UPDATE handrail.dead_letter SET state = CASE $5 WHEN 'retry' THEN 'replayed' WHEN 'skip' THEN 'discarded' ELSE 'closed' END,
         reason = coalesce(reason, $9), closed_by = coalesce(closed_by, $7), closed_channel = coalesce(closed_channel, $8),
         closed_at = coalesce(closed_at, to_timestamp($10::bigint / 1000.0)) WHERE tenant = $1 AND pause_id = $2 AND state = 'open'
)
INSERT INTO handrail.decision (tenant, pause_id, trace_id, outcome, action_id, actor, channel, comment, decided_at, applied)
VALUES ($1, $2, $3, $4, $6, $7, $8, $9, to_timestamp($10::bigint / 1000.0), true)
ON CONFLICT (pause_id) DO UPDATE SET applied = true, outcome = excluded.outcome
"""

REFUSED = "DELETE FROM handrail.decision WHERE tenant = $1 AND pause_id = $2 AND NOT applied"

PLACES = """
INSERT INTO handrail.place AS t (tenant, key, taken) VALUES ($1, $2, greatest(0, $3))
ON CONFLICT (tenant, key) DO UPDATE SET taken = greatest(0, t.taken + $3)
"""

LIMITS = """
WITH newest AS (
  SELECT DISTINCT ON (name, action) name, action, (manifest->>'max_in_flight')::int AS of_action,
         (manifest->>'agent_max_in_flight')::int AS of_agent
    FROM handrail.agent WHERE tenant = $1 ORDER BY name, action, registered_at DESC, last_seen DESC
), limits AS (
  SELECT name AS key, min(of_agent) AS most FROM newest WHERE of_agent IS NOT NULL GROUP BY name
  UNION ALL SELECT name || '/' || action, of_action FROM newest WHERE of_action IS NOT NULL
), made AS (
  INSERT INTO handrail.place (tenant, key) SELECT $1, key FROM limits ON CONFLICT DO NOTHING
)
SELECT key, most FROM limits
"""

DEAD_LETTERS = """
INSERT INTO handrail.dead_letter (tenant, dead_letter_id, trace_id, node_id, kind, agent, error_code, data, pause_id, state, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, to_timestamp($11::bigint / 1000.0))
ON CONFLICT (dead_letter_id) DO UPDATE SET pause_id = coalesce(excluded.pause_id, handrail.dead_letter.pause_id)
"""

# A letter that a pause came of is closed with it; a late effect waits for a person, whatever becomes of its workflow.
LETTERS_OVER = """
UPDATE handrail.dead_letter SET state = 'closed', reason = coalesce(reason, $3), closed_by = 'system', closed_channel = 'system',
       closed_at = to_timestamp($4::bigint / 1000.0)
 WHERE tenant = $1 AND dead_letter_id = $2 AND state = 'open' AND pause_id IS NULL AND kind IN ('task', 'compensation')
"""

QUARANTINE = """
INSERT INTO handrail.quarantine (tenant, topic, partition, "offset", bus_id, key, value, headers, reason, kind, trace_id, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, handrail.clock()) ON CONFLICT ON CONSTRAINT quarantine_once DO NOTHING
"""

OUTBOUND = """
INSERT INTO handrail.outbound (tenant, id, channel, trace_id, pause_id, body, due_at)
VALUES ($1, $2, $3, $4, $5, $6, handrail.clock()) ON CONFLICT DO NOTHING
"""

BLOBS = """
INSERT INTO handrail.blob (tenant, digest, trace_id, content_type, body, at)
VALUES ($1, $2, $3, $4, $5, handrail.clock()) ON CONFLICT DO NOTHING
"""

# What was stored before each workflow had its own may belong to any workflow of that time.
PAYLOADS = f"""
SELECT digest, body FROM handrail.blob WHERE tenant = $1 AND trace_id = $2 AND digest = ANY($3::text[])
UNION ALL
SELECT digest, body FROM handrail.blob
 WHERE tenant = $1 AND digest = ANY($3::text[]) AND trace_id <> $2 AND {SHARED}
"""

PARKED = """
INSERT INTO handrail.workflow (tenant, trace_id, p, born, status, created_at, updated_at, parked_reason, blueprint, intent, labels)
VALUES ($1, $2, $4, $5, 'ACCEPTED', handrail.clock(), handrail.clock(), $3, $6, $7, $8)
ON CONFLICT (tenant, trace_id) DO UPDATE SET parked_reason = excluded.parked_reason, wake_at = NULL
"""

# What was ordered while it stood still is over with it; a decision is not, while its pause may still be open.
GIVEN_UP = """
WITH records AS (
  UPDATE handrail.quarantine SET state = 'discarded', state_reason = coalesce(state_reason, $4), closed_by = $6, closed_channel = $7, closed_at = handrail.clock()
   WHERE tenant = $1 AND trace_id = $2 AND kind = 'parked' AND state = 'open'
), commands AS (
  UPDATE handrail.command SET applied_pseq = 0
   WHERE tenant = $1 AND trace_id = $2 AND p = $3 AND applied_pseq IS NULL AND (kind <> 'decide' OR $5)
)
UPDATE handrail.workflow SET parked_reason = NULL WHERE tenant = $1 AND trace_id = $2
"""

MESSAGES = """
SELECT c.n, c.trace_id, c.p, c.kind, c.body, c.actor, c.channel, c.command_id, c.traceparent FROM handrail.command c
 WHERE c.p = ANY($1::int[]) AND c.applied_pseq IS NULL AND c.tenant = $2 AND c.kind = 'message'
   AND c.trace_id = ANY($3::text[]) ORDER BY c.n
"""

# The subqueries are scalar so that they cannot become a join: planned while the tables are empty, and kept in a prepared
# statement, the join read every workflow of the tenant for each command.
COMMANDS = """
SELECT c.n, c.trace_id, c.p, c.kind, c.body, c.actor, c.channel, c.command_id, c.traceparent,
       c.kind = 'start'
       AND (SELECT w.born FROM handrail.workflow w WHERE w.tenant = c.tenant AND w.trace_id = c.trace_id) IS NULL AS unborn
  FROM handrail.command c
 WHERE c.p = ANY($1::int[]) AND c.applied_pseq IS NULL AND c.tenant = $2 AND (
   c.kind = 'give-up'
   OR (SELECT w.parked_reason FROM handrail.workflow w WHERE w.tenant = c.tenant AND w.trace_id = c.trace_id) IS NULL)
 ORDER BY c.n LIMIT $3
"""

"""What the gateway reads of workflows: summaries, journal, lists. Every function is one statement, and so one snapshot.

Connections come from a pool with `raw_json`: json columns are `bytes` here, encoded as they were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import outside_pause_id
from handrail_store import search

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection

Rows = list[Any]
MANIFEST = (
    "CASE WHEN manifest_as_written::jsonb = manifest THEN manifest_as_written ELSE manifest::json END AS manifest"
)
"""An agent's manifest with its keys in their author's order, where whoever registered it kept that."""
SHARED = "shared_until >= (SELECT created_at FROM handrail.workflow WHERE tenant = $1 AND trace_id = $2)"
"""Whether a payload of before revision 0014 may be that of workflow $2 of tenant $1, whoever stored it."""


async def workflow(connection: AnyConnection, tenant: str, trace_id: str) -> Any:
    """The summary, or of one that was accepted and not begun its start command (status ACCEPTED, seq 0); else None."""
    return await connection.fetchrow(
        "SELECT trace_id, status, born, blueprint, intent, seq, ended_at, parked_reason FROM handrail.workflow"
        " WHERE tenant = $1 AND trace_id = $2"
        " UNION ALL SELECT trace_id, 'ACCEPTED', NULL, NULL, NULL, 0, NULL, NULL FROM handrail.command c"
        " WHERE c.tenant = $1 AND c.trace_id = $2 AND c.kind = 'start'"
        " AND NOT EXISTS (SELECT FROM handrail.workflow w WHERE w.tenant = $1 AND w.trace_id = $2)",
        tenant,
        trace_id,
    )


async def started(connection: AnyConnection, tenant: str, trace_id: str) -> Any:
    """The start command (`body`, `at`, `actor`) of a workflow, or None."""
    return await connection.fetchrow(
        "SELECT body, at, actor FROM handrail.command WHERE tenant = $1 AND trace_id = $2 AND kind = 'start'",
        tenant,
        trace_id,
    )


async def opening(connection: AnyConnection, tenant: str, pause_id: str) -> Any:
    """The start command (`trace_id`, `body`, `at`) of the escalation from outside that will open this pause, or None once it
    is begun. Of what waits only names are read: whose pause it is, they tell."""
    waiting = await connection.fetch(
        "SELECT trace_id FROM handrail.command WHERE applied_pseq IS NULL AND kind = 'start' AND tenant = $1"
        " ORDER BY n DESC LIMIT $2",
        tenant,
        _WAITING_READ,
    )
    named = next((r["trace_id"] for r in waiting if outside_pause_id(tenant, r["trace_id"]) == pause_id), None)
    return named and await connection.fetchrow(
        "SELECT trace_id, body, at FROM handrail.command WHERE tenant = $1 AND trace_id = $2 AND kind = 'start'"
        " AND applied_pseq IS NULL AND body->'outside'->>'pause_id' = $3",
        tenant,
        named,
        pause_id,
    )


_WAITING_READ = 20_000
_BORN = "(SELECT born FROM handrail.workflow WHERE tenant = $1 AND trace_id = $2)"


async def events_after(
    connection: AnyConnection, tenant: str, trace_id: str, after: int, limit: int, born: int | None = None
) -> Rows:
    """(seq, data, born) of at most `limit` events with seq > `after`, oldest first. `born` saves a look-up."""
    if born is None:
        return await connection.fetch(
            f"SELECT seq, data, born FROM handrail.journal WHERE born = {_BORN} AND tenant = $1 AND trace_id = $2"
            " AND seq > $3 ORDER BY seq LIMIT $4",
            tenant,
            trace_id,
            after,
            limit,
        )
    return await connection.fetch(
        "SELECT seq, data, born FROM handrail.journal WHERE born = $5 AND tenant = $1 AND trace_id = $2"
        " AND seq > $3 ORDER BY seq LIMIT $4",
        tenant,
        trace_id,
        after,
        limit,
        born,
    )


async def newest_events(connection: AnyConnection, tenant: str, trace_id: str, limit: int) -> Rows:
    """(seq, data, born) of the newest `limit` events, oldest first."""
    rows = await connection.fetch(
        f"SELECT seq, data, born FROM handrail.journal WHERE born = {_BORN} AND tenant = $1 AND trace_id = $2"
        " ORDER BY seq DESC LIMIT $3",
        tenant,
        trace_id,
        limit,
    )
    return rows[::-1]


async def journal_rows(connection: AnyConnection, tenant: str, trace_id: str) -> Rows:
    """The whole journal (seq, type, data, meta, at) with what never leaves the service; for folding an engine state."""
    return await connection.fetch(
        f"SELECT seq, type, data, meta, at FROM handrail.journal WHERE born = {_BORN} AND tenant = $1"
        " AND trace_id = $2 ORDER BY seq",
        tenant,
        trace_id,
    )


async def planned(connection: AnyConnection, tenant: str, trace_id: str) -> list[bytes]:
    """`meta` of the events that brought nodes (`{"nodes": [compiled node, …]}`), oldest first."""
    rows = await connection.fetch(
        f"SELECT meta FROM handrail.journal WHERE born = {_BORN} AND tenant = $1 AND trace_id = $2"
        " AND type IN ('WORKFLOW_PLANNED', 'NODES_ADDED') AND meta IS NOT NULL ORDER BY seq",
        tenant,
        trace_id,
    )
    return [row["meta"] for row in rows]


async def messages(connection: AnyConnection, tenant: str, trace_id: str, pause_id: str) -> list[bytes]:
    """The MESSAGE_ADDED events of one pause, oldest first."""
    rows = await connection.fetch(
        f"SELECT data FROM handrail.journal WHERE born = {_BORN} AND tenant = $1 AND trace_id = $2"
        " AND type = 'MESSAGE_ADDED' AND data->>'pause_id' = $3 ORDER BY seq",
        tenant,
        trace_id,
        pause_id,
    )
    return [row["data"] for row in rows]


async def said_after_the_end(connection: AnyConnection, tenant: str, trace_id: str, pause_id: str) -> Rows:
    """(body, actor, at) of messages that were accepted and are in no event, because the workflow had ended by then."""
    return await connection.fetch(
        "SELECT c.body, c.actor, c.at FROM handrail.command c JOIN handrail.workflow w USING (tenant, trace_id)"
        " WHERE c.tenant = $1 AND c.trace_id = $2 AND c.kind = 'message' AND c.body->>'pause_id' = $3"
        " AND c.applied_pseq = 0 AND w.ended_at IS NOT NULL ORDER BY c.n",
        tenant,
        trace_id,
        pause_id,
    )


@dataclass(frozen=True, slots=True)
class Page:
    """A place in a list, newest first: rows strictly older than (`at`, `id`); None is the beginning."""

    limit: int
    at: datetime | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """What a list of workflows is narrowed to; empty means all. `labels`, each as it reads, `name:value`, must all
    stand; `q` is text of the intent from the beginning of a word on, or the beginning of a trace_id."""

    status: Sequence[str] = ()
    blueprint: str | None = None
    labels: Sequence[str] = ()
    q: str | None = None


_SUMMARY = "trace_id, status, blueprint, intent, labels, counts, created_at, updated_at, ended_at, parked_reason"
_NEWEST = "ORDER BY created_at DESC, trace_id DESC"
_WAITING = (
    " waiting AS MATERIALIZED (SELECT c.trace_id, 'ACCEPTED' AS status, c.body->>'blueprint' AS blueprint,"
    " c.body->>'intent' AS intent, coalesce((c.body->'labels')::jsonb, '{}') AS labels, '{}'::json AS counts,"
    " c.at AS created_at, c.at AS updated_at, NULL::timestamptz AS ended_at, NULL::text AS parked_reason"
    " FROM handrail.command c WHERE c.applied_pseq IS NULL AND c.kind = 'start' AND c.tenant = $1"
    " AND (SELECT w.p FROM handrail.workflow w WHERE w.tenant = $1 AND w.trace_id = c.trace_id) IS NULL)"
)


async def workflows(connection: AnyConnection, tenant: str, wanted: WorkflowFilter, page: Page) -> Rows:
    """Summaries, newest first, also of those that were accepted and not begun."""
    arguments: list[Any] = [tenant, page.limit]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    rows: list[str] = ["tenant = $1"]
    ordered: list[str] = []
    narrowed: list[search.Condition | str] = []
    if wanted.blueprint is not None:
        ordered.append(f"blueprint = {bind(wanted.blueprint)}")
    merged = list(ordered)
    statuses = list(dict.fromkeys(wanted.status))
    if statuses:
        ordered.append(f"status = ANY({bind(statuses)}::text[])")
    narrowed.extend(search.labelled(text, bind) for text in dict.fromkeys(wanted.labels))
    if wanted.q:
        narrowed.append(search.said_or_named(wanted.q, bind))
    if page.at is not None:
        rows.append(f"(created_at, trace_id) < ({bind(page.at)}::timestamptz, {bind(page.id)}::text)")
    if narrowed:
        begun = _searched(rows, ordered, narrowed, one_status=len(statuses) == 1)
    else:
        every_status = statuses or list(WorkflowStatus)
        begun = _merged([*rows, *merged], bind(every_status)) if ordered else _walked(rows)
    every = search.Condition.all_of(["true", *rows[1:], *ordered, *narrowed]).by_row
    return await connection.fetch(
        f"WITH {begun},{_WAITING} SELECT * FROM (SELECT * FROM begun UNION ALL"
        f" (SELECT {_SUMMARY} FROM waiting WHERE {every} {_NEWEST} LIMIT $2)) AS both_kinds {_NEWEST} LIMIT $2",
        *arguments,
    )


def _walked(rows: list[str]) -> str:
    return f"begun AS (SELECT {_SUMMARY} FROM handrail.workflow WHERE {' AND '.join(rows)} {_NEWEST} LIMIT $2)"


def _merged(rows: list[str], statuses: str) -> str:
    """The newest of each status, which an index has in order, merged: of statuses together it has none."""
    return (
        f"begun AS (SELECT newest.* FROM unnest({statuses}::text[]) AS one(status) CROSS JOIN LATERAL (SELECT {_SUMMARY}"
        f" FROM handrail.workflow w WHERE w.status = one.status AND {' AND '.join(rows)} {_NEWEST} LIMIT $2) AS newest"
        f" {_NEWEST} LIMIT $2)"
    )


def _searched(rows: list[str], ordered: list[str], narrowed: list[search.Condition | str], *, one_status: bool) -> str:
    """Searched among those of one status where one is asked for; else every filter is one of the search."""
    if one_status:
        rows = [*rows, *ordered]
    else:
        narrowed = [*ordered, *narrowed]
    return search.page(
        "begun",
        "handrail.workflow",
        _SUMMARY,
        rows=" AND ".join(rows),
        narrowed=search.Condition.all_of(narrowed),
        at="created_at",
        id_="trace_id",
    )


async def agents(connection: AnyConnection, tenant: str) -> Rows:
    """Every action ever registered, of its newest registration, with `seen_ago_s`, and of how many attempts counted lately
    (`total`) how many succeeded (`ok`); both None where none has ended."""
    return await connection.fetch(
        f"SELECT DISTINCT ON (a.name, a.action) a.name, a.action, a.version, {MANIFEST}, a.registered_at, a.last_seen,"
        " extract(epoch FROM handrail.clock() - a.last_seen)::double precision AS seen_ago_s, r.ok, r.total"
        " FROM handrail.agent a LEFT JOIN handrail.track_record r"
        " ON r.tenant = a.tenant AND r.agent = a.name AND r.action = a.action"
        " WHERE a.tenant = $1 ORDER BY a.name, a.action, a.registered_at DESC, a.last_seen DESC",
        tenant,
    )


async def parked_by(connection: AnyConnection, tenant: str, trace_id: str) -> Rows:
    """The open records that keep the workflow parked, the first first: id, and whether it `lay` on the bus."""
    return await connection.fetch(
        'SELECT id, "offset" >= 0 AS lay FROM handrail.quarantine'
        " WHERE tenant = $1 AND kind = 'parked' AND trace_id = $2 AND state = 'open'"
        " ORDER BY id",
        tenant,
        trace_id,
    )


async def surroundings(connection: AnyConnection, tenant: str, trace_id: str) -> Any:
    """(p, owned, behind, orders) of a workflow: whether an orchestrator has its partition, how many rows of that are not on
    the bus yet, and as json the commands of this workflow that are not applied; None when it is unknown."""
    return await connection.fetchrow(
        "SELECT t.p, t.owner IS NOT NULL AND t.lease_until > clock_timestamp() AS owned,"
        " t.next_pseq - 1 - t.published_upto AS behind, (SELECT coalesce(json_agg(json_build_object('kind', c.kind,"
        " 'since_ms', (extract(epoch FROM c.at) * 1000)::bigint, 'actor', c.actor, 'action_id', d.action_id)"
        " ORDER BY c.n), '[]') FROM handrail.command c LEFT JOIN handrail.decision d ON d.pause_id = c.body->>'pause_id'"
        " WHERE c.p = t.p AND c.applied_pseq IS NULL AND c.tenant = $1 AND c.trace_id = $2) AS orders"
        " FROM handrail.partition t WHERE t.p = (SELECT p FROM handrail.workflow WHERE tenant = $1 AND trace_id = $2"
        " UNION ALL SELECT p FROM handrail.command WHERE tenant = $1 AND trace_id = $2 AND kind = 'start' LIMIT 1)",
        tenant,
        trace_id,
    )


async def places(connection: AnyConnection, tenant: str) -> dict[str, int]:
    """How many attempts of each limited agent, or agent/action, are out."""
    rows = await connection.fetch("SELECT key, taken FROM handrail.place WHERE tenant = $1", tenant)
    return {r["key"]: r["taken"] for r in rows}


async def blueprints(connection: AnyConnection, tenant: str) -> Rows:
    """The newest version of every blueprint."""
    return await connection.fetch(
        "SELECT DISTINCT ON (name) name, version, digest, body, loaded_at FROM handrail.blueprint"
        " WHERE tenant = $1 ORDER BY name, version DESC",
        tenant,
    )


async def blob(connection: AnyConnection, tenant: str, trace_id: str, digest: str) -> Any:
    """(content_type, body) of a large value of that workflow, or None."""
    return await connection.fetchrow(
        "SELECT content_type, body FROM handrail.blob WHERE tenant = $1 AND digest = $3 AND trace_id = $2"
        f" UNION ALL (SELECT content_type, body FROM handrail.blob WHERE tenant = $1 AND digest = $3 AND {SHARED}"
        " AND EXISTS (SELECT FROM handrail.journal j WHERE j.tenant = $1 AND j.trace_id = $2"
        f" AND j.born = {_BORN} AND strpos(j.data::text, $3) > 0)) LIMIT 1",
        tenant,
        trace_id,
        digest,
    )


async def backlog(connection: AnyConnection) -> int:
    """How many journal rows are committed and not yet published, over all partitions."""
    return int(
        await connection.fetchval(
            "SELECT coalesce(sum(next_pseq - 1 - published_upto), 0)::bigint FROM handrail.partition"
        )
    )

"""What operators read: pauses over all workflows, dead letters, quarantine, decisions. As `views`: raw json, one
statement each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from handrail_store.views import Page, Rows, like

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection

_PAUSE = (
    "p.pause_id, p.trace_id, p.node_id, p.kind, p.state, p.data, p.error_code, p.opened_at, p.closed_at, p.expires_at,"
    " p.claimed_by, p.claimed_until, w.status AS w_status, w.blueprint AS w_blueprint, w.intent AS w_intent,"
    " w.labels AS w_labels, d.outcome AS d_outcome, d.action_id AS d_action_id, d.input AS d_input,"
    " d.comment AS d_comment, d.actor AS d_actor, d.channel AS d_channel, d.decided_at AS d_decided_at,"
    " d.applied AS d_applied, handrail.clock() AS now"
)
_PAUSE_FROM = (
    " FROM handrail.pause p LEFT JOIN handrail.workflow w ON w.tenant = p.tenant AND w.trace_id = p.trace_id"
    " LEFT JOIN handrail.decision d ON d.pause_id = p.pause_id"
)


@dataclass(frozen=True, slots=True)
class PauseFilter:
    """What an inbox is narrowed to. `state` open, mine or resolved; mine are open ones that `actor` holds a claim on."""

    state: str = "open"
    actor: str = ""
    kind: Sequence[str] = ()
    agent: str | None = None
    error_code: str | None = None
    blueprint: str | None = None
    trace_id: str | None = None
    q: str | None = None


def _pause_where(wanted: PauseFilter, bind: Any) -> list[str]:
    where = ["p.state <> 'open'" if wanted.state == "resolved" else "p.state = 'open'"]
    if wanted.state == "mine":
        where.append(f"p.claimed_by = {bind(wanted.actor)} AND p.claimed_until > handrail.clock()")
    if wanted.kind:
        where.append(f"p.kind = ANY({bind(list(wanted.kind))}::text[])")
    for column, value in (
        ("p.failed_agent", wanted.agent),
        ("p.error_code", wanted.error_code),
        ("w.blueprint", wanted.blueprint),
        ("p.trace_id", wanted.trace_id),
    ):
        if value is not None:
            where.append(f"{column} = {bind(value)}")
    if wanted.q:
        text = bind(f"%{like(wanted.q)}%")
        where.append(f"(w.intent ILIKE {text} OR p.data->>'failure_reason' ILIKE {text} OR p.node_id ILIKE {text})")
    return where


async def inbox(connection: AnyConnection, tenant: str, wanted: PauseFilter, page: Page) -> Rows:
    """Pauses with their workflow (`w_…`) and decision (`d_…`): open ones by `opened_at`, resolved ones by `closed_at`,
    newest first."""
    arguments: list[Any] = [tenant, page.limit]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    at = "p.closed_at" if wanted.state == "resolved" else "p.opened_at"
    where = ["p.tenant = $1", *_pause_where(wanted, bind)]
    if page.at is not None:
        where.append(f"({at}, p.pause_id) < ({bind(page.at)}::timestamptz, {bind(page.id)}::text)")
    return await connection.fetch(
        f"SELECT {_PAUSE}{_PAUSE_FROM} WHERE {' AND '.join(where)} ORDER BY {at} DESC, p.pause_id DESC LIMIT $2",
        *arguments,
    )


async def inbox_total(connection: AnyConnection, tenant: str, wanted: PauseFilter, most: int) -> int:
    """How many pauses the same filter finds; counting stops at `most`."""
    arguments: list[Any] = [tenant, most]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    where = " AND ".join(["p.tenant = $1", *_pause_where(wanted, bind)])
    return int(
        await connection.fetchval(
            f"SELECT count(*) FROM (SELECT 1{_PAUSE_FROM} WHERE {where} LIMIT $2) AS counted", *arguments
        )
    )


async def pause(connection: AnyConnection, tenant: str, pause_id: str) -> Any:
    """One pause as `inbox` shows it, or None."""
    return await connection.fetchrow(
        f"SELECT {_PAUSE}{_PAUSE_FROM} WHERE p.tenant = $1 AND p.pause_id = $2", tenant, pause_id
    )


async def pauses_of(connection: AnyConnection, tenant: str, trace_id: str) -> Rows:
    """(pause_id, kind, state, node_id, decided) of a workflow's pauses, the one opened or closed last first."""
    return await connection.fetch(
        "SELECT p.pause_id, p.kind, p.state, p.node_id, d.pause_id IS NOT NULL AS decided FROM handrail.pause p"
        " LEFT JOIN handrail.decision d USING (pause_id) WHERE p.tenant = $1 AND p.trace_id = $2"
        " ORDER BY p.state = 'open' DESC, coalesce(p.closed_at, p.opened_at) DESC, p.seq DESC",
        tenant,
        trace_id,
    )


async def dead_letters(
    connection: AnyConnection, tenant: str, page: Page, *, state: str | None, agent: str | None, trace_id: str | None
) -> Rows:
    """Dead letters, newest first."""
    return await connection.fetch(
        "SELECT dead_letter_id, trace_id, node_id, kind, agent, error_code, data, pause_id, state, reason, at"
        " FROM handrail.dead_letter WHERE tenant = $1 AND ($2::text IS NULL OR state = $2)"
        " AND ($3::text IS NULL OR agent = $3) AND ($4::text IS NULL OR trace_id = $4)"
        " AND ($5::timestamptz IS NULL OR (at, dead_letter_id) < ($5, $6)) ORDER BY at DESC, dead_letter_id DESC LIMIT $7",
        tenant,
        state,
        agent,
        trace_id,
        page.at,
        page.id,
        page.limit,
    )


async def dead_letter(connection: AnyConnection, tenant: str, dead_letter_id: str, *, lock: bool = False) -> Any:
    """One dead letter, or None; with `lock` held until the transaction ends."""
    return await connection.fetchrow(
        "SELECT dead_letter_id, trace_id, node_id, kind, agent, error_code, data, pause_id, state, reason, at"
        " FROM handrail.dead_letter WHERE tenant = $1 AND dead_letter_id = $2" + (" FOR UPDATE" if lock else ""),
        tenant,
        dead_letter_id,
    )


_QUARANTINE = (
    'SELECT id, topic, partition, "offset", bus_id, key, value, headers, reason, kind, trace_id, state, state_reason, at'
    " FROM handrail.quarantine WHERE tenant = $1"
)


async def quarantined(
    connection: AnyConnection, tenant: str, limit: int, before: int | None, *, state: str | None, topic: str | None
) -> Rows:
    """Records that were set aside, newest first, with id < `before`."""
    return await connection.fetch(
        f"{_QUARANTINE} AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR topic = $3)"
        " AND ($4::bigint IS NULL OR id < $4) ORDER BY id DESC LIMIT $5",
        tenant,
        state,
        topic,
        before,
        limit,
    )


async def quarantined_record(connection: AnyConnection, tenant: str, record_id: int, *, lock: bool = False) -> Any:
    """One record that was set aside, or None; with `lock` held until the transaction ends."""
    return await connection.fetchrow(f"{_QUARANTINE} AND id = $2" + (" FOR UPDATE" if lock else ""), tenant, record_id)


async def decisions(
    connection: AnyConnection,
    tenant: str,
    since: datetime | None,
    blueprint: str | None = None,
    kinds: Sequence[str] = (),
) -> AsyncIterator[Any]:
    """Every decision with its pause and workflow, oldest first, read in portions. Needs a transaction."""
    cursor = connection.cursor(
        "SELECT d.pause_id, d.trace_id, d.outcome, d.action_id, d.input, d.comment, d.actor, d.channel, d.decided_at,"
        " p.kind, p.node_id, p.data, p.opened_at, w.status, w.blueprint FROM handrail.decision d JOIN handrail.pause p USING (pause_id)"
        " LEFT JOIN handrail.workflow w ON w.tenant = d.tenant AND w.trace_id = d.trace_id"
        " WHERE d.tenant = $1 AND ($2::timestamptz IS NULL OR d.decided_at >= $2)"
        " AND ($3::text IS NULL OR w.blueprint = $3) AND (cardinality($4::text[]) = 0 OR p.kind = ANY($4::text[]))"
        " ORDER BY d.decided_at, d.pause_id",
        tenant,
        since,
        blueprint,
        list(kinds),
        prefetch=200,
    )
    async for row in cursor:
        yield row

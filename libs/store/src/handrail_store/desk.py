"""What operators read: pauses over all workflows, dead letters, quarantine, decisions. As `views`: raw json, one
statement each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from handrail_store import search
from handrail_store.views import Page, Rows

if TYPE_CHECKING:
    from handrail_store.connect import AnyConnection

_PAUSE = (
    "p.pause_id, p.trace_id, p.node_id, p.kind, p.state, p.data, p.error_code, p.opened_at, p.closed_at, p.expires_at,"
    " p.claimed_by, p.claimed_until, w.status AS w_status, coalesce(w.blueprint, p.blueprint) AS w_blueprint, w.intent AS w_intent,"
    " w.labels AS w_labels, d.outcome AS d_outcome, d.action_id AS d_action_id, d.input AS d_input,"
    " d.comment AS d_comment, d.actor AS d_actor, d.channel AS d_channel, d.decided_at AS d_decided_at,"
    " d.applied AS d_applied, handrail.clock() AS now"
)
_JOINED = (
    " LEFT JOIN handrail.workflow w ON w.tenant = p.tenant AND w.trace_id = p.trace_id"
    " LEFT JOIN handrail.decision d ON d.pause_id = p.pause_id"
)
_PORTION = 500
_NEWEST_DECISION = "SELECT decided_at, pause_id FROM handrail.decision WHERE tenant = $1 ORDER BY decided_at DESC, pause_id DESC LIMIT 1"
_PAUSE_FROM = f" FROM handrail.pause p{_JOINED}"


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
    """All but the text."""
    where = ["tenant = $1", "state <> 'open'" if wanted.state == "resolved" else "state = 'open'"]
    if wanted.state == "mine":
        where.append(f"claimed_by = {bind(wanted.actor)} AND claimed_until > handrail.clock()")
    if wanted.kind:
        where.append(f"kind = ANY({bind(list(wanted.kind))}::text[])")
    for column, value in (
        ("failed_agent", wanted.agent),
        ("error_code", wanted.error_code),
        ("blueprint", wanted.blueprint),
        ("trace_id", wanted.trace_id),
    ):
        if value is not None:
            where.append(f"{column} = {bind(value)}")
    return where


async def inbox(
    connection: AnyConnection, tenant: str, wanted: PauseFilter, page: Page, *, total_up_to: int
) -> tuple[Rows, int]:
    """Pauses with their workflow (`w_…`) and decision (`d_…`): open ones by `opened_at`, resolved ones by `closed_at`,
    newest first; and how many the same filter finds on all pages, where counting stops at `total_up_to`."""
    if wanted.q and page.at is None:  # what a search has found for the count, its first page shows
        rows = await _shown(connection, tenant, wanted, page, max(page.limit, total_up_to))
        return rows, min(rows[0]["found"], total_up_to) if rows else 0
    rows = await _shown(connection, tenant, wanted, page, page.limit)
    return rows, await _total(connection, tenant, wanted, total_up_to)


async def _shown(connection: AnyConnection, tenant: str, wanted: PauseFilter, page: Page, most: int) -> Rows:
    """The page, and with each row of it how many up to `most` were `found`, of which it shows the first."""
    arguments: list[Any] = [tenant, most]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    at = _time(wanted)
    where = _pause_where(wanted, bind)
    if page.at is not None:
        where.append(f"({at}, pause_id) < ({bind(page.at)}::timestamptz, {bind(page.id)}::text)")
    return await connection.fetch(
        f"WITH {_picked(wanted, where, bind)},"
        f" page AS (SELECT pause_id FROM picked ORDER BY {at} DESC, pause_id DESC LIMIT {bind(page.limit)})"
        f" SELECT {_PAUSE}, (SELECT count(*) FROM picked) AS found FROM page"
        f" JOIN handrail.pause p ON p.pause_id = page.pause_id{_JOINED} ORDER BY p.{at} DESC, p.pause_id DESC",
        *arguments,
    )


async def _total(connection: AnyConnection, tenant: str, wanted: PauseFilter, most: int) -> int:
    """How many pauses the filter finds; counting stops at `most`."""
    arguments: list[Any] = [tenant, most]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    where = _pause_where(wanted, bind)
    if wanted.q:
        statement = f"WITH {_picked(wanted, where, bind)} SELECT count(*) FROM picked"
    else:
        statement = f"SELECT count(*) FROM (SELECT FROM handrail.pause WHERE {' AND '.join(where)} LIMIT $2) AS counted"
    return int(await connection.fetchval(statement, *arguments))


def _time(wanted: PauseFilter) -> str:
    """By which time the list is ordered."""
    return "closed_at" if wanted.state == "resolved" else "opened_at"


def _picked(wanted: PauseFilter, where: list[str], bind: Any) -> str:
    """The CTE `picked`: the newest `$2` pauses that are found."""
    rows, at = " AND ".join(where), _time(wanted)
    if not wanted.q:
        order = f"ORDER BY {at} DESC, pause_id DESC"
        return f"picked AS MATERIALIZED (SELECT pause_id, {at} FROM handrail.pause WHERE {rows} {order} LIMIT $2)"
    text, columns = search.said("told", wanted.q, bind), f"pause_id, told, {at}"
    return search.page("picked", "handrail.pause", columns, rows=rows, narrowed=text, at=at, id_="pause_id")


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


_LETTER = (
    "SELECT dead_letter_id, trace_id, node_id, kind, agent, error_code, data, pause_id, state, reason, at,"
    " closed_by, closed_channel, closed_at FROM handrail.dead_letter"
)


async def dead_letters(
    connection: AnyConnection, tenant: str, page: Page, *, state: str | None, agent: str | None, trace_id: str | None
) -> Rows:
    """Dead letters, newest first."""
    arguments: list[Any] = [tenant, page.limit]
    where = ["tenant = $1"]
    for column, value in (("state", state), ("agent", agent), ("trace_id", trace_id)):
        if value is not None:
            arguments.append(value)
            where.append(f"{column} = ${len(arguments)}")
    if page.at is not None:
        arguments += [page.at, page.id]
        where.append(f"(at, dead_letter_id) < (${len(arguments) - 1}::timestamptz, ${len(arguments)}::text)")
    return await connection.fetch(
        f"{_LETTER} WHERE {' AND '.join(where)} ORDER BY at DESC, dead_letter_id DESC LIMIT $2",
        *arguments,
    )


async def dead_letter(connection: AnyConnection, tenant: str, dead_letter_id: str, *, lock: bool = False) -> Any:
    """One dead letter, or None; with `lock` held until the transaction ends, and before it the pause that it opened: in the order
    of whoever applies decisions."""
    if lock:
        await connection.execute(
            "SELECT FROM handrail.pause WHERE pause_id = (SELECT pause_id FROM handrail.dead_letter"
            " WHERE tenant = $1 AND dead_letter_id = $2) FOR UPDATE",
            tenant,
            dead_letter_id,
        )
    return await connection.fetchrow(
        f"{_LETTER} WHERE tenant = $1 AND dead_letter_id = $2" + (" FOR UPDATE" if lock else ""),
        tenant,
        dead_letter_id,
    )


QUARANTINE_SHOWN_BYTES = 64 * 1024
_QUARANTINE = (
    'SELECT id, topic, partition, "offset", bus_id, key, value, octet_length(value) AS bytes, headers, reason, kind,'
    " trace_id, state, state_reason, at, closed_by, closed_channel, closed_at FROM handrail.quarantine WHERE tenant = $1"
)
_QUARANTINE_LIST = _QUARANTINE.replace("value,", f"substr(value, 1, {QUARANTINE_SHOWN_BYTES}) AS value,", 1)


async def quarantined(
    connection: AnyConnection, tenant: str, limit: int, before: int | None, *, state: str | None, topic: str | None
) -> Rows:
    """Records that were set aside, newest first, with id < `before`; of each value the first QUARANTINE_SHOWN_BYTES."""
    return await connection.fetch(
        f"{_QUARANTINE_LIST} AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR topic = $3)"
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
    connect: Callable[[], AbstractAsyncContextManager[AnyConnection]],
    tenant: str,
    since: datetime | None,
    blueprint: str | None = None,
    kinds: Sequence[str] = (),
) -> AsyncIterator[Any]:
    """Every decision that there was at the first step, with its pause and workflow as they stand when it is read, oldest first.
    Each portion is one statement on a connection of its own: none is held while the caller takes its time. A decision that is
    committed after a younger one may be in none of the steps; it is there for who asks again with a `since` before it."""
    arguments: list[Any] = [tenant, _PORTION]

    def bind(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    where = ["d.tenant = $1"]
    if since is not None:
        where.append(f"d.decided_at >= {bind(since)}")
    if blueprint is not None:
        where.append(f"coalesce(w.blueprint, p.blueprint) = {bind(blueprint)}")
    if kinds:
        where.append(f"p.kind = ANY({bind(list(kinds))}::text[])")
    async with connect() as connection:
        newest = await connection.fetchrow(_NEWEST_DECISION, tenant)
        if newest is None:
            return
        where.append(f"(d.decided_at, d.pause_id) <= ({bind(newest['decided_at'])}, {bind(newest['pause_id'])})")
        rows = await connection.fetch(_decided(where), *arguments)
    where.append(f"(d.decided_at, d.pause_id) > ({bind(None)}::timestamptz, {bind(None)}::text)")
    while True:
        for row in rows:
            yield row
        if len(rows) < _PORTION:
            return
        arguments[-2:] = rows[-1]["decided_at"], rows[-1]["pause_id"]
        async with connect() as connection:
            rows = await connection.fetch(_decided(where), *arguments)


def _decided(where: list[str]) -> str:
    return (
        "SELECT d.pause_id, d.trace_id, d.outcome, d.action_id, d.input, d.comment, d.actor, d.channel, d.decided_at,"
        " p.kind, p.node_id, p.data, p.opened_at, w.status, coalesce(w.blueprint, p.blueprint) AS blueprint"
        " FROM handrail.decision d JOIN handrail.pause p USING (pause_id)"
        " LEFT JOIN handrail.workflow w ON w.tenant = d.tenant AND w.trace_id = d.trace_id"
        f" WHERE {' AND '.join(where)} ORDER BY d.decided_at, d.pause_id LIMIT $2"
    )

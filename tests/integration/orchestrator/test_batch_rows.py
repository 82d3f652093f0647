"""The rows of a batch go into PostgreSQL as they are: one array of rows, by the places of their fields."""

from __future__ import annotations

import pytest

from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application.ports import Batch, Position, StoredRow, Summary
from handrail_store import connect, migrate
from handrail_store.journal_weeks import born_at

AT_MS = 1_790_000_000_123


@pytest.mark.parametrize(("name", "row"), [("stored_row", StoredRow), ("summary", Summary)])
async def test_a_type_has_the_fields_of_its_row_in_their_order(
    empty_database: str, name: str, row: type[StoredRow] | type[Summary]
) -> None:
    await migrate.upgrade(empty_database, 1)
    pool = await connect.pool(empty_database, app="test")
    try:
        fields = await pool.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum",
            f"handrail.{name}",
        )
    finally:
        await pool.close()
    assert tuple(r["attname"] for r in fields) == row._fields


async def test_a_letter_whose_pause_opens_and_closes_in_one_batch_is_over_with_it(empty_database: str) -> None:
    """It comes back in the very moment in which its workflow is cancelled."""
    await migrate.upgrade(empty_database, 1)
    pool = await connect.pool(empty_database, app="test")
    store = PostgresStore(pool, "me", "default", 5)
    letter = ("d1", "w", "a", "task", "bot", "E", b"{}", None, "open", AT_MS)
    pause = ("p1", "w", 5, "a", "failure", b"{}", "bot", "E", AT_MS, None)
    closed = ("p1", "w", "cancelled", None, None, "system", "system", None, AT_MS)
    try:
        (owned,) = await store.acquire(1)
        first = Position(0, owned.epoch, 2, 0, {}, None, 0)
        await store.commit(Batch("default", positions=[first], dead_letters=[letter]))
        linked = [(*letter[:7], "p1", *letter[8:])]
        second = Position(0, owned.epoch, 3, 0, {}, None, 1)
        await store.commit(Batch("default", positions=[second], pauses=[pause], closed=[closed], dead_letters=linked))
        kept = await pool.fetchrow("SELECT state, pause_id, closed_by FROM handrail.dead_letter")
    finally:
        await pool.close()
    assert kept is not None and tuple(kept) == ("closed", "p1", "system")


async def test_what_a_batch_says_is_stored_byte_for_byte(empty_database: str) -> None:
    await migrate.upgrade(empty_database, 1)
    pool = await connect.pool(empty_database, app="test")
    store = PostgresStore(pool, "me", "default", 5)
    born, odd = born_at(AT_MS), 'a,"b"\\{}()\n\tNULL é 字 ok'
    data = '{"z": 1,  "a":"é\\u0007,{}\\"()",\n"n":null}'.encode()
    rows = [
        StoredRow(born, odd, 1, 0, 1, "WORKFLOW_ACCEPTED", data, b'{"m":  [1]}', odd, AT_MS),
        StoredRow(born, odd, 2, 0, 2, "WORKFLOW_CANCELLED", b"{}", None, None, AT_MS + 1),
    ]
    begun = Summary(odd, 0, born, None, odd, "RUNNING", b'{"k":"v,{}"}', b'{"z": 1}', 1, AT_MS, AT_MS, None, AT_MS + 5)
    ended = begun._replace(
        status="CANCELLED", counts=b"{}", seq=2, updated_ms=AT_MS + 1, ended_ms=AT_MS + 1, wake_ms=None
    )
    try:
        (owned,) = await store.acquire(1)
        for i, summary in enumerate((begun, ended)):
            position = Position(0, owned.epoch, i + 2, 0, {}, None, i)
            await store.commit(Batch("default", positions=[position], rows=rows[i : i + 1], summaries=[summary]))
        stored = await pool.fetch(
            "SELECT born, trace_id, seq, p, pseq, type, data::text, meta::text, causation,"
            " (extract(epoch FROM at) * 1000)::bigint FROM handrail.journal ORDER BY seq"
        )
        kept = await pool.fetchrow(
            "SELECT trace_id, p, born, blueprint, intent, status, labels, counts::text, seq,"
            " (extract(epoch FROM created_at) * 1000)::bigint, (extract(epoch FROM updated_at) * 1000)::bigint,"
            " (extract(epoch FROM ended_at) * 1000)::bigint, wake_at FROM handrail.workflow"
        )
    finally:
        await pool.close()
    text = [r._replace(data=r.data.decode(), meta=r.meta and r.meta.decode()) for r in rows]  # type: ignore[arg-type]  as it is read
    assert [tuple(r) for r in stored] == text
    assert kept is not None
    assert tuple(kept) == (
        odd,
        0,
        born,
        None,
        odd,
        "CANCELLED",
        {"k": "v,{}"},
        "{}",
        2,
        AT_MS,
        AT_MS + 1,
        AT_MS + 1,
        None,
    )

"""Old weeks of the journal leave the database by way of files; what is not over, or not old, stays."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from handrail.cli.main import build
from handrail_contracts.ids import effect_key
from handrail_store import archive, migrate

EVENTS = 5


@pytest_asyncio.fixture(loop_scope="session")
async def database(empty_database: str) -> AsyncGenerator[tuple[str, Any]]:
    await migrate.upgrade(empty_database, 2)
    connection = await asyncpg.connect(empty_database)
    yield empty_database, connection
    await connection.close()


async def week(
    connection: Any, key: int, *, ended: bool = True, published: bool = True, days: float = 14.01
) -> list[str]:
    """Three workflows accepted in that week, whose newest events are so many days old."""
    await connection.execute(
        f"CREATE TABLE handrail.journal_{key} PARTITION OF handrail.journal FOR VALUES FROM ({key}) TO ({key + 1})"
    )
    ids = [f"w{key}-{i}" for i in range(3)]
    end = "now()" if ended else "NULL"
    for n, trace_id in enumerate(ids):
        await connection.execute(
            "INSERT INTO handrail.workflow (trace_id, p, born, status, created_at, updated_at, ended_at)"
            f" VALUES ($1, 0, $2, 'COMPLETED', now(), now(), {end})",
            trace_id,
            key,
        )
        await connection.execute(
            "INSERT INTO handrail.command (command_id, trace_id, p, kind, body, at, applied_pseq)"
            " VALUES ($1, $1, 0, 'start', '{}', now(), 1)",
            trace_id,
        )
        for seq in range(1, EVENTS + 1):
            pseq = (1 if published else 10**9) + n * EVENTS + seq
            await connection.execute(
                "INSERT INTO handrail.journal (born, trace_id, seq, p, pseq, type, data, at)"
                " VALUES ($1, $2, $3, 0, $4, 'X', $5, handrail.clock() - make_interval(secs => $6 + (5 - $3) * 600))",
                key,
                trace_id,
                seq,
                pseq,
                json.dumps({"seq": seq, "text": "grüße \n"}),
                days * 86_400,
            )
    await connection.execute("UPDATE handrail.partition SET published_upto = 1000000 WHERE p = 0")
    return ids


async def left(connection: Any) -> list[str]:
    return [r[0] for r in await connection.fetch("SELECT trace_id FROM handrail.workflow ORDER BY 1")]


@pytest.mark.parametrize("portion", [1, 4, 3 * EVENTS, 1_000])
async def test_a_week_that_is_over_goes_to_files_and_leaves_the_database(
    database: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(archive, "PORTION", portion)
    _, connection = database
    ids = await week(connection, 202501)
    (found,) = await archive.weeks(connection, 30)
    assert (found.name, found.workflows, found.rows, found.stays) == ("journal_202501", 3, 3 * EVENTS, None)
    done = await archive.archive(connection, found, tmp_path / "new" / "folder")
    text = gzip.decompress(done.journal.read_bytes())
    assert hashlib.sha256(text).hexdigest() == done.sha256
    events = [json.loads(line) for line in text.splitlines()]
    assert [(e["trace_id"], e["seq"]) for e in events] == [(t, seq) for t in ids for seq in range(1, EVENTS + 1)]
    assert events[0]["data"] == {"seq": 1, "text": "grüße \n"}
    summaries = [json.loads(line) for line in gzip.decompress(done.summaries.read_bytes()).splitlines()]
    assert [s["trace_id"] for s in summaries] == ids
    assert json.loads((tmp_path / "new" / "folder" / "journal_202501.json").read_text())["rows"] == 3 * EVENTS
    assert await left(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM handrail.command") == 0
    assert await connection.fetchval("SELECT to_regclass('handrail.journal_202501')") is None
    assert await archive.weeks(connection, 30) == []


async def test_the_ledger_of_a_week_goes_with_it_and_nothing_that_is_still_needed(
    database: tuple[str, Any], tmp_path: Path
) -> None:
    _, connection = database
    plain, late, seen_to = await week(connection, 202506)
    other, *_ = await week(connection, 202507, ended=False)
    for trace_id in (plain, late, seen_to, other, f"{plain}-more", "gone-long-ago"):
        for node in ("a", "b"):
            await connection.execute(
                "INSERT INTO agents.effect (effect_key, attempt, state, claimed_at) VALUES ($1, 1, 'DONE', now())",
                effect_key("default", trace_id, node, 1),
            )
    for trace_id, state in ((late, "replayed"), (seen_to, "discarded")):
        await connection.execute(
            "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, kind, data, state, at)"
            " VALUES ($1, $1, 'a', 'late_effect', '{}', $2, now())",
            trace_id,
            state,
        )
    await connection.execute(
        "INSERT INTO handrail.archived (trace_id) VALUES ('gone-long-ago')"
    )  # before revision 0015
    found = next(w for w in await archive.weeks(connection, 30) if w.born == 202506)
    await archive.archive(connection, found, tmp_path)
    kept = {r[0].split("/")[1] for r in await connection.fetch("SELECT effect_key FROM agents.effect")}
    assert kept == {late, other, f"{plain}-more"}, "what came to light after the end may be undone, and asks the ledger"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"ended": False}, "have not ended"),
        ({"published": False}, "not published yet"),
        ({"days": 13.9}, "newest row is not 14 days old"),
    ],
)
async def test_a_week_that_is_not_over_stays_and_says_why(
    database: tuple[str, Any], how: dict[str, Any], why: str
) -> None:
    _, connection = database
    await week(connection, 202502, **how)
    (found,) = await archive.weeks(connection, 30)
    assert found.stays is not None and why in found.stays


async def test_a_week_that_changed_since_it_was_looked_at_is_not_dropped(
    database: tuple[str, Any], tmp_path: Path
) -> None:
    _, connection = database
    ids = await week(connection, 202503)
    (found,) = await archive.weeks(connection, 30)
    await connection.execute("UPDATE handrail.workflow SET ended_at = NULL WHERE trace_id = $1", ids[0])
    with pytest.raises(archive.WeekChanged):
        await archive.archive(connection, found, tmp_path)
    assert await left(connection) == ids


async def test_the_command_shows_what_would_go_then_does_it_and_refuses_what_is_too_young(
    database: tuple[str, Any], tmp_path: Path
) -> None:
    dsn, connection = database
    old, going_on = await week(connection, 202504), await week(connection, 202505, ended=False)

    def run(*more: str) -> Any:
        # in a thread of its own: the command has an event loop
        return CliRunner().invoke(build(), ["db", "archive", "--postgres", dsn, "--to", str(tmp_path), "--json", *more])

    shown = await asyncio.to_thread(run, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert [w["stays"] is None for w in json.loads(shown.output)["weeks"]] == [True, False]
    assert await left(connection) == [*old, *going_on]
    done = await asyncio.to_thread(run)
    assert [a["name"] for a in json.loads(done.output)["archived"]] == ["journal_202504"]
    assert await left(connection) == going_on
    young = await asyncio.to_thread(run, "--keep", "3d")
    assert young.exit_code == 2

"""Weeks of the journal that are over: written to files, then dropped (DESIGN section 5, `journal`).

A week may go when every workflow accepted in it has ended, all of its rows are published, and the newest of them is so old
that no record of it can come from the bus any more. What goes with the journal: the workflows' summaries, commands, snapshots,
stored payloads and rows of the agents' ledger. Pauses, decisions and dead letters stay: they are the record of what people
did. Names stay taken: a new workflow under one of them would have the old one's pause ids and effect keys.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from handrail_store.journal_weeks import born, existing_weeks

LEAST_DAYS = 14
"""As long as Kafka keeps events: until then a consumer may still ask the journal for what lies before them."""
_WEEK = re.compile(r"journal_(\d{6})")
PORTION = 5_000
_LOCK_S = 2
_TRIES = 30
_TABLES = ("workflow", "command", "snapshot", "blob", "effect")


class WeekChanged(Exception):
    """Something was written to the week between its export and its drop; nothing was dropped."""


@dataclass(frozen=True, slots=True)
class Week:
    """One partition of the journal. `stays` says why it may not go yet; None: it may."""

    name: str
    born: int
    workflows: int
    rows: int
    bytes: int
    stays: str | None


@dataclass(frozen=True, slots=True)
class Archived:
    """A week that was written and dropped. `sha256` is that of the uncompressed lines of `journal`."""

    name: str
    workflows: int
    rows: int
    journal: Path
    summaries: Path
    sha256: str


async def weeks(connection: Any, keep_days: int) -> list[Week]:
    """The journal's weeks that ended more than `keep_days` ago, oldest first. Changes nothing."""
    today: date = await connection.fetchval("SELECT (handrail.clock() AT TIME ZONE 'UTC')::date")
    limit = born(today - timedelta(days=keep_days))
    found: list[Week] = []
    for name in sorted(await existing_weeks(connection)):
        match = _WEEK.fullmatch(name)
        if match is not None and int(match[1]) < limit:
            found.append(await _week(connection, name, int(match[1])))
    return found


async def _week(connection: Any, name: str, key: int) -> Week:
    workflows, open_, parked = await connection.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL), count(*) FILTER (WHERE parked_reason IS NOT NULL)"
        " FROM handrail.workflow WHERE born = $1",
        key,
    )
    rows, unpublished, young = await connection.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE j.pseq > p.published_upto), coalesce("
        f"max(j.at) > handrail.clock() - make_interval(days => {LEAST_DAYS}), false) FROM handrail.{name} j"
        " LEFT JOIN handrail.partition p ON p.p = j.p"
    )
    size = await connection.fetchval("SELECT pg_total_relation_size($1::regclass)", f"handrail.{name}")
    stays = None
    if open_:
        stays = f"{open_} of its workflows have not ended"
    elif parked:
        stays = f"{parked} of its workflows are parked"
    elif unpublished:
        stays = f"{unpublished} of its rows are not published yet"
    elif young:  # an orchestrator that starts looks for the newest events of the bus in the journal
        stays = f"its newest row is not {LEAST_DAYS} days old"
    return Week(name, key, workflows, rows, size, stays)


async def archive(connection: Any, week: Week, folder: Path) -> Archived:
    """Writes the week into `folder`, flushed to disk, and only then drops it. Run again after a crash it does both anew.

    Raises OSError where the files cannot be written, WeekChanged, asyncpg.PostgresError where it is in use for a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  a command of its own: nothing else runs in its loop
    journal, summaries = folder / f"{week.name}.jsonl.gz", folder / f"{week.name}.workflows.jsonl.gz"
    rows, digest = await _written(journal, _events(connection, week))
    count, _ = await _written(summaries, _summaries(connection, week))
    manifest = {"week": week.name, "rows": rows, "workflows": count, "sha256": digest}
    _flushed(folder / f"{week.name}.json", json.dumps(manifest).encode() + b"\n")
    # Once before the drop: a start that comes meanwhile is refused at once, in the place of waiting for the old start to go.
    await connection.execute(_NAMES_TAKEN, week.born)
    await _dropped(connection, week, rows)
    return Archived(week.name, count, rows, journal, summaries, digest)


def _events(connection: Any, week: Week) -> AsyncIterator[str]:
    """What is read is never changed, and what is added meanwhile is noticed by its number."""
    return _lines(
        connection,
        "SELECT tenant, trace_id, seq, json_build_object('tenant', tenant, 'trace_id', trace_id, 'seq', seq, 'type',"
        " type, 'data', data, 'meta', meta, 'p', p, 'pseq', pseq, 'causation', causation, 'at', at)::text AS line"
        f" FROM handrail.{week.name} WHERE born = $1 AND (tenant, trace_id, seq) > ($2, $3, $4)"
        f" ORDER BY tenant, trace_id, seq LIMIT {PORTION}",
        week,
        ("", "", 0),
    )


def _summaries(connection: Any, week: Week) -> AsyncIterator[str]:
    return _lines(
        connection,
        "SELECT tenant, trace_id, row_to_json(w)::text AS line FROM handrail.workflow w WHERE born = $1"
        f" AND (tenant, trace_id) > ($2, $3) ORDER BY tenant, trace_id LIMIT {PORTION}",
        week,
        ("", ""),
    )


async def _lines(connection: Any, portion_of: str, week: Week, after: tuple[Any, ...]) -> AsyncIterator[str]:
    """Line by line, in portions of a statement each: a long transaction would keep dead rows of every table alive. A row is
    its key, as long as `after`, and its `line`."""
    keys = len(after)
    while True:
        portion = await connection.fetch(portion_of, week.born, *after)
        for row in portion:
            yield row["line"]
        if len(portion) < PORTION:
            return
        after = tuple(portion[-1])[:keys]


async def _written(path: Path, lines: AsyncIterator[str]) -> tuple[int, str]:
    draft, count, digest = path.with_suffix(".part"), 0, hashlib.sha256()
    with draft.open("wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file:
            async for line in lines:
                text = line.encode() + b"\n"
                file.write(text)
                digest.update(text)
                count += 1
        raw.flush()
        os.fsync(raw.fileno())
    draft.replace(path)
    return count, digest.hexdigest()


def _flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


async def _dropped(connection: Any, week: Week, rows: int) -> None:
    """One transaction; dropping a partition locks the whole journal for a moment, so it gives way and tries again."""
    for attempt in range(_TRIES):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_S}s'")
                now = await _week(connection, week.name, week.born)
                if now.stays is not None or now.rows != rows:
                    raise WeekChanged(f"Expected {week.name} to rest while it was written, but it changed. Try again.")
                await connection.execute(_NAMES_TAKEN, week.born)
                for table in _TABLES[::-1]:
                    await connection.execute(_DELETE[table], week.born)
                await connection.execute(_DELETE_SHARED)
                await connection.execute(f"DROP TABLE handrail.{week.name}")
            return
        except asyncpg.LockNotAvailableError:
            if attempt == _TRIES - 1:
                raise


_NAMES_TAKEN = """
INSERT INTO handrail.archived (tenant, trace_id, born)
SELECT tenant, trace_id, born FROM handrail.workflow WHERE born = $1 ON CONFLICT DO NOTHING
"""
_OF_WEEK = "USING handrail.workflow w WHERE w.born = $1 AND t.tenant = w.tenant AND t.trace_id = w.trace_id"
_DELETE = {
    "workflow": "DELETE FROM handrail.workflow WHERE born = $1",
    "command": f"DELETE FROM handrail.command t {_OF_WEEK}",
    "snapshot": f"DELETE FROM handrail.snapshot t {_OF_WEEK}",
    "blob": f"DELETE FROM handrail.blob t {_OF_WEEK} AND t.shared_until IS NULL",
}
# An effect key is `tenant/trace_id/node/generation`. What came to light after the end may still be undone, by a workflow of its
# own and under the old key.
_DELETE["effect"] = """
DELETE FROM agents.effect e USING handrail.archived a
 WHERE (a.born = $1 OR a.born IS NULL)
   AND a.tenant = split_part(e.effect_key, '/', 1) AND a.trace_id = split_part(e.effect_key, '/', 2)
   AND NOT EXISTS (SELECT FROM handrail.dead_letter d WHERE d.tenant = a.tenant AND d.trace_id = a.trace_id
                      AND d.kind = 'late_effect' AND d.state <> 'discarded')
"""
# Nobody knows any more whose these are: they stay as long as anybody is left who may refer to them.
_DELETE_SHARED = """
DELETE FROM handrail.blob t WHERE t.shared_until IS NOT NULL AND NOT EXISTS (
 SELECT FROM handrail.workflow w WHERE w.tenant = t.tenant AND w.created_at <= t.shared_until)
"""

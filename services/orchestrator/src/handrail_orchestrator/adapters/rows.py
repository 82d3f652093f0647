"""Rows of the store's statements as the application reads them."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg
import orjson

from handrail_orchestrator.application.ports import JournalRow, Stored


def journal_row(r: asyncpg.Record) -> JournalRow:
    """A journal row, decoded."""
    meta = orjson.loads(r["meta"]) if r["meta"] is not None else None
    return JournalRow(
        r["trace_id"], r["p"], r["born"], r["pseq"], r["seq"], r["type"], orjson.loads(r["data"]), meta, r["at"]
    )


def workflows(records: Iterable[asyncpg.Record]) -> list[Stored]:
    """What `STATES` answers: a row per journal row, or one without for a workflow that has none to read."""
    found: dict[str, Stored] = {}
    for r in records:
        stored = found.get(r["workflow"])
        if stored is None:
            of = (r["workflow"], r["partition"], r["week"], r["status"], r["wake"], r["parked_reason"] is not None)
            snapshot = (r["snapshot_seq"], r["snapshot"]) if r["snapshot_seq"] else None
            stored = found[r["workflow"]] = Stored(*of, [], snapshot)
        if r["seq"] is not None:
            stored.rows.append(journal_row(r))
    return list(found.values())

"""Reads a history out of real engines: the tables of PostgreSQL, the simulators' ledger, and what lies on the bus."""

from __future__ import annotations

from typing import Any

import orjson

from handrail_contracts import topics
from handrail_contracts.envelope import header
from handrail_contracts.topics import OWNER_INPUTS
from handrail_runtime.ports import Bus
from tests.torture.checker.history import (
    Command,
    Decision,
    Effect,
    Entry,
    History,
    Letter,
    Partition,
    Pause,
    Seen,
    Summary,
)

Connection = Any  # an asyncpg connection, plain or from a pool


async def read(db: Connection, bus: Bus | None = None, **more: Any) -> History:
    """The history as it stands. Without a bus the checks of what was published and read are left out; `more` is laid over."""
    h = await _tables(db)
    if bus is not None:
        h.events = await _events(bus)
        parts = [(t, x.p) for t in OWNER_INPUTS for x in h.partitions]
        ranges = await bus.ranges(parts)
        h.ends = {tp: log.end for tp, log in ranges.items()}
    for name, value in more.items():
        setattr(h, name, value)
    return h


async def _tables(db: Connection) -> History:
    return History(
        journal=[
            Entry(
                *(r[k] for k in ("trace_id", "seq", "p", "pseq", "type")),
                _json(r["data"]),
                _json(r["meta"]) if r["meta"] is not None else None,
                r["at"],
                r["causation"],
            )
            for r in await db.fetch(
                "SELECT trace_id, seq, p, pseq, type, data::text AS data, meta::text AS meta, causation, "
                "(extract(epoch FROM at) * 1000)::bigint AS at FROM handrail.journal ORDER BY p, pseq"
            )
        ],
        effects=[
            Effect(
                r["trace_id"], r["node_id"], r["effect_key"], r["kind"], r["keyless"], r["undone_by"] is not None,
                _json(r["answer"]),
            )
            for r in await db.fetch("SELECT * FROM simulators.ledger WHERE kind <> 'tombstone' ORDER BY n")
        ],
        partitions=[
            Partition(r["p"], r["epoch"], r["next_pseq"], r["published_upto"], _offsets(r["offsets"]))
            for r in await db.fetch("SELECT * FROM handrail.partition ORDER BY p")
        ],
        workflows=[
            Summary(
                r["trace_id"], r["status"], r["seq"], r["ended_at"] is not None, r["wake_at"] is not None,
                r["parked_reason"] is not None,
            )
            for r in await db.fetch("SELECT * FROM handrail.workflow")
        ],
        pauses=[
            Pause(r["pause_id"], r["trace_id"], r["state"]) for r in await db.fetch("SELECT * FROM handrail.pause")
        ],
        decisions=[
            Decision(r["pause_id"], r["trace_id"], r["outcome"], r["action_id"], r["applied"])
            for r in await db.fetch("SELECT * FROM handrail.decision")
        ],
        commands=[
            Command(r["command_id"], r["trace_id"], r["kind"], r["applied_pseq"] is not None)
            for r in await db.fetch("SELECT * FROM handrail.command ORDER BY n")
        ],
        letters=[
            Letter(r["dead_letter_id"], r["trace_id"], r["node_id"], r["kind"])
            for r in await db.fetch("SELECT * FROM handrail.dead_letter")
        ],
    )  # fmt: skip


def _json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, (str, bytes)) else value


def _offsets(value: Any) -> dict[str, tuple[int, str | None]]:
    return {t: (o[0], o[1]) for t, o in _json(value).items()}


async def _events(bus: Bus) -> list[Seen]:
    """The whole events topic, in order per partition."""
    count = await bus.partitions(topics.EVENTS)
    ranges = await bus.ranges([(topics.EVENTS, p) for p in range(count)])
    reader = await bus.reader()
    left = {tp: log.end for tp, log in ranges.items() if log.end > log.start}
    reader.assign({tp: ranges[tp].start for tp in left})
    seen: list[Seen] = []
    try:
        for _ in range(10_000):
            if not left:
                return seen
            for r in await reader.read(2_000, 1.0):
                if r.value is not None and header(list(r.headers), "ce_id") is not None:
                    data = orjson.loads(r.value)
                    seen.append(Seen(r.partition, r.offset, data["trace_id"], data["seq"], data))
                if r.offset + 1 >= left.get((r.topic, r.partition), 0):
                    left.pop((r.topic, r.partition), None)
    finally:
        await reader.close()
    raise AssertionError(f"Expected to read the events topic to its end, but {left} is left.")

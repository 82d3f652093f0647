"""What really happened in the outside world: one row per effect, committed before anybody is answered.

A known effect key gets the first answer again and adds 1 to that row's `repeats`. An undo is written only where a do stands;
elsewhere it leaves a tombstone, which no list shows: a call that was under way when its undo overtook it is refused. Keyless
effects are what a provider without idempotency keys does: every call appends, none can be refused.

Callers that come while a write runs are written together by the next one, in one statement per kind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from handrail_contracts.model import iso
from handrail_simulators.caller import Caller

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

MAX_BATCH = 500
SETTLES_S = 1.0
"""Within this time (seconds) whatever was sent to this provider has arrived; who finds nothing looks again after it."""

_COLUMNS = "tenant, trace_id, node_id, attempt, effect_key, kind, keyless, repeats, answer"
_DO = f"""
INSERT INTO simulators.ledger AS l ({_COLUMNS})
SELECT $1, trace_id, node_id, attempt, effect_key, 'do', false, repeats, answer
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::int[], $7::text[])
     AS o(trace_id, node_id, attempt, effect_key, repeats, answer)
ON CONFLICT (tenant, effect_key) WHERE NOT keyless DO UPDATE SET repeats = l.repeats + excluded.repeats + 1
RETURNING effect_key, answer, kind
"""
_DO_KEYLESS = f"""
INSERT INTO simulators.ledger ({_COLUMNS})
SELECT $1, trace_id, node_id, attempt, effect_key, 'do', true, 0, answer
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::text[]) AS o(trace_id, node_id, attempt, effect_key, answer)
"""
_UNDO = f"""
WITH standing AS (
    UPDATE simulators.ledger d SET undone_by = o.effect_key
    FROM unnest($2::text[], $3::int[], $4::text[], $5::int[], $6::text[]) AS o(do_key, attempt, effect_key, repeats, answer)
    WHERE d.tenant = $1 AND d.effect_key = o.do_key AND d.kind = 'do' AND d.undone_by IS NULL AND NOT d.keyless
    RETURNING d.trace_id, d.node_id, o.attempt, o.effect_key, o.repeats, o.answer
)
INSERT INTO simulators.ledger ({_COLUMNS})
SELECT $1, trace_id, node_id, attempt, effect_key, 'undo', false, repeats, answer FROM standing
RETURNING effect_key, answer
"""
_UNDO_AGAIN = """
UPDATE simulators.ledger l SET repeats = l.repeats + o.calls
FROM unnest($2::text[], $3::int[]) AS o(effect_key, calls)
WHERE l.tenant = $1 AND l.effect_key = o.effect_key AND l.kind = 'undo' AND NOT l.keyless
RETURNING l.effect_key, l.answer
"""
BURY = f"""
INSERT INTO simulators.ledger ({_COLUMNS})
SELECT $1, trace_id, node_id, attempt, do_key, 'tombstone', false, 0, 'null'
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[]) AS o(trace_id, node_id, attempt, do_key) ORDER BY do_key
ON CONFLICT (tenant, effect_key) WHERE NOT keyless DO NOTHING
RETURNING effect_key
"""
"""Leaves tombstones: tenant, then a list of each of trace, node, attempt and do key. Gives the keys that were free."""
_UNDO_KEYLESS = f"""
INSERT INTO simulators.ledger ({_COLUMNS})
SELECT $1, d.trace_id, d.node_id, o.attempt, o.effect_key, 'undo', true, 0, o.answer
FROM unnest($2::text[], $3::int[], $4::text[], $5::text[]) WITH ORDINALITY AS o(do_key, attempt, effect_key, answer, i)
CROSS JOIN LATERAL (
    SELECT trace_id, node_id FROM simulators.ledger
    WHERE tenant = $1 AND effect_key = o.do_key AND kind = 'do' ORDER BY n LIMIT 1
) d
ORDER BY o.i
RETURNING effect_key
"""
_FIND = """
SELECT answer FROM simulators.ledger WHERE tenant = $1 AND effect_key = $2 AND kind = 'do' ORDER BY n LIMIT 1
"""
_READ = """
SELECT trace_id, node_id, attempt, effect_key, kind, repeats, at FROM simulators.ledger
WHERE tenant = $1 AND trace_id = $2 AND kind <> 'tombstone' ORDER BY n
"""


class Withdrawn(Exception):
    """What is asked for was undone before it arrived. Nothing was done, and nothing will be under this key."""


@dataclass(slots=True)
class _Entry:
    """One request. `answered` gets (the first answer, whether an effect of this key stands recorded)."""

    by: Caller
    undo: bool
    keyless: bool
    answer: str
    answered: asyncio.Future[tuple[str, bool]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def tell(self, answer: tuple[str, bool] | None) -> None:
        """Answers the caller, if it still waits: None says that it is refused."""
        if self.answered.done():
            return
        if answer is None:
            self.answered.set_exception(Withdrawn(self.by.effect_key))
        else:
            self.answered.set_result(answer)


class Ledger:
    """The ledger of one tenant. Safe to use from many tasks and many processes at once."""

    def __init__(self, pool: Pool, tenant: str) -> None:
        self._pool, self._tenant = pool, tenant
        self._waiting: list[_Entry] = []
        self._writer: asyncio.Task[None] | None = None

    async def do(self, by: Caller, answer: Any, *, keyless: bool = False) -> Any:
        """Records that something was done and gives the answer of the first time that this effect key did it.

        `answer` is JSON. Raises Withdrawn where the undo was here first, and nothing is recorded; asyncpg.PostgresError,
        OSError: then it is not known whether it was recorded.
        """
        said, _ = await self._write(_Entry(by, False, keyless, json.dumps(answer)))
        return json.loads(said)

    async def undo(self, by: Caller, *, keyless: bool = False) -> bool:
        """Records that what was done under `by.do_key` is undone; False, and nothing recorded, where nothing stands.

        False also says that nothing will come: a call that is still under way is refused, or, where it has no key by which
        to refuse it, was waited for (SETTLES_S). Raises asyncpg.PostgresError, OSError.
        """
        _, undone = await self._write(_Entry(by, True, keyless, "null"))
        if not undone and keyless:
            await asyncio.sleep(SETTLES_S)
            _, undone = await self._write(_Entry(by, True, keyless, "null"))
        return undone

    async def find(self, by: Caller) -> tuple[bool, Any]:
        """Whether something was done under this effect key, and what was answered then. No effect.

        A call that is still under way is waited for (SETTLES_S). Raises asyncpg.PostgresError, OSError.
        """
        said = await self._pool.fetchval(_FIND, self._tenant, by.effect_key)
        if said is None:
            await asyncio.sleep(SETTLES_S)
            said = await self._pool.fetchval(_FIND, self._tenant, by.effect_key)
        return said is not None, None if said is None else json.loads(said)

    async def _write(self, entry: _Entry) -> tuple[str, bool]:
        self._waiting.append(entry)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="simulators-ledger")
        return await entry.answered

    async def _write_all(self) -> None:
        batch: list[_Entry] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    await self._commit(batch)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
                    for entry in batch:
                        if not entry.answered.done():
                            entry.answered.set_exception(e)
        finally:
            self._writer = None
            for entry in (*batch, *self._waiting):  # only when the writer itself was ended
                if not entry.answered.done():
                    entry.answered.set_exception(ConnectionError("The ledger's writer ended before it wrote."))
            self._waiting = []

    async def _commit(self, batch: Sequence[_Entry]) -> None:
        """Done and undone are transactions of their own, and so are tombstones: each takes its keys in one order."""
        async with self._pool.acquire() as connection:
            for undo in (False, True):
                if not (part := [e for e in batch if e.undo is undo]):
                    continue
                answers = await self._recorded(connection, part)
                missed = [e for e in part if undo and not e.keyless and answers[id(e)] == (e.answer, False)]
                if came := await self._bury(connection, missed):
                    answers |= await self._recorded(connection, came)
                for entry in part:
                    entry.tell(answers[id(entry)])

    async def _recorded(self, c: Connection, entries: Sequence[_Entry]) -> dict[int, tuple[str, bool] | None]:
        """The answers of one transaction, by id of entry: None for what is refused."""
        answers: dict[int, tuple[str, bool] | None] = {}
        async with c.transaction():
            for keyless in (False, True):
                if alike := [e for e in entries if e.keyless is keyless]:
                    await self._record(c, alike, answers)
        return answers

    async def _bury(self, c: Connection, missed: list[_Entry]) -> list[_Entry]:
        """Leaves tombstones where nothing was found to undo; gives those whose key is taken, by what came meanwhile or before."""
        by = [e.by for e in missed if e.by.do_key is not None]
        if not by:
            return []
        traces, nodes, attempts = [b.trace_id for b in by], [b.node_id for b in by], [b.attempt for b in by]
        rows = await c.fetch(BURY, self._tenant, traces, nodes, attempts, [b.do_key for b in by])
        buried = {row["effect_key"] for row in rows} | {None}
        return [e for e in missed if e.by.do_key not in buried]

    async def _record(self, c: Connection, entries: list[_Entry], answers: dict[int, tuple[str, bool] | None]) -> None:
        """One kind of entries; fills `answers`."""
        undo, keyless = entries[0].undo, entries[0].keyless
        if keyless:
            known = await (self._undo_keyless if undo else self._do_keyless)(c, entries)
        else:
            by_key: dict[str, list[_Entry]] = {}
            for entry in sorted(entries, key=lambda e: e.by.effect_key):  # always the same order: no deadlock
                by_key.setdefault(entry.by.effect_key, []).append(entry)
            known = await (self._undo_keyed if undo else self._do_keyed)(c, list(by_key.values()))
        for entry in entries:
            said = known.get(entry.by.effect_key, "")
            answers[id(entry)] = None if said is None else (said or entry.answer, bool(said))

    async def _do_keyed(self, c: Connection, groups: list[list[_Entry]]) -> dict[str, str | None]:
        """The first answer by effect key; None for one that was undone before it came."""
        first = [g[0] for g in groups]
        rows = await c.fetch(_DO, self._tenant, *_who(first), [len(g) - 1 for g in groups], [e.answer for e in first])
        return {row["effect_key"]: row["answer"] if row["kind"] == "do" else None for row in rows}

    async def _do_keyless(self, c: Connection, entries: list[_Entry]) -> dict[str, str | None]:
        await c.execute(_DO_KEYLESS, self._tenant, *_who(entries), [e.answer for e in entries])
        return {}

    async def _undo_keyed(self, c: Connection, groups: list[list[_Entry]]) -> dict[str, str | None]:
        first = [g[0] for g in groups]
        rows = await c.fetch(
            _UNDO, self._tenant, *_undone(first), [len(g) - 1 for g in groups], [e.answer for e in first]
        )
        known: dict[str, str | None] = {row["effect_key"]: row["answer"] for row in rows}
        again = [g for g in groups if g[0].by.effect_key not in known]
        if again:
            # A statement of its own: it sees an undo that another process wrote while the first one waited for it.
            keys, calls = [g[0].by.effect_key for g in again], [len(g) for g in again]
            rows = await c.fetch(_UNDO_AGAIN, self._tenant, keys, calls)
            known |= {row["effect_key"]: row["answer"] for row in rows}
        return known

    async def _undo_keyless(self, c: Connection, entries: list[_Entry]) -> dict[str, str | None]:
        rows = await c.fetch(_UNDO_KEYLESS, self._tenant, *_undone(entries), [e.answer for e in entries])
        return {row["effect_key"]: "null" for row in rows}


def _who(entries: Sequence[_Entry]) -> tuple[list[Any], ...]:
    by = [e.by for e in entries]
    return (
        [b.trace_id for b in by],
        [b.node_id for b in by],
        [b.attempt for b in by],
        [b.effect_key for b in by],
    )


def _undone(entries: Sequence[_Entry]) -> tuple[list[Any], ...]:
    by = [e.by for e in entries]
    return [b.do_key for b in by], [b.attempt for b in by], [b.effect_key for b in by]


async def ledger(pool: Pool, tenant: str, trace_id: str) -> list[dict[str, Any]]:
    """Everything that was done and undone for a workflow, in order, as `GET /simulators/ledger` answers it.

    Raises asyncpg.PostgresError, OSError.
    """
    return [
        {
            "trace_id": row["trace_id"],
            "node_id": row["node_id"],
            "attempt": row["attempt"],
            "effect_key": row["effect_key"],
            "kind": row["kind"],
            "repeats": row["repeats"],
            "at": iso(int(row["at"].timestamp() * 1000)),
        }
        for row in await pool.fetch(_READ, tenant, trace_id)
    ]

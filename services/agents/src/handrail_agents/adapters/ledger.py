"""The effect ledger in PostgreSQL (`agents.effect`), group-committed: one multi-row statement per turn, one at a time.

All claims and closes of a turn are one INSERT in the order of their keys, so that two processes never wait for each
other in a circle. What a row becomes stands in the ON CONFLICT clause alone.

`result` of an INTENT row is empty, or the mark that an earlier attempt under this key is in doubt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from handrail_agents.runtime.claim import TAKEN, Claim, LedgerClosed, Row, State
from handrail_runtime.lifecycle import backoff

if TYPE_CHECKING:
    from handrail_store.connect import Pool

_log = structlog.get_logger(__name__)
MOST_AT_ONCE = 500
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)

# $1 keys, $2 attempts, $3 states to be, $4 results, $5 start_before (ms; null for closes), $6 certain, $7 worker.
# A close that comes without a worker is certain: whatever an earlier attempt left open, nothing happened.
_WRITE = """
WITH t AS MATERIALIZED (SELECT handrail.clock() AS now)
INSERT INTO agents.effect AS e (effect_key, attempt, state, result, worker, claimed_at, closed_at)
SELECT o.key, o.attempt, o.state, o.result, CASE WHEN NOT o.certain THEN $7 END, t.now,
  CASE WHEN o.state <> 'INTENT' THEN t.now END
FROM t, unnest($1::text[], $2::int[], $3::text[], $4::bytea[], $5::bigint[], $6::bool[])
  AS o(key, attempt, state, result, start_before, certain)
WHERE o.state <> 'INTENT' OR t.now < to_timestamp(o.start_before / 1000.0)
ORDER BY o.key
ON CONFLICT (effect_key) DO UPDATE SET
  attempt = greatest(e.attempt, excluded.attempt),
  state = CASE WHEN excluded.state = 'FAILED' AND e.result IS NOT NULL AND excluded.worker IS NOT NULL
    THEN 'INTENT' ELSE excluded.state END,
  result = CASE
    WHEN excluded.state = 'INTENT' THEN CASE WHEN e.state = 'INTENT' THEN 'doubt'::bytea END
    WHEN excluded.state = 'FAILED' AND e.result IS NOT NULL AND excluded.worker IS NOT NULL THEN e.result
    ELSE excluded.result END,
  worker = CASE WHEN excluded.state = 'INTENT' THEN excluded.worker ELSE e.worker END,
  claimed_at = CASE WHEN excluded.state = 'INTENT' THEN excluded.claimed_at ELSE e.claimed_at END,
  closed_at = excluded.closed_at
WHERE CASE excluded.state
  WHEN 'INTENT' THEN e.attempt < excluded.attempt AND e.state NOT IN ('DONE', 'TOMBSTONE')
  WHEN 'DONE' THEN e.state IN ('INTENT', 'FAILED')
  ELSE e.state = 'INTENT' AND e.attempt = excluded.attempt END
RETURNING effect_key, claimed_at
"""

# $1 keys, $2 attempts, $3 the states that give way
_BURY = """
WITH t AS MATERIALIZED (SELECT handrail.clock() AS now)
INSERT INTO agents.effect AS e (effect_key, attempt, state, claimed_at, closed_at)
SELECT o.key, o.attempt, 'TOMBSTONE', t.now, t.now FROM t, unnest($1::text[], $2::int[]) AS o(key, attempt)
ORDER BY o.key
ON CONFLICT (effect_key) DO UPDATE SET
  state = 'TOMBSTONE', result = NULL, closed_at = excluded.closed_at,
  worker = CASE WHEN e.state = 'INTENT' THEN e.worker END
WHERE e.state = ANY($3::text[])
"""

_LOOK = """
WITH t AS MATERIALIZED (SELECT handrail.clock() AS now)
SELECT effect_key, attempt, state, worker, (extract(epoch FROM claimed_at) * 1000)::bigint AS claimed_ms,
  CASE WHEN state IN ('DONE', 'FAILED') THEN result END AS result,
  claimed_at, (extract(epoch FROM t.now) * 1000)::bigint AS now_ms
FROM t, agents.effect WHERE effect_key = ANY($1::text[])
"""

_NOW = "SELECT handrail.clock()"


@dataclass(slots=True)
class _Ask:
    key: str
    attempt: int
    kind: str  # a State to be, or "bury", "bury_running"
    answer: asyncio.Future[Any]
    result: bytes | None = None
    start_before_ms: int | None = None
    certain: bool = False
    tried_after: datetime | None = None  # once a statement with it failed: the newest claim from before its first one


@dataclass(frozen=True, slots=True)
class _Seen:
    row: Row
    claimed_at: datetime
    now_ms: int


class PostgresLedger:
    """Implements `runtime.claim.Ledger`. `worker` is unique to this process and this start of it."""

    def __init__(self, pool: Pool, worker: str) -> None:
        self._pool, self._worker = pool, worker
        self._waiting: deque[_Ask] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        # When the newest claim that was answered with TAKEN was made (before the first: when this ledger began), by the
        # database's clock. One statement runs at a time, so a newer claim of ours has been answered to nobody.
        self._newest: datetime | None = None

    async def claim(self, key: str, attempt: int, start_before_ms: int) -> Claim:
        """As the port says."""
        return await self._ask(key, attempt, "INTENT", start_before_ms=start_before_ms)

    async def done(self, key: str, attempt: int, result: bytes) -> None:
        """As the port says."""
        await self._ask(key, attempt, "DONE", result)

    async def failed(self, key: str, attempt: int, result: bytes | None, *, certain: bool = False) -> None:
        """As the port says."""
        await self._ask(key, attempt, "FAILED", result, certain=certain)

    async def bury(self, key: str, attempt: int, *, running_too: bool) -> Row:
        """As the port says."""
        return await self._ask(key, attempt, "bury_running" if running_too else "bury")

    async def run(self) -> None:
        """As the port says."""
        delays = backoff(0.05, 2.0)
        while not self._closed:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            turn = self._turn()
            try:
                try:
                    await self._write(turn)
                except _REFUSALS as e:
                    await self._one_by_one(turn, e)
                delays = backoff(0.05, 2.0)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as e:
                _log.warning("ledger_write_failed", kind=type(e).__name__, writes=len(turn))
                self._put_back(turn)
                await asyncio.sleep(next(delays))

    async def close(self) -> None:
        """As the port says."""
        self._closed = True
        self._wake.set()
        for ask in self._waiting:
            if not ask.answer.done():
                ask.answer.set_exception(LedgerClosed())
        self._waiting.clear()

    def _ask(
        self,
        key: str,
        attempt: int,
        kind: str,
        result: bytes | None = None,
        *,
        start_before_ms: int | None = None,
        certain: bool = False,
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._closed:
            answer.set_exception(LedgerClosed())
            return answer
        self._waiting.append(_Ask(key, attempt, kind, answer, result, start_before_ms, certain))
        self._wake.set()
        return answer

    def _turn(self) -> list[_Ask]:
        """What one statement may do at once: at most one write per key."""
        turn: list[_Ask] = []
        later: list[_Ask] = []
        keys: set[str] = set()
        while self._waiting and len(turn) < MOST_AT_ONCE:
            ask = self._waiting.popleft()
            if ask.answer.cancelled():
                continue
            if ask.key in keys:
                later.append(ask)
                continue
            keys.add(ask.key)
            turn.append(ask)
        self._waiting.extendleft(reversed(later))
        return turn

    def _put_back(self, turn: list[_Ask]) -> None:
        for ask in turn:
            ask.tried_after = ask.tried_after or self._newest  # it may have gone through
        if self._closed:
            for ask in turn:
                if not ask.answer.done():
                    ask.answer.set_exception(LedgerClosed())
            return
        self._waiting.extendleft(reversed(turn))

    async def _one_by_one(self, turn: list[_Ask], error: Exception) -> None:
        """A value that PostgreSQL refuses must not hold back the others. Takes out of `turn` what is answered; raises as `_write`."""
        if len(turn) == 1:
            self._refuse(turn.pop(), error)
        while turn:
            try:
                await self._write(turn[:1])
            except _REFUSALS as e:
                self._refuse(turn[0], e)
            del turn[0]

    @staticmethod
    def _refuse(ask: _Ask, error: Exception) -> None:
        _log.error("ledger_write_refused", kind=type(error).__name__)
        if not ask.answer.done():
            ask.answer.set_exception(error)

    async def _write(self, turn: list[_Ask]) -> None:
        if self._newest is None:
            self._newest = (await self._pool.fetch(_NOW))[0][0]
        writes = [ask for ask in turn if ask.kind in ("INTENT", "DONE", "FAILED")]
        written: dict[str, datetime] = {}
        if writes:
            rows = await self._pool.fetch(
                _WRITE,
                [a.key for a in writes],
                [a.attempt for a in writes],
                [a.kind for a in writes],
                [a.result for a in writes],
                [a.start_before_ms for a in writes],
                [a.certain for a in writes],
                self._worker,
            )
            written = {row[0]: row[1] for row in rows}
        for kind, states in (("bury", ["FAILED"]), ("bury_running", ["FAILED", "INTENT"])):
            if burials := [ask for ask in turn if ask.kind == kind]:
                await self._pool.execute(_BURY, [a.key for a in burials], [a.attempt for a in burials], states)
        unknown = [a.key for a in turn if (a.kind == "INTENT" and a.key not in written) or a.kind.startswith("bury")]
        found = await self._look(unknown) if unknown else {}
        for ask in turn:
            if not ask.answer.done():
                ask.answer.set_result(self._answer(ask, written.get(ask.key), found.get(ask.key)))

    async def _look(self, keys: list[str]) -> dict[str, _Seen]:
        rows = await self._pool.fetch(_LOOK, keys)
        return {r[0]: _Seen(Row(r[1], State(r[2]), r[3], r[4], r[5]), r[6], r[7]) for r in rows}

    def _answer(self, ask: _Ask, written_at: datetime | None, seen: _Seen | None) -> Any:
        if ask.kind in ("DONE", "FAILED"):
            return None
        if ask.kind != "INTENT":
            # a tombstone stands from the statement before; a row taken away meanwhile is one that never ran
            return seen.row if seen is not None else Row(ask.attempt, State.TOMBSTONE, None, 0, None)
        if written_at is None and seen is not None and self._went_through(ask, seen):
            written_at = seen.claimed_at
        if written_at is None:
            return seen.row if seen is not None else None
        assert self._newest is not None
        self._newest = max(self._newest, written_at)
        return TAKEN

    def _went_through(self, ask: _Ask, seen: _Seen) -> bool:
        """Whether a claim stands by a statement for this very ask, whose answer was lost, and may still start."""
        row = seen.row
        mine = row.state is State.INTENT and row.worker == self._worker and row.attempt == ask.attempt
        unanswered = ask.tried_after is not None and seen.claimed_at > ask.tried_after
        return mine and unanswered and ask.start_before_ms is not None and seen.now_ms < ask.start_before_ms

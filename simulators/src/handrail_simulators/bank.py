"""A bank in which each workflow has an account of its own, with 1000 on it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import asyncpg

from handrail_simulators.caller import Caller
from handrail_simulators.effects import BURY, Withdrawn

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

OPENING_CENTS = 100_000

_OPEN = "INSERT INTO simulators.account (tenant, trace_id, balance_cents) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_LOCK = "SELECT balance_cents FROM simulators.account WHERE tenant = $1 AND trace_id = $2 FOR UPDATE"
_BALANCE = "SELECT balance_cents FROM simulators.account WHERE tenant = $1 AND trace_id = $2"
_SET = "UPDATE simulators.account SET balance_cents = $3 WHERE tenant = $1 AND trace_id = $2"
_KNOWN = """
UPDATE simulators.ledger SET repeats = repeats + 1 WHERE tenant = $1 AND effect_key = $2 AND NOT keyless
RETURNING answer, kind
"""
_BOOK = """
INSERT INTO simulators.ledger (tenant, trace_id, node_id, attempt, effect_key, kind, answer)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_STANDING = """
UPDATE simulators.ledger SET undone_by = $3
WHERE tenant = $1 AND effect_key = $2 AND kind = 'do' AND undone_by IS NULL RETURNING node_id, answer
"""
_WHOSE = "SELECT trace_id FROM simulators.ledger WHERE tenant = $1 AND effect_key = $2 AND kind = 'do'"


class Refused(Exception):
    """The bank says no; nothing was booked. `code` and `body` are what it answered."""

    def __init__(self, code: str, body: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.body = body


class Bank:
    """The accounts of one tenant's workflows. Amounts are in currency units with at most two decimals."""

    def __init__(self, pool: Pool, tenant: str) -> None:
        self._pool, self._tenant = pool, tenant

    async def balance(self, *, by: Caller) -> float:
        """What is on the workflow's account. No effect."""
        cents = await self._pool.fetchval(_BALANCE, self._tenant, by.trace_id)
        return units(OPENING_CENTS if cents is None else cents)

    async def transfer(self, to: str, amount: float, *, by: Caller) -> dict[str, Any]:
        """Pays from the workflow's account: {amount, to, balance}. Once per effect key.

        Raises Refused: INSUFFICIENT_FUNDS, INVALID_AMOUNT; Withdrawn where its reversal was here first.
        """
        return await self._book(by, -cents_of(amount), {"amount": amount, "to": to})

    async def deposit(self, amount: float, *, by: Caller) -> dict[str, Any]:
        """Pays into the workflow's account: {amount, balance}. Once per effect key. Raises Refused: INVALID_AMOUNT; Withdrawn
        as `transfer` does."""
        return await self._book(by, cents_of(amount), {"amount": amount})

    async def reverse(self, *, by: Caller) -> bool:
        """Books back what `by.do_key` booked; False where nothing stands, and nothing will. Idempotent."""
        if by.do_key is None:
            return False
        # First what comes later is refused, in a transaction of its own: it must not wait for an account while it holds a key.
        await self._pool.execute(BURY, self._tenant, [by.trace_id], [by.node_id], [by.attempt], [by.do_key])
        async with self._pool.acquire() as c, c.transaction():
            trace_id = await c.fetchval(_WHOSE, self._tenant, by.do_key)
            if trace_id is None:
                return False
            before = await self._locked(c, trace_id)
            if await c.fetchval(_KNOWN, self._tenant, by.effect_key) is not None:
                return True
            standing = await c.fetchrow(_STANDING, self._tenant, by.do_key, by.effect_key)
            if standing is None:
                return False
            booked = json.loads(standing["answer"])["booked_cents"]
            await c.execute(_SET, self._tenant, trace_id, before - booked)
            answer = {"answer": {"balance": units(before - booked)}, "booked_cents": -booked}
            await self._record(c, by, trace_id, standing["node_id"], "undo", answer)
            return True

    async def _book(self, by: Caller, cents: int, answer: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._booked(by, cents, answer)
        except asyncpg.UniqueViolationError:  # its reversal came while it waited
            raise Withdrawn(by.effect_key) from None

    async def _booked(self, by: Caller, cents: int, answer: dict[str, Any]) -> dict[str, Any]:
        async with self._pool.acquire() as c, c.transaction():
            before = await self._locked(c, by.trace_id)
            if known := await c.fetchrow(_KNOWN, self._tenant, by.effect_key):
                if known["kind"] != "do":
                    raise Withdrawn(by.effect_key)
                return json.loads(known["answer"])["answer"]
            balance = before + cents
            if balance < 0:
                raise Refused("INSUFFICIENT_FUNDS", {"error": "INSUFFICIENT_FUNDS", "balance": units(before)})
            await c.execute(_SET, self._tenant, by.trace_id, balance)
            answer = {**answer, "balance": units(balance)}
            await self._record(c, by, by.trace_id, by.node_id, "do", {"answer": answer, "booked_cents": cents})
            return answer

    async def _record(
        self, c: Connection, by: Caller, trace_id: str, node_id: str, kind: str, kept: dict[str, Any]
    ) -> None:
        await c.execute(_BOOK, self._tenant, trace_id, node_id, by.attempt, by.effect_key, kind, json.dumps(kept))

    async def _locked(self, c: Connection, trace_id: str) -> int:
        """The balance; the account's row is locked first in every booking, so they happen one after the other."""
        await c.execute(_OPEN, self._tenant, trace_id, OPENING_CENTS)
        return await c.fetchval(_LOCK, self._tenant, trace_id)


def cents_of(amount: float) -> int:
    """An amount as cents. Raises Refused where it is not above 0, or has more than two decimals."""
    cents = round(amount * 100) if math.isfinite(amount) else 0
    if cents <= 0 or abs(amount * 100 - cents) > 1e-6:
        raise Refused("INVALID_AMOUNT", {"error": "INVALID_AMOUNT", "amount": amount})
    return cents


def units(cents: int) -> float:
    """Cents as currency units: a whole number where it is one."""
    whole, rest = divmod(cents, 100)
    return whole if rest == 0 else cents / 100

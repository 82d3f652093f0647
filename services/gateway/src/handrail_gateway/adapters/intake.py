"""The write side on PostgreSQL. Starts that come at the same time share one statement, and so one fsync."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from handrail_contracts import ids
from handrail_contracts.commands import CommandKind
from handrail_contracts.events import TERMINAL
from handrail_contracts.pauses import ResolutionOutcome
from handrail_gateway.adapters.postgres import Database
from handrail_gateway.application.bus import Nudges
from handrail_gateway.application.faults import Busy, StoreFault, Unavailable
from handrail_gateway.application.ports import (
    Answer,
    Caller,
    Command,
    Decided,
    Decision,
    LockedPause,
    NewPolicy,
    OpenPause,
    Row,
    Start,
    Summary,
)
from handrail_runtime.crashpoints import crashpoint
from handrail_store import desk, intake, policies, views

BATCH = 200
MOST_WAITING = 5_000


class PostgresIntake:
    """The `Intake` port. `partitions` is P."""

    def __init__(self, database: Database, nudges: Nudges, partitions: int) -> None:
        self._database, self._nudges, self._partitions = database, nudges, partitions
        self._waiting: list[tuple[intake.NewStart, asyncio.Future[bool]]] = []
        self._flush: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresTransaction]:
        """See the port."""
        async with self._database.transaction(lambda: crashpoint("K13")) as connection:
            transaction = PostgresTransaction(connection, self._partitions)
            yield transaction
        if transaction.commands:
            crashpoint("K14")
            if transaction.decided:
                crashpoint("K15")
            self._nudges.nudge(transaction.commands)

    async def start(self, start: Start) -> bool:
        """See the port."""
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable("Too many starts are waiting for the database.")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((_new_start(start, self._partitions), done))
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._store_waiting(), name="gateway.starts")
        stored = await done
        if stored:
            self._nudges.nudge((start.command,))
        return stored

    async def _store_waiting(self) -> None:
        """What arrived while the last commit ran goes with the next one: no sleep, no timer."""
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                await self._store(batch)
            except BaseException as e:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(e if isinstance(e, Exception) else Unavailable("The gateway is stopping."))
                if not isinstance(e, Exception):
                    raise

    async def _store(self, batch: list[tuple[intake.NewStart, asyncio.Future[bool]]]) -> None:
        try:
            crashpoint("K13")
            async with self._database.connection() as connection:
                stored = await intake.start_many(connection, [start for start, _ in batch])
            crashpoint("K14")
        except (Busy, asyncpg.PostgresError):
            if len(batch) == 1:
                raise
            # One of them is at fault: alone, each gets its own answer.
            for one in batch:
                try:
                    await self._store([one])
                except (StoreFault, asyncpg.PostgresError) as e:
                    if not one[1].done():
                        one[1].set_exception(e)
            return
        for start, done in batch:
            if not done.done():
                done.set_result(start.command.command_id in stored)


class PostgresTransaction:
    """The `Transaction` port on one connection."""

    def __init__(self, connection: Any, partitions: int) -> None:
        self._connection, self._partitions = connection, partitions
        self.commands: list[Command] = []
        self.decided = False

    async def recall(self, caller: Caller) -> tuple[str, Answer] | None:
        """See the port."""
        try:
            kept = await intake.recall(self._connection, _use(caller))
        except asyncpg.LockNotAvailableError as e:
            raise Busy("Another request holds this idempotency key.") from e
        if kept is None:
            return None
        return kept.body_digest, Answer(kept.status, kept.body, orjson.loads(kept.headers))

    async def keep(self, caller: Caller, answer: Answer) -> None:
        """See the port."""
        await intake.keep(self._connection, _use(caller), _kept(caller, answer))

    async def add(self, command: Command) -> bool:
        """See the port."""
        stored = await intake.add_command(self._connection, _new_command(command, self._partitions))
        if stored:
            self.commands.append(command)
        return stored

    async def waiting(self, tenant: str, trace_id: str, kind: CommandKind) -> bool:
        """See the port."""
        p = ids.partition(tenant, trace_id, self._partitions)
        return await intake.command_waits(self._connection, tenant, trace_id, p, kind)

    async def summary(self, tenant: str, trace_id: str) -> Summary | None:
        """See the port."""
        return summary(await views.workflow(self._connection, tenant, trace_id))

    async def pauses(self, tenant: str, trace_id: str) -> list[OpenPause]:
        """See the port."""
        rows = await desk.pauses_of(self._connection, tenant, trace_id)
        return [OpenPause(r["pause_id"], r["kind"], r["state"], r["decided"], r["node_id"]) for r in rows]

    async def lock_pause(self, tenant: str, pause_id: str) -> LockedPause | None:
        """See the port."""
        row = await intake.lock_pause(self._connection, tenant, pause_id)
        return None if row is None else _locked(row)

    async def opening(self, tenant: str, pause_id: str) -> str | None:
        """See the port."""
        found = await views.opening(self._connection, tenant, pause_id)
        return None if found is None else found["trace_id"]

    async def spoken(self, tenant: str, trace_id: str) -> int:
        """See the port."""
        return await intake.spoken(self._connection, tenant, trace_id)

    async def plan(self, tenant: str, trace_id: str) -> list[dict[str, Any]]:
        """See the port."""
        parts = await views.planned(self._connection, tenant, trace_id)
        return [node for part in parts for node in orjson.loads(part).get("nodes", ())]

    async def decide(self, decision: Decision) -> datetime:
        """See the port."""
        self.decided = True
        return await intake.add_decision(
            self._connection,
            intake.NewDecision(
                decision.tenant,
                decision.pause_id,
                decision.trace_id,
                ResolutionOutcome.DECIDED,
                decision.action_id,
                decision.input,
                decision.comment,
                decision.actor,
                decision.channel,
                decision.evidence_digest,
            ),
        )

    async def policies(self, tenant: str) -> list[Row]:
        """See the port."""
        return await policies.in_force(self._connection, tenant)

    async def newest_policy(self, tenant: str, name: str) -> Row | None:
        """See the port."""
        await policies.lock(self._connection, tenant)
        return await policies.newest(self._connection, tenant, name)

    async def add_policy(self, caller: Caller, new: NewPolicy) -> Row:
        """See the port."""
        what = (caller.tenant, new.name, new.version, new.blueprint, new.digest, new.body, new.comment)
        await policies.add(self._connection, policies.NewPolicy(*what, caller.actor, caller.channel))
        return await policies.newest(self._connection, caller.tenant, new.name)

    async def claim(self, pause_id: str, by: str | None, seconds: int | None) -> datetime | None:
        """See the port."""
        return await intake.set_claim(self._connection, pause_id, by, seconds)

    async def dead_letter(self, tenant: str, dead_letter_id: str) -> Any:
        """See the port."""
        return await desk.dead_letter(self._connection, tenant, dead_letter_id, lock=True)

    async def close_dead_letter(self, caller: Caller, dead_letter_id: str, state: str, reason: str | None) -> None:
        """See the port."""
        await intake.close_dead_letter(self._connection, dead_letter_id, state, reason, caller.actor, caller.channel)

    async def copy_payloads(self, tenant: str, of: str, to: str, digests: Collection[str]) -> None:
        """See the port."""
        await intake.copy_payloads(self._connection, tenant, of, to, digests)

    async def quarantined(self, tenant: str, record_id: int, *, workflow_too: bool = False) -> Any:
        """See the port."""
        if workflow_too:
            await intake.hold_parked(self._connection, tenant, record_id)
        return await desk.quarantined_record(self._connection, tenant, record_id, lock=True)

    async def unpark(self, tenant: str, record_id: int) -> None:
        """See the port."""
        await intake.unpark(self._connection, tenant, record_id)

    async def close_quarantined(self, caller: Caller, record_id: int, state: str, reason: str | None) -> None:
        """See the port."""
        await intake.close_quarantined(self._connection, record_id, state, reason, caller.actor, caller.channel)


def summary(row: Any) -> Summary | None:
    """A row of `views.workflow` as the port shows it."""
    if row is None:
        return None
    ended = row["ended_at"] is not None or row["status"] in TERMINAL
    return Summary(row["trace_id"], row["status"], ended, row["parked_reason"], row["blueprint"])


def _locked(row: Any) -> LockedPause:
    decided = None
    if row["d_outcome"] is not None:
        decided = Decided(
            row["d_outcome"],
            row["d_action_id"],
            None if row["d_input"] is None else orjson.loads(row["d_input"]),
            row["d_actor"],
            row["d_channel"],
            row["d_decided_at"],
        )
    return LockedPause(
        pause_id=row["pause_id"],
        trace_id=row["trace_id"],
        node_id=row["node_id"],
        kind=row["kind"],
        state=row["state"],
        data=orjson.loads(row["data"]),
        expires_at=row["expires_at"],
        claimed_by=row["claimed_by"],
        claimed_until=row["claimed_until"],
        decided=decided,
        now=row["now"],
    )


def _use(caller: Caller) -> intake.KeyUse:
    assert caller.key is not None
    return intake.KeyUse(caller.tenant, caller.method, caller.path, caller.key, caller.digest)


def _kept(caller: Caller, answer: Answer) -> intake.KeptAnswer:
    again = answer.again or answer
    return intake.KeptAnswer(caller.digest, again.status, orjson.dumps(again.headers), again.body)


def _new_command(command: Command, partitions: int) -> intake.NewCommand:
    return intake.NewCommand(
        command.command_id,
        command.tenant,
        command.trace_id,
        ids.partition(command.tenant, command.trace_id, partitions),
        command.kind.value,
        command.body,
        command.actor,
        command.channel,
        command.traceparent,
    )


def _new_start(start: Start, partitions: int) -> intake.NewStart:
    keyed = start.caller.key is not None
    return intake.NewStart(
        _new_command(start.command, partitions),
        _use(start.caller) if keyed else None,
        _kept(start.caller, start.answer) if keyed else None,
    )

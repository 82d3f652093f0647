"""One process's connection to the simulated database: implements `ports.Store`, with latency and with everything that breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

from handrail_contracts.policy import Policy
from handrail_orchestrator.application.ports import (
    Batch,
    Command,
    CommitUnknown,
    Decided,
    Fenced,
    Journaled,
    JournalRow,
    Owned,
    Position,
    Stored,
)
from handrail_runtime.crashpoints import crashpoint
from tests.torture.sim.database import CommandRow, Database, Locked, Refused, Transaction
from tests.torture.sim.faults import Faults
from tests.torture.sim.loop import Process, SimLoop

T = TypeVar("T")
LOCK_TIMEOUT_S = 2.0
IDLE_IN_TRANSACTION_S = 10.0


class LockTimeout(OSError):
    """lock_timeout ran out: nothing was written."""


class Server:
    """The database behind a network: what reaches it, what comes back, and when it is away."""

    def __init__(self, loop: SimLoop, faults: Faults, database: Database) -> None:
        self.loop, self.faults, self.database = loop, faults, database
        self.down = False
        self._on_their_way: dict[Process, list[Callable[[str], None]]] = {}

    def restart(self) -> None:
        """Every open transaction is gone, nothing answers until `up`."""
        self.down = True
        for tx in list(self.database.open):
            self.database.end(tx, commit=False)

    def up(self) -> None:
        self.down = False

    async def ask(self, process: Process, act: Callable[[], T], *, what: str = "store") -> T:
        """Runs `act` at the server after a while and answers after another while, or fails on the way there or back."""
        process.check()
        f, loop = self.faults, self.loop
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        commit = what == "commit"
        refused = f.hit("commit lost" if commit else "store refused", f.store)
        unheard = not refused and commit and f.hit("answer of a commit lost", f.unheard)

        def answer(value: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)

        def arrive(waited: float = 0.0) -> None:
            error: BaseException | None = None
            value: Any = None
            if self.down or refused:
                error = ConnectionError("Expected an answer of the database, but the connection broke.")
            else:
                try:
                    value = act()
                except Locked as e:
                    if waited < LOCK_TIMEOUT_S:
                        loop.outside(0.01, lambda: arrive(waited + 0.01))
                        return
                    error = LockTimeout(str(e))
                except (Fenced, Refused, OSError) as e:
                    error = e
            if unheard and error is None:
                error = ConnectionError("Expected the answer of a commit, but the connection broke.")
            loop.outside(f.latency(), lambda: answer(value, error))

        loop.outside(f.latency(), arrive)
        return await done

    async def lose(self, process: Process, act: Callable[[], Transaction]) -> None:
        """Breaks the connection under a commit that goes on. Either it has its rows and hangs, or it is still on its way: then it
        lands once its owner was told that nothing has come of it, or, where nobody is told, after a while."""
        process.check()
        dice = self.faults.aside
        if dice.random() < 0.5:
            hangs_s = dice.uniform(0.02, 4.0)
            self.loop.outside(dice.uniform(0.0, 0.005), lambda: self._arrive("commit hangs", act, hangs_s))
        else:
            self._on_their_way.setdefault(process, []).append(lambda name: self._arrive(name, act, 0.0))
            self.loop.outside(3.0, lambda: self._come(process, "commit hangs"))
        await asyncio.sleep(dice.uniform(0.005, 0.3))
        raise ConnectionError("Expected the answer of a commit, but the connection broke under it.")

    def asked(self, process: Process) -> None:
        """It was told that nothing has come of its commit, and goes on."""
        if process in self._on_their_way:
            self.loop.outside(self.faults.aside.uniform(0.0, 0.03), lambda: self._come(process, "commit lands late"))

    def _come(self, process: Process, name: str) -> None:
        for arrive in self._on_their_way.pop(process, ()):
            arrive(name)

    def _arrive(self, name: str, act: Callable[[], Transaction], hangs_s: float, waited: float = 0.0) -> None:
        if self.down:
            return
        try:
            tx = act()
        except Locked:
            if waited < LOCK_TIMEOUT_S:
                self.loop.outside(0.01, lambda: self._arrive(name, act, hangs_s, waited + 0.01))
            return
        except (Fenced, Refused, OSError):
            return  # nobody hears it
        tx.committing = True

        def land() -> None:
            if not tx.over:
                self.faults.counts[name] += 1
                self.database.end(tx, commit=True)

        self.loop.outside(hangs_s, land) if hangs_s else land()


class SimStore:
    """Implements `ports.Store` for the member `member`."""

    def __init__(self, server: Server, process: Process, member: str, lease_s: float) -> None:
        self._server, self._process, self._member, self._lease_s = server, process, member, lease_s
        self._db = server.database

    async def _ask(self, act: Callable[[], T], *, what: str = "store") -> T:
        return await self._server.ask(self._process, act, what=what)

    async def now_ms(self) -> int:
        return await self._ask(self._db.now_ms)

    async def beat(self, seen_within_s: float) -> tuple[int, int]:
        def act() -> tuple[int, int]:
            now = self._db.now_s()
            self._db.members[self._member] = now
            live = sum(1 for m, at in self._db.members.items() if m != self._member and at > now - seen_within_s)
            return live + 1, len(self._db.partitions)

        return await self._ask(act)

    async def leave(self) -> None:
        await self._ask(lambda: self._db.members.pop(self._member, None))

    async def acquire(self, most: int) -> list[Owned]:
        rows = await self._ask(lambda: self._db.acquire(self._member, most, self._lease_s))
        return [Owned(r.p, r.epoch, r.bus_id, r.offsets, r.next_pseq, r.published_upto, r.batch) for r in rows]

    async def renew(self, held: Mapping[int, tuple[int, int, int]]) -> set[int]:
        if not held:
            return set()
        return await self._ask(lambda: self._db.renew(self._member, dict(held), self._lease_s))

    async def release(self, held: Mapping[int, tuple[int, int]]) -> None:
        await self._ask(lambda: self._db.release(self._member, dict(held)))

    async def load(self, trace_ids: Sequence[str], fold_version: int | None = None) -> list[Stored]:
        def act() -> list[Stored]:
            found: list[Stored] = []
            for t in trace_ids:
                w = self._db.workflows.get(t)
                if w is None:
                    continue
                kept = self._db.snapshots.get(t)
                snapshot = (kept[0], kept[2]) if kept is not None and kept[1] == fold_version else None
                after = self._db.by_trace.get(t, [])[snapshot[0] if snapshot else 0 :]
                self._db.taken_up += snapshot is not None
                parked = t in self._db.parked
                wake = None if parked else w.wake_ms
                found.append(Stored(t, w.p, w.born, w.status, wake, parked, self._db.journal_rows(after), snapshot))
            return found

        return await self._ask(act)

    async def save_snapshot(self, trace_id: str, seq: int, fold_version: int, state: bytes) -> None:
        """At once, and with dice of its own: seeds keep the stories that they had without snapshots."""
        self._process.check()
        faults, dice = self._server.faults, Random(f"{trace_id} {seq}")
        spoilt = faults.on and dice.random() < 0.05
        w, kept = self._db.workflows.get(trace_id), self._db.snapshots.get(trace_id)
        if w is not None and w.ended_ms is None and (kept is None or kept[0] < seq or kept[1] != fold_version):
            faults.counts["snapshot spoilt"] += spoilt
            self._db.snapshots[trace_id] = (seq, fold_version, state[:-9] if spoilt else state)

    async def policies(self) -> tuple[int, list[tuple[str, int, str | None, Any]]]:
        def act() -> tuple[int, list[tuple[str, int, str | None, Any]]]:
            newest = dict(self._db.policies)  # later rows win
            return len(self._db.policies), [(name, *row[:3]) for name, row in newest.items()]

        return await self._ask(act)

    async def save_policy(self, policy: Policy, digest: str, body: bytes) -> str | None:
        def act() -> str | None:
            stand = {row[0]: row[3] for name, row in self._db.policies if name == policy.name}
            if max(stand, default=0) < policy.version:
                row = (policy.version, policy.blueprint, json.loads(body), digest)
                self._db.policies.append((policy.name, row))
                return digest
            return stand.get(policy.version)

        return await self._ask(act)

    async def open_workflows(
        self, partitions: Sequence[int], after: str, limit: int
    ) -> list[tuple[int, str, int | None]]:
        def act() -> list[tuple[int, str, int | None]]:
            open_ = sorted(
                (w.trace_id, w.p, w.wake_ms)
                for w in self._db.workflows.values()
                if w.p in partitions and w.ended_ms is None and w.trace_id not in self._db.parked and w.trace_id > after
            )
            return [(p, t, wake) for t, p, wake in open_[:limit]]

        return await self._ask(act)

    async def commands(self, partitions: Sequence[int], limit: int) -> list[Command]:
        def act() -> list[Command]:
            rows = [r for r in self._db.unapplied.values() if r.p in partitions and r.trace_id not in self._db.parked]
            born = self._db.by_trace
            return [_command(r, unborn=r.kind == "start" and r.trace_id not in born) for r in rows[:limit]]

        return await self._ask(act)

    async def unpublished(self, p: int, after: int, limit: int) -> list[JournalRow]:
        def act() -> list[JournalRow]:
            return self._db.journal_rows([r for r in self._db.by_p[p] if r.pseq > after][:limit])

        return await self._ask(act)

    async def last_events(self, trace_ids: Sequence[str]) -> list[JournalRow]:
        return await self._ask(
            lambda: self._db.journal_rows(
                [self._db.by_trace[t][-1] for t in sorted(trace_ids) if t in self._db.by_trace]
            )
        )

    async def journaled(self, events: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Journaled]:
        """At once, and with dice of its own, as `save_snapshot`."""
        self._process.check()
        faults, found = self._server.faults, dict[tuple[str, int], Journaled]()
        if self._server.down or (faults.on and Random(f"{events}").random() < 0.05):
            raise ConnectionError("Expected an answer of the database, but the connection broke.")
        for trace_id, seq in events:
            rows = self._db.by_trace.get(trace_id, [])
            type_, at = next(((r.type, json.loads(r.data)["at"]) for r in rows if r.seq == seq), (None, None))
            if rows:
                found[trace_id, seq] = Journaled(rows[-1].seq, type_, at)
        return found

    async def blobs(self, trace_id: str, digests: Sequence[str]) -> dict[str, bytes]:
        kept = self._db.blobs
        return await self._ask(lambda: {d: kept[trace_id, d] for d in digests if (trace_id, d) in kept})

    async def track_record(
        self, told: Mapping[tuple[str, str], tuple[int, int]]
    ) -> dict[tuple[str, str], tuple[int, int]]:
        known = (
            self._db.track_record
        )  # no policy of these worlds asks for it: nothing is drawn, and none of its answers lost
        for key, (ok, of) in told.items():
            before = known.get(key, (0, 0))
            half = 2 if before[1] + of >= 400 else 1
            known[key] = ((before[0] + ok) // half, (before[1] + of) // half)
        return dict(known)

    async def registry(self) -> dict[tuple[str, str], dict[str, Any]]:
        return await self._ask(lambda: dict(self._db.registry))

    async def limits(self) -> dict[str, int]:
        return await self._ask(lambda: dict(self._db.limits))

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        return await self._ask(lambda: {k: self._db.places.get(k, 0) for k in keys})

    async def save_blueprint(self, name: str, version: int, digest: str, body: bytes) -> str | None:
        return digest

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[SimTransaction]:
        self._process.check()
        db = self._db
        tx = db.begin()
        self._watch(tx)
        try:
            try:
                yield SimTransaction(self, tx)
            except BaseException:
                # a broken connection or a dead process: the server notices a little later
                self._server.loop.outside(self._server.faults.latency(), lambda: db.end(tx, commit=False))
                raise
            await self._land(lambda: self._open(tx), tx)
        except LockTimeout:
            raise
        except OSError as e:
            if not tx.committing:
                self._server.loop.outside(self._server.faults.latency(), lambda: db.end(tx, commit=False))
            raise CommitUnknown(str(e)) from e

    async def _land(self, act: Callable[[], Transaction], tx: Transaction | None = None) -> None:
        """Commits what `act` has written; `tx` is what the server has of it already."""
        if self._server.faults.tardy_commit():
            if tx is not None:
                tx.committing = True
            await self._server.lose(self._process, act)
        await self._ask(lambda: self._db.end(act(), commit=True), what="commit")

    @staticmethod
    def _open(tx: Transaction) -> Transaction:
        if tx.over:
            raise ConnectionError("Expected an open transaction, but the server has ended it.")
        return tx

    def _watch(self, tx: Transaction) -> None:
        """A killed client's transaction ends at once, a silent one's after idle_in_transaction_session_timeout."""
        began = self._server.loop.time()

        def look() -> None:
            if tx.over or tx.committing:
                return
            if not self._process.alive or self._server.loop.time() - began > IDLE_IN_TRANSACTION_S:
                self._db.end(tx, commit=False)
                return
            self._server.loop.outside(0.2, look)

        self._server.loop.outside(0.2, look)

    async def write(self, tx: Transaction, batch: Batch) -> None:
        await self._ask(lambda: self._db.write(tx, self._member, batch, self._lease_s))
        crashpoint("K2")
        if batch.rare:
            await self._ask(lambda: self._db.write_rare(tx, batch))

    async def commit(self, batch: Batch) -> None:
        if batch.rare:
            async with self.transaction() as t:
                await t.write(batch)
            return

        def act() -> Transaction:
            tx = self._db.begin()
            try:
                self._db.write(tx, self._member, batch, self._lease_s)
            except BaseException:
                self._db.end(tx, commit=False)
                raise
            return tx

        try:
            await self._land(act)
        except LockTimeout:
            raise
        except OSError as e:
            raise CommitUnknown(str(e)) from e

    async def committed(self, positions: Sequence[Position], batches: Mapping[int, int]) -> bool:
        def act() -> bool:
            rows = self._db.ask([x.p for x in positions])
            if all(r.batch > batches[r.p] and r.epoch == x.epoch for r, x in zip(rows, positions, strict=True)):
                return True
            if any(r.owner != self._member or r.epoch != x.epoch for r, x in zip(rows, positions, strict=True)):
                raise Fenced("Partitions changed hands while a commit was under way.")
            return False

        try:
            answer = await self._ask(act)
        except LockTimeout as e:
            raise CommitUnknown(str(e)) from e
        if not answer:
            self._server.asked(self._process)
        return answer

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, OSError)


def _command(r: CommandRow, *, unborn: bool = False) -> Command:
    return Command(r.n, r.trace_id, r.p, r.kind, r.body, r.actor, r.channel, r.command_id, None, unborn)


class SimTransaction:
    """An open transaction, as `ports.Transaction`."""

    def __init__(self, store: SimStore, tx: Transaction) -> None:
        self._store, self._tx = store, tx

    async def decisions(self, pause_ids: Sequence[str]) -> list[Decided]:
        db, ids = self._store._db, sorted(pause_ids)  # type: ignore[attr-defined]

        def act() -> list[Decided]:
            for pause_id in ids:
                if pause_id in db.pauses:
                    db.lock(self._tx, pause_id)
            return db.decided(ids)

        return await self._store._ask(act)  # type: ignore[attr-defined]

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        db, wanted = self._store._db, sorted(keys)  # type: ignore[attr-defined]

        def act() -> dict[str, int]:
            for key in wanted:
                db.lock(self._tx, f"place {key}")
            return {k: db.places.get(k, 0) for k in wanted}

        return await self._store._ask(act)  # type: ignore[attr-defined]

    async def messages(self, partitions: Sequence[int], trace_ids: Sequence[str]) -> list[Command]:
        db = self._store._db  # type: ignore[attr-defined]

        def act() -> list[Command]:
            rows = [r for r in db.unapplied.values() if r.kind == "message" and r.trace_id in trace_ids]
            return [_command(r) for r in rows if r.p in partitions]

        return await self._store._ask(act)  # type: ignore[attr-defined]

    async def write(self, batch: Batch) -> None:
        await self._store.write(self._tx, batch)

"""The one database of the simulated world: what its tables hold, what its locks and fences refuse. No latency, no faults.

It keeps the promises of the statements in `adapters/statements.py`; `tests/integration/orchestrator/test_store_twins.py`
asks the same of both. Beside every commit it keeps a fold of each journal, and checks that offsets moved with state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from handrail_contracts.codec import Undecodable, decode
from handrail_contracts.tasks import DeadLetter, Outcome, Result, TaskKind
from handrail_engine.evolve import evolve
from handrail_engine.lifecycle import OPEN
from handrail_engine.state import Row, WorkflowState
from handrail_orchestrator.application.ports import Batch, Decided, Fenced, JournalRow, Position, StoredRow, Summary
from handrail_runtime.ports import Record
from tests.torture.checker.history import Commit

TENANT = "default"


class Refused(Exception):
    """A constraint is violated: the same batch would meet it again."""


class Locked(Exception):
    """Somebody else holds the row."""


@dataclass
class PartitionRow:
    p: int
    owner: str | None = None
    epoch: int = 0
    lease_until: float = -1.0
    batch: int = 0
    bus_id: str | None = None
    offsets: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    next_pseq: int = 1
    published_upto: int = 0


@dataclass
class CommandRow:
    n: int
    command_id: str
    trace_id: str
    p: int
    kind: str
    body: dict[str, Any]
    actor: str
    channel: str
    applied_pseq: int | None = None


@dataclass
class PauseRow:
    pause_id: str
    trace_id: str
    kind: str
    data: dict[str, Any]
    opened_ms: int
    state: str = "open"


@dataclass
class DecisionRow:
    pause_id: str
    trace_id: str
    outcome: str
    action_id: str | None
    input: Any
    comment: str | None
    actor: str
    channel: str
    decided_ms: int
    applied: bool = False


class Transaction:
    """What an open transaction has locked and staged."""

    def __init__(self) -> None:
        self.pauses: set[str] = set()
        self.partitions: set[int] = set()
        self.staged: list[Callable[[], None]] = []
        self.afterwards: list[Callable[[], None]] = []
        self.committing = False  # its COMMIT is under way: the client's end or silence stops it no more
        self.over = False


class Database:
    """`now_s` is its clock. `log(topic, p, bus_id)` lets it look at the records that a commit says it has read."""

    def __init__(
        self, partitions: int, now_s: Callable[[], float], log: Callable[[str, int, str | None], list[Record] | None]
    ) -> None:
        self.now_s, self._log = now_s, log
        self.t0_ms = 1_800_000_000_000
        self.partitions = {p: PartitionRow(p) for p in range(partitions)}
        self.members: dict[str, float] = {}
        self.journal: list[StoredRow] = []
        self.by_trace: dict[str, list[StoredRow]] = {}
        self.by_p: dict[int, list[StoredRow]] = {p: [] for p in range(partitions)}
        self.workflows: dict[str, Summary] = {}
        self.parked: dict[str, str] = {}
        self.track_record: dict[tuple[str, str], tuple[int, int]] = {}
        self.snapshots: dict[str, tuple[int, int, bytes]] = {}  # seq, fold version, state
        self.taken_up = 0
        self.policies: list[tuple[str, tuple[int, str | None, Any, str]]] = []  # in the order in which they came
        self.pauses: dict[str, PauseRow] = {}
        self.decisions: dict[str, DecisionRow] = {}
        self.commands: list[CommandRow] = []
        self.unapplied: dict[int, CommandRow] = {}
        self.letters: dict[str, tuple[Any, ...]] = {}
        self.quarantine: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.limits: dict[str, int] = {}
        self.places: dict[str, int] = {}
        self.registry: dict[tuple[str, str], dict[str, Any]] = {}
        self.locks: dict[str, Transaction] = {}
        self.row_locks: dict[int, Transaction] = {}
        self.open: list[Transaction] = []
        self.shadows: dict[str, WorkflowState] = {}
        self.commits: list[Commit] = []
        self.torn: list[str] = []
        self.fenced = 0

    def now_ms(self) -> int:
        return self.t0_ms + int(self.now_s() * 1000)

    # transactions

    def begin(self) -> Transaction:
        tx = Transaction()
        self.open.append(tx)
        return tx

    def end(self, tx: Transaction, *, commit: bool) -> None:
        """Commits or rolls back, and lets go of its locks. Idempotent."""
        if tx.over:
            return
        tx.over = True
        self.open.remove(tx)
        for pause_id in tx.pauses:
            del self.locks[pause_id]
        for p in tx.partitions:
            del self.row_locks[p]
        if commit:
            for step in [*tx.staged, *tx.afterwards]:
                step()

    def lock(self, tx: Transaction, pause_id: str) -> None:
        if tx.over:
            raise ConnectionError("Expected an open transaction, but the server has ended it.")
        holder = self.locks.get(pause_id)
        if holder is not None and holder is not tx:
            raise Locked(pause_id)
        self.locks[pause_id] = tx
        tx.pauses.add(pause_id)

    def _lock_row(self, tx: Transaction, p: int) -> None:
        holder = self.row_locks.get(p)
        if holder is not None and holder is not tx:
            raise Locked(f"partition {p}")
        self.row_locks[p] = tx
        tx.partitions.add(p)

    # the owner's side

    def acquire(self, member: str, most: int, lease_s: float) -> list[PartitionRow]:
        now = self.now_s()
        free = [
            r
            for r in self.partitions.values()
            if (r.owner is None or r.lease_until < now) and r.p not in self.row_locks
        ]
        for r in free[:most]:
            r.owner, r.epoch, r.lease_until = member, r.epoch + 1, now + lease_s
        return [replace(r, offsets=dict(r.offsets)) for r in free[:most]]

    def renew(self, member: str, held: dict[int, tuple[int, int, int]], lease_s: float) -> set[int]:
        self._none_locked(held)
        kept: set[int] = set()
        for p, (epoch, upto, batch) in held.items():
            r = self.partitions[p]
            if r.epoch == epoch and r.owner == member and self.counts(r, batch):
                r.lease_until = self.now_s() + lease_s
                r.published_upto = max(r.published_upto, upto)
                kept.add(p)
        return kept

    def release(self, member: str, held: dict[int, tuple[int, int]]) -> None:
        self._none_locked(held)
        for p, (epoch, upto) in held.items():
            r = self.partitions[p]
            if r.epoch == epoch and r.owner == member:
                r.owner, r.lease_until, r.published_upto = None, -1.0, max(r.published_upto, upto)

    def ask(self, partitions: list[int]) -> list[PartitionRow]:
        """These rows, once nobody is writing them."""
        self._none_locked(partitions)
        return [self.partitions[p] for p in partitions]

    def _none_locked(self, partitions: Iterable[int]) -> None:
        for p in partitions:
            if p in self.row_locks:
                raise Locked(f"partition {p}")

    def decided(self, pause_ids: list[str]) -> list[Decided]:
        found = [d for i in pause_ids if (d := self.decisions.get(i)) is not None and not d.applied]
        found.sort(key=lambda d: (d.decided_ms, d.pause_id))
        return [
            Decided(d.pause_id, d.trace_id, d.action_id or "", d.input, d.comment, d.actor, d.channel) for d in found
        ]

    def journal_rows(self, rows: list[StoredRow]) -> list[JournalRow]:
        return [
            JournalRow(
                r.trace_id,
                r.p,
                r.born,
                r.pseq,
                r.seq,
                r.type,
                orjson.loads(r.data),
                orjson.loads(r.meta) if r.meta is not None else None,
                r.at_ms,
            )
            for r in rows
        ]

    def write(self, tx: Transaction, member: str, batch: Batch, lease_s: float) -> None:
        """The one statement: partitions, journal, summaries, commands. Raises Fenced, Refused, Locked."""
        if tx.over:
            raise ConnectionError("Expected an open transaction, but the server has ended it.")
        for x in batch.positions:
            self._lock_row(tx, x.p)
        ours = [x for x in batch.positions if self._mine(member, x)]
        if len(ours) != len(batch.positions):
            self.fenced += 1
            raise Fenced(f"Expected {len(batch.positions)} owned partitions, but {len(ours)} are.")
        for r in batch.rows:
            rows = self.by_trace.get(r.trace_id, [])
            if any(old.seq == r.seq for old in reversed(rows[-50:])):
                raise Refused(f"journal {r.trace_id} {r.seq}")
        tx.staged.append(lambda: self._apply(batch, lease_s))
        tx.afterwards.extend(lambda x=x: self._moved(x) for x in batch.positions)

    def _mine(self, member: str, x: Position) -> bool:
        row = self.partitions[x.p]
        return row.epoch == x.epoch and row.owner == member and self.counts(row, x.batch)

    @staticmethod
    def counts(row: PartitionRow, batch: int) -> bool:
        """Whether the row knows of exactly as many batches as its owner."""
        return row.batch == batch

    def write_rare(self, tx: Transaction, batch: Batch) -> None:
        """The other tables."""
        if tx.over:
            raise ConnectionError("Expected an open transaction, but the server has ended it.")
        for row in batch.pauses:
            if row[0] in self.pauses:
                raise Refused(f"pause {row[0]}")
        tx.staged.append(lambda: self._apply_rare(batch))

    def _apply(self, batch: Batch, lease_s: float) -> None:
        for x in batch.positions:
            row = self.partitions[x.p]
            self.commits.append(Commit(x.p, x.epoch, row.epoch))
            row.next_pseq, row.bus_id, row.batch = x.next_pseq, x.bus_id, row.batch + 1
            row.published_upto = max(row.published_upto, x.published_upto)
            row.lease_until = self.now_s() + lease_s
        for r in batch.rows:
            self.journal.append(r)
            self.by_trace.setdefault(r.trace_id, []).append(r)
            self.by_p[r.p].append(r)
            self._follow(r)
        for s in batch.summaries:
            self.workflows[s.trace_id] = s
        for n, pseq in batch.commands:
            row = self.unapplied.pop(n, None)
            if row is not None:
                row.applied_pseq = pseq
        for x in batch.parked:
            self.parked[x.trace_id] = x.reason
            if x.trace_id not in self.workflows:
                now = self.now_ms()
                told = (x.blueprint, x.intent, "ACCEPTED", x.labels, b"{}", 0, now, now, None, None)
                self.workflows[x.trace_id] = Summary(x.trace_id, x.p, x.born, *told)

    def _follow(self, r: StoredRow) -> None:
        shadow = self.shadows.setdefault(r.trace_id, WorkflowState(TENANT, r.trace_id))
        meta = orjson.loads(r.meta) if r.meta is not None else None
        try:
            evolve(shadow, Row(r.seq, r.type, orjson.loads(r.data), meta, r.at_ms))
        except ValueError as e:
            self.torn.append(f"{r.trace_id}: its row {r.seq} does not follow from those before: {e}")

    def _moved(self, x: Position) -> None:
        """I10 at the moment of the commit: what the new offset says was read is in the states."""
        row = self.partitions[x.p]
        for topic, (offset, ce_id) in x.offsets.items():
            old = row.offsets.get(topic, (0, None))[0]
            log = self._log(topic, x.p, x.bus_id)
            for r in log[old:offset] if log is not None and offset > old else ():
                self._covered(r, topic)
            row.offsets[topic] = (offset, ce_id)

    def _covered(self, r: Record, topic: str) -> None:
        try:
            _, m = decode(r.topic, r.headers, r.value)
        except Undecodable:
            if (topic, r.partition, r.offset) not in {k[:3] for k in self.quarantine}:
                self.torn.append(f"the unreadable {topic}/{r.partition}/{r.offset} was passed and is in no quarantine")
            return
        if not isinstance(m, (Result, DeadLetter)) or m.trace_id in self.parked:
            return
        s = self.shadows.get(m.trace_id)
        node = s.nodes.get(m.node_id) if s is not None and m.node_id is not None else None
        if s is None or node is None or s.ended:
            return
        if isinstance(m, DeadLetter):
            if node.dead_letter is not None and node.dead_letter[0] == m.dead_letter_id:
                self.torn.append(f"{m.trace_id}/{m.node_id}: its dead letter came back, and it still waits for it")
            return
        if m.outcome is Outcome.STARTED or node.live is None:
            return
        if m.kind is TaskKind.COMPENSATE:
            waits = node.state == "COMPENSATING" and node.undo.attempt == m.attempt and s.undo_key(node) == m.effect_key
        else:
            waits = node.state in OPEN and node.attempt == m.attempt and s.do_key(node) == m.effect_key
        if waits:
            self.torn.append(f"{m.trace_id}/{m.node_id}: attempt {m.attempt} answered {m.outcome}, and it still waits")

    def _apply_rare(self, b: Batch) -> None:
        for row in b.pauses:
            self.pauses[row[0]] = PauseRow(row[0], row[1], row[4], orjson.loads(row[5]), row[8])
        for pause_id, trace_id, outcome, _, action_id, actor, channel, comment, at_ms in b.closed:
            if pause_id in self.pauses:
                self.pauses[pause_id].state = outcome
            d = self.decisions.get(pause_id)
            if d is None:
                self.decisions[pause_id] = DecisionRow(
                    pause_id, trace_id, outcome, action_id, None, comment, actor, channel, at_ms, applied=True
                )
            else:
                d.applied, d.outcome = True, outcome
        for (pause_id,) in b.refused:
            if (d := self.decisions.get(pause_id)) is not None and not d.applied:
                del self.decisions[pause_id]
        for row in b.dead_letters:
            self.letters.setdefault(row[0], row)
        for letter, _, _ in b.letters_over:
            if (row := self.letters.get(letter)) is not None and row[8] == "open" and row[7] is None:
                self.letters[letter] = (*row[:8], "closed", *row[9:])
        for row in b.quarantine:
            self.quarantine.setdefault((*row[:4], row[5]), row)
        for key, more in b.places:
            self.places[key] = self.places.get(key, 0) + more
        for mark, trace_id, _, body in b.blobs:
            self.blobs.setdefault((trace_id, mark), body)

    # the gateway's side

    def add_command(
        self, trace_id: str, p: int, kind: str, body: dict[str, Any], actor: str, channel: str
    ) -> CommandRow:
        row = CommandRow(
            len(self.commands) + 1, f"{kind}-{len(self.commands) + 1}", trace_id, p, kind, body, actor, channel
        )
        self.commands.append(row)
        self.unapplied[row.n] = row
        return row

    def decide(self, pause: PauseRow, action_id: str, input_: Any, actor: str, channel: str) -> None:
        """The gateway's decision, under the pause's lock."""
        self.decisions[pause.pause_id] = DecisionRow(
            pause.pause_id, pause.trace_id, "decided", action_id, input_, None, actor, channel, self.now_ms()
        )

"""What the application needs from outside: the store. Its adapter is `adapters/postgres.py`, its promises are tested there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from handrail_contracts.policy import Policy


class Fenced(Exception):
    """Some partitions of the batch are not ours any more, or not as we know them. Nothing was written."""


class CommitUnknown(Exception):
    """The connection broke while committing: `committed` must be asked before anything else. From `committed` itself: it is
    still under way, and its partitions must be taken anew."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A partition as its row says. `offsets`: topic -> (next offset, ce_id of the record before it)."""

    p: int
    epoch: int
    bus_id: str | None
    offsets: dict[str, tuple[int, str | None]]
    next_pseq: int
    published_upto: int
    batch: int


class StoredRow(NamedTuple):
    """One journal row as the batch inserts it; `data` and `meta` are encoded JSON."""

    born: int
    trace_id: str
    seq: int
    p: int
    pseq: int
    type: str
    data: bytes
    meta: bytes | None
    causation: str | None
    at_ms: int


class Summary(NamedTuple):
    """A workflow's summary row; times in ms."""

    trace_id: str
    p: int
    born: int
    blueprint: str | None
    intent: str | None
    status: str
    labels: bytes
    counts: bytes
    seq: int
    created_ms: int
    updated_ms: int
    ended_ms: int | None
    wake_ms: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands after the batch. `bus_id` None: no bus has been seen yet; `batch`: how many were committed
    before this one. A row that knows of fewer stands in a database that has lost some, one that knows of more has taken a
    commit of which we have not heard: both fence."""

    p: int
    epoch: int
    next_pseq: int
    published_upto: int
    offsets: dict[str, tuple[int, str | None]]
    bus_id: str | None
    batch: int = 0


class Parked(NamedTuple):
    """A workflow that stands still, and why; `blueprint`, `intent` and `labels` (JSON) as lists show one that has no row yet."""

    trace_id: str
    reason: str
    p: int
    born: int
    blueprint: str | None
    intent: str | None
    labels: bytes


@dataclass(slots=True)
class Batch:
    """Everything that one transaction writes. The lists after `commands` are empty in most batches."""

    tenant: str
    positions: list[Position] = field(default_factory=list)
    rows: list[StoredRow] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    commands: list[tuple[int, int]] = field(default_factory=list)  # n, applied_pseq (0: it changed nothing)
    pauses: list[tuple[Any, ...]] = field(default_factory=list)
    closed: list[tuple[Any, ...]] = field(default_factory=list)
    refused: list[tuple[str]] = field(default_factory=list)  # pause_ids whose decision is no answer
    places: list[tuple[str, int]] = field(default_factory=list)  # key, how many more are taken
    dead_letters: list[tuple[Any, ...]] = field(default_factory=list)
    letters_over: list[tuple[str, str, int]] = field(
        default_factory=list
    )  # dead_letter_id, why, at: no pause will open
    quarantine: list[tuple[Any, ...]] = field(default_factory=list)
    blobs: list[tuple[Any, ...]] = field(default_factory=list)
    outbound: list[tuple[Any, ...]] = field(default_factory=list)  # id, channel, trace_id, pause_id, body
    parked: list[Parked] = field(default_factory=list[Parked])
    given_up: list[tuple[str, int, str, bool, str, str]] = field(
        default_factory=list
    )  # trace_id, p, why, whether it has ended by this, actor, channel

    @property
    def idle(self) -> bool:
        """True when there is nothing to store: time passed and only a resend came of it."""
        moved = any(x.offsets for x in self.positions)
        return not (moved or self.rows or self.summaries or self.commands or self.rare)

    @property
    def rare(self) -> bool:
        """True when more than the one statement is needed."""
        return bool(
            self.pauses
            or self.closed
            or self.refused
            or self.places
            or self.dead_letters
            or self.letters_over
            or self.quarantine
            or self.blobs
            or self.outbound
            or self.parked
            or self.given_up
        )


class Command(NamedTuple):
    """A command row that was not applied yet. `unborn`: it starts a workflow of which nothing was stored when it was read."""

    n: int
    trace_id: str
    p: int
    kind: str
    body: dict[str, Any]
    actor: str
    channel: str
    command_id: str
    traceparent: str | None
    unborn: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision row that was not applied yet."""

    pause_id: str
    trace_id: str
    action_id: str
    input: Any
    comment: str | None
    actor: str
    channel: str


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A journal row as read back, decoded."""

    trace_id: str
    p: int
    born: int
    pseq: int
    seq: int
    type: str
    data: dict[str, Any]
    meta: dict[str, Any] | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A workflow as its summary row says, with its journal; with a snapshot (seq, state) only with the rows after it."""

    trace_id: str
    p: int
    born: int
    status: str
    wake_ms: int | None
    parked: bool
    rows: list[JournalRow]
    snapshot: tuple[int, bytes] | None = None


class Journaled(NamedTuple):
    """What the journal has of a workflow: its newest seq, and `type` and `at` of the event asked for, None where there is none."""

    newest: int
    type: str | None
    at: str | None


class Transaction(Protocol):
    """An open transaction of the store; it commits when its context ends well."""

    async def decisions(self, pause_ids: Sequence[str]) -> list[Decided]:
        """Locks these pauses in order of their ids; answers the decisions on them that were not applied."""
        ...

    async def messages(self, partitions: Sequence[int], trace_ids: Sequence[str]) -> list[Command]:
        """What was said in these workflows and not applied yet, in order."""
        ...

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        """Locks these counts of `max_in_flight`, in order; answers how many places are taken."""
        ...

    async def write(self, batch: Batch) -> None:
        """Writes the batch inside this transaction. Raises Fenced."""
        ...


class Store(Protocol):
    """PostgreSQL, as the orchestrator uses it. Anything but Fenced and CommitUnknown that it raises is either transient
    (`is_transient`) or deterministic: the same batch would fail again."""

    async def now_ms(self) -> int:
        """The one clock, in ms."""
        ...

    async def beat(self, seen_within_s: float) -> tuple[int, int]:
        """Says that we live; answers (live members, partitions in all)."""
        ...

    async def leave(self) -> None:
        """Takes our row out of the members."""
        ...

    async def acquire(self, most: int) -> list[Owned]:
        """Takes up to `most` partitions that are free or whose lease is over; their epoch grows."""
        ...

    async def renew(self, held: Mapping[int, tuple[int, int, int]]) -> set[int]:
        """Renews the leases of p -> (epoch, published_upto, batch); answers those that are still ours and have exactly
        that batch."""
        ...

    async def release(self, held: Mapping[int, tuple[int, int]]) -> None:
        """Gives partitions back, with how far they are published."""
        ...

    async def load(self, trace_ids: Sequence[str], fold_version: int | None = None) -> list[Stored]:
        """These workflows with their journals; unknown ones are absent. With a `fold_version`, from their snapshots of that
        version on, where they have one."""
        ...

    async def save_snapshot(self, trace_id: str, seq: int, fold_version: int, state: bytes) -> None:
        """Keeps this snapshot in place of an older one, or of one of another version; nothing for what has ended."""
        ...

    async def open_workflows(
        self, partitions: Sequence[int], after: str, limit: int
    ) -> list[tuple[int, str, int | None]]:
        """(p, trace_id, wake_at in ms) of workflows that have not ended and are not parked, by trace_id."""
        ...

    async def commands(self, partitions: Sequence[int], limit: int) -> list[Command]:
        """Commands that were not applied, in order; those of parked workflows wait, unless they give it up."""
        ...

    async def unpublished(self, p: int, after: int, limit: int) -> list[JournalRow]:
        """Journal rows of a partition after a pseq, in order."""
        ...

    async def last_events(self, trace_ids: Sequence[str]) -> list[JournalRow]:
        """The newest journal row of each workflow."""
        ...

    async def journaled(self, events: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Journaled]:
        """What the journal has under each (trace_id, seq); left out are those of workflows without a journal."""
        ...

    async def blobs(self, trace_id: str, digests: Sequence[str]) -> dict[str, bytes]:
        """Stored payloads of a workflow by digest; those of another one are not there."""
        ...

    async def registry(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(agent, action) -> the newest manifest that was registered."""
        ...

    async def limits(self) -> dict[str, int]:
        """Every `max_in_flight` in force: agent, or `agent/action`, -> how many attempts may be out."""
        ...

    async def places(self, keys: Sequence[str]) -> dict[str, int]:
        """How many places are taken now; nothing is locked."""
        ...

    async def save_blueprint(self, name: str, version: int, digest: str, body: bytes) -> str | None:
        """Stores a blueprint version if it is new; answers the digest that stands there. The same digest with its fields
        in another order takes this order."""
        ...

    async def policies(self) -> tuple[int, list[tuple[str, int, str | None, Any]]]:
        """(serial, [(name, version, blueprint, body)]): the newest version of each policy; the serial grows with each change."""
        ...

    async def save_policy(self, policy: Policy, digest: str, body: bytes) -> str | None:
        """Stores a version that is newer than all that stand under its name; answers the digest of this version as it stands,
        None when it is older and was never there."""
        ...

    async def track_record(
        self, told: Mapping[tuple[str, str], tuple[int, int]]
    ) -> dict[tuple[str, str], tuple[int, int]]:
        """Adds ends of attempts, (agent, action) -> (successes, all), to what every orchestrator has told; answers all that is
        known, in which older ones weigh less."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for a batch that must lock before it decides. Raises CommitUnknown when its end is unknown."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Writes the batch, all of it or nothing. Raises Fenced or CommitUnknown."""
        ...

    async def committed(self, positions: Sequence[Position], batches: Mapping[int, int]) -> bool:
        """After an unknown outcome: did it commit? `batches` is each partition's counter before. Waits for a transaction that
        has got as far as these partitions. False says that none had: one that comes later is fenced once anything else was
        committed, and fences this owner if it comes first. Raises Fenced, and CommitUnknown when it waited in vain."""
        ...

    def is_transient(self, error: BaseException) -> bool:
        """True when the same call may work later: connection, lock, timeout, disk; false for data that cannot be stored."""
        ...

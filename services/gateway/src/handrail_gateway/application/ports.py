"""What the use cases need from outside: a database to write to and to read from, a way to nudge the owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from handrail_contracts.commands import CommandKind


class Caller(NamedTuple):
    """One request, as far as use cases need to know it. `path` is the full path; `digest` that of its body."""

    tenant: str
    method: str
    path: str
    key: str | None = None
    digest: str = ""
    actor: str = "local"
    channel: str = "api"
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `again` is what a repetition of the request gets, where that is not the same."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    again: Answer | None = None


class Command(NamedTuple):
    """An order to the owner of a workflow. `body` is encoded JSON (shapes: commands of contracts)."""

    command_id: str
    tenant: str
    trace_id: str
    kind: CommandKind
    body: bytes
    actor: str
    channel: str
    traceparent: str | None = None


class Start(NamedTuple):
    """A start command with the key it came with and the answer that is kept for it."""

    command: Command
    caller: Caller
    answer: Answer


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person pressed."""

    tenant: str
    pause_id: str
    trace_id: str
    action_id: str
    input: bytes | None
    comment: str | None
    actor: str
    channel: str
    evidence_digest: str | None


@dataclass(frozen=True, slots=True)
class Decided:
    """The one decision of a pause, whoever made it. `input` is decoded."""

    outcome: str
    action_id: str | None
    input: Any
    actor: str
    channel: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class LockedPause:
    """A pause that this transaction holds. `data` is its event; `now` the database clock."""

    pause_id: str
    trace_id: str
    node_id: str | None
    kind: str
    state: str
    data: dict[str, Any]
    expires_at: datetime | None
    claimed_by: str | None
    claimed_until: datetime | None
    decided: Decided | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """How a workflow stands. `parked`: why its owner cannot go on with it."""

    trace_id: str
    status: str
    ended: bool
    parked: str | None = None
    blueprint: str | None = None


@dataclass(frozen=True, slots=True)
class OpenPause:
    """A pause among those of a workflow."""

    pause_id: str
    kind: str
    state: str
    decided: bool
    node_id: str | None = None


Row = Any
"""A record of the database: columns by name, json columns as encoded bytes."""


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """The next version of a policy; `body` is encoded JSON."""

    name: str
    version: int
    blueprint: str | None
    digest: str
    body: bytes
    comment: str | None


class Transaction(Protocol):
    """One database transaction. It commits when its block ends, and then nudges; an exception rolls it back."""

    async def recall(self, caller: Caller) -> tuple[str, Answer] | None:
        """(body digest, answer) kept for the caller's key, or None: then the key is ours. Raises Busy when another
        request holds it for longer than 2 s."""
        ...

    async def keep(self, caller: Caller, answer: Answer) -> None:
        """Keeps the answer under the key that `recall` reserved."""
        ...

    async def add(self, command: Command) -> bool:
        """Stores a command; False when it is a start whose trace_id is taken, be it by a workflow that was archived."""
        ...

    async def waiting(self, tenant: str, trace_id: str, kind: CommandKind) -> bool:
        """True when such a command is stored and not yet applied."""
        ...

    async def summary(self, tenant: str, trace_id: str) -> Summary | None:
        """How a workflow stands; None when it was never accepted."""
        ...

    async def pauses(self, tenant: str, trace_id: str) -> list[OpenPause]:
        """All pauses of a workflow: open ones first, then the one closed last."""
        ...

    async def lock_pause(self, tenant: str, pause_id: str) -> LockedPause | None:
        """The pause, held until the transaction ends."""
        ...

    async def opening(self, tenant: str, pause_id: str) -> str | None:
        """The trace_id of the escalation from outside that will open this pause, while it is accepted and not begun."""
        ...

    async def spoken(self, tenant: str, trace_id: str) -> int:
        """How many messages were ever accepted for the workflow."""
        ...

    async def plan(self, tenant: str, trace_id: str) -> list[dict[str, Any]]:
        """The compiled nodes of a workflow, also those that an agent has appended."""
        ...

    async def decide(self, decision: Decision) -> datetime:
        """Stores the decision of a pause that is locked and undecided."""
        ...

    async def policies(self, tenant: str) -> list[Row]:
        """The policies in force."""
        ...

    async def newest_policy(self, tenant: str, name: str) -> Row | None:
        """The newest version of a policy; no other can be added until the transaction ends."""
        ...

    async def add_policy(self, caller: Caller, new: NewPolicy) -> Row:
        """Stores the next version; answers it."""
        ...

    async def claim(self, pause_id: str, by: str | None, seconds: int | None) -> datetime | None:
        """Claims a locked pause, or frees it (`by` None); answers until when."""
        ...

    async def dead_letter(self, tenant: str, dead_letter_id: str) -> Any:
        """The dead letter as a row, held until the transaction ends, or None."""
        ...

    async def close_dead_letter(self, caller: Caller, dead_letter_id: str, state: str, reason: str | None) -> None:
        """Marks it `replayed` or `discarded` by the caller."""
        ...

    async def copy_payloads(self, tenant: str, of: str, to: str, digests: Collection[str]) -> None:
        """Stores what workflow `of` has under these digests for workflow `to`, too."""
        ...

    async def quarantined(self, tenant: str, record_id: int, *, workflow_too: bool = False) -> Any:
        """The quarantined record as a row, held until the transaction ends, or None; `workflow_too`: behind the workflow it parked."""
        ...

    async def unpark(self, tenant: str, record_id: int) -> None:
        """The workflow that an open quarantined record has parked goes on; nothing for any other record."""
        ...

    async def close_quarantined(self, caller: Caller, record_id: int, state: str, reason: str | None) -> None:
        """Marks it `replayed` or `discarded` by the caller."""
        ...


class Intake(Protocol):
    """The write side of the database."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A new transaction. Raises StoreFault."""
        ...

    async def start(self, start: Start) -> bool:
        """Stores a start together with others that come at the same time; False when its key was used before or its
        trace_id is taken. Not for a start with both a key and a chosen trace_id."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A place in a list, newest first: rows strictly older than (`at`, `id`); None is the beginning."""

    limit: int
    at: datetime | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """What a list of workflows is narrowed to; empty means all. `labels`, each as it reads, `name:value`, must all stand. `q`:
    text of the intent, from the beginning of a word on, or how a trace_id begins."""

    status: tuple[str, ...] = ()
    blueprint: str | None = None
    labels: tuple[str, ...] = ()
    q: str | None = None


@dataclass(frozen=True, slots=True)
class PauseFilter:
    """What an inbox is narrowed to. `state`: open, mine (claimed by `actor`) or resolved."""

    state: str
    actor: str
    kind: tuple[str, ...] = ()
    agent: str | None = None
    error_code: str | None = None
    blueprint: str | None = None
    trace_id: str | None = None
    q: str | None = None


class Views(Protocol):
    """The read side of the database. Everything raises StoreFault."""

    async def summary(self, tenant: str, trace_id: str) -> Summary | None:
        """How a workflow stands."""
        ...

    async def started(self, tenant: str, trace_id: str) -> tuple[dict[str, Any], str] | None:
        """(body, RFC 3339 time) of the start command, or None."""
        ...

    async def events_after(
        self, tenant: str, trace_id: str, after: int, limit: int, born: int | None = None
    ) -> list[Row]:
        """(seq, data, born) of the next events."""
        ...

    async def newest_events(self, tenant: str, trace_id: str, limit: int) -> list[Row]:
        """(seq, data, born) of the newest events, oldest first."""
        ...

    async def journal(self, tenant: str, trace_id: str) -> list[Row]:
        """The whole journal: seq, type, data, meta, at."""
        ...

    async def workflows(self, tenant: str, wanted: WorkflowFilter, page: Page) -> list[Row]:
        """Summaries, newest first."""
        ...

    async def inbox(self, tenant: str, wanted: PauseFilter, page: Page, *, total_up_to: int) -> tuple[list[Row], int]:
        """Pauses over all workflows, newest first, and how many there are in all."""
        ...

    async def pause(self, tenant: str, pause_id: str) -> Row | None:
        """One pause with its decision and workflow."""
        ...

    async def opening(self, tenant: str, pause_id: str) -> tuple[str, dict[str, Any], str] | None:
        """(trace_id, body, RFC 3339 time) of the start that will open this pause, while it is accepted and not begun."""
        ...

    async def messages(self, tenant: str, trace_id: str, pause_id: str) -> list[dict[str, Any]]:
        """What was said in a pause, oldest first: {role, text, at, actor}, and `withheld` where that was so."""
        ...

    async def dead_letters(
        self, tenant: str, page: Page, *, state: str | None, agent: str | None, trace_id: str | None
    ) -> list[Row]:
        """Dead letters, newest first."""
        ...

    async def dead_letter(self, tenant: str, dead_letter_id: str) -> Row | None:
        """One dead letter."""
        ...

    async def quarantined(
        self, tenant: str, limit: int, before: int | None, *, state: str | None, topic: str | None
    ) -> list[Row]:
        """Records that were set aside, newest first."""
        ...

    async def quarantined_record(self, tenant: str, record_id: int) -> Row | None:
        """One record that was set aside."""
        ...

    async def agents(self, tenant: str) -> list[Row]:
        """Every action ever registered."""
        ...

    async def parked_by(self, tenant: str, trace_id: str) -> list[Row]:
        """The open quarantine records that a parked workflow waits behind, the first first: `id`, and whether it `lay` on the
        bus."""
        ...

    async def surroundings(self, tenant: str, trace_id: str) -> Row | None:
        """p, owned, behind, orders (json): what of a workflow its journal does not say."""
        ...

    async def places(self, tenant: str) -> dict[str, int]:
        """How many attempts of what has a `max_in_flight` are out: by agent, and by agent/action."""
        ...

    async def blueprints(self, tenant: str) -> list[Row]:
        """The newest version of every blueprint."""
        ...

    async def policies(self, tenant: str) -> list[Row]:
        """The newest version of each policy."""
        ...

    async def policy_versions(self, tenant: str, name: str) -> list[Row]:
        """Every version of one policy, newest first."""
        ...

    async def policy_serial(self, tenant: str) -> int:
        """Grows with every version that is applied."""
        ...

    async def blob(self, tenant: str, trace_id: str, digest: str) -> tuple[str, bytes] | None:
        """(content type, bytes) of a large value."""
        ...

    async def now_ms(self) -> int:
        """The database clock, in milliseconds since 1970 UTC."""
        ...

    async def backlog(self) -> int:
        """Journal rows that are committed and not yet published."""
        ...

    def decisions(
        self, tenant: str, since: datetime | None, blueprint: str | None = None, kinds: Sequence[str] = ()
    ) -> AsyncIterator[Row]:
        """Every decision that there is at the first step, with its pause and workflow, oldest first. A caller that takes its time
        keeps nobody else from the store."""
        ...

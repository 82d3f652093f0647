"""What the notifier asks of its engines, and how frames are made. The adapters fulfil these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from handrail_contracts.live import Delta
from handrail_runtime.ports import Record

Key = tuple[str, str]
"""(tenant, trace_id)"""


class Unavailable(Exception):
    """An engine does not answer; the same call may work later."""


class NotFound(Exception):
    """No such workflow."""


class RefusedElsewhere(Exception):
    """The gateway refused: its problem, to be passed on as it is."""

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(f"Expected the gateway to accept, but it answered {status}.")
        self.status, self.body, self.retry_after = status, body, retry_after


class Row(NamedTuple):
    """One event of the journal: `data` is the JSON as on the wire."""

    seq: int
    type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where the journal of a workflow stands. `born` finds its rows. With `seq` 0 it was only accepted: `order` is the
    body of its start command, `at` (RFC 3339) when that was stored."""

    seq: int
    born: int
    order: Mapping[str, Any] = field(default_factory=dict[str, Any])
    at: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A workflow as Redis has it: the hash, and the newest events, oldest first, not necessarily all that were asked for."""

    fields: Mapping[bytes, bytes]
    newest: Sequence[Row]


class Journal(Protocol):
    """The truth."""

    async def heads(self, keys: Sequence[Key]) -> dict[Key, Head]:
        """Where each workflow stands, in one query; unknown ones are missing. Raises Unavailable."""
        ...

    async def page(self, key: Key, born: int, after: int, limit: int) -> list[Row]:
        """The first `limit` events behind `after`, oldest first. Raises Unavailable."""
        ...


class OpenPauses(Protocol):
    """The open pauses of all workflows."""

    async def open_pauses(self, limit: int) -> list[dict[str, Any]]:
        """The newest `limit`, oldest of them first: the payload of the event, claims as they are now. Raises Unavailable."""
        ...


class Labels(Protocol):
    """Which workflows carry a label."""

    async def running_with(self, label: str, limit: int) -> list[Key]:
        """The newest `limit` that have not ended and carry a label that reads so, `name:value`. Raises Unavailable."""
        ...


class Quarantine(Protocol):
    """Where records go that nobody can read."""

    async def put(self, record: Record, bus_id: str, reason: str) -> None:
        """Keeps it for a person. Idempotent by place in the log. Raises Unavailable."""
        ...


class Written(Enum):
    """What the script answered."""

    DONE = 1
    DUPLICATE = 0
    GAP = -1


WRITTEN_TOGETHER = 100
"""Events in one write at most: Lua's `unpack` and everybody else's patience are bounded."""


class Write(NamedTuple):
    """Events of one workflow for Redis, each the next after the one before, and what all of them change."""

    key: Key
    rows: Sequence[Row]
    delta: Delta


class LiveStore(Protocol):
    """The view that can be thrown away. Every call raises Unavailable when Redis does not answer."""

    async def hashes(self, keys: Sequence[Key]) -> list[Mapping[bytes, bytes]]:
        """The view hash of each, empty where there is none."""
        ...

    async def snapshots(self, keys: Sequence[Key]) -> list[Snapshot]:
        """The view hash of each with its newest events, both at one moment."""
        ...

    async def write(self, writes: Sequence[Write]) -> list[int | None]:
        """Writes all in order, each only if it follows what is there. Answers how many events of each were there already;
        None for a gap: nothing was written. Repeating it is harmless."""
        ...

    async def rebuild(self, key: Key, whole: Delta, newest: Sequence[Row]) -> Written:
        """Replaces what is there, if that raises `seq`."""
        ...

    async def epoch(self) -> str:
        """The mark of this content: another one than before means that everything was lost."""
        ...


class Desk(Protocol):
    """Where work is ordered and decided. Both raise RefusedElsewhere and Unavailable; the same key orders once."""

    async def start(self, order: Mapping[str, Any], *, key: str, actor: str) -> None:
        """As `POST /workflows`."""
        ...

    async def decide(self, trace_id: str, decision: Mapping[str, Any], *, key: str, actor: str) -> None:
        """As `POST /workflows/{trace_id}/resume`."""
        ...


class Signals(Protocol):
    """What is said on every stream that is not news, in the form that its readers understand."""

    def ping(self, at: str) -> bytes:
        """Still here."""
        ...

    def bye(self, retry_ms: int) -> bytes:
        """Come back after `retry_ms`."""
        ...


class Frames(Signals, Protocol):
    """Makes the frames of a stream (CONTRACT section 4), each ending in a blank line."""

    def event(self, seq: int | None, kind: str, data: bytes) -> bytes:
        """An event; `seq` None where the stream has no ids."""
        ...

    def reset(self, reason: str, state: str) -> bytes:
        """Forget what you have; `state` is where the snapshot can be read too."""
        ...

    def snapshot(self, cursor: int | None, state: bytes) -> bytes:
        """The state; the stream goes on behind `cursor`."""
        ...

    def end(self, status: str) -> bytes:
        """Nothing follows."""
        ...

    def progress(self, data: bytes) -> bytes:
        """News from inside an attempt."""
        ...

    def hello(self) -> bytes:
        """The first thing on a stream."""
        ...

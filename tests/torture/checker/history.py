"""What a run left behind, as plain data: journal, tables beside it, effects in the outside world, what lies on the topics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal row."""

    trace_id: str
    seq: int
    p: int
    pseq: int
    type: str
    data: dict[str, Any]
    meta: dict[str, Any] | None
    at_ms: int
    causation: str | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One call that changed the outside world, in the order in which they happened. `kind` is do or undo."""

    trace_id: str
    node_id: str
    effect_key: str
    kind: str
    keyless: bool = False
    undone: bool = False  # of a do: it was undone later
    answer: Any = None  # what the provider answered, which tells what was done


@dataclass(frozen=True, slots=True)
class Seen:
    """One record of the events topic, in the order of its partition."""

    partition: int
    offset: int
    trace_id: str
    seq: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition's row. `offsets`: topic -> (next offset, ce_id of the record before it)."""

    p: int
    epoch: int
    next_pseq: int
    published_upto: int
    offsets: dict[str, tuple[int, str | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """A workflow's row."""

    trace_id: str
    status: str
    seq: int
    ended: bool
    wake: bool
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    pause_id: str
    trace_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Decision:
    pause_id: str
    trace_id: str
    outcome: str
    action_id: str | None
    applied: bool


@dataclass(frozen=True, slots=True)
class Command:
    command_id: str
    trace_id: str
    kind: str
    applied: bool


@dataclass(frozen=True, slots=True)
class Letter:
    dead_letter_id: str
    trace_id: str
    node_id: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 2xx answer that somebody got. A decision names its pause and button, the others their command where it is known."""

    kind: str  # start, decide, pause, cancel
    trace_id: str
    command_id: str | None = None
    pause_id: str | None = None
    action_id: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch as the store took it: which owner's epoch wrote, and which epoch the row had then."""

    p: int
    epoch: int
    stood: int


@dataclass(slots=True)
class History:
    """Everything. `quiet`: faults have healed and time was given, so what can end has ended. None where a run cannot tell
    (`events` and `ends` of a bus that is gone, `commits` of a real database)."""

    journal: list[Entry]
    effects: list[Effect]
    partitions: list[Partition] = field(default_factory=list)
    workflows: list[Summary] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    events: list[Seen] | None = None
    ends: dict[tuple[str, int], int] | None = None  # (topic, p) -> end of the log, owner inputs
    ce_ids: dict[tuple[str, int, int], str | None] = field(default_factory=dict)  # of the record at that offset
    commits: list[Commit] | None = None
    torn: list[str] = field(default_factory=list)  # commits whose offsets moved without what they covered
    cached: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)  # trace_id, seq, facts of an owner
    queues: dict[str, int] = field(default_factory=dict)  # what still waits anywhere, by name
    standing: list[dict[str, Any]] = field(
        default_factory=list[dict[str, Any]]
    )  # rules of policies, in force all the time
    tenant: str = "default"
    quiet: bool = True
    adopted: bool = False  # the bus lost its log: last events came again, ahead of others
    faults: Counter[str] = field(default_factory=Counter)
    expected_faults: frozenset[str] = frozenset()
    least_ended: int = 1

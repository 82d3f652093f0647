"""What one batch is about: inputs by workflow, in the order in which they count, and what each came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from handrail_contracts.tasks import Result
from handrail_engine.inputs import GiveUp, Input
from handrail_runtime.ports import Record


class Item(NamedTuple):
    """One input with its origin: a record of the bus, a command row (`n`), or time (neither)."""

    what: Input | None  # None: a command whose content the pause lock reads (a decision)
    causation: str | None = None
    record: Record | None = None
    n: int | None = None
    pause_id: str | None = None


def given_up_by(items: Iterable[Item]) -> GiveUp | None:
    """The order of a person who gives the workflow up, if it is among these inputs."""
    return next((i.what for i in items if isinstance(i.what, GiveUp)), None)


@dataclass(slots=True)
class Work:
    """A batch before it is decided. `offsets`: (p, topic) -> (next offset, ce_id of the last record). `unborn`: workflows of
    which nothing is stored, as long as nobody has tried to store this batch."""

    items: dict[str, list[Item]] = field(default_factory=dict)
    partition_of: dict[str, int] = field(default_factory=dict)
    offsets: dict[tuple[int, str], tuple[int, str | None]] = field(default_factory=dict)
    unread: list[tuple[Record, str]] = field(default_factory=list)
    blobs: list[tuple[str, str, bytes]] = field(default_factory=list)  # trace_id, digest, body
    unborn: set[str] = field(default_factory=set)
    count: int = 0

    def add(self, trace_id: str, p: int, item: Item) -> None:
        """Puts an input at the end of its workflow's list."""
        self.items.setdefault(trace_id, []).append(item)
        self.partition_of[trace_id] = p
        self.count += 1

    def answers(self, trace_id: str) -> bool:
        """True when agents' answers are among a workflow's inputs."""
        return any(isinstance(i.what, Result) for i in self.items[trace_id])

    def only(self, trace_ids: set[str], *, with_offsets: bool) -> Work:
        """The part of this work that concerns these workflows; records' offsets move only with `with_offsets`."""
        part = Work()
        for t in self.items:  # in the order in which they came
            if t not in trace_ids:
                continue
            part.items[t] = self.items[t]
            part.partition_of[t] = self.partition_of[t]
            part.count += len(self.items[t])
        part.blobs = [b for b in self.blobs if b[0] in trace_ids]
        if with_offsets:
            part.offsets, part.unread = self.offsets, self.unread
        return part

    def forget(self, partitions: set[int]) -> None:
        """Drops what belongs to these partitions: their next owner reads it again."""
        for t in [t for t, p in self.partition_of.items() if p in partitions]:
            self.count -= len(self.items.pop(t))
            del self.partition_of[t]
        self.offsets = {k: v for k, v in self.offsets.items() if k[0] not in partitions}
        self.unread = [(r, why) for r, why in self.unread if r.partition not in partitions]
        self.blobs = [b for b in self.blobs if b[0] in self.items]

    @property
    def empty(self) -> bool:
        """True when there is nothing to write."""
        return not (self.items or self.offsets or self.unread)

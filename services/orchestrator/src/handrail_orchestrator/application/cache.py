"""States of workflows as their owner keeps them: a cache of the journal, never more.

An entry whose rows did not commit is dropped and folded anew. A workflow with an attempt out stays, because its lease
lives only here; idle ones are dropped, oldest first, beyond a number of nodes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from handrail_engine.state import Row, WorkflowState

_REMEMBERED_ENDS = 5_000  # half a minute of 200 ends a second; what speaks of an older one is looked up


@dataclass(slots=True)
class Entry:
    """One workflow: its state, where it lives, and what its stored summary says."""

    state: WorkflowState
    p: int
    born: int
    stored_status: str | None = None
    stored_wake_ms: int | None = None
    parked: bool = False
    letters: dict[str, str] = field(default_factory=dict)  # node -> its newest dead letter
    snapshot_seq: int = 0  # of the newest snapshot, as far as we know
    journal: list[Row] | None = None  # all of it, of one that a person gives up
    broken: Exception | None = None  # its journal cannot be folded: `state` is none


class Cache:
    """At most about `most_nodes` nodes of idle workflows, and all workflows that have an attempt out."""

    def __init__(self, most_nodes: int) -> None:
        self._most = most_nodes
        self._nodes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def get(self, trace_id: str) -> Entry | None:
        """The entry, now the youngest; None when it must be loaded."""
        entry = self._entries.get(trace_id)
        if entry is not None:
            self._entries.move_to_end(trace_id)
        return entry

    def put(self, trace_id: str, entry: Entry) -> None:
        """Keeps an entry; an ended workflow is remembered by its name only."""
        self.drop(trace_id)
        if entry.state.ended:
            self._ended[trace_id] = None
            if len(self._ended) > _REMEMBERED_ENDS:
                self._ended.popitem(last=False)
            return
        self._entries[trace_id] = entry
        self._sizes[trace_id] = max(1, len(entry.state.nodes))
        self._nodes += self._sizes[trace_id]

    def drop(self, trace_id: str) -> None:
        """Forgets one."""
        if self._entries.pop(trace_id, None) is not None:
            self._nodes -= self._sizes.pop(trace_id)

    def drop_partitions(self, lost: Iterable[int]) -> None:
        """Forgets what belongs to partitions that are not ours any more."""
        gone = set(lost)
        for trace_id in [t for t, e in self._entries.items() if e.p in gone]:
            self.drop(trace_id)
        self._ended.clear()

    def has_ended(self, trace_id: str) -> bool:
        """True when we saw it end; False says nothing."""
        return trace_id in self._ended

    def shrink(self) -> None:
        """Drops idle entries, oldest first, until the limit holds."""
        if self._nodes <= self._most:
            return
        for trace_id, entry in list(self._entries.items()):
            if entry.state.out == 0:
                self.drop(trace_id)
                if self._nodes <= self._most:
                    return

    def __len__(self) -> int:
        return len(self._entries)

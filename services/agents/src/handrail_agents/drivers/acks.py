"""Which records may be acknowledged: in the order of their offsets, each once it has a slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from handrail_runtime.ports import Record, TopicPartition


@dataclass(slots=True)
class _Line:
    waiting: deque[int] = field(default_factory=deque[int])
    taken: set[int] = field(default_factory=set[int])


class Acks:
    """`note` a record before it is offered; what that answers is called at hand-off. `positions` are what may be committed.

    A record that was taken out of order waits for those before it: a crash then repeats records, and loses none.
    """

    def __init__(self) -> None:
        self._lines: dict[TopicPartition, _Line] = {}
        self._positions: dict[TopicPartition, int] = {}

    def note(self, record: Record) -> Callable[[], None]:
        """Registers a record as read; the answer marks it as handed off. Idempotent."""
        at, offset = (record.topic, record.partition), record.offset
        line = self._lines.setdefault(at, _Line())
        line.waiting.append(offset)

        def taken() -> None:
            line.taken.add(offset)
            while line.waiting and line.waiting[0] in line.taken:
                first = line.waiting.popleft()
                line.taken.discard(first)
                self._positions[at] = first + 1

        return taken

    def positions(self) -> dict[TopicPartition, int]:
        """Next offsets that moved since the last time."""
        moved, self._positions = self._positions, {}
        return moved

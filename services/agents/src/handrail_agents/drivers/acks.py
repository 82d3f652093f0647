"""Which records may be acknowledged: in the order of their offsets, each once it has a slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from handrail_runtime.ports import Record, TopicPartition


@dataclass(slots=True)
class _Note:
    offset: int
    taken: bool = False


class Acks:
    """`note` a record before it is offered; what that answers is called at hand-off. `positions` are what may be committed.

    A record that was taken out of order waits for those before it: a crash then repeats records, and loses none. A record
    that was read twice (its partition went away and came back) counts twice.
    """

    def __init__(self) -> None:
        self._lines: dict[TopicPartition, deque[_Note]] = {}
        self._positions: dict[TopicPartition, int] = {}

    def note(self, record: Record) -> Callable[[], None]:
        """Registers a record as read; the answer marks it as handed off. Idempotent."""
        at = (record.topic, record.partition)
        line = self._lines.get(at)
        if line is None:
            line = self._lines[at] = deque()
        note = _Note(record.offset)
        line.append(note)

        def taken() -> None:
            note.taken = True
            while line and line[0].taken:
                self._positions[at] = line.popleft().offset + 1

        return taken

    def positions(self) -> dict[TopicPartition, int]:
        """Next offsets that moved since the last time."""
        moved, self._positions = self._positions, {}
        return moved

"""What one reader of a process read lately, kept for another that would have to fetch it a second time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping

from handrail_runtime.ports import Record, TopicPartition

MOST_BYTES = 8 * 1024 * 1024
_RECORD_BYTES = 512
"""About what a record holds besides its value."""


class Recent:
    """The records of the `wanted` partitions, of each all that the reader got from some offset on. Whoever takes them finds
    out there what was lost: by a reader that lost its place, or by the bound `most_bytes`."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._since: dict[TopicPartition, int] = {}
        self._kept: dict[TopicPartition, deque[Record]] = {}
        self._news: asyncio.Future[None] | None = None

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """The reader begins at these offsets; partitions that are not among them are not read."""
        self._since = dict(positions)
        self._forget()

    def end(self) -> None:
        """The reader lost its place: what it reads next is no continuation. Idempotent."""
        self.begin({})

    def want(self, partitions: Iterable[TopicPartition]) -> None:
        """Keeps what comes for these and lets go of all others."""
        kept = self._kept
        self._kept = {tp: kept.pop(tp, None) or deque() for tp in partitions}
        for tp, records in kept.items():
            if records:
                self._since[tp] = records[-1].offset + 1
                self._bytes -= sum(map(_size, records))

    def offer(self, records: Iterable[Record]) -> None:
        """The reader got these, the next of each partition."""
        since, kept = self._since, self._kept
        came = False
        for record in records:
            tp = (record.topic, record.partition)
            if tp in kept:
                kept[tp].append(record)
                self._bytes += _size(record)
                came = True
            elif tp in since:
                since[tp] = record.offset + 1
        if self._bytes > self._most_bytes:
            for tp, held in kept.items():
                if held:
                    since[tp] = held[-1].offset + 1
            self._forget()
        if came:
            self._wake()

    def covers(self, tp: TopicPartition, offset: int) -> bool:
        """Whether everything from `offset` on is here or will come."""
        return tp in self._kept and self._since.get(tp, offset + 1) <= offset

    def take(self, tp: TopicPartition, offset: int, most: int) -> list[Record]:
        """The next `most` from `offset` on, which must be covered, as is what follows them afterwards; anything before is let
        go of."""
        held = self._kept[tp]
        taken: list[Record] = []
        while held and len(taken) < most:
            record = held.popleft()
            self._bytes -= _size(record)
            if record.offset >= offset:
                taken.append(record)
        self._since[tp] = max(offset, taken[-1].offset + 1) if taken else offset
        return taken

    def news(self) -> asyncio.Future[None]:
        """Done as soon as something was kept or lost that was not when this was last asked for."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _forget(self) -> None:
        for records in self._kept.values():
            records.clear()
        self._bytes = 0
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def _size(record: Record) -> int:
    return _RECORD_BYTES + len(record.value or b"")

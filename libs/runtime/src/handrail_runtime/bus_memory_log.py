"""One partition in memory, and a reader's end of it: what is there, and waking when something comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from handrail_runtime.ports import BusError, Headers, OffsetOutOfRange, Record, TopicPartition

_OVERHEAD_BYTES = 1000
"""What a record costs beyond key, value and header values: objects, and about ten headers' tuples and names."""


class Log:
    """Records of one partition; offsets `start` ≤ o < `end`. Appending wakes the tails that are here."""

    __slots__ = (
        "_head",
        "_max_bytes",
        "_max_records",
        "_records",
        "_sizes",
        "bytes",
        "partition",
        "start",
        "tails",
        "topic",
    )

    def __init__(self, topic: str, partition: int, max_records: int, max_bytes: int) -> None:
        self.topic, self.partition = topic, partition
        self.start = 0
        self.bytes = 0
        self.tails: set[Tail] = set()
        self._max_records, self._max_bytes = max_records, max_bytes
        # A list with a dead front (`_head`) instead of a deque: reading from the middle must not cost its distance.
        self._records: list[Record | None] = []
        self._sizes: list[int] = []
        self._head = 0

    @property
    def end(self) -> int:
        """The offset that the next record will have."""
        return self.start + len(self._records) - self._head

    def append(self, key: bytes | None, value: bytes | None, headers: Headers, at_ms: int) -> None:
        """Adds one record, and drops the oldest beyond retention (never the new one)."""
        self._records.append(Record(self.topic, self.partition, self.end, key, value, headers, at_ms))
        size = _OVERHEAD_BYTES + len(key or b"") + len(value or b"") + sum([len(v) for _, v in headers])
        self._sizes.append(size)
        self.bytes += size
        if self.bytes > self._max_bytes or len(self._records) - self._head > self._max_records:
            self.trim_to(self._max_bytes)
        for tail in self.tails:
            tail.wake(self)

    def trim_to(self, size: int) -> None:
        """Drops the oldest records until at most `size` bytes (and the record limit) remain; the newest one stays."""
        last = len(self._records) - 1
        while self._head < last and (self.bytes > size or last + 1 - self._head > self._max_records):
            self._drop_oldest()
        self._compact()

    def drop_before(self, offset: int) -> int:
        """Drops the records below `offset`; answers how many bytes that freed."""
        before = self.bytes
        while self.start < min(offset, self.end):
            self._drop_oldest()
        self._compact()
        return before - self.bytes

    def _drop_oldest(self) -> None:
        self.bytes -= self._sizes[self._head]
        self._records[self._head] = None
        self._head += 1
        self.start += 1

    def _compact(self) -> None:
        if self._head > 1024 and self._head * 2 > len(self._records):
            del self._records[: self._head], self._sizes[: self._head]
            self._head = 0

    def slice(self, offset: int, count: int) -> Sequence[Record]:
        """At most `count` records from `offset` on. Raises OffsetOutOfRange outside `start` ≤ offset ≤ `end`."""
        if not self.start <= offset <= self.end:
            raise OffsetOutOfRange(self.topic, self.partition, offset)
        first = self._head + offset - self.start
        return self._records[first : first + count]  # type: ignore[return-value]  # None only stands before _head


class Tail:
    """A reader's positions over some logs. Keeps the logs that may have something in order of arrival, so that a read
    costs what it returns, not the number of partitions."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._positions: dict[TopicPartition, int | None] = {}
        self._logs: dict[TopicPartition, Log] = {}
        self._ready: dict[Log, None] = {}
        self._paused: set[Log] = set()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Replaces all positions. `look` must follow."""
        for log in self._logs.values():
            log.tails.discard(self)
        self._logs.clear()
        self._ready.clear()
        self._paused.clear()
        self._positions = dict(positions)

    def look(self, known: Mapping[str, Sequence[Log]]) -> None:
        """Connects the positions whose log exists by now."""
        for tp, position in self._positions.items():
            logs = known.get(tp[0], ())
            if tp in self._logs or not 0 <= tp[1] < len(logs):
                continue
            log = self._logs[tp] = logs[tp[1]]
            log.tails.add(self)
            if position is None:
                self._positions[tp] = log.end
            elif position != log.end:
                self.wake(log)

    def positions(self) -> Mapping[TopicPartition, int | None]:
        """The next offset of each partition; None: at the end of a log that does not exist yet."""
        return self._positions

    def move(self, tp: TopicPartition, offset: int) -> None:
        """Goes on from `offset`, if the partition is still here, also where it was paused."""
        log = self._logs.get(tp)
        if log is not None:
            self._paused.discard(log)
            self._positions[tp] = offset
            self.wake(log)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Leaves these out until they are moved or assigned anew."""
        for tp in partitions:
            if (log := self._logs.get(tp)) is not None:
                self._paused.add(log)
                self._ready.pop(log, None)

    def log(self, tp: TopicPartition) -> Log | None:
        """The log of an assigned partition, once it exists."""
        return self._logs.get(tp)

    def wake(self, log: Log) -> None:
        """There may be something in `log`."""
        if log not in self._paused:
            self._ready[log] = None
            self._finish_waiting()

    def _finish_waiting(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As `ports.Reader.read`."""
        # First let others run: with data always at hand nothing below would ever yield.
        await asyncio.sleep(0)
        deadline = self._loop.time() + timeout_s
        while True:
            if self._closed:
                raise BusError("Expected an open reader, but it was closed.")
            if self._ready and (taken := self._take(max_records)):
                return taken
            if (left := deadline - self._loop.time()) <= 0:
                return []
            await self._wait(left)

    async def _wait(self, timeout_s: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._finish_waiting)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _take(self, room: int) -> list[Record]:
        taken: list[Record] = []
        for log in list(self._ready):
            if room <= 0:
                break
            tp = (log.topic, log.partition)
            position = self._positions[tp]
            assert position is not None
            try:
                records = log.slice(position, room)
            except OffsetOutOfRange:
                if taken:
                    break  # deliver what was taken; the fault comes first at the next read
                raise
            taken.extend(records)
            room -= len(records)
            position += len(records)
            self._positions[tp] = position
            del self._ready[log]
            if position < log.end:
                self._ready[log] = None
        return taken

    def close(self) -> None:
        """Disconnects and ends a waiting read. Idempotent."""
        self.assign({})
        self._closed = True
        self._finish_waiting()

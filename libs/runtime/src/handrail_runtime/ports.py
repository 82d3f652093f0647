"""The bus, as every service sees it. Two adapters (`bus_kafka`, `bus_memory`) pass one conformance suite.

Promises of any adapter: a record that `send` reported as acknowledged is read by every reader of its partition, in
order, at least once; a partition's offsets are dense enough to resume from `last + 1`; nothing is committed unless asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes]]
TopicPartition = tuple[str, int]


class Outgoing(NamedTuple):
    """A record to send. Without `partition` the key decides (murmur2, as Kafka's default partitioner does)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class Record(NamedTuple):
    """A record as read. `timestamp_ms` is the producer's or the broker's clock; never use it for a decision."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class LogRange:
    """What a partition holds: offsets `start` ≤ o < `end`."""

    start: int
    end: int


class BusError(Exception):
    """Root of what an adapter raises. `transient`: the same call may work later."""

    transient = True


class OffsetOutOfRange(BusError):
    """The log no longer (or not yet) has the asked offset. Never rewound silently: the caller must adopt or stop."""

    transient = False

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(f"Expected offset {offset} in {topic}/{partition}, but the log does not have it.")
        self.topic, self.partition, self.offset = topic, partition, offset


class RecordRefused(BusError):
    """The broker refused this record for good (too large, no such partition)."""

    transient = False


class TopicUnknown(BusError):
    """Nobody knows the topic now. One that exists is unknown, too, while a broker starts, its leader moves or word of it is
    still on its way: only the caller can tell whether waiting makes sense."""


class Producer(Protocol):
    """Sends with acks=all. Not transactional; records may be repeated after trouble, never reordered within a partition
    unless one of them failed."""

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        """Sends all and returns when each is acknowledged or failed: one entry per message, in order."""
        ...

    async def close(self) -> None:
        """Flushes what is under way, then lets go. Idempotent."""
        ...


class Reader(Protocol):
    """Reads partitions that its owner assigned by hand. No group, nothing is committed."""

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Reads exactly these from now on, each from its offset; None = from the end, as it stands at the first fetch."""
        ...

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """What is there, at most `max_records`; waits up to `timeout_s` for the first. Order holds per partition.
        Returns records only of partitions assigned at the time of return. Raises OffsetOutOfRange, BusError."""
        ...

    async def close(self) -> None:
        """Lets go. Idempotent."""
        ...


class GroupReader(Protocol):
    """Reads a share of some topics; the bus balances them over the members of `group`."""

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As Reader.read, for the partitions of this member that are not paused."""
        ...

    def assignment(self) -> Set[TopicPartition]:
        """The partitions of this member, as far as it knows."""
        ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads no more of these until `resume`, or until partitions are dealt out anew: then it goes on where it stopped
        reading them or at their committed positions. Those of others are left out."""
        ...

    def resume(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reads these again, each from its offset. Those of others are left out."""
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Remembers the next offset to read for each; partitions that were lost meanwhile are skipped silently, since
        another member owns their position now."""
        ...

    async def close(self) -> None:
        """Leaves the group. Idempotent."""
        ...


class Bus(Protocol):
    """One incarnation of the bus. `bus_id` changes when offsets lose their meaning (another cluster, a restart of the
    in-memory bus)."""

    forgets: bool
    """True where no log outlives the process: another `bus_id` after a restart is what is to be expected."""

    async def bus_id(self) -> str:
        """The identity of this log."""
        ...

    async def ensure_topics(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> list[str]:
        """Makes the missing topics of name -> (partitions, config); answers the names that were made. Idempotent; a
        topic with another partition count than asked raises BusError."""
        ...

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 when it does not exist."""
        ...

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """What each partition holds now."""
        ...

    async def peek(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        """The record at each offset, or the next one where retention or compaction took it; costs no more than that. Left out
        are partitions that have none there, and those whose log does not have the offset."""
        ...

    async def producer(self) -> Producer:
        """A new producer, ready to send."""
        ...

    async def reader(self) -> Reader:
        """A new reader without an assignment."""
        ...

    async def group_reader(self, group: str, topics: Sequence[str], *, from_start: bool = True) -> GroupReader:
        """A new member of `group`; a group without a position starts at the log start, or at the end."""
        ...

    async def close(self) -> None:
        """Lets go of everything that came from here. Idempotent."""
        ...

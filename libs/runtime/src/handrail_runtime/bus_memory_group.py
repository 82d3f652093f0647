"""A consumer group of the in-memory bus: who reads which partition, and what was committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handrail_runtime.bus_memory_log import Log, Tail
from handrail_runtime.ports import TopicPartition

Logs = Mapping[str, Sequence[Log]]


class Group:
    """Members with the topics that each asked for. Partitions are spread evenly; one that stays where it is keeps its
    position, one that moves starts at the committed position."""

    def __init__(self, from_start: bool) -> None:
        self._from_start = from_start
        self._members: dict[Tail, tuple[str, ...]] = {}
        self._committed: dict[TopicPartition, int] = {}

    def join(self, member: Tail, topics: Sequence[str], logs: Logs) -> None:
        """Adds a member and rebalances."""
        self._members[member] = tuple(topics)
        self.rebalance(logs)

    def leave(self, member: Tail, logs: Logs) -> None:
        """Takes a member out and rebalances. Idempotent."""
        if self._members.pop(member, None) is not None:
            self.rebalance(logs)

    def commit(self, member: Tail, positions: Mapping[TopicPartition, int]) -> None:
        """Remembers positions of partitions that `member` holds; skips the others."""
        held = member.positions()
        self._committed.update((tp, offset) for tp, offset in positions.items() if tp in held)

    def reset(self, member: Tail, tp: TopicPartition) -> None:
        """Moves a member whose position is no longer in the log to where a new group would start."""
        log = member.log(tp)
        if log is not None:
            member.move(tp, log.start if self._from_start else log.end)

    def rebalance(self, logs: Logs) -> None:
        """Spreads all partitions of the wanted topics over the members that want them."""
        shares: dict[Tail, dict[TopicPartition, int | None]] = {member: {} for member in self._members}
        wanted = dict.fromkeys(topic for topics in self._members.values() for topic in topics)
        for topic in wanted:
            members = [member for member, topics in self._members.items() if topic in topics]
            self._share(logs.get(topic, ()), members, shares)
        for member, share in shares.items():
            if share.keys() != member.positions().keys():
                member.assign(share)
                member.look(logs)

    def _share(
        self, topic: Sequence[Log], members: Sequence[Tail], shares: Mapping[Tail, dict[TopicPartition, int | None]]
    ) -> None:
        moving: list[Log] = []
        least, surplus = divmod(len(topic), len(members))
        counts = dict.fromkeys(members, 0)
        for log in topic:
            tp = (log.topic, log.partition)
            holder = next((member for member in members if tp in member.positions()), None)
            if holder is None or counts[holder] >= least + (1 if surplus else 0):
                moving.append(log)
                continue
            counts[holder] += 1
            surplus -= counts[holder] > least
            shares[holder][tp] = holder.positions()[tp]
        for log in moving:
            member = min(members, key=lambda m: (counts[m], len(shares[m])))
            counts[member] += 1
            shares[member][(log.topic, log.partition)] = self._start(log)

    def _start(self, log: Log) -> int:
        # The first position is kept too: else what came between two owners of a "from the end" group would be lost.
        return self._committed.setdefault((log.topic, log.partition), log.start if self._from_start else log.end)

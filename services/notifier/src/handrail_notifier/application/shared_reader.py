"""The projection's share of the events, without fetching what the fan-out of the same process reads anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from handrail_notifier.application.recent import Recent
from handrail_runtime.ports import GroupReader, Record, TopicPartition


class SharedReader:
    """A member of a group, as `GroupReader`. The member reads each partition by itself until the recent records cover what
    follows; from then on those are taken, and the member only holds the partition, paused. Where the recent records end, or
    when partitions are dealt out anew, it reads by itself again."""

    def __init__(self, member: GroupReader, recent: Recent) -> None:
        self._member, self._recent = member, recent
        self._held: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._shared: dict[TopicPartition, None] = {}  # first the one that waits longest
        self._reading: asyncio.Task[list[Record]] | None = None

    async def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """As the port says, but up to `max_records` of each origin."""
        self._look()
        news = self._recent.news()
        records = self._come(max_records)
        if self._reading is None:
            # Also beside records that came: the member must be asked, or the group takes it for dead.
            self._reading = asyncio.create_task(self._member.read(max_records, timeout_s), name="projection.member")
        if not records:
            # What the member has under way is never cancelled: it may be past some records by then.
            await asyncio.wait({self._reading, news}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            records = self._come(max_records)
        return records

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """As the port says."""
        await self._member.commit(positions)

    async def close(self) -> None:
        """As the port says."""
        await self._member.close()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _look(self) -> None:
        held = set(self._member.assignment())
        if held != self._held:
            self._held = held
            self._recent.want(held)

    def _come(self, most: int) -> list[Record]:
        # The member first: where it raises, nothing was taken yet.
        return self._from_member() + self._from_recent(most)

    def _from_member(self) -> list[Record]:
        if self._reading is None or not self._reading.done():
            return []
        reading, self._reading = self._reading, None
        records = reading.result()
        self._next.update(((record.topic, record.partition), record.offset + 1) for record in records)
        covered: list[TopicPartition] = []
        for tp in {(record.topic, record.partition) for record in records}:
            if self._recent.covers(tp, self._next[tp]):
                self._shared[tp] = None
                covered.append(tp)
        self._member.pause(covered)
        return records

    def _from_recent(self, most: int) -> list[Record]:
        taken: list[Record] = []
        lost: dict[TopicPartition, int] = {}
        for tp in list(self._shared):
            at = self._next[tp]
            if not self._recent.covers(tp, at):
                del self._shared[tp]  # also one that is no longer held, or was dealt out anew and begins earlier
                lost[tp] = at
            elif len(taken) < most and (records := self._recent.take(tp, at, most - len(taken))):
                self._next[tp] = records[-1].offset + 1
                taken += records
                del self._shared[tp]
                self._shared[tp] = None
        self._member.resume(lost)
        return taken

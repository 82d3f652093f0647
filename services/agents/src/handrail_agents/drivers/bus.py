"""The plain driver: one member of a consumer group on any bus. Acknowledges at hand-off, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, BusError, GroupReader, Record, TopicPartition

_log = structlog.get_logger(__name__)
READ_AT_ONCE = 500


class BusDriver:
    """Implements `runtime.service.Driver`. A record counts as read once it has a slot; what follows is the lease's business."""

    def __init__(self, bus: Bus, group: str, topics: Sequence[str], offer: Callable[[Record], Awaitable[None]]) -> None:
        self._bus, self._group, self._topics, self._offer = bus, group, list(topics), offer
        self._reader: GroupReader | None = None
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._running = False

    async def start(self) -> None:
        """As the port says."""
        self._reader = await self._bus.group_reader(self._group, self._topics)

    async def run(self) -> None:
        """As the port says."""
        assert self._reader is not None
        self._running = True
        delays = backoff()
        try:
            while not self._stopping.is_set():
                try:
                    records = await self._reader.read(READ_AT_ONCE, 0.5)
                    await self._hand_off(records)
                    delays = backoff()
                except BusError as e:
                    _log.warning("tasks_not_read", kind=type(e).__name__)
                    await asyncio.sleep(next(delays))
        finally:
            self._over.set()
            await self._reader.close()

    async def _hand_off(self, records: list[Record]) -> None:
        positions: dict[TopicPartition, int] = {}
        for r in records:
            if self._stopping.is_set():
                break
            await self._offer(r)
            positions[r.topic, r.partition] = r.offset + 1
        if positions:
            assert self._reader is not None
            await self._reader.commit(positions)

    async def stop(self) -> None:
        """As the port says."""
        self._stopping.set()
        if self._running:
            await self._over.wait()
        elif self._reader is not None:
            await self._reader.close()

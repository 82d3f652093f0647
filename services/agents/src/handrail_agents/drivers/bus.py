"""The plain driver: one member of a consumer group on any bus. Acknowledges at hand-off, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from handrail_agents.drivers.acks import Acks
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, BusError, GroupReader, Record

_log = structlog.get_logger(__name__)
READ_AT_ONCE = 500
Offer = Callable[[Record, Callable[[], None]], None]


class BusDriver:
    """Implements `runtime.service.Driver`. `offer` takes a record and calls back at hand-off; `room` waits for a free slot."""

    def __init__(
        self, bus: Bus, group: str, topics: Sequence[str], offer: Offer, room: Callable[[], Awaitable[None]]
    ) -> None:
        self._bus, self._group, self._topics, self._offer, self._room = bus, group, list(topics), offer, room
        self._acks = Acks()
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
                    for record in await self._reader.read(READ_AT_ONCE, 0.5):
                        await self._room()
                        self._offer(record, self._acks.note(record))
                    if positions := self._acks.positions():
                        await self._reader.commit(positions)
                    delays = backoff()
                except BusError as e:
                    _log.warning("tasks_not_read", kind=type(e).__name__)
                    await asyncio.sleep(next(delays))
        finally:
            self._over.set()

    async def stop(self) -> None:
        """As the port says."""
        self._stopping.set()
        if self._running:
            await self._over.wait()

    async def close(self) -> None:
        """Acknowledges what was handed off since, and leaves the group. Idempotent."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            if positions := self._acks.positions():
                await reader.commit(positions)
            await reader.close()
        except BusError as e:
            _log.warning("tasks_not_acknowledged", kind=type(e).__name__)

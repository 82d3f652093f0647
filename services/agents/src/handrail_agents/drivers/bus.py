"""The plain driver: one member of a consumer group on any bus. Acknowledges at hand-off, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from handrail_agents.drivers.acks import Acks
from handrail_agents.drivers.hands import Hands
from handrail_runtime.lifecycle import backoff, supervise
from handrail_runtime.ports import Bus, BusError, GroupReader

_log = structlog.get_logger(__name__)
COMMIT_EVERY_S = 0.2
"""A crash repeats the records of so long; the ledger knows them."""


class BusDriver:
    """Implements `runtime.service.Driver`. Reads no more than there is room for."""

    def __init__(self, bus: Bus, group: str, topics: Sequence[str], hands: Hands) -> None:
        self._bus, self._group, self._topics, self._hands = bus, group, list(topics), hands
        self._acks = Acks()
        self._reader: GroupReader | None = None
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._over.set()

    async def start(self) -> None:
        """As the port says."""
        self._reader = await self._bus.group_reader(self._group, self._topics)

    async def run(self) -> None:
        """As the port says."""
        assert self._reader is not None
        self._over.clear()
        try:
            await supervise(self._read(self._reader), self._commit(self._reader), until=self._stopping)
        finally:
            self._over.set()

    async def stop(self) -> None:
        """As the port says."""
        self._stopping.set()
        await self._over.wait()

    async def close(self) -> None:
        """As the port says."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await self._acknowledge(reader)
            await reader.close()

    async def _read(self, reader: GroupReader) -> None:
        delays = backoff()
        while await self._has_room():
            try:
                records = await reader.read(self._hands.room, 0.5)
                delays = backoff()
            except BusError as e:
                _log.warning("tasks_not_read", kind=type(e).__name__)
                await asyncio.sleep(next(delays))
                continue
            if self._stopping.is_set():
                return  # unacknowledged: another worker gets them
            for record in records:
                self._hands.offer(record, self._acks.note(record))

    async def _has_room(self) -> bool:
        """True when there is; False at a stop."""
        if self._hands.room == 0:
            waits = [asyncio.create_task(self._hands.wait_for_room()), asyncio.create_task(self._stopping.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if waits[0].done():
                    waits[0].result()
            finally:
                for wait in waits:
                    wait.cancel()
        return not self._stopping.is_set()

    async def _commit(self, reader: GroupReader) -> None:
        while True:
            try:
                async with asyncio.timeout(COMMIT_EVERY_S):
                    await self._stopping.wait()
                    return
            except TimeoutError:
                await self._acknowledge(reader)

    async def _acknowledge(self, reader: GroupReader) -> None:
        if positions := self._acks.positions():
            try:
                await reader.commit(positions)
            except BusError as e:
                _log.warning("tasks_not_acknowledged", kind=type(e).__name__)  # they come again; the ledger knows them

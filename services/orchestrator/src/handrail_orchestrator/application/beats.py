"""Hears heartbeats: they move leases in memory, and a claim whose own message was lost becomes known by its first one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from handrail_contracts import topics
from handrail_contracts.codec import Undecodable, decode
from handrail_contracts.tasks import Heartbeat, Result
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, BusError, Reader

MOST, WAIT_S, IDLE_S = 1_000, 0.5, 0.2


class Beats:
    """`beat` takes a heartbeat and answers a `started` to feed in, or None."""

    def __init__(self, bus: Bus, beat: Callable[[Heartbeat], Result | None]) -> None:
        self._bus, self._beat = bus, beat
        self._reader: Reader | None = None
        self._assigned = False
        self.claimed: list[Result] = []

    async def start(self) -> None:
        """Opens the reader. Raises BusError."""
        self._reader = await self._bus.reader()

    def assign(self, partitions: Iterable[int]) -> None:
        """Hears these partitions from now on, each from its end."""
        assert self._reader is not None
        places = {(topics.HEARTBEATS, p): None for p in partitions}
        self._assigned = bool(places)
        self._reader.assign(places)

    async def run(self, stopping: asyncio.Event) -> None:
        """Hears until told to stop."""
        assert self._reader is not None
        delays = backoff()
        while not stopping.is_set():
            if not self._assigned:
                await asyncio.sleep(IDLE_S)
                continue
            try:
                records = await self._reader.read(MOST, WAIT_S)
            except BusError:
                await asyncio.sleep(next(delays))
                continue
            delays = backoff()
            for r in records:
                try:
                    _, beat = decode(r.topic, r.headers, r.value)
                except Undecodable:
                    continue
                if isinstance(beat, Heartbeat) and (started := self._beat(beat)) is not None:
                    self.claimed.append(started)

    def taken(self) -> list[Result]:
        """What `claimed` holds, once."""
        claimed, self.claimed = self.claimed, []
        return claimed

    async def close(self) -> None:
        """Lets the reader go. Idempotent."""
        if self._reader is not None:
            await self._reader.close()

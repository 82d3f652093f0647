"""Notices that a log was exchanged while we hold its partition: a topic deleted and made anew, another cluster behind the name.

A reader notices only when its offset lies outside of the new log. So now and then, and after every trouble with the bus, the
offsets are held against the logs as on acquisition. In a task of its own: the batch loop never waits for the bus.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from handrail_orchestrator.application.ownership import Held, Ownership
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import BusError

_log = structlog.get_logger(__name__)
AGAIN_S = 1.0


class BusWatch:
    """`every_s`: seconds between two looks when nothing seems wrong."""

    def __init__(self, ownership: Ownership, every_s: float) -> None:
        self._own, self._every_s = ownership, every_s
        self._doubt = asyncio.Event()
        self._found: dict[int, int] = {}
        self._seen: dict[int, Held] = {}

    def doubt(self) -> None:
        """The bus did not answer as it should: look at it as soon as it answers again. Cheap, idempotent."""
        self._doubt.set()

    def exchanged(self) -> list[int]:
        """The partitions, still held as they were looked at, whose log is not what their offsets mean. Told once."""
        found, self._found = self._found, {}
        return [p for p, epoch in found.items() if (h := self._own.held.get(p)) is not None and h.epoch == epoch]

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks until told to stop; a look that is under way then is left."""
        parts = {asyncio.create_task(self._look()), asyncio.create_task(stopping.wait())}
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()

    async def _look(self) -> None:
        delays = backoff()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._doubt.wait()
            self._doubt.clear()
            try:
                found = await self._own.exchanged(self._seen)
                if found:  # a new leader may be behind for a moment: only what is still so counts
                    await asyncio.sleep(AGAIN_S)
                    again = await self._own.exchanged(self._seen)
                    found = {p: epoch for p, epoch in found.items() if again.get(p) == epoch}
                delays = backoff()
            except BusError as e:
                _log.warning("bus_not_looked_at", kind=type(e).__name__)
                self._doubt.set()
                await asyncio.sleep(next(delays))
                continue
            if found:
                _log.error("log_exchanged", partitions=sorted(found))
                self._found.update(found)

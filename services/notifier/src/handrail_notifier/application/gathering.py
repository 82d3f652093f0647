"""Reads that keep a distance while nobody watches, and none as soon as somebody is about to (ADR 0048)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from handrail_runtime.pace import Pace

_log = structlog.get_logger(__name__)

EVERY_S = 0.05
"""How far apart reads are while nobody watches: each wakes the broker, for records that are only handed on to Redis."""
WELCOME_S = 0.5
"""So long at most who is about to watch waits for what was published before."""
SETTLE_S = 0.02
"""So long a read for that waits for what may be under way."""
ABOUT_TO_S = 2.0
"""So long after somebody came nothing rests, although no stream of theirs may stand yet."""
_READS = 2
"""What is in the client's memory already, and what the broker holds behind it."""


class Gathering:
    """Whoever reads awaits `rest` before each read and tells `was_read` after it; whoever is about to watch awaits `attend`,
    and then looks where things stand. `watched` says whether anybody watches now."""

    def __init__(self, watched: Callable[[], bool]) -> None:
        self._watched = watched
        self._pace, self._resting = Pace(EVERY_S), False
        self._came_at = float("-inf")
        self._welcome: asyncio.Future[None] | None = None
        self._reads_left = 0

    async def rest(self) -> None:
        """Returns at once where somebody watches, or where the last read brought nothing or not all."""
        if self._resting:
            await self._pace.rest()
            self._resting = False

    def patience_s(self, usual: float) -> float:
        """How long the next read may wait for records: `usual`, or less where somebody waits for it."""
        return usual if self._welcome is None else SETTLE_S

    def was_read(self, count: int, most: int) -> None:
        """A read that could bring `most` records brought `count`."""
        if count == most:
            return  # more lies there: it is read at once, whoever watches
        if self._welcome is not None:
            self._reads_left -= 1
            if self._reads_left == 0:
                self.let_in()
        elif count and not self._watched() and time.monotonic() - self._came_at >= ABOUT_TO_S:
            self._pace.turned()
            self._resting = True

    async def attend(self) -> None:
        """Returns once what was published before was read, and nothing rests from then on for as long as somebody watches.
        Where the bus is silent or broken it returns all the same: what is missed comes from the journal."""
        self._came_at = time.monotonic()
        if self._welcome is None:
            if not self._resting:
                return
            self._welcome, self._reads_left = asyncio.get_running_loop().create_future(), _READS
            self._pace.hurry()
        try:
            async with asyncio.timeout(WELCOME_S):
                await asyncio.shield(self._welcome)
        except TimeoutError:
            _log.info("welcome_late", action="attend")

    def let_in(self) -> None:
        """Nobody waits for a read any longer. Idempotent."""
        if self._welcome is not None:
            self._welcome.set_result(None)
            self._welcome = None

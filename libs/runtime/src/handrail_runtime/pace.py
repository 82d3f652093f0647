"""Turns that keep a distance: what comes after a rest is taken at once, what comes in a stream is taken in handfuls.

Each wake-up of another process has a price that does not depend on how much it carries (docs/reference/performance.md).
"""

from __future__ import annotations

import asyncio


class Pace:
    """`await rest()` before a turn, `turned()` after it. With `every_s` 0 nothing rests."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._turned_at = float("-inf")
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Ends the rest that is under way, or the next one."""
        self._hurry.set()

    async def rest(self) -> None:
        """Returns once the last turn is `every_s` ago, or somebody is in a hurry. A hurry counts once."""
        left = self._turned_at + self.every_s - asyncio.get_running_loop().time()
        if left > 0 and not self._hurry.is_set():
            try:
                async with asyncio.timeout(left):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        self._hurry.clear()

    def turned(self) -> None:
        """A turn has just ended."""
        self._turned_at = asyncio.get_running_loop().time()

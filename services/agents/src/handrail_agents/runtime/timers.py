"""One clock hand for all attempts: who runs longer than a moment says `started`, then shows life, then must end."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable

from handrail_agents.runtime.attempt import Attempt, Stage

_GRAIN_S = 0.01
"""Attempts that are due within this are looked at together."""


class Timers:
    """`watch` an attempt whose function begins; `run` calls `started` and `beat` when it is time and interrupts what takes
    too long. An attempt that has left RUNNING is forgotten by itself."""

    def __init__(self, short_s: float, started: Callable[[Attempt], None], beat: Callable[[Attempt], None]) -> None:
        self._short_s, self._started, self._beat = short_s, started, beat
        self._fresh: deque[Attempt] = deque()  # in the order of their starts, so also of their first due times
        self._long: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()
        self._sleeps_until = float("inf")
        self._wake = asyncio.Event()
        self._stopping = False

    def watch(self, a: Attempt) -> None:
        """From now on. `start_to_close_s` shorter than a moment is kept too."""
        if a.task.start_to_close_s < self._short_s:
            self._push(a, a.started_at + a.task.start_to_close_s)
        while self._fresh and self._fresh[0].stage is not Stage.RUNNING:
            self._fresh.popleft()
        self._fresh.append(a)
        self._come_by(a.started_at + self._short_s)

    async def run(self) -> None:
        """Watches until `stop`."""
        while not self._stopping:
            self._wake.clear()
            self._sleeps_until = self._next()
            pause = self._sleeps_until - time.monotonic()
            if pause > 0:
                try:
                    async with asyncio.timeout(max(pause, _GRAIN_S) if pause < 3600 else None):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                else:
                    # Woken by a newcomer: nothing can be due before its first moment has passed.
                    continue
            self._look(time.monotonic())

    def stop(self) -> None:
        """Lets `run` end. Idempotent."""
        self._stopping = True
        self._wake.set()

    def _come_by(self, due: float) -> None:
        if due < self._sleeps_until:
            self._wake.set()

    def _next(self) -> float:
        # The first of the fresh counts even if it has ended: looking then costs less than waking for each newcomer.
        while self._long and self._long[0][2].stage is not Stage.RUNNING:
            heapq.heappop(self._long)
        first = self._fresh[0].started_at + self._short_s if self._fresh else float("inf")
        return min(first, self._long[0][0]) if self._long else first

    def _look(self, now: float) -> None:
        while self._fresh and (
            self._fresh[0].stage is not Stage.RUNNING or self._fresh[0].started_at + self._short_s <= now
        ):
            a = self._fresh.popleft()
            if a.stage is Stage.RUNNING and a.interrupted is None:
                self._started(a)
                self._push(a, min(a.started_at + a.task.lease_s / 3, a.started_at + a.task.start_to_close_s))
        while self._long and self._long[0][0] <= now:
            _, _, a = heapq.heappop(self._long)
            if a.stage is not Stage.RUNNING or a.interrupted is not None:
                continue
            if a.silent:
                continue  # it plays a worker that was lost: nobody looks after it any more
            ends = a.started_at + a.task.start_to_close_s
            if ends <= now:
                a.interrupt("start-to-close")
                continue
            if a.told:
                self._beat(a)
            self._push(a, min(now + a.task.lease_s / 3, ends))

    def _push(self, a: Attempt, due: float) -> None:
        heapq.heappush(self._long, (due, next(self._numbers), a))
        self._come_by(due)

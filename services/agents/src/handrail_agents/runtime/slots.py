"""Bounded slots for attempts. What comes in beyond them waits in its lane, unacknowledged, until a slot is free.

A lane is one action of one agent; agent and action may each bound how many of theirs run at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from handrail_agents.runtime.attempt import Attempt, Stage
from handrail_runtime.telemetry import gauge
from handrail_sdk.agent import Agent
from handrail_sdk.task import TaskDefinition

_running = gauge("agents_attempts_running", "Attempts that have a slot")
_queued = gauge("agents_attempts_waiting", "Attempts that wait for a slot")


class _Bound:
    """How many may run, and how many do."""

    __slots__ = ("most", "running")

    def __init__(self, most: int | None) -> None:
        self.most, self.running = most, 0

    @property
    def full(self) -> bool:
        return self.most is not None and self.running >= self.most


class _Lane:
    __slots__ = ("action", "agent", "waiting")

    def __init__(self, agent: _Bound, action: _Bound) -> None:
        self.agent, self.action = agent, action
        self.waiting: deque[Attempt] = deque()


class Slots:
    """`put` gives an attempt a slot now or when one is free; `work` is what an attempt does in it."""

    def __init__(
        self, agents: Sequence[Agent], slots: int, work: Callable[[Attempt], Coroutine[Any, Any, None]]
    ) -> None:
        self._work = work
        self._all = _Bound(slots)
        self._lanes: dict[TaskDefinition[Any], _Lane] = {}
        for agent in agents:
            bound = _Bound(agent.max_in_flight)
            for task in agent.tasks.values():
                self._lanes[task] = _Lane(bound, _Bound(task.max_in_flight))
        self._open: dict[tuple[str, int], Attempt] = {}
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._failure: BaseException | None = None
        # Asked when somebody looks: setting them at each attempt cost a tenth of a pure one's time.
        _running.set_function(lambda: self._all.running)
        _queued.set_function(lambda: self._waiting)

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._open

    def get(self, effect_key: str, attempt: int) -> Attempt | None:
        """The attempt that waits or runs here, or None."""
        return self._open.get((effect_key, attempt))

    def of(self, effect_key: str) -> list[Attempt]:
        """All attempts under a key that wait or run here."""
        return [a for (key, _), a in self._open.items() if key == effect_key]

    @property
    def room(self) -> int:
        """How many more may be put: free slots, and once more as many that wait. 0 while there is no room."""
        most = self._all.most or 0
        return max(0, 2 * most - self._all.running - self._waiting) if self._waiting < most else 0

    @property
    def running(self) -> int:
        """How many have a slot."""
        return self._all.running

    async def wait_for_room(self) -> None:
        """Returns when there is room. Raises what an attempt's own work raised, which it never should."""
        await self._room.wait()
        if self._failure is not None:
            raise self._failure

    async def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until nothing has a slot; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._empty.wait()
        except TimeoutError:
            return False

    def put(self, a: Attempt) -> None:
        """Takes an attempt whose (effect key, attempt) is not here yet."""
        task = a.task
        self._open[(task.effect_key, task.attempt)] = a
        lane = self._lanes[a.definition]
        if not lane.waiting and self._fits(lane):
            self._begin(a, lane)
        else:
            lane.waiting.append(a)
            self._waiting += 1
        if self.room == 0:
            self._room.clear()

    def withdraw(self, a: Attempt) -> None:
        """Takes out an attempt that waits."""
        lane = self._lanes[a.definition]
        lane.waiting.remove(a)
        self._waiting -= 1
        self._forget(a)

    def withdraw_all(self) -> int:
        """Takes out all that wait, unacknowledged: another worker gets them. Answers how many."""
        count = self._waiting
        for lane in self._lanes.values():
            for a in lane.waiting:
                self._forget(a)
            lane.waiting.clear()
        self._waiting = 0
        return count

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._open.values()))

    def _fits(self, lane: _Lane) -> bool:
        return not (self._all.full or lane.agent.full or lane.action.full)

    def _begin(self, a: Attempt, lane: _Lane) -> None:
        for bound in (self._all, lane.agent, lane.action):
            bound.running += 1
        self._empty.clear()
        a.stage = Stage.CLAIMING
        a.runner = asyncio.create_task(self._work(a))
        a.runner.add_done_callback(lambda runner: self._free(a, lane, runner))
        a.taken()

    def _free(self, a: Attempt, lane: _Lane, runner: asyncio.Task[None]) -> None:
        for bound in (self._all, lane.agent, lane.action):
            bound.running -= 1
        if not runner.cancelled() and (failure := runner.exception()) is not None:
            self._failure = failure
            self._room.set()
        self._forget(a)
        a.let_go()
        if self._waiting:
            self._fill()
        if self._all.running == 0:
            self._empty.set()

    def _fill(self) -> None:
        for lane in self._lanes.values():
            while lane.waiting and self._fits(lane):
                self._waiting -= 1
                self._begin(lane.waiting.popleft(), lane)

    def _forget(self, a: Attempt) -> None:
        self._open.pop((a.task.effect_key, a.task.attempt), None)
        if self.room:
            self._room.set()

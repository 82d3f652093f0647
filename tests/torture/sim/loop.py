"""An asyncio event loop over virtual time, for several simulated processes at once.

Every callback belongs to a process (a context variable says which). Killing a process drops whatever it would have run
next, at that very point, and no `finally` of it touches the world any more; stopping it parks its callbacks until it
goes on, as SIGSTOP does. When nothing is left to run now, time jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any


class Killed(BaseException):
    """What a process gets from any port once it is dead."""


class Stuck(Exception):
    """Nothing will ever happen again, or the same instant never ends: somebody spins."""


SPIN_STEPS = 100_000
"""More callbacks than this within one instant are a loop that never waits."""


@dataclass(eq=False)
class Process:
    """One simulated process. `serial` tells its incarnations apart."""

    name: str
    alive: bool = True
    paused: bool = False
    parked: deque[Any] = field(default_factory=deque)
    context: Context = field(default_factory=copy_context)
    hits: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        if not self.alive:
            raise Killed(self.name)


_current: ContextVar[Process | None] = ContextVar("process", default=None)


def current() -> Process | None:
    return _current.get()


class SimLoop(asyncio.BaseEventLoop):
    """`run(coroutine, most_s)` plays until the coroutine ends. One per simulation."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._queue: deque[tuple[Process | None, asyncio.Handle]] = deque()
        self._timers: list[tuple[float, int, Process | None, asyncio.TimerHandle]] = []
        self._count = 0
        self.steps = 0
        self._moved = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.set_task_factory(self._task)

    @staticmethod
    def _task(loop: Any, coro: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **more)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  killed processes leave tasks behind
        loop.tasks.append(task)
        return task

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        process = _current.get() if context is None else context.get(_current)
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append((process, handle))
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        process = _current.get() if context is None else context.get(_current)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, process, handle))
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of killed processes end in all sorts of ways; what counts is judged elsewhere."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Generators of killed processes are closed with their tasks."""

    def _run_once(self) -> None:
        if not self._queue:
            self._advance()
        elif self.steps - self._moved > SPIN_STEPS:
            self.stop()
            process, handle = self._queue[0]
            name = process.name if process is not None else "the world"
            raise Stuck(f"{SPIN_STEPS} callbacks at {self._now:.3f} s: {name} spins in {_stack(handle)}.")
        for _ in range(len(self._queue)):
            process, handle = self._queue.popleft()
            if handle._cancelled:  # type: ignore[attr-defined]
                continue
            if process is not None:
                if not process.alive:
                    continue
                if process.paused:
                    process.parked.append(handle)
                    continue
            self.steps += 1
            handle._run()  # type: ignore[attr-defined]

    def _advance(self) -> None:
        while self._timers and self._timers[0][3]._cancelled:  # type: ignore[attr-defined]
            heapq.heappop(self._timers)
        if not self._timers:
            self.stop()
            raise Stuck(f"Nothing is scheduled at {self._now:.3f} s.")
        self._now, self._moved = max(self._now, self._timers[0][0]), self.steps
        while self._timers and self._timers[0][0] <= self._now:
            _, _, process, handle = heapq.heappop(self._timers)
            self._queue.append((process, handle))

    # processes

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Starts a coroutine as (a part of) a process."""
        process.context.run(_current.set, process)
        return self.create_task(coro, context=process.context.copy())

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.alive = False
        process.parked.clear()

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        process.paused = True

    def resume(self, process: Process) -> None:
        """SIGCONT."""
        process.paused = False
        while process.parked:
            self._queue.append((process, process.parked.popleft()))

    def outside(self, delay: float, callback: Callable[[], None]) -> None:
        """Runs `callback` as the world, whoever asks and whether they live or not."""
        self.call_later(delay, callback, context=_WORLD.copy())

    def bury(self) -> None:
        """Closes what killed processes left behind, so that nothing of it runs when memory is reclaimed."""
        for task in self.tasks:
            if not task.done():
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
        self.tasks.clear()
        self._queue.clear()
        self._timers.clear()
        self.close()


def _stack(handle: Any) -> str:
    """Where the task of a callback stands."""
    task = getattr(handle._callback, "__self__", None)
    frames = task.get_stack() if isinstance(task, asyncio.Task) else []
    return ", ".join(f"{f.f_code.co_name}:{f.f_lineno}" for f in frames) or repr(handle)[:80]


_WORLD = Context()

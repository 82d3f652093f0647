"""The life of a service: start, run, drain on a signal, and an exit code that tells a supervisor the truth.

Exit codes of `serve`: 0 stopped as asked · 1 a part failed or did not drain in time · 78 misconfigured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, NoReturn, Protocol

import structlog

from handrail_runtime.errors import EXIT_MISCONFIGURED, Misconfigured, PartEnded
from handrail_runtime.health_server import HealthServer
from handrail_runtime.memory import Heap, keep_small

_log = structlog.get_logger(__name__)

DRAIN_S = 15.0


class Service(Protocol):
    """What `serve` and embedded mode run."""

    name: str

    async def start(self) -> None:
        """Connects and makes ready; returns when ready. Raises Misconfigured when a person must change something."""
        ...

    async def run(self) -> None:
        """Works until `stop`; raises when a part of it fails (fatal)."""
        ...

    async def stop(self) -> None:
        """Drains and lets go. Idempotent; may come before `start` has returned."""
        ...

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Readiness: name -> returns when ready, raises when not."""
        ...


def main(make: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Runs `make()` on uvloop where there is one and exits with what it answers. For `__main__` files."""
    try:
        import uvloop  # absent on Windows
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    calm_collector()
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            code = runner.run(make())
        except Misconfigured as e:
            print(f"Handrail cannot start: {e}", file=sys.stderr)  # noqa: T201  # the one line that a person needs
            code = EXIT_MISCONFIGURED
        except KeyboardInterrupt:
            code = 130
    sys.exit(code)


async def serve(service: Service, *, host: str = "127.0.0.1", port: int | None = None, drain_s: float = DRAIN_S) -> int:
    """Runs one service until SIGTERM or SIGINT; answers the exit code.

    With a `port` the health routes are served there from before `start` on (503 until ready). A signal turns readiness
    off, then calls `stop()`, which with the rest of `run()` has `drain_s` seconds. A second signal ends at once.
    """
    stopping = asyncio.Event()
    state = {"accepting": False}
    restore = _on_signals(stopping)
    health = HealthServer(service.checks, lambda: state["accepting"] and not stopping.is_set())
    log = _log.bind(service=service.name)
    keeping = asyncio.create_task(keep_small(Heap.of_this_process()), name="memory")
    try:
        if port is not None:
            await _listen(health, host, port)
        return await _live(service, stopping, state, drain_s, log)
    except Misconfigured as e:
        log.error("service_misconfigured", reason=str(e))
        print(f"Handrail cannot start {service.name}: {e}", file=sys.stderr)  # noqa: T201  # for a person, not the log
        return EXIT_MISCONFIGURED
    finally:
        keeping.cancel()
        await health.stop()
        restore()


async def _listen(health: HealthServer, host: str, port: int) -> None:
    try:
        await health.start(host, port)
    except OSError as e:
        raise Misconfigured(f"Expected the port {port} on {host} to be free, but: {e.strerror}. Set another.") from e


async def _live(service: Service, stopping: asyncio.Event, state: dict[str, bool], drain_s: float, log: Any) -> int:
    waiting = asyncio.create_task(stopping.wait(), name="signal")
    try:
        started = asyncio.create_task(service.start(), name=f"{service.name}.start")
        try:
            await asyncio.wait({started, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _cancelled(started)
            await _drained(service, None, drain_s, log)
            raise
        if not started.done():
            log.info("service_stopped_while_starting")
            await _cancelled(started)
            return 0 if await _drained(service, None, drain_s, log) else 1
        try:
            started.result()
        except BaseException:
            await _drained(service, None, drain_s, log)
            raise
        state["accepting"] = True
        log.info("service_started")
        return await _run(service, waiting, state, drain_s, log)
    except Misconfigured:
        raise
    except Exception as e:  # the last line of defence: whatever it was, it is told and the exit code says so
        log.error("service_failed", kind=type(e).__name__, exc_info=e)
        return 1
    finally:
        waiting.cancel()


async def _run(service: Service, waiting: asyncio.Task[Any], state: dict[str, bool], drain_s: float, log: Any) -> int:
    running = asyncio.create_task(service.run(), name=f"{service.name}.run")
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _drained(service, running, drain_s, log)
        raise
    state["accepting"] = False
    asked = waiting.done()
    log.info("service_stopping", asked=asked)
    clean = await _drained(service, running, drain_s, log)
    if running.done() and not running.cancelled() and (failure := running.exception()) is not None:
        if isinstance(failure, Misconfigured):
            raise failure
        log.error("service_failed", kind=type(failure).__name__, exc_info=failure)
        return 1
    if not asked:
        log.error("service_ended_unasked")
        return 1
    log.info("service_stopped", clean=clean)
    return 0 if clean else 1


async def _drained(service: Service, running: asyncio.Task[None] | None, drain_s: float, log: Any) -> bool:
    """True when stop() returned and run() ended, both within the bound."""
    stop = asyncio.create_task(service.stop(), name=f"{service.name}.stop")
    tasks = {stop} if running is None else {stop, running}
    _, pending = await asyncio.wait(tasks, timeout=drain_s)
    for task in pending:
        log.error("service_drain_timed_out", part=task.get_name(), drain_s=drain_s)
        await _cancelled(task)
    if stop in pending:
        return False
    if stop.cancelled():
        log.error("service_stop_failed", kind="CancelledError")
        return False
    if (failure := stop.exception()) is not None:
        log.error("service_stop_failed", kind=type(failure).__name__, exc_info=failure)
        return False
    return not pending


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    # Not awaited for ever: a task that swallows its cancellation must not keep a stopped service alive.
    await asyncio.wait({task}, timeout=1.0)


def _on_signals(stopping: asyncio.Event) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def caught() -> None:
        if stopping.is_set():
            # Asked twice: the person does not want to wait for the drain.
            signal.raise_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        stopping.set()

    names = (signal.SIGTERM, signal.SIGINT)
    for name in names:
        try:
            loop.add_signal_handler(name, caught)
        except (NotImplementedError, RuntimeError):  # Windows, or not in the main thread: the caller cancels instead
            return lambda: None

    def restore() -> None:
        for name in names:
            loop.remove_signal_handler(name)

    return restore


def calm_collector() -> None:
    """What was imported stays for the life of the process; looking through it again and again costs the latency of
    whatever waits meanwhile (the p99 of a start: 66 ms with, 13 ms without). Call it once everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def supervise(*parts: Coroutine[Any, Any, Any], until: asyncio.Event | None = None) -> None:
    """Runs all parts; the first that ends when it should not ends all: its exception is raised, or PartEnded when it
    just returned. Once `until` is set, parts may return, and this returns after the last of them. Cancelling it cancels
    and awaits all."""
    tasks = [asyncio.create_task(part, name=getattr(part, "__qualname__", None)) for part in parts]
    pending: set[asyncio.Task[Any]] = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():
                    raise PartEnded(f"Expected {task.get_name()!r} to run on, but it was cancelled.")
                if (failure := task.exception()) is not None:
                    raise failure
                if until is None or not until.is_set():
                    raise PartEnded(f"Expected {task.get_name()!r} to run on, but it returned.")
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def backoff(initial_s: float = 0.1, cap_s: float = 5.0, factor: float = 2.0) -> Iterator[float]:
    """Endless delays in seconds for reconnects: growing from `initial_s` to `cap_s`, each shortened by up to half at
    random so that many clients do not come back together."""
    delay = initial_s
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * factor, cap_s)

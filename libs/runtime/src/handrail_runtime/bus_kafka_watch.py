"""Noticing a Kafka reader that stands still although its log goes on, beside its reading and never in its way.

The library tells nobody when its fetching ended or its connection was swallowed (RELIABILITY.md, F30). So after a
silence the watch asks the cluster; a partition that had records waiting at two questions and did not move in between
means that the reader must connect anew. A reader that did nothing but fail for as long is treated the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from handrail_runtime.bus_kafka_control import Control
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import BusError, TopicPartition
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)


class Watch:
    """One per reader. `positions` tells where it is, `rebuild` connects it anew (BusError: tried again later, and sooner by
    a reader that is `lost` without it).

    Costs nothing while records come; one question per `quiet_s` seconds of silence.
    """

    def __init__(
        self,
        control: Control,
        quiet_s: float,
        positions: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        rebuild: Callable[[], Awaitable[None]],
    ) -> None:
        self._control, self._quiet_s = control, quiet_s
        self._positions, self._rebuild = positions, rebuild
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()
        self._failing_since: float | None = None
        self._behind: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._delays, self._again_at = backoff(), 0.0
        self._rebuilt = counter("bus_readers_rebuilt", "Kafka readers that stood still and were connected anew")

    def came(self) -> None:
        """Records came."""
        self._last = self._clock()
        self._failing_since = None
        self._behind = {}

    def idle(self) -> None:
        """A read ended without records, or with bytes that are none."""
        self._failing_since = None
        self._look(failing=False)

    def failed(self) -> None:
        """A read ended with a fault of the library or the cluster."""
        now = self._clock()
        self._failing_since = now if self._failing_since is None else self._failing_since
        self._look(failing=now - self._failing_since >= self._quiet_s)

    async def lost(self, timeout_s: float) -> None:
        """The reader has nothing to read with: connects it anew, when its last try is long enough ago. Returns when a try
        has ended, after `timeout_s` at most."""
        if self._task is None or self._ended():
            wait_s = self._again_at - self._clock()
            if wait_s > timeout_s:
                await asyncio.sleep(timeout_s)
                return
            self._task = asyncio.create_task(self._try_again(wait_s), name="bus.reader.watch")
        await asyncio.wait({self._task}, timeout=timeout_s)

    async def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _look(self, *, failing: bool) -> None:
        if self._task is not None and not self._ended():
            return
        now = self._clock()
        if now - self._last >= self._quiet_s:
            self._last = now
            self._task = asyncio.create_task(self._ask(failing), name="bus.reader.watch")

    def _ended(self) -> bool:
        task = self._task
        if task is None or not task.done():
            return task is None
        self._task = None
        if not task.cancelled():
            task.result()  # a fault that is no BusError is ours: it surfaces in the read that called
        return True

    async def _ask(self, failing: bool) -> None:
        try:
            if failing or await self._stands_still():
                self._rebuilt.inc()
                _log.error("bus_reader_stood_still", failing=failing, partitions=[f"{t}/{p}" for t, p in self._behind])
                self._behind = {}
                await self._connect()
        except BusError as e:
            _log.warning("bus_reader_check_failed", reason=str(e)[:200])

    async def _try_again(self, wait_s: float) -> None:
        try:
            await asyncio.sleep(max(0.0, wait_s))
            await self._connect()
        except BusError as e:
            _log.warning("bus_reader_not_rebuilt", reason=str(e)[:200])

    async def _connect(self) -> None:
        try:
            await self._rebuild()
        except BusError:
            self._again_at = self._clock() + next(self._delays)
            raise
        self._delays = backoff()
        self._last = self._clock()

    async def _stands_still(self) -> bool:
        positions = await self._positions()
        ranges = await self._control.ranges(positions)
        behind = {tp: at for tp, at in positions.items() if ranges[tp].start <= at < ranges[tp].end}
        stuck = {tp: at for tp, at in behind.items() if self._behind.get(tp) == at}
        self._behind = stuck or behind
        return bool(stuck)

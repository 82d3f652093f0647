"""The loop that feeds the queue and empties it. What a broken engine raises is waited out; a channel's trouble is the notice's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from handrail_notifier.application.ports import Unavailable
from handrail_notifier.outbound.notices import GiveUp, Notice, TryLater, delay_s
from handrail_notifier.outbound.queue import Queue
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.lifecycle import backoff
from handrail_runtime.memory import ran_out
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)

POLL_S = 2.0
"""So late is a notice at most when no message on the bus said that there is one."""
SWEEP_S = 3_600.0
AT_ONCE = 10


class Channel(Protocol):
    """A way out."""

    async def deliver(self, notice: Notice) -> Any:
        """One try; answers what is to be remembered of it. Raises TryLater, GiveUp."""
        ...


class Courier:
    """Tells `fed` channels of pauses and their ends, and delivers for `channels`, each notice at least once under one id."""

    def __init__(self, queue: Queue, channels: Mapping[str, Channel], fed: Sequence[str]) -> None:
        self._queue, self._channels, self._fed = queue, channels, list(fed)
        self._news = asyncio.Event()
        self._told = counter("outbound_notices", "Notices by what became of them", ["channel", "outcome"])
        self._sweep_at = time.monotonic() + SWEEP_S

    def nudge(self) -> None:
        """Something may have happened: look now."""
        self._news.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop; what is under way is finished."""
        delays = backoff(cap_s=10.0)
        while not stopping.is_set():
            self._news.clear()
            try:
                busy = await self.once()
                delays = backoff(cap_s=10.0)
            except Unavailable as e:
                _log.info("courier_waiting", reason=str(e)[:200])
                await _either(stopping, None, next(delays))
                continue
            if not busy:
                await _either(stopping, self._news, POLL_S)

    async def once(self) -> int:
        """Feeds, and delivers what is due; answers how many were tried. Raises Unavailable."""
        if self._fed:
            await self._queue.feed(self._fed)
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_S
            await self._queue.sweep()
        notices = await self._queue.claim(list(self._channels), AT_ONCE)
        for failed in await asyncio.gather(*(self._deliver(n) for n in notices), return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
        return len(notices)

    async def _deliver(self, notice: Notice) -> None:
        said = {"action": "deliver", "notice": notice.id, "trace_id": notice.trace_id, "attempt": notice.attempts}
        try:
            answer = await self._channels[notice.channel].deliver(notice)
        except GiveUp as e:
            _log.warning("notice_parked", reason=str(e)[:200], **said)
            self._told.labels(notice.channel, "parked").inc()
            await self._queue.park(notice.id, str(e))
        except TryLater as e:
            wait = delay_s(notice.id, notice.attempts, e.after_s)
            if wait is None:
                _log.warning("notice_parked", reason=str(e)[:200], **said)
                self._told.labels(notice.channel, "parked").inc()
                await self._queue.park(notice.id, str(e))
                return
            _log.info("notice_put_off", reason=str(e)[:200], again_in_s=round(wait, 1), **said)
            self._told.labels(notice.channel, "later").inc()
            await self._queue.later(notice.id, wait, str(e), reached=e.reached)
        except Exception as e:  # a fault of ours in one notice must not end the streams
            if ran_out(e):
                raise
            _log.exception("notice_parked", **said)
            await self._queue.park(notice.id, "a fault of ours; see the log")
        else:
            crashpoint("K21")
            await self._queue.sent(notice.id, answer)
            self._told.labels(notice.channel, "sent").inc()


async def _either(stopping: asyncio.Event, news: asyncio.Event | None, seconds: float) -> None:
    waiting = {asyncio.ensure_future(event.wait()) for event in (stopping, news) if event is not None}
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()

"""One queue of records for the bus, with a producer of its own: sent in order, again until each is acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from handrail_runtime.crashpoints import armed, crashpoint
from handrail_runtime.lifecycle import backoff
from handrail_runtime.pace import Pace
from handrail_runtime.ports import Bus, BusError, Outgoing, Producer, RecordRefused, TopicUnknown
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)
SEND_AT_ONCE = 2_000

_sent = counter("published_total", "Records sent to the bus", ["kind"])
_refused = counter(
    "publish_refused_total", "Records that the bus refused and that were left to their wake-up", ["topic"]
)


class Sending(NamedTuple):
    """One record with the place in the journal that it marks when acknowledged (`pseq` 0: none). `task`: an agent waits
    for it. `hurried`: a person or a client waits for it."""

    message: Outgoing
    p: int
    pseq: int = 0
    task: bool = False
    hurried: bool = False


class NotNow(Exception):
    """A record cannot be made at this moment; later it can."""


class Lane:
    """`put` what was committed; `run` sends it. `prepare` makes the record as it is sent, where that is not as it was put: it
    raises NotNow where all has to wait, RecordRefused where this one can never be made. `acknowledged` hears of each that the
    bus has taken or refused for good, in order; `refused` of those that were refused and mark no place in the journal. A row
    that the bus refuses is sent as `cut` makes it. With a lane behind it (`onward`) this one sends the tasks and hands on the
    rest, in order, once the tasks among it were tried. `every_s` keeps its sends so far apart, unless one carries something
    hurried: each wakes everybody who reads."""

    def __init__(
        self,
        bus: Bus,
        prepare: Callable[[Sending], Awaitable[Outgoing]] | None,
        acknowledged: Callable[[Sending], None],
        onward: Lane | None = None,
        every_s: float = 0.0,
        refused: Callable[[Sending, RecordRefused], None] | None = None,
        cut: Callable[[Outgoing], Outgoing] | None = None,
    ) -> None:
        self._bus, self._prepare, self._acknowledged, self._onward = bus, prepare, acknowledged, onward
        self._told_refused, self._cut = refused, cut
        self.queue: deque[Sending] = deque()
        self.idle = asyncio.Event()
        self.idle.set()
        self._wake = asyncio.Event()
        self._pace = Pace(every_s)
        self._producer: Producer | None = None
        self._stopping = False

    def put(self, sendings: Sequence[Sending]) -> None:
        """Queues records."""
        self.queue.extend(sendings)
        if self._pace.every_s and any(s.hurried for s in sendings):
            self._pace.hurry()
        if self.queue:
            self.idle.clear()
            self._wake.set()

    def keep(self, wanted: Callable[[Sending], bool]) -> None:
        """Drops all other records, also those that are under way and would be sent again."""
        self.queue = deque(filter(wanted, self.queue))

    async def run(self) -> None:
        """Sends until `stop`. A failed send is repeated from the first record that was not acknowledged."""
        delays = backoff()
        while True:
            queue = self.queue
            if not queue:
                self.idle.set()
                self._wake.clear()
                if self._stopping:
                    return
                await self._wake.wait()
                continue
            if self._pace.every_s:
                await self._pace.rest()
                queue = self.queue
            batch = [queue[i] for i in range(min(len(queue), SEND_AT_ONCE))]
            mine = batch if self._onward is None else [s for s in batch if s.task]
            done = await self._send(mine) if mine else 0
            self._pace.turned()
            self._take_out(batch, mine[done:], changed=queue is not self.queue)
            if done == len(mine):
                delays = backoff()
            elif not self._stopping:
                await asyncio.sleep(next(delays))
            else:
                return

    def _take_out(self, batch: list[Sending], failed: list[Sending], *, changed: bool) -> None:
        """Takes out of the queue what is done with. `changed`: `keep` came meanwhile, and what it dropped stays dropped."""
        left = {id(s) for s in failed}
        if changed:
            there = {id(s) for s in self.queue}
            batch = [s for s in batch if id(s) in there]
            gone = {id(s) for s in batch} - left
            self.queue = deque(s for s in self.queue if id(s) not in gone)
        else:
            for _ in batch:
                self.queue.popleft()
            self.queue.extendleft(reversed(failed))
        if self._onward is not None:
            self._onward.put([s for s in batch if not s.task])

    async def _send(self, batch: list[Sending]) -> int:
        """How many, from the first, need not be sent again."""
        try:
            if self._producer is None:
                self._producer = await self._bus.producer()
            producer = self._producer  # a stop lets it go while tasks are prepared: closed, it refuses
            crashpoint("K5")
            made = [s.message for s in batch] if self._prepare is None else [await self._made(s) for s in batch]
            messages = [m for m in made if isinstance(m, Outgoing)]
            if armed("K6"):  # somebody wants to see us die with half of it produced
                await producer.send(messages[: (len(messages) + 1) // 2])
                crashpoint("K6")
            answers = iter(await producer.send(messages))
            outcomes = [next(answers) if isinstance(m, Outgoing) else m for m in made]
            if self._cut is not None and any(isinstance(o, RecordRefused) for o in outcomes):
                outcomes = [await self._cut_down(producer, s, o) for s, o in zip(batch, outcomes, strict=True)]
        except NotNow as e:
            _log.warning("records_not_ready", reason=str(e)[:200])
            return 0
        except BusError as e:
            _log.warning("publish_failed", error=type(e).__name__)
            await self.close()
            return 0
        crashpoint("K7")
        done = 0
        for sending, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None and not self._skippable(sending, outcome):
                _log.warning("publish_failed", topic=sending.message.topic, error=type(outcome).__name__)
                break
            done += 1
            self._acknowledged(sending)
        _sent.labels("record").inc(done)
        crashpoint("K8")
        return done

    async def _made(self, sending: Sending) -> Outgoing | RecordRefused:
        assert self._prepare is not None
        try:
            return await self._prepare(sending)
        except RecordRefused as e:
            return e

    async def _cut_down(self, producer: Producer, sending: Sending, outcome: BusError | None) -> BusError | None:
        """A row that is too large for the bus, of a journal from before its events were bounded: nothing behind it may wait
        for ever, so it goes out with what is large in it left to the journal."""
        if not sending.pseq or not isinstance(outcome, RecordRefused) or self._cut is None:
            return outcome
        _log.error("event_cut_for_bus", topic=sending.message.topic, reason=str(outcome)[:200])
        return (await producer.send([self._cut(sending.message)]))[0]

    def _skippable(self, sending: Sending, outcome: BusError) -> bool:
        if sending.pseq or not isinstance(outcome, (RecordRefused, TopicUnknown)):
            return False
        _refused.labels(sending.message.topic).inc()
        if isinstance(outcome, RecordRefused) and self._told_refused is not None:
            self._told_refused(sending, outcome)
        _log.error("task_refused_by_bus", topic=sending.message.topic, reason=str(outcome)[:200])
        return True

    async def emptied(self) -> None:
        """Returns when nothing waits, without resting on the way."""
        self._pace.hurry()
        await self.idle.wait()

    def stop(self) -> None:
        """Lets `run` end once the queue is empty, or after the next failure."""
        self._stopping = True
        self._pace.every_s = 0.0
        self._pace.hurry()
        self._wake.set()

    async def close(self) -> None:
        """Lets the producer go; the next send makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.close(), 2.0)
            except (BusError, TimeoutError):
                _log.warning("producer_close_failed")

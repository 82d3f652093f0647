"""What attempts say: results are sent until they are acknowledged, heartbeats and progress once.

Everything that waits goes out in one send; while that is under way the next batch gathers.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections import deque

import structlog
from pydantic_core import to_json

from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import Envelope, ce_type, plain_headers, to_headers
from handrail_contracts.ids import attempt_ce_id, keyed_partition, workflow_key
from handrail_contracts.model import iso
from handrail_contracts.tasks import Heartbeat, Outcome, Progress, Task, TaskKind
from handrail_runtime.crashpoints import crashpoint
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, BusError, Outgoing, Producer, Record, RecordRefused
from handrail_runtime.telemetry import counter, gauge

_log = structlog.get_logger(__name__)
SOURCE = "/handrail/agents"
SEND_AT_ONCE = 1_000
GATHER_S = 0.002
"""Under load answers wait this long for company: a request costs the bus as much as fifty records."""
MOST_HINTS = 10_000
"""Heartbeats and progress that wait while the bus is away; older ones give way, for they say nothing any more."""

_answered = counter("agents_answers", "Answers by outcome", ["outcome"])
_waiting = gauge("agents_answers_waiting", "Answers that wait for the bus")
_SOURCE = SOURCE.encode()
_TYPES = {outcome: ce_type(f"result_{outcome.value}").encode() for outcome in Outcome}
_COUNTS = {outcome: _answered.labels(outcome.value) for outcome in Outcome}
_HEARTBEAT, _PROGRESS, _QUARANTINED = (
    ce_type("heartbeat").encode(),
    ce_type("progress").encode(),
    ce_type("quarantined"),
)


class Answers:
    """`result`, `heartbeat`, `progress`, `garbage` and `quarantine` queue a record; `run` sends."""

    def __init__(self, bus: Bus, partitions: int, worker: str) -> None:
        self._bus, self._partitions = bus, partitions
        self.worker = worker
        self._lasting: deque[Outgoing] = deque()
        self._hints: deque[Outgoing] = deque(maxlen=MOST_HINTS)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._producer: Producer | None = None
        self._stopping = False
        _waiting.set_function(lambda: len(self._lasting))

    async def start(self) -> None:
        """Connects. Raises BusError."""
        self._producer = await self._bus.producer()

    def result(self, task: Task, outcome: Outcome, value: bytes, at: str) -> None:
        """Answers an attempt with an encoded result of this outcome; `at` (RFC 3339) is now."""
        _COUNTS[outcome].inc()
        kind = task.kind.answered
        said = outcome if kind is TaskKind.EXECUTE else f"{kind}-{outcome}"
        ce_id = attempt_ce_id(task.effect_key, task.attempt, said)
        self._put(self._about(topics.RESULTS, task, value, ce_id, at, _TYPES[outcome]))

    def garbage(self, task: Task, at: str) -> None:
        """Bytes where a result should be."""
        ce_id = attempt_ce_id(task.effect_key, task.attempt, "garbage")
        self._put(self._about(topics.RESULTS, task, b'\xff{"outcome": ', ce_id, at, _TYPES[Outcome.OK]))

    def heartbeat(self, task: Task, at: str) -> None:
        """Says that the attempt is still being worked on."""
        beat = Heartbeat(
            tenant=task.tenant,
            trace_id=task.trace_id,
            node_id=task.node_id,
            attempt=task.attempt,
            effect_key=task.effect_key,
            worker=self.worker,
        )
        ce_id = attempt_ce_id(task.effect_key, task.attempt, f"heartbeat/{at}")
        self._hint(self._about(topics.HEARTBEATS, task, encode(beat), ce_id, at, _HEARTBEAT))

    def progress(self, task: Task, percent: float | None, message: str | None, at_ms: int) -> None:
        """Shows news from inside an attempt."""
        at = iso(at_ms)
        news = Progress(
            tenant=task.tenant,
            trace_id=task.trace_id,
            node_id=task.node_id,
            attempt=task.attempt,
            percent=percent,
            message=message,
            at=at,
        )
        body = encode(news)
        # Several may be told within a millisecond: who drops what came twice must not drop the second.
        ce_id = attempt_ce_id(task.effect_key, task.attempt, f"progress/{at}/{zlib.crc32(body):08x}")
        self._hint(self._about(topics.PROGRESS, task, body, ce_id, at, _PROGRESS))

    def quarantine(self, r: Record, reason: str) -> None:
        """Copies a record that could not be read to where people look."""
        key = f"{r.topic}/{r.partition}/{r.offset}"
        body = {
            "topic": r.topic,
            "partition": r.partition,
            "offset": r.offset,
            "reason": reason,
            "value_base64": base64.b64encode(r.value or b"").decode(),
        }
        headers = to_headers(Envelope(key, _QUARANTINED, SOURCE))
        self._put(Outgoing(topics.QUARANTINE, key.encode(), to_json(body), headers))

    async def run(self) -> None:
        """Sends until `stop`, and then what still waits as long as the bus takes it."""
        delays = backoff(0.1, 2.0)
        clock, sent_at = asyncio.get_running_loop().time, 0.0
        while True:
            if not self._lasting and not self._hints:
                self._idle.set()
                self._wake.clear()
                if self._stopping:
                    return
                await self._wake.wait()
                continue
            if len(self._lasting) < SEND_AT_ONCE and clock() - sent_at < GATHER_S and not self._stopping:
                # The last send has just ended, so this is load; an answer that comes alone is never held up.
                await asyncio.sleep(GATHER_S)
            batch = [self._lasting.popleft() for _ in range(min(len(self._lasting), SEND_AT_ONCE))]
            hints = [self._hints.popleft() for _ in range(min(len(self._hints), SEND_AT_ONCE))]
            failed = await self._send(batch, hints)
            sent_at = clock()
            if not failed:
                delays = backoff(0.1, 2.0)
                continue
            self._lasting.extendleft(reversed(failed))
            if self._stopping:
                _log.warning("answers_left_unsent", answers=len(self._lasting))  # their leases run out: done again
                return
            await asyncio.sleep(next(delays))

    async def flushed(self, timeout_s: float) -> bool:
        """Waits until all that was said is acknowledged; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._idle.wait()
        except TimeoutError:
            return False

    def stop(self) -> None:
        """Lets `run` end once nothing waits, or after the next failure. Idempotent."""
        self._stopping = True
        self._wake.set()

    async def close(self) -> None:
        """Lets the producer go. Idempotent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await producer.close()
            except BusError:
                _log.warning("producer_close_failed")

    async def _send(self, batch: list[Outgoing], hints: list[Outgoing]) -> list[Outgoing]:
        """What has to be sent again."""
        try:
            if self._producer is None:
                self._producer = await self._bus.producer()
            outcomes = await self._producer.send([*batch, *hints])
        except BusError as e:
            _log.warning("answers_failed", kind=type(e).__name__, answers=len(batch))
            await self.close()
            return batch
        if batch:
            crashpoint("K19")
        failed: list[Outgoing] = []
        for message, outcome in zip(batch, outcomes, strict=False):  # hints stand behind and are sent once
            if isinstance(outcome, RecordRefused):
                _log.error("answer_refused_by_bus", topic=message.topic, reason=str(outcome)[:200])
            elif outcome is not None:
                failed.append(message)
        if failed:
            _log.warning("answers_failed", kind="unacknowledged", answers=len(failed))
        return failed

    def _about(self, topic: str, of: Task, value: bytes, ce_id: str, at: str, type_: bytes) -> Outgoing:
        headers = plain_headers(ce_id.encode(), type_, _SOURCE, of.trace_id.encode(), at.encode())
        key = workflow_key(of.tenant, of.trace_id).encode()
        return Outgoing(topic, key, value, headers, keyed_partition(key, self._partitions))

    def _put(self, message: Outgoing) -> None:
        self._lasting.append(message)
        self._idle.clear()
        self._wake.set()

    def _hint(self, message: Outgoing) -> None:
        self._hints.append(message)
        self._idle.clear()
        self._wake.set()

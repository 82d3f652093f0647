"""Nudges and requeued records on the bus. A nudge is a hint: it is never waited for, and dropped rather than piled up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from handrail_contracts import codec, envelope, ids, topics
from handrail_contracts.commands import Nudge
from handrail_gateway.application.faults import Unavailable
from handrail_gateway.application.ports import Command
from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import Bus, BusError, Outgoing, Producer
from handrail_runtime.telemetry import counter

MOST_WAITING = 20_000
BATCH = 500
_ACK_S = 15.0
_LAST_WORDS_S = 1.0
_SOURCE = "/handrail/gateway"

_log = structlog.get_logger(__name__)


class BusLink:
    """One producer of the gateway, made when first needed and again after trouble. `partitions` is P."""

    def __init__(self, bus: Bus, partitions: int) -> None:
        self._bus, self._partitions = bus, partitions
        self._producer: Producer | None = None
        self._connecting = asyncio.Lock()
        self._waiting: deque[Command] = deque(maxlen=MOST_WAITING)
        self._arrived = asyncio.Event()
        self._last_words = False
        self._sent = counter("nudges", "Nudges to owners of workflows.", ["outcome"])

    def nudge(self, commands: Sequence[Command]) -> None:
        """See the port `Nudges`."""
        overflow = len(self._waiting) + len(commands) - MOST_WAITING
        if overflow > 0:
            self._sent.labels("dropped").inc(overflow)
        self._waiting.extend(commands)
        self._arrived.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Sends what arrives, many at a time, until `stopping` is set and the last ones are out (1 s at most)."""
        sending = asyncio.create_task(self._send_all(), name="gateway.nudges.send")
        stop = asyncio.create_task(stopping.wait(), name="gateway.nudges.stop")
        try:
            await asyncio.wait({sending, stop}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            self._last_words = True
            self._arrived.set()
            _, unsent = await asyncio.wait({sending}, timeout=_LAST_WORDS_S)
            if unsent:
                _log.info("nudges_left_unsent", count=len(self._waiting))
        finally:
            for task in (sending, stop):
                task.cancel()
            await asyncio.wait({sending, stop})
            await self.close()

    async def _send_all(self) -> None:
        pauses = backoff()
        while not self._last_words or self._waiting:
            await self._arrived.wait()
            if await self._send_waiting():
                pauses = backoff()
            else:
                await asyncio.sleep(next(pauses))

    async def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """See the port `Requeue`."""
        record = Outgoing(topic, key, value, [(k, v.encode()) for k, v in headers], partition)
        try:
            async with asyncio.timeout(2.0):
                error = (await (await self._connected()).send([record]))[0]
        except (BusError, OSError, TimeoutError) as e:
            error = e
        if error is not None:
            raise Unavailable(f"The bus did not take the record: {type(error).__name__}.") from error

    async def close(self) -> None:
        """Lets go of the producer. Idempotent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(_LAST_WORDS_S):
                    await producer.close()
            except (BusError, OSError, TimeoutError) as e:
                _log.info("producer_close_failed", kind=type(e).__name__)

    async def _send_waiting(self) -> bool:
        self._arrived.clear()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(_ACK_S):
                    producer = await self._connected()
                    results = await producer.send([self._outgoing(command) for command in batch])
            except (BusError, OSError, TimeoutError) as e:
                results = [e]
            failed = [error for error in results if error is not None]
            self._sent.labels("failed" if failed else "sent").inc(len(batch))
            if failed:
                # The owner polls as well: what was lost is a delay, so nothing is kept for another try.
                _log.warning("nudges_failed", count=len(batch), kind=type(failed[0]).__name__)
                await self.close()
                return False
        return True

    async def _connected(self) -> Producer:
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._bus.producer()
            return self._producer

    def _outgoing(self, command: Command) -> Outgoing:
        about = envelope.Envelope(
            command.command_id,
            envelope.ce_type("nudge"),
            _SOURCE,
            subject=command.trace_id,
            traceparent=command.traceparent or "",
        )
        return Outgoing(
            topics.COMMANDS,
            ids.workflow_key(command.tenant, command.trace_id).encode(),
            codec.encode(Nudge(tenant=command.tenant, trace_id=command.trace_id, command_id=command.command_id)),
            envelope.to_headers(about),
            ids.partition(command.tenant, command.trace_id, self._partitions),
        )

"""Sending to Kafka: acks from all replicas, no lingering, and a new producer whenever the old one cannot be trusted.

An idempotent producer never gives up by itself and, after one refused batch, has a hole in its sequence numbers that
makes the broker refuse what follows. So: no acknowledgement within the bound, or any refusal, and it is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from handrail_runtime.bus_kafka_control import Control
from handrail_runtime.murmur import partition_of
from handrail_runtime.ports import BusError, Outgoing, RecordRefused
from handrail_runtime.telemetry import counter
from handrail_runtime.topic_plan import MAX_MESSAGE_BYTES

_BATCH_BYTES = 256 * 1024
_UNKNOWN_TOPIC_S = 3.0
_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError, TopicAuthorizationFailedError)

_log = structlog.get_logger(__name__)


class KafkaProducer:
    """Implements `ports.Producer`. `ack_s` bounds every send."""

    def __init__(self, control: Control, options: Mapping[str, Any], ack_s: float, compression: str | None) -> None:
        self._control, self._options = control, options
        self._ack_s, self._compression = ack_s, compression
        self._inner: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._unknown: dict[str, float] = {}
        self._next_keyless = 0
        self._closed = False
        self._replaced = counter("bus_producers_replaced", "Kafka producers given up for a new one")

    async def start(self) -> None:
        """Connects. Raises BusError."""
        await self._producer()

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        """As the port says; ends within `ack_s` seconds, except that a topic which nobody knows may take 3 s more."""
        if self._closed:
            raise BusError("Expected an open producer, but it was closed.")
        if not messages:
            return []
        results: list[BusError | None] = [None] * len(messages)
        producer = await self._producer()
        await self._learn(producer, messages)
        waiting: list[tuple[int, asyncio.Future[Any]]] = []
        distrusted = False
        try:
            async with asyncio.timeout(self._ack_s):
                for i, message in enumerate(messages):
                    future = await self._hand_over(producer, message)
                    if isinstance(future, BusError):
                        results[i] = future
                    else:
                        waiting.append((i, future))
                for i, future in waiting:
                    try:
                        await future
                    except KafkaError as e:
                        distrusted = True
                        results[i] = _mapped(e)
        except TimeoutError:
            distrusted = True
            self._time_out(waiting, results, len(messages))
        if distrusted:
            self._retire(producer)
        await self._again_alone(messages, results)
        return results

    async def close(self) -> None:
        """As the port says; flushing is bounded by `ack_s`."""
        self._closed = True
        if self._inner is not None:
            self._retire(self._inner, replaced=False)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _hand_over(self, producer: AIOKafkaProducer, message: Outgoing) -> asyncio.Future[Any] | BusError:
        topic, key, value = message.topic, message.key, message.value
        known = producer.client.cluster.partitions_for_topic(topic)
        if not known:
            return RecordRefused(f"Expected the topic {topic!r}, but it does not exist.")
        if key is None and value is None:
            return RecordRefused("Expected a key or a value, but the record has neither.")
        p = message.partition
        if p is None:
            self._next_keyless += 1
            p = self._next_keyless % len(known) if key is None else partition_of(key, len(known))
        elif p not in known:
            return RecordRefused(f"Expected a partition below {len(known)} in {topic!r}, but it is {p}.")
        try:
            headers = message.headers
            return await producer.send(
                topic, value, key, partition=p, headers=headers if isinstance(headers, list) else list(headers)
            )
        except KafkaError as e:
            return _mapped(e)

    async def _learn(self, producer: AIOKafkaProducer, messages: Sequence[Outgoing]) -> None:
        """Makes the producer know the topics, as far as they exist. Does not wait for one that was missing just now."""
        cluster = producer.client.cluster
        unknown = {m.topic for m in messages if not cluster.partitions_for_topic(m.topic)}
        if not unknown:
            return
        now = asyncio.get_running_loop().time()
        for topic in unknown:
            if self._unknown.get(topic, 0.0) > now:
                continue
            if (await self._control.cluster([topic])).topics.get(topic):
                try:
                    async with asyncio.timeout(_UNKNOWN_TOPIC_S):
                        await producer.partitions_for(topic)
                    self._unknown.pop(topic, None)
                    continue
                except (KafkaError, TimeoutError):
                    pass  # refused below, and asked again after the pause
            self._unknown[topic] = now + _UNKNOWN_TOPIC_S

    def _time_out(
        self, waiting: Sequence[tuple[int, asyncio.Future[Any]]], results: list[BusError | None], count: int
    ) -> None:
        late = BusError(f"Expected an acknowledgement within {self._ack_s:g} s, but none came.")
        handed = {i for i, _ in waiting}
        for i in range(count):
            if i not in handed and results[i] is None:
                results[i] = late
        for i, future in waiting:
            if not future.done() or future.cancelled():
                results[i] = late
            elif (error := future.exception()) is not None:
                results[i] = _mapped(error)

    async def _again_alone(self, messages: Sequence[Outgoing], results: list[BusError | None]) -> None:
        """A batch that is too large for its topic fails as a whole: finds out who was to blame, one by one."""
        if len(messages) == 1:
            return
        for i, message in enumerate(messages):
            refused = results[i]
            too_large = isinstance(refused, RecordRefused) and isinstance(refused.__cause__, MessageSizeTooLargeError)
            if too_large and len(message.value or b"") + len(message.key or b"") < _BATCH_BYTES:
                results[i] = (await self.send([message]))[0]

    async def _producer(self) -> AIOKafkaProducer:
        if self._inner is not None:
            return self._inner
        async with self._starting:
            if self._inner is None:
                self._inner = await self._started()
            return self._inner

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            compression_type=self._compression,
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            # Below the watchdog's bound: a request that a dead connection swallowed is then tried on a new one first.
            request_timeout_ms=max(1000, int(self._ack_s * 600)),
        )
        try:
            async with asyncio.timeout(self._ack_s):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as e:
            await _torn_down(producer)
            raise BusError(f"Expected a connection to Kafka, but: {type(e).__name__} {e}") from e
        except BaseException:
            await _torn_down(producer)
            raise
        return producer

    def _retire(self, producer: AIOKafkaProducer, *, replaced: bool = True) -> None:
        if producer is not self._inner:
            return
        self._inner = None
        if replaced:
            self._replaced.inc()
            _log.warning("bus_producer_replaced")
        task = asyncio.create_task(_flushed_and_closed(producer, self._ack_s), name="bus.producer.retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _mapped(error: BaseException) -> BusError:
    kind = RecordRefused if isinstance(error, _REFUSED) else BusError
    mapped = kind(f"Expected Kafka to take the record, but: {type(error).__name__} {error}")
    mapped.__cause__ = error
    return mapped


async def _flushed_and_closed(producer: AIOKafkaProducer, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await producer.flush()
    except (TimeoutError, KafkaError):
        pass  # it was given up because it does not get through; whoever waits is told below
    await _torn_down(producer)


async def _torn_down(producer: AIOKafkaProducer) -> None:
    """Ends a producer without waiting for what it cannot send. `stop()` would wait for that without end, so the parts
    are ended one by one (aiokafka is pinned to 0.14.0 for it)."""
    error = KafkaError("the producer was given up")
    producer._message_accumulator.fail_all(error)  # pyright: ignore[reportPrivateUsage]  # no public way to let go
    await producer.client.close()
    try:
        async with asyncio.timeout(5.0):
            await producer._sender.close()  # pyright: ignore[reportPrivateUsage]  # as above
    except (TimeoutError, KafkaError):
        _log.warning("bus_producer_left_behind")
    producer._closed = True  # pyright: ignore[reportPrivateUsage]  # else its finalizer complains

"""Sending to Kafka: acks from all replicas, no lingering, and a new producer whenever the old one cannot be trusted.

An idempotent producer never gives up by itself and, after one refused batch, has a hole in its sequence numbers that
makes the broker refuse what follows. So: no acknowledgement within the bound, or any refusal, and it is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
from handrail_runtime.ports import BusError, Headers, Outgoing, RecordRefused, TopicUnknown
from handrail_runtime.telemetry import counter
from handrail_runtime.topic_plan import MAX_MESSAGE_BYTES

_BATCH_BYTES = 256 * 1024
_HEAD_BYTES = 64 * 1024
"""What a record may spend on headers and framing."""
_BULK = 16
_UNKNOWN_TOPIC_S = 3.0
_CLOSE_S = 5.0
_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError, TopicAuthorizationFailedError)

Handed = tuple[list[int], asyncio.Future[Any]]
"""Which messages were handed over, and what ends when they are acknowledged."""

_log = structlog.get_logger(__name__)


class KafkaProducer:
    """Implements `ports.Producer`. `ack_s` bounds every send."""

    def __init__(self, control: Control, options: Mapping[str, Any], ack_s: float, compression: str | None) -> None:
        self._control, self._options = control, options
        self._ack_s, self._compression = ack_s, compression
        self._inner: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._counts: dict[str, int] = {}
        self._unknown: dict[str, float] = {}
        self._next_keyless = 0
        self.closed = False
        self._replaced = counter("bus_producers_replaced", "Kafka producers given up for a new one")

    async def start(self) -> None:
        """Connects. Raises BusError."""
        await self._producer()

    async def send(self, messages: Sequence[Outgoing]) -> list[BusError | None]:
        """As the port says; ends within `ack_s` seconds, except that a topic which nobody knows may take 3 s more."""
        if self.closed:
            raise BusError("Expected an open producer, but it was closed.")
        results: list[BusError | None] = [None] * len(messages)
        if not messages:
            return results
        try:
            producer = await self._producer()
            counts = await self._learn(producer, messages)
        except BusError as e:
            return [e] * len(messages)
        places = [_place(message, counts.get(message.topic), self._keyless) for message in messages]
        waiting: list[Handed] = []
        distrusted = False
        try:
            async with asyncio.timeout(self._ack_s):
                hand_over = self._as_batches if len(messages) >= _BULK else self._one_by_one
                await hand_over(producer, messages, places, waiting, results)
                for indices, future in waiting:
                    try:
                        await future
                    except KafkaError as e:
                        distrusted = True
                        for i in indices:
                            results[i] = _mapped(e)
        except TimeoutError:
            distrusted = True
            self._time_out(waiting, results)
        if distrusted:
            self._retire(producer)
            await self._again_alone(messages, results)
        return results

    async def close(self) -> None:
        """As the port says; flushing has 5 s, or `ack_s` where that is less."""
        self.closed = True
        if self._inner is not None:
            self._retire(self._inner, replaced=False)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _one_by_one(
        self,
        producer: AIOKafkaProducer,
        messages: Sequence[Outgoing],
        places: Sequence[int | BusError],
        waiting: list[Handed],
        results: list[BusError | None],
    ) -> None:
        """For few messages: they join the batches that other senders have begun."""
        for i, (m, p) in enumerate(zip(messages, places, strict=True)):
            if isinstance(p, BusError):
                results[i] = p
                continue
            try:
                waiting.append(([i], await producer.send(m.topic, m.value, m.key, p, headers=_listed(m.headers))))
            except KafkaError as e:
                results[i] = _mapped(e)

    async def _as_batches(
        self,
        producer: AIOKafkaProducer,
        messages: Sequence[Outgoing],
        places: Sequence[int | BusError],
        waiting: list[Handed],
        results: list[BusError | None],
    ) -> None:
        """For many messages: batches of our own cost half (measured: 7 µs of CPU a message instead of 13)."""
        chains: dict[tuple[str, int], list[tuple[Any, list[int]]]] = {}
        for i, (m, p) in enumerate(zip(messages, places, strict=True)):
            if isinstance(p, BusError):
                results[i] = p
                continue
            chain = chains.setdefault((m.topic, p), [])
            headers = _listed(m.headers)
            if not chain or chain[-1][0].append(timestamp=None, key=m.key, value=m.value, headers=headers) is None:
                chain.append((producer.create_batch(), []))
                chain[-1][0].append(timestamp=None, key=m.key, value=m.value, headers=headers)
            chain[-1][1].append(i)
        for (topic, p), chain in chains.items():
            for batch, indices in chain:
                try:
                    waiting.append((indices, await producer.send_batch(batch, topic, partition=p)))
                except KafkaError as e:
                    for i in indices:
                        results[i] = _mapped(e)

    async def _learn(self, producer: AIOKafkaProducer, messages: Sequence[Outgoing]) -> Mapping[str, int]:
        """Topic -> partitions of those that exist; the producer knows them then too. Does not wait for one that was
        missing just now."""
        counts = self._counts
        now = asyncio.get_running_loop().time()
        for topic in {m.topic for m in messages} - counts.keys():
            if self._unknown.get(topic, 0.0) > now:
                continue
            if (await self._control.cluster([topic])).topics.get(topic):
                try:
                    async with asyncio.timeout(_UNKNOWN_TOPIC_S):
                        counts[topic] = len(await producer.partitions_for(topic))
                    self._unknown.pop(topic, None)
                    continue
                except (KafkaError, TimeoutError):
                    pass  # said below, and asked again after the pause
            self._unknown[topic] = now + _UNKNOWN_TOPIC_S
        return counts

    def _keyless(self) -> int:
        self._next_keyless += 1
        return self._next_keyless

    def _time_out(self, waiting: Sequence[Handed], results: list[BusError | None]) -> None:
        late = BusError(f"Expected an acknowledgement within {self._ack_s:g} s, but none came.")
        handed: set[int] = set()
        for indices, future in waiting:
            handed.update(indices)
            if future.done() and not future.cancelled():
                error = future.exception()
                outcome = None if error is None else _mapped(error)
            else:
                outcome = late
                future.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody asks any more
            for i in indices:
                results[i] = outcome
        for i, result in enumerate(results):
            if i not in handed and result is None:
                results[i] = late

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
        self._counts = {}  # not cleared: a send that is under way still holds the old one
        if replaced:
            self._replaced.inc()
            _log.warning("bus_producer_replaced")
        bound = self._ack_s if replaced else min(self._ack_s, _CLOSE_S)
        task = asyncio.create_task(_flushed_and_closed(producer, bound), name="bus.producer.retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _place(message: Outgoing, count: int | None, keyless: Callable[[], int]) -> int | BusError:
    """The partition of a message, of `count` partitions; None: nobody knows the topic."""
    topic, key, value, p = message.topic, message.key, message.value, message.partition
    if not count:
        return TopicUnknown(f"Expected the topic {topic!r}, but no broker knows it now.")
    if key is None and value is None:
        return RecordRefused("Expected a key or a value, but the record has neither.")
    if (size := len(value or b"") + len(key or b"")) > MAX_MESSAGE_BYTES - _HEAD_BYTES:
        return RecordRefused(f"Expected at most {MAX_MESSAGE_BYTES - _HEAD_BYTES} bytes, but the record has {size}.")
    if p is None:
        return keyless() % count if key is None else partition_of(key, count)
    if not 0 <= p < count:
        return RecordRefused(f"Expected a partition below {count} in {topic!r}, but it is {p}.")
    return p


def _listed(headers: Headers) -> list[tuple[str, bytes]]:
    return headers if isinstance(headers, list) else list(headers)


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

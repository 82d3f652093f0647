"""The bus on Apache Kafka, by aiokafka. See RELIABILITY.md "Library hazards" for what each setting answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer

from handrail_runtime.bus_kafka_control import Control
from handrail_runtime.bus_kafka_producer import KafkaProducer
from handrail_runtime.bus_kafka_reader import KafkaGroupReader, KafkaReader
from handrail_runtime.bus_kafka_salvage import readable
from handrail_runtime.bus_kafka_session import fetch_in_sessions
from handrail_runtime.ports import BusError, LogRange, Record, TopicPartition
from handrail_runtime.topic_plan import MAX_MESSAGE_BYTES

Compression = Literal["lz4"] | None
Part = TypeVar("Part", KafkaProducer, KafkaReader, KafkaGroupReader)


_ASK_S = 10.0
_GLANCE_BYTES = 64 * 1024
"""What a peek takes of a partition; a batch is larger only where one sender had much to say."""
_SESSION_MS = 10_000
_HEARTBEAT_MS = 2_000


class KafkaBus:
    """Implements `ports.Bus`. Nothing connects before the first call.

    `bootstrap`: host:port, separated by commas. `client_id` names us in the broker's logs. `security`: aiokafka's own
    arguments for TLS and SASL. `fetch_max_wait_ms`: how long a broker may hold a fetch that has nothing to answer; it
    answers at once when something comes, but a new assignment may wait that long. `ack_s`: a send without
    acknowledgement for so long fails, and the producer is replaced. `quiet_s`: silence after which a reader asks whether
    it stands still. `replicas`: replication of topics that we make, bounded by the number of brokers.
    """

    forgets = False

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "handrail",
        security: Mapping[str, Any] | None = None,
        fetch_max_wait_ms: int = 200,
        ack_s: float = 15.0,
        quiet_s: float = 15.0,
        replicas: int = 3,
        compression: Compression = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "metadata_max_age_ms": 60_000,
            **(security or {}),
        }
        self._fetch_max_wait_ms, self._ack_s, self._quiet_s = fetch_max_wait_ms, ack_s, quiet_s
        self._replicas, self._compression = replicas, compression
        self._control = Control(self._options, _ASK_S)
        self._open: list[KafkaProducer | KafkaReader | KafkaGroupReader] = []

    @property
    def bootstrap(self) -> str:
        """The servers that it was made with, for a client of another kind."""
        return str(self._options["bootstrap_servers"])

    async def bus_id(self) -> str:
        """The cluster id, asked each time: another cluster may stand behind the same address by now."""
        return (await self._control.cluster()).id

    async def ensure_topics(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> list[str]:
        """As the port says. The config of a topic that exists is left as it is."""
        if not topics:
            return []
        there = (await self._control.cluster(topics)).topics
        missing = {name: wanted for name, wanted in topics.items() if name not in there}
        made = await self._control.create(missing, self._replicas) if missing else []
        there = (await self._control.visible(topics)).topics
        for name, (count, _) in topics.items():
            if len(there[name]) != count:
                raise BusError(f"Expected {count} partitions in {name!r}, but it has {len(there[name])}.")
        return made

    async def partitions(self, topic: str) -> int:
        """As the port says; asked each time."""
        return len((await self._control.cluster([topic])).topics.get(topic, ()))

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """As the port says; a partition that does not exist raises BusError."""
        return await self._control.ranges(partitions)

    async def peek(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        """As the port says. Raises BusError when no broker answers or a partition does not exist."""
        found = await self._glance(positions)
        for tp, offset in positions.items():
            if tp not in found:  # a batch beyond the bound comes whole where nothing else is asked for
                found |= await self._glance({tp: offset})
        return found

    async def _glance(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        batches = await self._control.fetch(positions, _GLANCE_BYTES)
        return {tp: r for tp, data in batches.items() for r in readable(tp, positions[tp], data, 1)[0]}

    async def producer(self) -> KafkaProducer:
        """As the port says. Raises BusError when no broker answers."""
        producer = KafkaProducer(self._control, self._options, self._ack_s, self._compression)
        await producer.start()
        return self._opened(producer)

    async def reader(self) -> KafkaReader:
        """As the port says. Raises BusError when no broker answers."""
        reader = KafkaReader(self._consumer, self._control, self._quiet_s)
        await reader.start()
        return self._opened(reader)

    async def group_reader(self, group: str, topics: Sequence[str], *, from_start: bool = True) -> KafkaGroupReader:
        """As the port says. Raises BusError when no broker answers or a topic does not exist."""
        there = (await self._control.cluster(topics)).topics
        if absent := sorted(set(topics) - set(there)):
            raise BusError(f"Expected the topics {absent}, but they do not exist.")

        def make() -> AIOKafkaConsumer:
            return self._consumer(
                *topics,
                group_id=group,
                auto_offset_reset="earliest" if from_start else "latest",
                session_timeout_ms=_SESSION_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                # A join is answered when the others have joined, so it must outlast their session.
                request_timeout_ms=2 * _SESSION_MS,
            )

        reader = KafkaGroupReader(make, self._control, self._quiet_s, from_start=from_start)
        await reader.start()
        return self._opened(reader)

    async def close(self) -> None:
        """As the port says."""
        open_, self._open = self._open, []
        await asyncio.gather(*(part.close() for part in open_))
        await self._control.close()

    def _opened(self, part: Part) -> Part:
        self._open = [other for other in self._open if not other.closed]
        self._open.append(part)
        return part

    def _consumer(self, *topics: str, **more: Any) -> AIOKafkaConsumer:
        settings: dict[str, Any] = {
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "fetch_max_wait_ms": self._fetch_max_wait_ms,
            "fetch_max_bytes": 4 * MAX_MESSAGE_BYTES,
            "max_partition_fetch_bytes": MAX_MESSAGE_BYTES,
            "request_timeout_ms": int(_ASK_S * 1000),
            **more,
        }
        consumer = AIOKafkaConsumer(*topics, **self._options, **settings)
        fetch_in_sessions(consumer._client)  # pyright: ignore[reportPrivateUsage]  # no public way to its client
        return consumer

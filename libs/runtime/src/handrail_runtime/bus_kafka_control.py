"""Questions to a Kafka cluster and orders about topics, on one connection of their own.

Readers keep a long poll open on theirs, and a broker answers one connection in order: asked there, each question would
wait for the poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from handrail_runtime.lifecycle import backoff
from handrail_runtime.ports import BusError, LogRange, TopicPartition
from handrail_runtime.topic_plan import MAX_MESSAGE_BYTES

_EARLIEST, _LATEST = -2, -1
_READ_UNCOMMITTED = 0
_VISIBLE_S = 20.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a metadata answer says: `topics` has name -> partition -> leader (-1: none now), existing topics only."""

    id: str
    controller: int
    brokers: int
    topics: Mapping[str, Mapping[int, int]]


class Control:
    """The connection. Connects when first asked, and anew after a failure; every failure is a BusError."""

    def __init__(self, options: Mapping[str, Any], timeout_s: float) -> None:
        self._options, self._timeout_s = options, timeout_s
        self._client: AIOKafkaClient | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def cluster(self, topics: Iterable[str] = ()) -> Cluster:
        """Asks for the cluster and for these topics. Never makes a topic, whatever the broker's settings are."""
        answer = await self._ask(MetadataRequest(list(topics), allow_auto_topic_creation=False))
        found: dict[str, dict[int, int]] = {}
        for code, name, _, partitions in answer.topics:
            if for_code(code) is NoError:
                found[name] = {entry[1]: entry[2] if for_code(entry[0]) is NoError else -1 for entry in partitions}
        return Cluster(answer.cluster_id or "", answer.controller_id, len(answer.brokers), found)

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """Start and end of each log."""
        wanted = list(dict.fromkeys(partitions))
        by_leader = await self._by_leader(wanted)
        starts, ends = await asyncio.gather(self._offsets(by_leader, _EARLIEST), self._offsets(by_leader, _LATEST))
        return {tp: LogRange(starts[tp], ends[tp]) for tp in wanted}

    async def create(self, topics: Mapping[str, tuple[int, Mapping[str, str]]], replicas: int) -> list[str]:
        """Orders these topics; answers those that were made, which leaves out what another process made meanwhile."""
        cluster = await self.cluster()
        wanted: list[Any] = [
            (name, partitions, min(replicas, cluster.brokers), [], list(config.items()))
            for name, (partitions, config) in topics.items()
        ]
        request = CreateTopicsRequest(wanted, int(self._timeout_s * 1000), False)
        answer = await self._ask(request, cluster.controller)
        made: list[str] = []
        for name, code, *text in answer.topic_errors:
            error = for_code(code)
            if error is NoError:
                made.append(name)
            elif error is not TopicAlreadyExistsError:
                raise BusError(f"Expected to make the topic {name!r}, but: {text[0] if text else error.__name__}.")
        return made

    async def visible(self, names: Iterable[str]) -> Cluster:
        """Waits until these topics have a leader in every partition. Raises BusError after 20 s."""
        wanted = set(names)
        deadline = asyncio.get_running_loop().time() + _VISIBLE_S
        for delay in backoff(0.02, 0.5):
            cluster = await self.cluster(wanted)
            ready = {name for name, leaders in cluster.topics.items() if leaders and min(leaders.values()) >= 0}
            if ready >= wanted:
                return cluster
            if asyncio.get_running_loop().time() > deadline:
                raise BusError(
                    f"Expected leaders for {sorted(wanted - ready)} within {_VISIBLE_S:g} s, but some have none."
                )
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")

    async def close(self) -> None:
        """Idempotent."""
        self._closed = True
        await self._drop()

    async def fetch(
        self, positions: Mapping[TopicPartition, int], most_bytes: int = MAX_MESSAGE_BYTES
    ) -> dict[TopicPartition, bytes]:
        """The record batches that each log has at its position now, undecoded, up to about `most_bytes` of each; the last may
        be cut off. Partitions that answer with an error (an offset out of range, a moved leader) are left out: the reader's
        next fetch meets the same."""
        found: dict[TopicPartition, bytes] = {}
        for leader, topics in (await self._by_leader(positions)).items():
            wanted = [(topic, [(p, positions[(topic, p)], most_bytes) for p in ps]) for topic, ps in topics.items()]
            answer = await self._ask(FetchRequest(0, 1, 4 * MAX_MESSAGE_BYTES, _READ_UNCOMMITTED, wanted), leader)
            for topic, partitions in answer.topics:
                for p, code, _, *rest in partitions:
                    if for_code(code) is NoError and rest[-1]:
                        found[(topic, p)] = bytes(rest[-1])
        return found

    async def _by_leader(self, partitions: Iterable[TopicPartition]) -> dict[int, dict[str, list[int]]]:
        wanted = list(partitions)
        cluster = await self.cluster({topic for topic, _ in wanted})
        by_leader: dict[int, dict[str, list[int]]] = {}
        for topic, p in wanted:
            leader = cluster.topics.get(topic, {}).get(p)
            if leader is None or leader < 0:
                what = "it does not exist" if leader is None else "it has no leader now"
                raise BusError(f"Expected the partition {topic}/{p}, but {what}.")
            by_leader.setdefault(leader, {}).setdefault(topic, []).append(p)
        return by_leader

    async def _offsets(self, by_leader: Mapping[int, Mapping[str, list[int]]], when: int) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        for leader, topics in by_leader.items():
            request = OffsetRequest(
                -1, _READ_UNCOMMITTED, [(topic, [(p, when) for p in ps]) for topic, ps in topics.items()]
            )
            answer = await self._ask(request, leader)
            for topic, partitions in answer.topics:
                for p, code, _, offset in partitions:
                    if (error := for_code(code)) is not NoError:
                        raise BusError(
                            f"Expected the offsets of {topic}/{p}, but the broker answered {error.__name__}."
                        )
                    found[(topic, p)] = offset
        return found

    async def _ask(self, request: Any, node: int | None = None) -> Any:
        try:
            client = await self._connected()
            async with asyncio.timeout(self._timeout_s):
                return await client.send(client.get_random_node() if node is None else node, request)
        except (KafkaError, OSError, TimeoutError) as e:
            # Started afresh next time: this client knows brokers only by addresses that may be gone for good.
            await self._drop()
            raise BusError(f"Expected an answer from Kafka, but: {type(e).__name__} {e}") from e

    async def _connected(self) -> AIOKafkaClient:
        async with self._connecting:
            if self._closed:
                raise BusError("Expected an open bus, but it was closed.")
            if self._client is None:
                client = AIOKafkaClient(**self._options, request_timeout_ms=int(self._timeout_s * 1000))
                try:
                    await client.bootstrap()
                    # A broker that we have not met answers only after the first full metadata round.
                    await client.force_metadata_update()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

"""The bus to look at and to throw something onto, for whoever builds on a laptop. Exists only under `handrail up`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from handrail_contracts import topics
from handrail_contracts.commands import DevRecordRequest
from handrail_contracts.model import iso
from handrail_contracts.topics import Topic
from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.application.ports import Views
from handrail_runtime.ports import Bus, BusError, OffsetOutOfRange, Outgoing, Record, TopicPartition

WHOLE_BYTES = 64 * 1024
TEXT_CHARS = 4_000
READ_S = 2.0


class Dev:
    """Reads the ends of topics and sends records as they are. Nothing of it counts: positions are nobody's, and what was sent
    is not remembered under a key, because sending the same twice is what one may want to try."""

    def __init__(self, bus: Bus, views: Views, tenant: str) -> None:
        self._bus, self._views, self._tenant = bus, views, tenant

    async def topics(self) -> dict[str, Any]:
        """Every topic that the bus has, those of the agents last."""
        items = [await self._topic(topic) for topic in await self._known()]
        return {"items": [each for each in items if each["partitions"] > 0], "next_cursor": None}

    async def records(self, name: str, limit: int) -> dict[str, Any]:
        """The newest records of a topic, newest first. Raises Refusal for a topic that is not ours."""
        topic = await self._named(name)
        try:
            found = await self._newest(topic.name, limit)
        except OffsetOutOfRange:
            found = await self._newest(topic.name, limit)  # the log was trimmed between asking and reading
        found.sort(key=lambda r: (r.timestamp_ms, r.partition, r.offset), reverse=True)
        return {"items": [_shown(r) for r in found[:limit]], "next_cursor": None}

    async def send(self, name: str, asked: DevRecordRequest) -> dict[str, Any]:
        """Puts a record onto a topic. Raises Refusal for one that the bus does not take."""
        topic = await self._named(name)
        headers = [(key, value.encode()) for key, value in asked.headers.items()]
        key = asked.key.encode() if asked.key is not None else None
        producer = await self._bus.producer()
        try:
            [refused] = await producer.send([Outgoing(topic.name, key, asked.text.encode(), headers, asked.partition)])
        finally:
            await producer.close()
        if refused is not None:
            raise Refusal("unavailable" if refused.transient else "validation", str(refused))
        return {"topic": topic.name}

    async def _known(self) -> Sequence[Topic]:
        agents = sorted({row["name"] for row in await self._views.agents(self._tenant)})
        return [*topics.TOPICS, *(topics.tasks(name) for name in agents)]

    async def _named(self, name: str) -> Topic:
        topic = next((topic for topic in await self._known() if topic.name == name), None)
        if topic is None or await self._bus.partitions(name) == 0:
            raise Refusal("not-found", f"Expected a topic of GET /dev/topics, but found {quote(name)}.")
        return topic

    async def _topic(self, topic: Topic) -> dict[str, Any]:
        held = await self._bus.ranges(await self._partitions(topic.name))
        return {
            "topic": topic.name,
            "why": topic.why,
            "key": topic.key.value,
            "payload": list(topic.payload),
            "partitions": len(held),
            "records": sum(each.end - each.start for each in held.values()),
        }

    async def _partitions(self, name: str) -> list[TopicPartition]:
        return [(name, p) for p in range(await self._bus.partitions(name))]

    async def _newest(self, name: str, limit: int) -> list[Record]:
        held = await self._bus.ranges(await self._partitions(name))
        begin = {tp: max(each.start, each.end - limit) for tp, each in held.items() if each.end > each.start}
        wanted = sum(held[tp].end - at for tp, at in begin.items())
        found: list[Record] = []
        if not begin:
            return found
        reader = await self._bus.reader()
        try:
            reader.assign(dict(begin))
            async with asyncio.timeout(READ_S):
                while len(found) < wanted:
                    found += await reader.read(wanted, READ_S)
        except TimeoutError:
            pass  # what came is shown
        except BusError as e:
            if not e.transient:
                raise
        finally:
            await reader.close()
        return found


def _shown(r: Record) -> dict[str, Any]:
    value, text, cut = _read(r.value or b"")
    return {
        "partition": r.partition,
        "offset": r.offset,
        "at": iso(r.timestamp_ms),
        "key": None if r.key is None else r.key.decode("utf-8", "replace"),
        "headers": {name: header.decode("utf-8", "replace") for name, header in r.headers},
        "bytes": len(r.value or b""),
        "value": value,
        "text": text,
        "truncated": cut,
    }


def _read(value: bytes) -> tuple[Any, str | None, bool]:
    if len(value) <= WHOLE_BYTES:
        try:
            return orjson.loads(value), None, False
        except orjson.JSONDecodeError:
            pass
    text = value[: TEXT_CHARS * 4].decode("utf-8", "replace")[:TEXT_CHARS]
    return None, text, len(value) > len(text.encode())

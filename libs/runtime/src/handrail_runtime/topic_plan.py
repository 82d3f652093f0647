"""How our topics are made on a bus: the table of contracts as `Bus.ensure_topics` takes it."""

from __future__ import annotations

from collections.abc import Iterable

from handrail_contracts.topics import TOPICS, Topic

MAX_MESSAGE_BYTES = 5 * 1024 * 1024
"""`max.message.bytes` of our topics: a value of 4 MiB with its headers fits."""


def topic_plan(partitions: int, topics: Iterable[Topic] = TOPICS) -> dict[str, tuple[int, dict[str, str]]]:
    """Name -> (partitions, config) for `ensure_topics`. `partitions` is P; topics that are not co-partitioned get one.
    For an agent: `topic_plan(P, [tasks("hardware_procurement_bot")])`."""
    return {
        topic.name: (
            partitions if topic.co_partitioned else 1,
            {
                "cleanup.policy": "delete",
                "retention.ms": str(topic.retention_ms),
                "max.message.bytes": str(MAX_MESSAGE_BYTES),
            },
        )
        for topic in topics
    }

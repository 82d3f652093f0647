"""Which partition Kafka's default partitioner puts a key into, so that both buses agree.

Source: MurmurHash2 as in Kafka's Java client (`Utils.murmur2`), by the implementation that aiokafka ships.
"""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, count: int) -> int:
    """0 to `count` - 1."""
    return (int(murmur2(key)) & 0x7FFF_FFFF) % count

"""The fixtures themselves: what other integration tests may rely on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from tests.engines import database_of
from tests.mock_kafka import MockKafka


async def test_databases_are_empty_and_apart(
    postgres_dsn: str, empty_database: str, make_database: Callable[[], Awaitable[str]]
) -> None:
    dsns = [postgres_dsn, empty_database, await make_database(), await make_database()]
    assert len({database_of(dsn) for dsn in dsns}) == 4
    for dsn in dsns[1:]:
        connection = await asyncpg.connect(dsn)
        try:
            assert await connection.fetchval("SELECT current_database()") == database_of(dsn)
            assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
            await connection.execute("CREATE TABLE mine (n int)")
        finally:
            await connection.close()


async def test_redis_answers(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.ping()


@pytest.mark.kafka
async def test_kafka_answers(kafka_bootstrap: str) -> None:
    client = AIOKafkaClient(bootstrap_servers=kafka_bootstrap)
    await client.bootstrap()
    try:
        assert client.cluster.brokers()
    finally:
        await client.close()


async def test_the_mock_cluster_carries_records_and_faults(mock_kafka: MockKafka) -> None:
    await mock_kafka.create_topic("fixture", 2)
    await mock_kafka.set_leader("fixture", 0, 2)
    producer = AIOKafkaProducer(bootstrap_servers=mock_kafka.bootstrap, retry_backoff_ms=10)
    consumer = AIOKafkaConsumer(
        "fixture", bootstrap_servers=mock_kafka.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=10
    )
    await producer.start()
    try:
        await mock_kafka.push_errors(0, 7, 7)  # Produce answers REQUEST_TIMED_OUT twice, then works
        for value in (b"1", b"2", b"3"):
            await producer.send_and_wait("fixture", value, partition=0)
        await mock_kafka.delete_records("fixture", 0, 2)
        await consumer.start()
        assert (await consumer.getone()).value == b"3"
    finally:
        await consumer.stop()
        await producer.stop()


async def test_the_mock_cluster_refuses_connections_to_a_broker_that_is_down(mock_kafka: MockKafka) -> None:
    first = mock_kafka.bootstrap.split(",")[0]
    await mock_kafka.set_down(1)
    try:
        client = AIOKafkaClient(bootstrap_servers=first)
        with pytest.raises(KafkaError):
            await client.bootstrap()
        await client.close()
    finally:
        await mock_kafka.set_up(1)
    with pytest.raises(RuntimeError, match="broker_set_down"):
        await mock_kafka.set_down(9)

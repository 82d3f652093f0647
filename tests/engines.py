"""The engines that integration tests run on: one of each per session, started when first asked for.

A URL from the environment wins (HANDRAIL_TEST_POSTGRES, HANDRAIL_TEST_REDIS, HANDRAIL_TEST_KAFKA), else a container
where Docker answers, else the engines of `handrail.engines` on this machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from handrail.engines import kafka
from handrail.engines.errors import EngineError
from handrail.engines.kafka import LocalKafka
from handrail.engines.postgres import LocalPostgres
from handrail.engines.valkey import LocalValkey
from tests import mock_kafka
from tests.mock_kafka import MockKafka

# The images that docker-compose.yml runs.
POSTGRES_IMAGE = "postgres:18-alpine"
VALKEY_IMAGE = "valkey/valkey:9-alpine"
KAFKA_IMAGE = "apache/kafka:4.3.1"


class Engines:
    """Where each engine of this session is. `origins` says which ones were used and where they came from."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._found: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.mock: MockKafka | None = None

    async def postgres(self) -> str:
        """A DSN with the right to create databases; `fresh_database` makes them."""
        return await self._once("postgres", "HANDRAIL_TEST_POSTGRES", self._start_postgres)

    async def redis(self) -> str:
        """The URL of a Redis or Valkey, as redis-py reads it."""
        return await self._once("redis", "HANDRAIL_TEST_REDIS", self._start_valkey)

    async def kafka(self) -> str:
        """The bootstrap servers of a real Kafka that has no topics of ours yet."""
        return await self._once("kafka", "HANDRAIL_TEST_KAFKA", self._start_kafka)

    async def mock_kafka(self) -> MockKafka:
        """librdkafka's mock cluster of three brokers."""
        if self.mock is None:
            self.mock = await MockKafka.start()
            self._stack.push_async_callback(self.mock.stop)
            self.origins["mock kafka"] = "librdkafka"
        return self.mock

    async def close(self) -> None:
        """Stop whatever was started, last first."""
        await self._stack.aclose()

    async def _once(self, name: str, variable: str, start: Callable[[], Any]) -> str:
        async with self._turn:
            if name not in self._found:
                if given := os.environ.get(variable):
                    self._found[name], self.origins[name] = given, variable
                else:
                    self._found[name] = await start()
                    self.origins[name] = "container" if docker_answers() else "local"
            return self._found[name]

    async def _start_postgres(self) -> str:
        if docker_answers():
            from testcontainers.postgres import PostgresContainer

            container = await self._enter(PostgresContainer(POSTGRES_IMAGE, driver=None))
            return str(container.get_connection_url())
        server = await LocalPostgres.start(self._root / "postgres")
        self._stack.push_async_callback(server.stop)
        return server.dsn

    async def _start_valkey(self) -> str:
        if docker_answers():
            from testcontainers.redis import RedisContainer

            container = await self._enter(RedisContainer(VALKEY_IMAGE))
            return f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"
        server = await LocalValkey.start(self._root / "valkey")
        self._stack.push_async_callback(server.stop)
        return server.url

    async def _start_kafka(self) -> str:
        if docker_answers():
            from testcontainers.kafka import KafkaContainer

            container = await self._enter(KafkaContainer(KAFKA_IMAGE).with_kraft())
            return str(container.get_bootstrap_server())
        broker = await LocalKafka.start(self._root / "kafka", on_progress=print)
        self._stack.push_async_callback(broker.stop)
        return broker.bootstrap_servers

    async def _enter(self, container: Any) -> Any:
        await asyncio.to_thread(container.start)
        self._stack.push_async_callback(asyncio.to_thread, container.stop)
        return container


async def fresh_database(server: str, *, template: str | None = None) -> str:
    """Create an empty database (or a copy of the database `template`) on `server`, a DSN; return its DSN."""
    name = f"test_{uuid4().hex[:12]}"
    copy = f' TEMPLATE "{template}"' if template else ""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"{copy}')
    finally:
        await connection.close()
    return dsn_of(server, name)


async def drop_database(server: str, dsn: str) -> None:
    """Remove a database, whoever is still connected to it. Idempotent."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{database_of(dsn)}" WITH (FORCE)')
    finally:
        await connection.close()


def database_of(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")


def dsn_of(server: str, database: str) -> str:
    """`server` with another database; the socket directory in its query stays."""
    return urlunsplit(urlsplit(server)._replace(path="/" + quote(database)))


@cache
def missing(engine: str) -> str | None:
    """Why tests that need this engine cannot run here, None if they can."""
    if engine == "kafka" and not os.environ.get("HANDRAIL_TEST_KAFKA") and not docker_answers():
        return kafka.unavailable_reason()
    if engine == "mock_kafka" and mock_kafka.library() is None:
        return "Expected librdkafka from the wheel 'confluent-kafka', but it is not installed."
    if engine == "chromium" and chromium() is None:
        return (
            "Expected Chromium (chromium or google-chrome on the PATH, or HANDRAIL_TEST_CHROMIUM), but it is not here."
        )
    return None


def chromium() -> str | None:
    """Where the browser is: HANDRAIL_TEST_CHROMIUM, else what is on the PATH."""
    named = os.environ.get("HANDRAIL_TEST_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome")
    return named or next(filter(None, map(shutil.which, names)), None)


def required(engine: str) -> bool:
    """Whether HANDRAIL_REQUIRE (names, comma separated) makes this engine's absence a failure."""
    return engine in os.environ.get("HANDRAIL_REQUIRE", "").replace(" ", "").split(",")


@cache
def docker_answers() -> bool:
    """Whether a Docker engine can be reached from here."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        return False


@asynccontextmanager
async def running(engine: Any, data: Path, **options: Any) -> AsyncGenerator[Any]:
    """An engine of `handrail.engines` for the length of a block."""
    server = await engine.start(data, **options)
    try:
        yield server
    finally:
        await server.stop()


async def refusal(start: Any, kind: type[EngineError]) -> str:
    """The one line that a start is refused with."""
    with pytest.raises(kind) as caught:
        await start
    line = str(caught.value)
    assert line.startswith("Expected ")
    assert "\n" not in line
    return line

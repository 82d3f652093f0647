"""Apache Kafka without Docker: what it keeps, and what a machine that lacks something is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.engines import refusal, running

from handrail.engines import kafka, kafka_jars
from handrail.engines.addresses import free_port
from handrail.engines.errors import (
    EngineStartFailed,
    EngineUnavailable,
)
from handrail.engines.kafka import LocalKafka


@pytest.mark.kafka
async def test_kafka_keeps_topics_and_records_over_restarts(tmp_path: Path) -> None:
    async with running(LocalKafka, tmp_path) as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        await admin.create_topics([NewTopic("kept", num_partitions=3, replication_factor=1)])
        await admin.close()
        for mode in ("fast", "kill"):
            producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
            await producer.start()
            await producer.send_and_wait("kept", mode.encode(), partition=1)
            await producer.stop()
            await broker.restart(mode)
        assert await records(broker, "kept", 2) == [b"fast", b"kill"]
    async with running(LocalKafka, tmp_path) as broker:
        assert await records(broker, "kept", 2) == [b"fast", b"kill"]


async def records(broker: LocalKafka, topic: str, count: int) -> list[bytes | None]:
    partition = TopicPartition(topic, 1)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await asyncio.wait_for(consumer.getone(), 30)).value for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.mark.kafka
async def test_kafkas_two_listeners_never_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may name the clients' port once more when it is asked for the controller's: nobody listens there yet."""
    twice = free_port()
    named = [twice, twice, free_port(besides=(twice,))]
    monkeypatch.setattr(kafka, "free_port", lambda besides=(): next(p for p in named if p not in besides))
    async with running(LocalKafka, tmp_path) as broker:
        assert broker.port == twice


def test_a_free_port_is_none_of_those_spoken_for() -> None:
    left = set(range(32_768, 65_536, 64)) | set(range(32_769, 65_536, 64))
    assert free_port(besides=set(range(65_536)) - left) in left


@pytest.mark.kafka
async def test_kafka_makes_no_topic_by_itself(kafka_bootstrap: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, request_timeout_ms=2000)
    await producer.start()
    try:
        with pytest.raises(Exception, match=r"(?i)timeout|unknown"):
            await producer.send_and_wait("never-made", b"x")
    finally:
        await producer.stop()


@pytest.mark.kafka
async def test_kafka_tells_why_it_would_not_start(tmp_path: Path) -> None:
    line = await refusal(LocalKafka.start(tmp_path, settings={"num.io.threads": "many"}), EngineStartFailed)
    assert "Invalid value many for configuration num.io.threads" in line


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A PATH with only what is put there, and an empty cache."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def put(name: str, script: str) -> Path:
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
        return tools / name

    return put


JAVA_17 = """echo 'openjdk version "17.0.9" 2023-10-17' >&2"""


async def test_no_java_is_one_clear_line(bare_machine: Callable[..., Path], tmp_path: Path) -> None:
    line = await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)
    assert "found no java" in line
    assert kafka.unavailable_reason() == line


async def test_a_java_that_is_too_old_is_named(bare_machine: Callable[..., Path], tmp_path: Path) -> None:
    bare_machine("java", """echo 'openjdk version "1.8.0_392"' >&2""")
    line = await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)
    assert "is Java 8" in line
    assert kafka.unavailable_reason() == line


async def test_a_java_that_does_not_run_is_named(bare_machine: Callable[..., Path], tmp_path: Path) -> None:
    bare_machine("java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1")
    assert "did not tell its version" in await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)


async def test_no_maven_is_one_clear_line(bare_machine: Callable[..., Path], tmp_path: Path) -> None:
    bare_machine("java", JAVA_17)
    assert "found no mvn" in await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)
    assert "found no mvn" in (kafka.unavailable_reason() or "")


@pytest.mark.kafka
async def test_a_repository_out_of_reach_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own Maven, sent to a port where nobody listens."""
    home = tmp_path / "home"
    (home / ".m2").mkdir(parents=True)
    mirror = f"<mirror><id>gone</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:{free_port()}</url></mirror>"
    (home / ".m2" / "settings.xml").write_text(f"<settings><mirrors>{mirror}</mirrors></settings>")
    monkeypatch.setenv("MAVEN_OPTS", f"-Duser.home={home}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    line = await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)
    assert "Connect to the network" in line
    assert not kafka_jars.cached()


async def test_libraries_that_are_not_the_expected_ones_are_refused(
    bare_machine: Callable[..., Path], tmp_path: Path
) -> None:
    name = next(iter(kafka_jars._digests()))
    bare_machine("java", JAVA_17)
    fake = f"""for word in "$@"; do case "$word" in -DoutputDirectory=*) out="${{word#*=}}";; esac; done
    /bin/mkdir -p "$out"; echo forged > "$out/{name}" """
    bare_machine("mvn", fake)
    assert name in await refusal(LocalKafka.start(tmp_path / "data"), EngineUnavailable)
    assert not kafka_jars.cached()


async def test_the_pinned_version_is_the_one_that_maven_is_asked_for() -> None:
    pom = (kafka_jars.DIST / "pom.xml").read_text()
    assert f"<kafka.version>{kafka_jars.VERSION}</kafka.version>" in pom
    assert f"kafka_2.13-{kafka_jars.VERSION}.jar" in kafka_jars._digests()

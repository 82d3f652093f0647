"""A real Apache Kafka on this machine without Docker: one KRaft node on loopback, its data kept.

The libraries come from Maven once (`kafka_jars`). The first start on a Java also writes a class data archive, which
halves every later start (measured: 2.1 s to 1.15 s on two cores).
"""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from handrail.engines import kafka_jars
from handrail.engines.addresses import LOOPBACK, free_port, require_free
from handrail.engines.child import Child
from handrail.engines.datadir import DataDirectory, storage_error
from handrail.engines.errors import DiskFull, EngineError, EngineStartFailed, EngineUnavailable, PortTaken
from handrail.engines.java import Java, find_java
from handrail.engines.kafka_jars import NAME

_NEEDS_BYTES = 64 * 1024 * 1024
_READY_TIMEOUT_S = 90.0

Mode = Literal["fast", "kill"]

# What a laptop accepts: half a dozen threads less than the defaults, 8 MB for the log cleaner instead of 128, one replica.
SETTINGS: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that was killed may register again only when its old session has ended: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # The controller writes nothing when there is nothing to say: a record every half second is a quarter of an idle broker.
    "metadata.max.idle.interval.ms": "0",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.segment.bytes": "134217728",
    "message.max.bytes": "9437184",
}

# One compiler and one collector thread's worth of JVM: with the optimizing compiler a broker spends more CPU on compiling
# than on records for its first minutes, and a heap of this size is collected in a few ms by one thread.
JVM: tuple[str, ...] = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)


def unavailable_reason() -> str | None:
    """Why `LocalKafka.start` cannot work here, in one line; None if nothing speaks against it. Looks, fetches nothing."""
    try:
        find_java()
    except EngineUnavailable as error:
        return str(error)
    if not kafka_jars.cached() and shutil.which("mvn") is None:
        return f"Expected Maven to fetch {NAME} {kafka_jars.VERSION}, but found no mvn on the PATH."
    return None


class LocalKafka:
    """A Kafka broker that belongs to this process and dies with it."""

    def __init__(
        self, directory: DataDirectory, java: Java, jars: Path, port: int, settings: Mapping[str, str], jvm: list[str]
    ) -> None:
        self._directory = directory
        self._java = java
        self._jars = jars
        self._settings = settings
        self._jvm = jvm
        self._child: Child | None = None
        self.port = port

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        on_progress: Callable[[str], None] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a broker that answers metadata requests; its topics and records live in `data_dir`.

        Args:
            data_dir: made and formatted if missing; a second start finds the first one's topics, also after a crash.
            port: loopback port of the clients; None takes a free one.
            on_progress: told, in one sentence, about what takes longer than a moment.
            settings: broker properties laid over `SETTINGS`.

        Raises an `EngineError` with one line: no or too old Java, no Maven, repository out of reach, port taken, second
        instance, disk full or not writable, or the broker's own failure.
        """
        directory = DataDirectory.claim(data_dir, engine=NAME, needs_bytes=_NEEDS_BYTES)
        try:
            java = await asyncio.to_thread(find_java)
            jars = await kafka_jars.fetch(on_progress)
            archive = await cls._class_archive(java, jars, on_progress)
            await directory.end_orphan(signal.SIGTERM)
            broker = cls(directory, java, jars, port or free_port(), settings or {}, archive)
            await broker._launch()
        except BaseException as error:
            directory.release()
            if isinstance(error, OSError):
                raise storage_error(NAME, data_dir, error) from error
            raise
        return broker

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: `127.0.0.1:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id, the last one if it has ended."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> Path:
        """The file that the broker writes its warnings to."""
        return self._directory.path / "kafka.log"

    async def stop(self) -> None:
        """Shut down cleanly and give the data directory up. Idempotent."""
        await self._end("fast")
        self._directory.release()

    async def kill(self) -> None:
        """SIGKILL; the data directory stays ours for `restart`."""
        await self._end("kill")

    async def restart(self, mode: Mode = "fast") -> None:
        """Stop (`kill`: by SIGKILL) and start again on the same port and data."""
        await self._end(mode)
        await self._launch()

    async def wait(self) -> int:
        """Return the exit status once the broker that runs now has ended, whoever ended it."""
        assert self._child is not None
        return await self._child.wait()

    async def _end(self, mode: Mode) -> None:
        if self._child is not None:
            await self._child.end(signal.SIGTERM if mode == "fast" else signal.SIGKILL, timeout_s=20.0)

    async def _launch(self) -> None:
        require_free(self.port, NAME)
        for attempt in (1, 2, 3):
            self._write_properties()
            if not (self._directory.path / "log" / "meta.properties").exists():
                await self._format()
            try:
                return await self._run()
            except PortTaken:
                # Unless it is the clients' port, somebody was quicker on the controller's, and there are others.
                require_free(self.port, NAME)
                if attempt == 3:
                    raise
        return None

    async def _run(self) -> None:
        child = await self._java_child("kafka.Kafka", "server.properties")
        self._child = child
        try:
            self._directory.remember(child.pid)
            await child.until_ready(self._answers, engine=NAME, timeout_s=_READY_TIMEOUT_S)
        except BaseException as error:
            await self._end("kill")
            if isinstance(error, EngineStartFailed):
                raise self._diagnosis(child, "it gave up while starting") from error
            raise

    def _write_properties(self) -> None:
        controller = free_port(besides=(self.port,))
        properties = {
            **SETTINGS,
            **self._settings,
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            # Relative to the data directory, whose own name may hold commas and letters this format cannot.
            "log.dirs": "log",
        }
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self._directory.path / "server.properties").write_text(text, encoding="ascii")

    async def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # Written as one word: an id may begin with a dash.
        arguments = ["format", f"--cluster-id={cluster_id}", "--config", "server.properties"]
        child = await self._java_child("kafka.tools.StorageTool", *arguments)
        status = await child.wait()
        if status != 0:
            raise self._diagnosis(child, f"formatting its storage ended with status {status}")

    async def _java_child(self, main_class: str, *arguments: str) -> Child:
        logging = f"-Dlog4j2.configurationFile={(kafka_jars.DIST / 'log4j2.xml').as_uri()}"
        command = [str(self._java.program), *JVM, logging, *self._jvm, "-cp", _class_path(self._jars), main_class]
        return await Child.spawn(
            [*command, *arguments], log=self.log, death_signal=signal.SIGKILL, cwd=self._directory.path
        )

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=5000)
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()

    def _diagnosis(self, child: Child, found: str) -> EngineError:
        output = child.output()
        if "No space left on device" in output:
            return DiskFull(NAME, self._directory.path)
        if "Address already in use" in output:
            return PortTaken(NAME, self.port)
        reason = re.search(r"(?:Exception|Error): (.+)", output) or re.search(r"(.*\S)\s*\Z", output)
        return EngineStartFailed(NAME, f"{found}: {reason.group(1)[:300]}" if reason else found, self.log)

    @classmethod
    async def _class_archive(cls, java: Java, jars: Path, on_progress: Callable[[str], None] | None) -> list[str]:
        """The JVM options that use the class data archive of this Java; made by a broker of its own if it is missing."""
        archive = jars.with_name(f"classes-{java.fingerprint}.jsa")
        if not archive.exists():
            async with kafka_jars.exclusive(on_progress):
                if not archive.exists():
                    if on_progress:
                        on_progress(f"Preparing quick starts of {NAME} (once for each Java)")
                    await cls._make_archive(java, jars, archive)
        # An empty file notes that this Java makes none.
        return ["-Xshare:auto", f"-XX:SharedArchiveFile={archive}"] if archive.stat().st_size else []

    @classmethod
    async def _make_archive(cls, java: Java, jars: Path, archive: Path) -> None:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix="training-") as scratch:
            directory = DataDirectory.claim(Path(scratch) / "data", engine=NAME, needs_bytes=_NEEDS_BYTES)
            draft = Path(scratch) / "classes.jsa"
            trainee = cls(directory, java, jars, free_port(), {}, [])
            try:
                trainee._write_properties()
                await trainee._format()
                trainee._jvm = [f"-XX:ArchiveClassesAtExit={draft}"]
                await trainee._launch()
            except EngineStartFailed:
                # Kafka itself may still run on a Java that knows no such archives: the caller's own start will tell.
                pass
            finally:
                await trainee.stop()
            if not draft.exists():
                draft.touch()
            draft.replace(archive)


def _class_path(jars: Path) -> str:
    # Sorted: the archive holds for exactly this class path.
    return ":".join(str(path) for path in sorted(jars.glob("*.jar")))

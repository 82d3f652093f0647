"""librdkafka's mock cluster in a process of its own: the Kafka protocol with faults on demand, no Java.

Run as a script it serves one JSON command per line on stdin, `["name", argument, …]`, and answers each with
`{"ok": …}` or `{"error": "…"}`. It ends when stdin does, so it never outlives its owner. `MockKafka` is the owner's side.

Its limits: one member per consumer group, no transactions, no admin requests (`create_topic` here instead), and a
waiting fetch is not woken, so consumers need `fetch_max_wait_ms` of 10 or less.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

_PRODUCER = 0


def library() -> Path | None:
    """The librdkafka inside the `confluent-kafka` wheel, if it is installed."""
    spec = importlib.util.find_spec("confluent_kafka")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for pattern in ("../confluent_kafka.libs/librdkafka*", ".dylibs/librdkafka*"):
            if found := sorted(Path(root).glob(pattern)):
                return found[0].resolve()
    return None


class MockKafka:
    """A running mock cluster. `bootstrap` is what clients connect to; brokers are numbered from 1."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.bootstrap = ""

    @classmethod
    async def start(cls, brokers: int = 3) -> MockKafka:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            str(library()),
            str(brokers),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        cluster = cls(process)
        cluster.bootstrap = await cluster._call("bootstraps")
        return cluster

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def create_topic(self, name: str, partitions: int, replicas: int = 1) -> None:
        await self._call("topic_create", name, partitions, replicas)

    async def set_down(self, broker: int) -> None:
        """Close this broker's connections and refuse new ones."""
        await self._call("broker_set_down", broker)

    async def set_up(self, broker: int) -> None:
        await self._call("broker_set_up", broker)

    async def set_delay(self, broker: int, milliseconds: int) -> None:
        """Answer every request to this broker that much later."""
        await self._call("broker_set_rtt", broker, milliseconds)

    async def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition; -1 leaves it without a leader."""
        await self._call("partition_set_leader", topic, partition, broker)

    async def set_topic_error(self, topic: str, code: int) -> None:
        """Answer metadata requests about this topic with an error code, as 3 (unknown topic or partition); 0 ends it."""
        await self._call("topic_set_error", topic, code)

    async def set_coordinator(self, group: str, broker: int) -> None:
        await self._call("coordinator_set", "group", group, broker)

    async def push_errors(self, api_key: int, *codes: int) -> None:
        """Answer the next requests of this kind (0 Produce, 1 Fetch, 3 Metadata …) with these error codes."""
        await self._call("push_errors", api_key, *codes)

    async def clear_errors(self, api_key: int) -> None:
        await self._call("clear_request_errors", api_key)

    async def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        await self._call("partition_delete_records", topic, partition, before_offset)

    async def _call(self, name: str, *arguments: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            await stdin.drain()
            line = await stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the mock cluster has ended"}
        if "error" in answer:
            raise RuntimeError(f"Expected the mock cluster to do {name}{arguments}, but: {answer['error']}")
        return answer["ok"]


class _Cluster:
    """The C side. Every function is declared: on 64 bits a pointer passed undeclared is cut in half."""

    def __init__(self, path: str, brokers: int) -> None:
        self._lib = ctypes.CDLL(path)
        reason = ctypes.create_string_buffer(512)
        self._lib.rd_kafka_conf_new.restype = ctypes.c_void_p
        set_option = self._lib.rd_kafka_conf_set
        set_option.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        options = self._lib.rd_kafka_conf_new()
        set_option(options, b"log_level", b"3", reason, len(reason))  # not its warning that nobody is to be dialled
        self._lib.rd_kafka_new.restype = ctypes.c_void_p
        self._lib.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        client = self._lib.rd_kafka_new(_PRODUCER, options, reason, len(reason))
        if not client:
            raise RuntimeError(reason.value.decode())
        self._lib.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        self._lib.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._cluster = self._lib.rd_kafka_mock_cluster_new(client, brokers)
        if not self._cluster:
            raise RuntimeError("the mock cluster could not be made")
        self._lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self._lib.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]

    def call(self, name: str, *arguments: Any) -> Any:
        if name == "bootstraps":
            return self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        if name == "push_errors":
            api_key, *codes = arguments
            errors = (ctypes.c_int * len(codes))(*codes)
            push = self._lib.rd_kafka_mock_push_request_errors_array
            push.restype = None
            push.argtypes = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.c_void_p]
            return push(self._cluster, api_key, len(codes), errors)
        function = getattr(self._lib, f"rd_kafka_mock_{name}")
        kinds: dict[str, list[Any]] = {
            "topic_create": [ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
            "broker_set_down": [ctypes.c_int32],
            "broker_set_up": [ctypes.c_int32],
            "broker_set_rtt": [ctypes.c_int32, ctypes.c_int],
            "partition_set_leader": [ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32],
            "coordinator_set": [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32],
            "topic_set_error": [ctypes.c_char_p, ctypes.c_int],
            "clear_request_errors": [ctypes.c_int16],
            "partition_delete_records": [ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64],
        }
        function.argtypes = [ctypes.c_void_p, *kinds[name]]
        function.restype = None if name in ("clear_request_errors", "topic_set_error") else ctypes.c_int
        status = function(self._cluster, *(a.encode() if isinstance(a, str) else a for a in arguments))
        if status:
            raise RuntimeError(f"librdkafka error {status}")
        return None


def main() -> None:
    cluster = _Cluster(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": cluster.call(name, *arguments)}
        except (RuntimeError, KeyError, ctypes.ArgumentError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""A whole Handrail for a test: in one process of its own (`Up`), or as services on real Kafka (`handrail.stack.Stack`)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg

from handrail_contracts.view import WorkflowView
from handrail_runtime.ports import Bus
from handrail_sdk.client import Client
from tests.torture.checker.invariants import judge
from tests.torture.checker.reading import read
from tests.waiting import wait_until


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on now.

    They lie below those that systems give to outgoing connections, so that nobody takes one while its server is away.
    """
    while True:
        first = random.randrange(10_000, 32_000)
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


class Up:
    """`handrail up` as a user runs it: a process of its own, killed and started again at will."""

    def __init__(self, data: Path, port: int | None = None, **environment: str) -> None:
        self.data, self.port = data, port or free_port()
        self.environment = {"HANDRAIL_AGENTS__DEMO_DELAY_MS": "0", **environment}
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _spawn(self, log: int) -> asyncio.subprocess.Process:
        command = ("-m", "handrail", "up", "--data", str(self.data), "--port", str(self.port))
        environment = {**os.environ, **self.environment}
        return await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=log, stderr=log)

    async def refused(self) -> tuple[int, str]:
        """Runs it to its end; answers the exit code and all that it said."""
        with tempfile.TemporaryFile() as log:
            process = await self._spawn(log.fileno())
            code = await asyncio.wait_for(process.wait(), 60)
            log.seek(0)
            return code, log.read().decode()

    async def start(self) -> None:
        """Returns when it is ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "up.log").open("ab") as log:
            process = self.process = await self._spawn(log.fileno())

        async def ready() -> bool:
            if process.returncode is not None:
                raise AssertionError(
                    f"handrail up ended with {process.returncode}: {(self.data / 'up.log').read_text()[-2000:]}"
                )
            try:
                async with Client(self.url) as client:
                    return (await client.ready()).get("status") == "ready"
            except Exception:  # noqa: BLE001  not yet
                return False

        await wait_until(ready, description="handrail up is ready", timeout_s=60)

    async def kill(self) -> None:
        """SIGKILL to the whole process."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


async def check_invariants(connection: asyncpg.Connection[Any], bus: Bus | None = None) -> Counter[str]:
    """What holds whatever was killed: dense seqs, terminal is terminal, no effect twice, views fold, and all that the one
    checker asks (of what was published too, where there is a bus to read). Answers statuses."""
    judge(await read(connection, bus, quiet=False))
    statuses: Counter[str] = Counter()
    rows = await connection.fetch(
        "SELECT trace_id, seq, type, data::text AS data FROM handrail.journal ORDER BY trace_id, seq"
    )
    by_trace: dict[str, list[Any]] = {}
    for r in rows:
        by_trace.setdefault(r["trace_id"], []).append(r)
    import orjson

    for trace_id, events in by_trace.items():
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), trace_id
        view = WorkflowView(trace_id)
        for i, e in enumerate(events):
            assert not view.ended, f"{trace_id}: {e['type']} after the end at {i}"
            view.apply(orjson.loads(e["data"]))
        statuses[view.status] += 1
    doubled = await connection.fetch(
        "SELECT effect_key, kind, count(*) FROM simulators.ledger WHERE effect_key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert not doubled, f"effects that happened twice: {doubled[:5]}"
    for r in await connection.fetch(
        "SELECT p, array_agg(pseq ORDER BY pseq) AS pseqs FROM handrail.journal GROUP BY p"
    ):
        assert list(r["pseqs"]) == list(range(1, len(r["pseqs"]) + 1)), f"partition {r['p']} has a hole"
    return statuses


def script(id_: str, *after: str, **inputs: Any) -> dict[str, Any]:
    """A node of the simulator with effects in the ledger."""
    return {
        "id": id_,
        "agent": "simulator",
        "action": "script",
        "depends_on": list(after),
        "effect_class": "idempotent",
        "retry": {"max_attempts": 50, "initial_delay_s": 0.05, "max_delay_s": 0.5},
        "timeouts": {"lease_s": 1.0},
        "inputs": inputs,
    }


DIAMOND = [script("a"), script("b", "a"), script("c", "a"), script("d", "a"), script("e", "b", "c", "d")]

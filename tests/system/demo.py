"""`handrail up` as a process of its own, and the `handrail` command beside it, as a person would use both."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from handrail.engines.addresses import free_port
from tests.waiting import wait_until

_COMMAND = (sys.executable, "-c", "from handrail.cli.main import main; main()")
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Demo:
    """The system in one process. `kill` and `start` again: it finds what it had."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDRAIL_")}
        return {**kept, "HANDRAIL_URL": self.url, "HANDRAIL_ACTOR": "ada", "COLUMNS": "100"}

    async def start(self) -> None:
        log = (self.data.parent / "up.log").open("ab")
        words = ("up", "--data", str(self.data), "--port", str(self.port), "--delay-ms", "20")
        # A group of its own, so that Ctrl-C in the test run does not kill the engines before their owner.
        self._process = await asyncio.create_subprocess_exec(
            *_COMMAND, *words, stdout=log, stderr=log, env=self.environment(), start_new_session=True
        )
        log.close()
        await wait_until(self._ready, description=f"handrail up is ready, see {log.name}", timeout_s=READY_S)

    async def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (
            f"handrail up ended: {(self.data.parent / 'up.log').read_text()[-3000:]}"
        )
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
                return (await http.get(self.url + "/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        """`kill -9` of the whole process: nothing is said, nothing is flushed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, sig: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(sig)
            await asyncio.wait_for(self._process.wait(), 60)
        self._process = None

    async def spawn(self, *words: str) -> asyncio.subprocess.Process:
        """A command that goes on in the background, its output to be read."""
        return await asyncio.create_subprocess_exec(
            *_COMMAND, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self.environment(),
        )  # fmt: skip

    async def handrail(self, *words: str) -> Shown:
        """Runs a command to its end."""
        process = await self.spawn(*words)
        try:
            out, err = await asyncio.wait_for(process.communicate(), 120)
        except TimeoutError:
            process.kill()
            raise
        return Shown(process.returncode or 0, out.decode(), err.decode())

"""The `handrail` command beside a `handrail up`, as a person uses both."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from handrail_sdk.client import Client
from tests.system.house import Up
from tests.waiting import wait_until

_COMMAND = (sys.executable, "-m", "handrail")


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
    """The system in one process, and commands to it. `kill` and `start` again: it finds what it had."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._up = Up(data, HANDRAIL_AGENTS__DEMO_DELAY_MS="20")
        self.url = self._up.url

    async def start(self) -> None:
        await self._up.start()
        await wait_until(self._ready, description="every part of handrail up is ready", timeout_s=60)

    async def _ready(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
            return (await http.get(self.url + "/readyz")).status_code == 200

    async def kill(self) -> None:
        """`kill -9` of the whole process: nothing is said, nothing is flushed."""
        await self._up.kill()

    async def stop(self) -> None:
        await self._up.stop()

    def client(self) -> Client:
        """A Python client of it."""
        return Client(self.url)

    async def ledger(self, trace_id: str) -> list[dict[str, Any]]:
        """What the simulators did for a workflow."""
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
            return (await http.get(f"{self.url}/simulators/ledger", params={"trace_id": trace_id})).json()

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDRAIL_")}
        return {**kept, "HANDRAIL_URL": self.url, "HANDRAIL_ACTOR": "ada", "COLUMNS": "100"}

    async def spawn(self, *words: str, **environment: str) -> asyncio.subprocess.Process:
        """A command that goes on in the background, its output to be read."""
        pipe = asyncio.subprocess.PIPE
        nothing = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            *_COMMAND, *words, stdin=nothing, stdout=pipe, stderr=pipe, env={**self.environment(), **environment}
        )

    async def handrail(self, *words: str, **environment: str) -> Shown:
        """Runs a command to its end."""
        process = await self.spawn(*words, **environment)
        try:
            out, err = await asyncio.wait_for(process.communicate(), 120)
        except TimeoutError:
            process.kill()
            raise
        return Shown(process.returncode or 0, out.decode(), err.decode())

"""The stack of processes: what ends before what."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.system.house import free_port

from handrail.engines.addresses import LOOPBACK
from handrail.stack import Options, Part, Stack
from handrail_runtime.errors import Misconfigured

SERVICE = """
import signal, sys
def ends(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, ends)
print("up", flush=True)
while True:
    signal.pause()
"""


async def test_the_streams_are_told_before_the_gateway_that_forwards_them_ends(tmp_path: Path) -> None:
    stack, said = Stack(Options(tmp_path)), tmp_path / "said"
    for name in ("orchestrator-1", "agents-1", "notifier", "gateway"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVICE, str(said), name, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        stack.parts[name] = Part(name, "", 0, {}, process)
    await stack.stop()
    assert said.read_text().split() == ["notifier", "gateway", "agents-1", "orchestrator-1"]


ANSWERS = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
SLEEPS = "import time; time.sleep(60)"


async def test_a_service_is_ready_when_it_answers_itself(tmp_path: Path) -> None:
    port = free_port()
    ours = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ANSWERS, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await Stack(Options(tmp_path))._ready(Part("gateway", "", port, {}, ours), LOOPBACK)  # pyright: ignore[reportPrivateUsage]
    finally:
        ours.kill()
        await ours.wait()


async def test_who_answers_in_the_name_of_a_service_is_found_out(tmp_path: Path) -> None:
    port = free_port()
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ANSWERS, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    ours = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPS)
    stack, part = Stack(Options(tmp_path)), Part("gateway", "", port, {}, ours)
    try:
        with pytest.raises(
            Misconfigured, match=rf"Expected gateway to answer at http://127.0.0.1:{port}/readyz, but another"
        ):
            await stack._ready(part, LOOPBACK)  # pyright: ignore[reportPrivateUsage]
        ours.kill()
        await ours.wait()
        with pytest.raises(Misconfigured):
            await stack._ready(part, LOOPBACK)  # pyright: ignore[reportPrivateUsage]
    finally:
        other.kill()
        await other.wait()

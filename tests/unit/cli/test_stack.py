"""The stack of processes: what ends before what."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from handrail.stack import Options, Part, Stack

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

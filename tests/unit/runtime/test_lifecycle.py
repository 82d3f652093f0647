"""The life of a service: exit codes, signals, draining, supervision, backoff."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest
from tests.system.house import free_port

from handrail_runtime.errors import PartEnded
from handrail_runtime.lifecycle import backoff, supervise
from handrail_runtime.testing import wait_until

_SMALL = Path(__file__).with_name("small_service.py")


@asynccontextmanager
async def _process(behaviour: str, port: int = 0) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_SMALL),
        str(port),
        behaviour,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def _ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_service_and_exits_with_0(sig: signal.Signals) -> None:
    async with _process("well") as process:
        assert await _line(process) == "running"
        process.send_signal(sig)
        code, out, _ = await _ended(process)
    assert code == 0
    assert sorted(out.split()) == ["drained", "stopped"]


@pytest.mark.parametrize(
    ("behaviour", "code", "told"),
    [
        ("misconfigured", 78, "Expected a topic, but there is none. Make one."),
        ("start fails", 1, "no database"),
        ("run fails", 1, "part broke"),
        ("run returns", 1, "service_ended_unasked"),
    ],
)
async def test_a_service_that_ends_by_itself_says_why_and_does_not_exit_with_0(
    behaviour: str, code: int, told: str
) -> None:
    async with _process(behaviour) as process:
        returned, out, err = await _ended(process)
    assert returned == code
    assert told in err or told in out
    if behaviour != "misconfigured":
        assert "stopped" in out, "what was begun is let go of"


@pytest.mark.parametrize("behaviour", ["run hangs", "stop fails", "stop is cancelled"])
async def test_a_drain_that_does_not_end_well_is_not_a_0(behaviour: str) -> None:
    async with _process(behaviour) as process:
        assert await _line(process) == "running"
        process.terminate()
        code, _, _ = await _ended(process)
    assert code == 1


async def test_a_signal_while_starting_ends_it() -> None:
    async with _process("start hangs") as process:
        assert await _line(process) == "starting"
        process.terminate()
        code, out, _ = await _ended(process)
    assert (code, out.split()) == (0, ["stopped"])


async def test_a_second_signal_does_not_wait_for_the_drain() -> None:
    async with _process("run hangs long") as process:
        assert await _line(process) == "running"
        process.terminate()
        assert await _line(process) == "stopped"
        process.terminate()
        code, _, _ = await _ended(process)
    assert code == -signal.SIGKILL


async def test_health_is_served_while_it_runs_and_a_taken_port_is_one_plain_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with _process("well", port) as process:
            code, _, err = await _ended(process)
        assert code == 78
        assert f"Expected the port {port} on 127.0.0.1 to be free" in err
    port = free_port()
    async with _process("well", port) as process:
        assert await _line(process) == "running"
        assert await _status(port, "/healthz") == 200
        await wait_until(lambda: _is_ready(port), description="readiness")
        process.terminate()
        assert (await _ended(process))[0] == 0


async def test_it_is_not_ready_before_it_has_started() -> None:
    port = free_port()
    async with _process("start hangs", port) as process:
        assert await _line(process) == "starting"
        assert (await _status(port, "/healthz"), await _status(port, "/readyz")) == (200, 503)


async def _status(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


async def _is_ready(port: int) -> bool:
    return await _status(port, "/readyz") == 200


# ---- supervise


async def _returns() -> None:
    await asyncio.sleep(0)


async def _raises() -> None:
    raise LookupError("lost")


class _Forever:
    def __init__(self) -> None:
        self.cleaned = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned = True


async def test_a_part_that_returns_ends_all_and_is_named() -> None:
    other = _Forever()
    with pytest.raises(PartEnded, match=r"_returns.*it returned"):
        await supervise(other.run(), _returns())
    assert other.cleaned


async def test_a_part_that_raises_ends_all_with_its_own_exception() -> None:
    other = _Forever()
    with pytest.raises(LookupError, match="lost"):
        await supervise(other.run(), _raises())
    assert other.cleaned


async def test_once_asked_to_end_parts_may_return_and_all_of_them_are_awaited() -> None:
    until = asyncio.Event()
    ended: list[int] = []

    async def part(number: int) -> None:
        await until.wait()
        for _ in range(number):
            await asyncio.sleep(0)
        ended.append(number)

    supervised = asyncio.create_task(supervise(part(1), part(5), until=until))
    await asyncio.sleep(0)
    until.set()
    await supervised
    assert sorted(ended) == [1, 5]


async def test_a_part_that_raises_while_ending_is_not_silent() -> None:
    until = asyncio.Event()
    until.set()
    with pytest.raises(LookupError):
        await supervise(_returns(), _raises(), until=until)


async def test_cancelling_the_supervisor_cancels_and_awaits_its_parts() -> None:
    parts = [_Forever(), _Forever()]
    supervised = asyncio.create_task(supervise(*(part.run() for part in parts)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    supervised.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervised
    assert [part.cleaned for part in parts] == [True, True]


# ---- backoff


def test_backoff_grows_to_its_cap_and_never_comes_together() -> None:
    delays = list(islice(backoff(0.1, 2.0), 50))
    for i, delay in enumerate(delays):
        full = min(0.1 * 2**i, 2.0)
        assert full / 2 <= delay <= full
    assert len(set(delays)) == len(delays)

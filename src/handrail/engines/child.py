"""One engine process: started so that it dies with us, logged to a file, stopped by its own pid."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from handrail.engines.errors import EngineStartFailed

_LAUNCHER = Path(__file__).with_name("launch.py")
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class RunAs:
    """The account that an engine runs as when we are root. `search`: it may walk through directories closed to it."""

    uid: int
    gid: int
    search: bool


class Child:
    """A running engine process. Belongs to the event loop that spawned it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self._process = process
        self._log_start = log_start
        self.log = log

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        log: Path,
        death_signal: signal.Signals,
        run_as: RunAs | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Start `command` (absolute program first) with its output appended to `log`.

        On Linux the kernel sends it `death_signal` when the thread that runs this loop ends, however it ends. It gets a
        session of its own: Ctrl-C in a terminal reaches us first, and we stop the engines last.
        """
        uid, gid, search = (run_as.uid, run_as.gid, int(run_as.search)) if run_as else (-1, -1, 0)
        words = (os.getpid(), int(death_signal), uid, gid, search)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), *map(str, words)]
        log_fd, log_start = _open_log(log)
        try:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(log_fd)
        return cls(process, log, log_start)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs; minus the signal number if a signal ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return the exit status once the process has ended."""
        return await self._process.wait()

    async def end(self, sig: signal.Signals, *, timeout_s: float) -> None:
        """Send `sig` and wait; past `timeout_s` seconds send SIGKILL. A process that ended already is fine."""
        if self.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(sig)
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def output(self) -> str:
        """What this process has written so far, the newest 64 KiB of it."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - _TAIL_BYTES))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    async def until_ready(self, probe: Callable[[], Awaitable[bool]], *, engine: str, timeout_s: float) -> None:
        """Return when `probe` answers true; raise `EngineStartFailed` if the process ends or time runs out first."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not await probe():
            if self.returncode is not None:
                raise EngineStartFailed(engine, f"it ended with status {self.returncode}", self.log)
            if asyncio.get_running_loop().time() > deadline:
                raise EngineStartFailed(engine, f"it was not after {timeout_s:.0f} s", self.log)
            await asyncio.sleep(0.02)


def _open_log(log: Path) -> tuple[int, int]:
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return fd, os.lseek(fd, 0, os.SEEK_END)

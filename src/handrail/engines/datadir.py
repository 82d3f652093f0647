"""A data directory: made, checked, claimed by one instance at a time, and cleared of an engine that lost its owner."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, cast

import psutil

from handrail.engines.errors import DataDirectoryInUse, DiskFull, StorageUnusable

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DataDirectory:
    """A directory that this process has claimed for one engine. The claim ends with `release` or with the process."""

    def __init__(self, path: Path, engine: str, lock_fd: int) -> None:
        self.path = path
        self.engine = engine
        self._lock_fd: int | None = lock_fd

    @classmethod
    def claim(cls, path: Path, *, engine: str, needs_bytes: int) -> Self:
        """Make `path` if need be and claim it.

        Raises `DataDirectoryInUse` when another instance holds it (also one in this process), `DiskFull` when fewer than
        `needs_bytes` are free, `StorageUnusable` when it cannot be created or written.
        """
        path = path.expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_fd = os.open(path / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(engine, path, error) from error
        try:
            cls._lock(lock_fd, engine, path)
            if shutil.disk_usage(path).free < needs_bytes:
                raise DiskFull(engine, path)
            _write_all(lock_fd, str(os.getpid()))
        except BaseException as error:
            os.close(lock_fd)
            if isinstance(error, OSError):
                raise storage_error(engine, path, error) from error
            raise
        return cls(path, engine, lock_fd)

    @staticmethod
    def _lock(lock_fd: int, engine: str, path: Path) -> None:
        try:
            # flock, not lockf: a second claim inside this very process must be refused too.
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", errors="replace").strip()
            raise DataDirectoryInUse(engine, path, int(holder) if holder.isdigit() else None) from error

    def remember(self, pid: int) -> None:
        """Note which engine process belongs to this directory, for whoever claims it after a crash of ours."""
        record = {"pid": pid, "started": psutil.Process(pid).create_time()}
        (self.path / "engine.json").write_text(json.dumps(record))

    def orphan(self) -> psutil.Process | None:
        """The engine of an earlier owner that still runs, if there is one."""
        try:
            record = cast("dict[str, Any]", json.loads((self.path / "engine.json").read_text()))
            process = psutil.Process(int(record["pid"]))
            # The start time tells our engine from a stranger that was given the same pid later.
            same = abs(process.create_time() - float(record["started"])) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None

    async def end_orphan(self, sig: signal.Signals) -> None:
        """End the engine of an earlier owner: it usually is dying already; past 1 s send `sig`, past 10 s SIGKILL."""
        for patience_s, next_sig in ((1.0, sig), (9.0, signal.SIGKILL), (5.0, None)):
            deadline = asyncio.get_running_loop().time() + patience_s
            while (process := self.orphan()) is not None:
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.02)
            else:
                return
            if next_sig is not None:
                with suppress(psutil.Error):
                    process.send_signal(next_sig)
        holder = self.orphan()
        raise DataDirectoryInUse(self.engine, self.path, holder.pid if holder else None)

    def release(self) -> None:
        """Give the directory up. Idempotent."""
        if self._lock_fd is not None:
            (self.path / "engine.json").unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None


def storage_error(engine: str, path: Path, error: OSError) -> StorageUnusable:
    """The one-line error for an `OSError` met below `path`."""
    if error.errno in _FULL:
        return DiskFull(engine, path)
    reason = error.strerror or type(error).__name__
    return StorageUnusable(
        f"Expected to write the data of {engine} to '{path}', but: {reason}. "
        f"Choose a data directory that this user may write."
    )


def _write_all(fd: int, text: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode("ascii"), 0)

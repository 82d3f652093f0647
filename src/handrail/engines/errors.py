"""What can go wrong when an engine starts. Every message is one line: expected, found, what to do.

EngineError
├── EngineUnavailable        this machine lacks something (Java, Maven, a wheel, the network)
├── PortTaken                somebody else listens there
├── DataDirectoryInUse       a second instance on the same data
├── StorageUnusable          the data directory cannot be created or written, or holds another version's data
│   └── DiskFull
└── EngineStartFailed        the engine itself gave up; its log says why
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class EngineError(Exception):
    """An engine could not be started or used; `str()` is always a single line.

    `retriable` says whether the same call may succeed later without anybody changing this machine's setup.
    """

    retriable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class EngineUnavailable(EngineError):
    """Something that the engine needs is not on this machine."""


class PortTaken(EngineError):
    """The asked port is in use by another process."""

    retriable = True

    def __init__(self, engine: str, port: int) -> None:
        super().__init__(
            f"Expected port {port} on 127.0.0.1 to be free for {engine}, but another process listens there. "
            f"Stop that process or choose another port."
        )
        self.port = port


class DataDirectoryInUse(EngineError):
    """Another running instance owns the data directory."""

    retriable = True

    def __init__(self, engine: str, path: Path, holder: int | None) -> None:
        owner = f"process {holder}" if holder is not None else "another process"
        super().__init__(
            f"Expected to be the only {engine} on '{path}', but {owner} is using it. "
            f"Stop that one first, or choose another data directory."
        )
        self.holder = holder


class StorageUnusable(EngineError):
    """The data directory cannot be used as it is."""


class DiskFull(StorageUnusable):
    """There is no room left where the data lives."""

    retriable = True

    def __init__(self, engine: str, path: Path) -> None:
        super().__init__(
            f"Expected room for the data of {engine} in '{path}', but the disk is full. Free some space and start again."
        )


class EngineStartFailed(EngineError):
    """The engine was started and did not become ready."""

    def __init__(self, engine: str, found: str, log: Path) -> None:
        super().__init__(f"Expected {engine} to become ready, but {found}. Read '{log}'.")
        self.log = log

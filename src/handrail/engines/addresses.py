"""Where an engine listens: loopback ports, and socket directories whose paths fit into a socket address."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from handrail.engines.errors import PortTaken, StorageUnusable
from handrail_runtime.errors import Misconfigured

LOOPBACK = "127.0.0.1"

# sun_path less the closing NUL: 108 bytes on Linux, 104 on macOS.
SOCKET_PATH_LIMIT_BYTES = 107 if sys.platform.startswith("linux") else 103


def free_port(besides: Collection[int] = ()) -> int:
    """A loopback port that nobody listens on right now, and none of `besides`, which are spoken for and not yet open."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in besides:
            return port


def require_free(port: int, engine: str) -> None:
    """Raise `PortTaken` if somebody listens on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that connections of an earlier run that linger in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(engine, port) from error


def require_port(host: str, port: int) -> None:
    """Raise `Misconfigured` if we cannot serve there: told before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as e:
        raise Misconfigured(
            f"Expected port {port} on {host} to be free, but: {e.strerror}. Stop what listens there, or choose another with --port."
        ) from e


def socket_directory(preferred: Path, socket_name: str, *, owners: tuple[int, ...] = ()) -> Path:
    """`preferred`, or, when `socket_name` in it would not fit into a socket address or not into a URL, a short directory
    that stands for it: the same one every time, private to this user (or to one of `owners`, user ids). Created if
    missing.
    """
    # Commas separate hosts in a DSN and directories in the server's setting; the rest is plain caution.
    plain = re.fullmatch(r"[\w/.+ ~-]+", str(preferred)) is not None
    if plain and len(os.fsencode(preferred / socket_name)) <= SOCKET_PATH_LIMIT_BYTES:
        preferred.mkdir(parents=True, exist_ok=True, mode=0o700)
        return preferred
    digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:12]
    name = f"handrail-{os.getuid()}-{digest}"
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if base and Path(base).is_dir():
            short = Path(base) / name
            if len(os.fsencode(short / socket_name)) <= SOCKET_PATH_LIMIT_BYTES:
                return _private(short, (os.getuid(), *owners))
    raise StorageUnusable(
        f"Expected a socket path of at most {SOCKET_PATH_LIMIT_BYTES} bytes, but '{preferred}' is too long "
        f"or has signs that an address cannot hold, and no temporary directory is shorter. Choose another data directory."
    )


def _private(path: Path, owners: tuple[int, ...]) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    # In a shared temporary directory somebody else could have made it first, to listen in our place.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o022:
        raise StorageUnusable(
            f"Expected '{path}' to be a private directory of this user, but it is not. Remove it and start again."
        )
    return path

"""uvicorn as we run it: told when to stop instead of catching signals, and problems also for what it cannot parse."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from handrail_runtime.http_head import BoundedHead

KEEP_ALIVE_S = 75
DRAIN_S = 10


class Protocol(BoundedHead, HttpToolsProtocol):
    """HTTP/1.1 with a bounded head."""


class Server(uvicorn.Server):
    """A uvicorn server whose signals belong to the caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leaves signals alone."""
        yield


def server(app: Any) -> Server:
    """A server for `app`; run it with `serve(sockets=[…])`, stop it by `should_exit = True`."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody here asks for a client's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        backlog=2048,
    )
    return Server(config)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens nowhere yet, bound. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.strip("[]"), port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock

"""uvicorn as we run it: told when to stop instead of catching signals, and problems also for what it cannot parse."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from handrail_contracts.problems import problem

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
DRAIN_S = 10


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with a bounded head."""

    _head_bytes = 0

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("The head of the request is too large.")

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered as a problem, too."""
        detail = f"Expected an HTTP/1.1 request with a head of at most {MAX_HEAD_BYTES} bytes, but it cannot be read."
        body = orjson.dumps(problem("malformed-request", detail))
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nx-content-type-options: nosniff\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()


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

"""A client that costs next to nothing, so that a benchmark measures the server: one kept-alive connection, HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Refused(RuntimeError):
    """An answer that is not 2xx."""


class Connection:
    """One request at a time. Raises Refused on an answer that is not 2xx."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> Any:
        """POSTs JSON and answers JSON (None for an empty body)."""
        head = b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        answer = await self.send(head % (path.encode(), self._where(), len(body)) + body)
        return json.loads(answer) if answer else None

    async def get(self, path: str) -> bytes:
        """GETs; answers the body as it came."""
        return await self.send(b"GET %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (path.encode(), self._where()))

    async def send(self, request: bytes) -> bytes:
        """Sends a whole request, answers the body."""
        reader, writer = await self._open()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            answer = await _chunked(reader)
        else:
            at = head.find(b"content-length:")
            length = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
            answer = await reader.readexactly(length)
        if not 200 <= status < 300:
            raise Refused(f"{status}: {answer[:200].decode(errors='replace')}")
        return answer

    def _where(self) -> bytes:
        return f"{self._host}:{self._port}".encode()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server closes what was idle for some seconds; that is only seen at the end of what it sent.
        if self._reader is None or self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)
        return self._reader, self._writer

    def close(self) -> None:
        """Lets go."""
        if self._writer is not None:
            self._writer.close()


class Connections:
    """A connection for whoever asks, used again and again: as many as there are callers at once."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[Connection] = []

    async def post(self, path: str, body: bytes) -> Any:
        """As Connection.post."""
        return await self._with(lambda c: c.post(path, body))

    async def get(self, path: str) -> bytes:
        """As Connection.get."""
        return await self._with(lambda c: c.get(path))

    async def _with(self, ask: Any) -> Any:
        connection = self._free.pop() if self._free else Connection(self._host, self._port)
        answer = await ask(connection)
        self._free.append(connection)
        return answer

    def close(self) -> None:
        """Lets go of all."""
        for connection in self._free:
            connection.close()


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


async def until(host: str, port: int, trace_id: str, kinds: frozenset[str]) -> str:
    """Reads a workflow's stream until an event of one of these types; answers it."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            f"GET /workflows/{trace_id}/events HTTP/1.1\r\nhost: {host}:{port}\r\naccept: text/event-stream\r\n\r\n".encode()
        )
        last = ""
        while True:
            line = await reader.readline()
            if not line:
                raise RuntimeError(f"the stream of {trace_id} was cut after {last}")
            if line.startswith(b"event: "):
                last = line[7:].strip().decode()
                if last in kinds:
                    return last
    finally:
        writer.close()

"""A client that costs next to nothing, so that the benchmark measures the server: one kept-alive connection, HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Connection:
    """One request at a time. Raises RuntimeError on an answer that is not 2xx."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> dict[str, Any]:
        """POSTs JSON and answers JSON."""
        reader, writer = await self._open()
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (path.encode(), self._host.encode(), self._port, len(body))
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        answer = await reader.readexactly(length)
        if not 200 <= status < 300:
            raise RuntimeError(f"{status}: {answer[:200].decode(errors='replace')}")
        return json.loads(answer)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._reader, self._writer

    def close(self) -> None:
        """Lets go."""
        if self._writer is not None:
            self._writer.close()


async def until_end(host: str, port: int, trace_id: str) -> str:
    """Reads a workflow's stream until its terminal event; answers that event's type."""
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
                name = line[7:].strip().decode()
                if name == "end":
                    return last
                last = name
    finally:
        writer.close()

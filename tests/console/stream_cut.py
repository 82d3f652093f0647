"""Between browser and Handrail: cuts the live streams and lets everything else through, as when only the notifier is gone."""

from __future__ import annotations

import asyncio
import re

_STREAM = re.compile(rb"GET (/workflows/[^/ ]+/events|/inbox/events|/events)[ ?]")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class StreamCut:
    """An HTTP/1.1 proxy on loopback, one request a connection. `gone = True` breaks all streams and refuses new ones."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.Task[None]] = set()
        self._gone = False
        self.refused = 0
        self.url = ""

    async def __aenter__(self) -> StreamCut:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Breaks all streams, and those to come."""
        self._gone = True
        for stream in self._streams:
            stream.cancel()

    def mend(self) -> None:
        """Streams open again."""
        self._gone = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        task = asyncio.current_task()
        assert task is not None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if _STREAM.match(head):
                if self._gone:
                    self.refused += 1
                    return
                self._streams.add(task)
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length.group(1))) if length else b""
            answer, far = await asyncio.open_connection("127.0.0.1", self._target)
            far.write(re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head[:-4]) + b"\r\nConnection: close\r\n\r\n" + body)
            while piece := await answer.read(65536):
                writer.write(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either end has left, or the test cut the line
        finally:
            self._streams.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort() if self._gone else end.close()

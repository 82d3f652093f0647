"""The streams through the gateway to a notifier: bytes as they come, and the end of one side is the end of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, running_gateway
from tests.waiting import wait_until


class Notifier:
    """A notifier on a real socket that says what the test wants and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.open = 0
        self.go = asyncio.Event()
        self.status = b"200 OK"
        self.headers = b"content-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
        self.parts = [b"retry: 2000\n\n", b"id: 1\nevent: X\ndata: {}\n\n"]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append((head[0], headers, body))
            writer.write(b"HTTP/1.1 " + self.status + b"\r\n" + self.headers)
            if b"content-length" in self.headers or self.status.startswith(b"204"):
                writer.write(b"\r\n" + b"".join(self.parts))
                return
            writer.write(b"transfer-encoding: chunked\r\n\r\n")
            for i, part in enumerate(self.parts):
                if i:
                    await self.go.wait()
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
            gone = await reader.read(1)
            assert gone == b""
        finally:
            self.open -= 1
            writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dsn(postgres_server: str) -> AsyncGenerator[str]:
    made = await fresh_database(postgres_server)
    yield made
    await drop_database(postgres_server, made)


@pytest_asyncio.fixture(loop_scope="session")
async def both(dsn: str) -> AsyncGenerator[tuple[Rig, Notifier]]:
    notifier = Notifier()
    server = await asyncio.start_server(notifier, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running_gateway(dsn, notifier_url=f"http://127.0.0.1:{port}") as rig:
        yield rig, notifier
    server.close()


async def test_bytes_go_through_as_they_come_and_headers_stay(both: tuple[Rig, Notifier]) -> None:
    rig, notifier = both
    path = "/workflows/t%201/events?after=5&format=agui"
    async with rig.client.stream("GET", path, headers={"Last-Event-ID": "17", "Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        parts = answer.aiter_raw()
        # The second part is not sent before the first has arrived: nothing is kept back.
        assert await anext(parts) == notifier.parts[0]
        notifier.go.set()
        assert await anext(parts) == notifier.parts[1]
    [(line, headers, _)] = notifier.asked
    assert line == f"GET {path} HTTP/1.1"
    assert headers["last-event-id"] == "17"


async def test_a_client_that_leaves_ends_the_stream_behind(both: tuple[Rig, Notifier]) -> None:
    rig, notifier = both
    notifier.go.set()
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET /inbox/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(notifier.parts[0])
        assert notifier.open == 1
        writer.close()
        await wait_until(lambda: notifier.open == 0, description="the notifier's side to be closed")


async def test_answers_that_are_no_stream_pass_through(both: tuple[Rig, Notifier]) -> None:
    rig, notifier = both
    notifier.status, notifier.headers, notifier.parts = b"204 No Content", b"", []
    answer = await rig.client.get("/workflows/over/events")
    assert (answer.status_code, answer.content) == (204, b"")
    problem = b'{"type":"/problems/workflow-not-found"}'
    notifier.status, notifier.parts = b"404 Not Found", [problem]
    notifier.headers = b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(problem)
    answer = await rig.client.get("/workflows/nobody/events")
    assert (answer.status_code, answer.content) == (404, problem)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_bodies_and_methods_pass_through(both: tuple[Rig, Notifier]) -> None:
    rig, notifier = both
    notifier.headers, notifier.parts = b"content-type: application/json\r\ncontent-length: 2\r\n", [b"{}"]
    for path in ("/ag-ui", "/sse-tickets"):
        answer = await rig.client.post(path, json={"threadId": "t"})
        assert answer.json() == {}
        line, headers, body = notifier.asked[-1]
        assert (line, body) == (f"POST {path} HTTP/1.1", b'{"threadId":"t"}')
        assert headers["content-type"] == "application/json"


async def test_a_notifier_that_is_down_is_told_as_a_problem(both: tuple[Rig, Notifier], dsn: str) -> None:
    async with running_gateway(dsn, notifier_url="http://127.0.0.1:1") as rig:
        answer = await rig.client.get("/events?trace_id=a")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert int(answer.headers["retry-after"]) > 0


async def test_everything_else_is_answered_here_and_strangers_never_get_through(both: tuple[Rig, Notifier]) -> None:
    rig, notifier = both
    assert (await rig.get("/workflows")).status_code == 200
    assert (await rig.client.get("/inbox/events", headers={"Origin": "http://evil.example"})).status_code == 403
    assert (await rig.client.get("/workflows/x/events", headers={"Host": "evil.example"})).status_code == 403
    assert notifier.asked == []


async def test_without_a_notifier_the_streams_are_not_here(dsn: str) -> None:
    async with running_gateway(dsn) as rig:
        answer: Any = await rig.client.get("/workflows/x/events")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")

"""A Handrail for clients to be tested against: it speaks CONTRACT sections 1 to 7 over a real socket and, on order,
misbehaves as networks and servers do. It decides nothing: its journal is given, its answers to orders are queued.

`fake.scripts` holds how the next connections of the stream behave, one each; when it is empty they behave well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from handrail_contracts.events import TERMINAL_EVENTS
from handrail_contracts.problems import problem
from handrail_contracts.view import WorkflowView

Event = dict[str, Any]
RETRY_MS = 5


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any = None


@dataclass
class Answer:
    """What it gets. `cut`: the request is taken in full, and the connection breaks before an answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False


class Wire:
    """One open connection of the stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.chunked = False

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
        if status != 204:
            lines.append("transfer-encoding: chunked")
            self.chunked = True
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if status == 200:
            await self.send(f"retry: {RETRY_MS}\n\n")

    async def send(self, text: str) -> None:
        data = text.encode()
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def finish(self) -> None:
        if self.chunked and not self.writer.transport.is_closing():
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()

    async def event(self, event: Event) -> None:
        await self.send(frame(event))

    async def cut(self) -> None:
        """Breaks the connection as a dead network does: no farewell, whatever was under way is lost."""
        self.writer.transport.abort()


def frame(event: Event) -> str:
    """An event as CONTRACT section 4 puts it on the wire."""
    return f"id: {event['seq']}\nevent: {event['event_type']}\ndata: {json.dumps(event)}\n\n"


Script = Callable[["FakeHandrail", Wire, int], Awaitable[None]]


class FakeHandrail:
    """`async with FakeHandrail(events) as fake: Client(fake.url)`. The first `visible` events (all, by default) have
    happened; `await fake.publish()` makes more of them happen."""

    def __init__(self, events: list[Event], *, visible: int | None = None) -> None:
        self.events = events
        self.trace_id: str = events[0]["trace_id"] if events else "none"
        self.visible = len(events) if visible is None else visible
        self.scripts: deque[Script] = deque()
        self.answers: dict[tuple[str, str], deque[Answer]] = {}
        self.requests: list[Request] = []
        self.positions: list[str | None] = []
        self.open = 0
        self.stream_path = f"/workflows/{self.trace_id}/events"
        self._news = asyncio.Condition()

    async def __aenter__(self) -> FakeHandrail:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=2**24)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def journal(self) -> list[Event]:
        return self.events[: self.visible]

    @property
    def over(self) -> bool:
        return bool(self.journal) and self.journal[-1]["event_type"] in TERMINAL_EVENTS

    def state(self) -> dict[str, Any]:
        return json.loads(json.dumps(WorkflowView(self.trace_id).apply_all(self.journal).state()))

    async def publish(self, count: int | None = None) -> None:
        """`count` more events happen; all that are left where None."""
        async with self._news:
            self.visible = len(self.events) if count is None else min(len(self.events), self.visible + count)
            self._news.notify_all()

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        """Queues what the next requests get; the last one stays."""
        self.answers.setdefault((method, path), deque()).extend(answers)

    async def follow(self, wire: Wire, after: int) -> None:
        """What a good stream does from `after` on: every event as it happens, then `end`."""
        sent = after
        while True:
            async with self._news:
                while self.visible <= sent and not self.over:
                    await self._news.wait()
            for event in self.events[sent : self.visible]:
                await wire.event(event)
            sent = max(sent, self.visible)
            if self.over:
                await wire.send("event: end\ndata: {}\n\n")
                return

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        request = Request(method, unquote(url.path), parse_qs(url.query), headers, json.loads(raw) if raw else None)
        self.requests.append(request)
        if request.path == self.stream_path and ("GET", request.path) not in self.answers:
            await self._stream(Wire(writer), headers.get("last-event-id"), reader)
            return False
        answer = self._answer(request)
        if answer.cut:
            writer.transport.abort()
            return False
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        kind = "application/problem+json" if answer.status >= 400 else "application/json"
        fields = {"content-type": kind, "content-length": str(len(body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in fields.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await writer.drain()
        return True

    def _answer(self, request: Request) -> Answer:
        queued = self.answers.get((request.method, request.path))
        if queued:
            return queued.popleft() if len(queued) > 1 else queued[0]
        parts = request.path.strip("/").split("/")
        if request.method == "GET" and parts == ["dead-letters"]:
            return Answer(body={"items": [], "next_cursor": None})
        if request.method == "GET" and parts[:2] == ["workflows", self.trace_id]:
            if parts[2:] == ["state"]:
                history = {"history": self.journal} if request.query.get("history") else {}
                return Answer(body={**self.state(), **history})
            if parts[2:] == ["journal"]:
                after, limit = int(request.query["after"][0]), int(request.query.get("limit", ["100"])[0])
                items = self.journal[after : after + limit]
                more = str(after + limit) if after + limit < self.visible else None
                return Answer(body={"items": items, "next_cursor": more})
        return Answer(404, problem("workflow-not-found", "Expected a workflow, but there is none of this id."))

    async def _stream(self, wire: Wire, position: str | None, reader: asyncio.StreamReader) -> None:
        self.positions.append(position)
        script = self.scripts.popleft() if self.scripts else well_behaved

        async def play() -> None:
            await script(self, wire, int(position or 0))
            await wire.finish()

        playing, gone = asyncio.ensure_future(play()), asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait((playing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            playing.cancel()
            gone.cancel()
            await asyncio.gather(playing, gone, return_exceptions=True)


async def well_behaved(fake: FakeHandrail, wire: Wire, after: int) -> None:
    """CONTRACT section 4."""
    if fake.over and after >= fake.visible:
        await wire.head(204)
    elif after > fake.visible:
        await trimmed(fake, wire, after)
    else:
        await wire.head()
        await fake.follow(wire, after)


async def trimmed(fake: FakeHandrail, wire: Wire, after: int) -> None:
    """The position is not to be served: reset, snapshot, and on from there."""
    await wire.head()
    reset = {"reason": "too-old", "state": f"/workflows/{fake.trace_id}/state"}
    await wire.send(f"event: reset\ndata: {json.dumps(reset)}\n\n")
    at = fake.visible
    await wire.send(f"id: {at}\nevent: snapshot\ndata: {json.dumps(fake.state())}\n\n")
    await fake.follow(wire, at)


def older(back: int) -> Script:
    """Reset and a snapshot of so many events before the position, and on from there: a server that is behind another."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        at = max(0, after - back)
        state = WorkflowView(fake.trace_id).apply_all(fake.events[:at]).state()
        await wire.head()
        await wire.send('event: reset\ndata: {"reason":"ahead-of-stream","state":"/x"}\n\n')
        await wire.send(f"id: {at}\nevent: snapshot\ndata: {json.dumps(state)}\n\n")
        await fake.follow(wire, at)

    return script


def cut_after(count: int, *, half: bool = False) -> Script:
    """Breaks after `count` events; `half`: in the middle of the frame after them."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        await wire.head()
        for event in fake.journal[after : after + count]:
            await wire.event(event)
        if half and after + count < fake.visible:
            await wire.send(frame(fake.events[after + count])[:-20])
        await asyncio.sleep(0)
        await wire.cut()

    return script


def bye_after(count: int) -> Script:
    """A server that shuts down politely."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        await wire.head()
        for event in fake.journal[after : after + count]:
            await wire.event(event)
        await wire.send(f"event: bye\nretry: {RETRY_MS}\ndata: {{}}\n\n")

    return script


def without(*missing: int) -> Script:
    """A server with a hole: these seqs never come on this connection."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        await wire.head()
        for event in fake.journal[after:]:
            if event["seq"] not in missing:
                await wire.event(event)
        await wire.send("event: end\ndata: {}\n\n")

    return script


def from_before(back: int) -> Script:
    """A server that sends again what the client has."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        await wire.head()
        await fake.follow(wire, max(0, after - back))

    return script


def refused(status: int, code: str, **headers: str) -> Script:
    """Not now."""

    async def script(fake: FakeHandrail, wire: Wire, after: int) -> None:
        await wire.head(status, "application/problem+json", **headers)
        await wire.send(json.dumps(problem(code, "Not now.")))

    return script


async def closed_at_once(fake: FakeHandrail, wire: Wire, after: int) -> None:
    """The connection is taken and dropped."""
    await wire.cut()


async def only_end(fake: FakeHandrail, wire: Wire, after: int) -> None:
    """It says that it is over and has forgotten to say how."""
    await wire.head()
    await wire.send("event: end\ndata: {}\n\n")

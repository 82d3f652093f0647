"""Large plans: 500 steps, 200 events a second, nothing falls behind; what a frame costs while panning is printed."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.rig import PATIENCE_MS, Console

pytestmark = [pytest.mark.torture, pytest.mark.timeout(400)]
expect.set_options(timeout=PATIENCE_MS * 3)
STEPS, LAYER, RATE = 500, 25, 200
AIM_MS = 10


def plan() -> list[dict[str, Any]]:
    return [
        {
            "id": f"n{i}",
            "depends_on": [f"n{i - LAYER}", f"n{i // LAYER * LAYER - 1 - i * 7 % LAYER}"] if i >= LAYER else [],
        }
        for i in range(STEPS)
    ]


def story(trace_id: str) -> list[dict[str, Any]]:
    """The events of a run of the plan: every step goes through its states."""
    nodes = [
        {
            "id": n["id"],
            "agent": "simulator",
            "action": "script",
            "depends_on": n["depends_on"],
            "state": "PENDING",
            "attempt": 0,
            "max_attempts": 3,
        }
        for n in plan()
    ]
    at = "2026-11-20T09:00:00.000Z"
    events: list[dict[str, Any]] = [
        {
            "event_type": "WORKFLOW_ACCEPTED",
            "intent": "Five hundred",
            "blueprint": None,
            "input": {},
            "labels": {},
            "status": "RUNNING",
        },
        {
            "event_type": "WORKFLOW_PLANNED",
            "nodes": nodes[:200],
            "node_count": STEPS,
            "edge_count": 0,
            "plan_digest": "sha256:0",
        },
        *({"event_type": "NODES_ADDED", "nodes": nodes[i : i + 200]} for i in range(200, STEPS, 200)),
    ]
    for node in nodes:
        states = ["PENDING", "SCHEDULED", "IN_PROGRESS", "COMPLETE"]
        for was, to in itertools.pairwise(states):
            events.append(
                {
                    "event_type": "NODE_STATE_CHANGED",
                    "node_id": node["id"],
                    "from": was,
                    "to": to,
                    "attempt": 1,
                    "started_at": at,
                }
            )
    events.append(
        {"event_type": "WORKFLOW_COMPLETED", "status": "COMPLETED", "output": None, "reason": None, "totals": {}}
    )
    return [{**e, "trace_id": trace_id, "seq": i + 1, "at": at} for i, e in enumerate(events)]


class Stream:
    """A server of one workflow whose events come at a rate of their own; everything else is Handrail's."""

    def __init__(self, console: Console, trace_id: str) -> None:
        self.console, self.events, self.trace_id = console, story(trace_id), trace_id
        self.sent = 0
        self.begin = asyncio.Event()
        self.server: asyncio.Server | None = None
        self.origin = ""

    async def __aenter__(self) -> Stream:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path == f"/workflows/{self.trace_id}/events":
                await self._stream(writer)
            elif path == f"/workflows/{self.trace_id}/state":
                await self._json(writer, self._state())
            elif path.startswith(f"/workflows/{self.trace_id}/journal"):
                await self._json(writer, {"items": self.events[:4] if "after=0" in path else [], "next_cursor": None})
            else:
                await self._pass(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the browser has left
        finally:
            writer.close()

    def _state(self) -> dict[str, Any]:
        nodes = [n for e in self.events[1:4] for n in e["nodes"]]
        shown = [{**n, "started_at": None, "finished_at": None, "output": None, "error": None} for n in nodes]
        return {
            "trace_id": self.trace_id, "status": "RUNNING", "blueprint": None, "intent": "Five hundred", "input": {},
            "labels": {}, "cursor": "4", "output": None, "reason": None, "created_at": None, "updated_at": None,
            "nodes": shown, "pauses": [],
        }  # fmt: skip

    async def _json(self, writer: asyncio.StreamWriter, value: Any) -> None:
        body = json.dumps(value).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body)
            + body
        )
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\nconnection: close\r\n\r\nretry: 2000\n\n"
        )
        await self.begin.wait()
        loop = asyncio.get_running_loop()
        began, rest = loop.time(), self.events[4:]
        while self.sent < len(rest):
            due = min(len(rest), int((loop.time() - began) * RATE) + 1)
            for event in rest[self.sent : due]:
                writer.write(
                    f"id: {event['seq']}\nevent: {event['event_type']}\ndata: {json.dumps(event)}\n\n".encode()
                )
            self.sent = due
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(b"event: end\ndata: {}\n\n")
        await writer.drain()

    async def _pass(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer, far = await asyncio.open_connection("127.0.0.1", self.console.up.port)
        kept = b"\r\n".join(line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:"))
        far.write(kept + b"\r\nConnection: close\r\n\r\n")
        while piece := await answer.read(65536):
            writer.write(piece)
            await writer.drain()
        far.close()


async def test_five_hundred_steps_at_two_hundred_events_a_second(console: Console) -> None:
    async with (
        Stream(console, "five-hundred") as stream,
        console.desk(url=stream.origin, width=1440, height=900) as desk,
    ):
        page = await desk.open(f"workflows/{stream.trace_id}")
        await expect(page.locator(".step").first).to_be_visible()
        pill = page.get_by_test_id("connection")
        await expect(pill).to_have_text("Live")
        behind: list[int] = []
        stream.begin.set()
        while stream.sent < len(stream.events) - 4:
            sent = stream.sent
            seen = int((await pill.get_attribute("title") or "0").split()[-1])
            behind.append(sent - (seen - 4))
            await asyncio.sleep(0.25)
        await expect(page.get_by_test_id("workflow-status")).to_have_attribute("data-status", "COMPLETED")
        memory = await page.evaluate("performance.memory?.usedJSHeapSize ?? 0")
        print(f"at {RATE} events/s: at most {max(behind)} events behind, heap {memory / 2**20:.0f} MiB")
        # Two seconds of events: further behind would grow without end.
        assert max(behind) < 2 * RATE
        assert memory < 200 * 2**20
        print(await _panned(page))


async def _panned(page: Any) -> str:
    """Drags the picture to and fro and reads the main thread's work per frame out of a trace."""
    session = await page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    done = asyncio.Event()
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: done.set())
    await session.send(
        "Tracing.start",
        {
            "traceConfig": {
                "includedCategories": ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
            }
        },
    )
    box = await page.locator(".graph").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.mouse.move(x, y)
    await page.mouse.down()
    for i in range(60):
        await page.mouse.move(x + (i % 20 - 10) * 12, y + (i % 14 - 7) * 8)
    await page.mouse.up()
    await session.send("Tracing.end")
    await done.wait()
    main = {
        (e["pid"], e["tid"])
        for e in events
        if e.get("name") == "FireAnimationFrame" or e.get("name") == "UpdateLayoutTree"
    }
    # The thread's own time: wall time would measure who else uses the machine.
    tasks = [e.get("tdur", 0) / 1000 for e in events if (e["pid"], e["tid"]) in main and e.get("name") == "RunTask"]
    frames = sum(1 for e in events if e.get("name") == "Commit" and (e["pid"], e["tid"]) in main) or 1
    return f"panning {STEPS} steps: {sum(tasks) / frames:.1f} ms of the main thread per frame over {frames} frames (aim {AIM_MS} ms)"

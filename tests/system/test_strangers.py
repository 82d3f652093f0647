"""Clients that know nothing of us follow a workflow: curl, httpx-sse, the npm package `eventsource`, AG-UI's own client."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import pytest_asyncio
from httpx_sse import aconnect_sse

from handrail_contracts.events import EventType
from handrail_contracts.view import WorkflowView
from handrail_runtime.testing import TcpProxy
from handrail_sdk.client import Client
from tests.journals import canonical
from tests.system.house import DIAMOND, Up, script
from tests.waiting import wait_until

STRANGERS = Path(__file__).parents[1] / "strangers"
INPUT = {"employee": "Ada", "department": "Engineering", "sku": "MBP-OUT-OF-STOCK", "budget": 2500}
HELD = [script("a"), script("b", "a", outcomes=["fatal:BROKEN"]), script("c", "b")]
"""It waits for a person until a test has done its worst to whoever reads it."""

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (STRANGERS / "node_modules" / "eventsource").exists(),
    reason="Node.js, or the packages of strangers, are not installed: npm ci --prefix tests/strangers",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Up]:
    up = Up(tmp_path_factory.mktemp("strangers") / "data")
    await up.start()
    yield up
    await up.stop()


async def run(*command: str) -> str:
    """The output of a command that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), 120)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, error.decode()[-2000:]
    return out.decode()


async def is_whole(up: Up, trace_id: str, events: Sequence[dict[str, Any]]) -> None:
    """Every event once, in order, and their fold is what the server says."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    async with httpx2.AsyncClient(timeout=30) as http:
        state = (await http.get(f"{up.url}/workflows/{trace_id}/state")).json()
    state.pop("history", None)
    assert canonical(WorkflowView(trace_id).apply_all(events).state()) == canonical(state)


async def started(up: Up, nodes: list[dict[str, Any]]) -> str:
    async with Client(up.url) as client:
        return (await client.start(plan={"nodes": nodes})).trace_id


async def let_go(up: Up, trace_id: str) -> None:
    """Presses the button that the held workflow waits for."""
    async with Client(up.url) as client:
        await client.wait(trace_id, until="paused", timeout_s=60)
        await client.resume(trace_id, "RES_SKIP")


async def test_curl_reads_a_workflow_to_its_end(up: Up) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    trace_id = await started(up, DIAMOND)
    text = await run("curl", "-sSN", "--max-time", "100", f"{up.url}/workflows/{trace_id}/events")
    blocks = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in text.split("\n\n")]
    assert blocks[-2]["event"] == "end"
    await is_whole(up, trace_id, [json.loads(block["data"]) for block in blocks if "id" in block])


async def test_httpx_sse_reads_a_workflow_to_its_end(up: Up) -> None:
    trace_id = await started(up, DIAMOND)
    events: list[dict[str, Any]] = []
    async with (
        httpx.AsyncClient(timeout=60) as http,
        aconnect_sse(http, "GET", f"{up.url}/workflows/{trace_id}/events") as source,
    ):
        async for frame in source.aiter_sse():
            if frame.event in list(EventType):
                events.append(frame.json())
    await is_whole(up, trace_id, events)


@needs_node
async def test_the_npm_package_eventsource_reconnects_by_itself_without_a_hole(up: Up) -> None:
    trace_id = await started(up, HELD)
    async with TcpProxy("127.0.0.1", up.port, seed=5) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/workflows/{trace_id}/events"
        reading = asyncio.create_task(run("node", str(STRANGERS / "eventsource.mjs"), url, *EventType))
        for connection in (1, 2, 3):
            # Not as soon as it is accepted: Node's own client never ends a connect that is reset in that instant, and exits.
            await wait_until(lambda n=connection: proxy.answered >= n, description="it is connected", timeout_s=60)
            await (proxy.cut() if connection < 3 else let_go(up, trace_id))
        lines = [json.loads(line) for line in (await reading).splitlines()]
    assert {line["type"] for line in lines}.isdisjoint({"snapshot", "reset"})
    await is_whole(up, trace_id, [line["data"] for line in lines])


@needs_node
async def test_ag_uis_own_client_starts_a_workflow_answers_its_interrupt_and_runs_it_to_the_end(up: Up) -> None:
    order = json.dumps({"blueprint": "employee-onboarding", "input": INPUT})
    answer = json.dumps({"action_id": "RES_MANUAL_SKU", "input": "https://vendor.example/mbp16", "comment": "by AG-UI"})
    words = "Please onboard our new engineer"
    command = ("node", str(STRANGERS / "agui.mjs"), up.url, "agui-thread-1", words, order, answer)
    told = json.loads(await run(*command))
    assert [i["reason"] for i in told["interrupts"]] == ["handrail:failure"]
    assert told["paused"]["status"] == "PAUSED_HITL"
    assert told["last"]["outcome"] == {"type": "success"}
    async with httpx2.AsyncClient(timeout=30) as http:
        state = (await http.get(f"{up.url}/workflows/agui-thread-1/state?history=true")).json()
    history = state.pop("history")
    assert canonical(told["state"]) == canonical(state)
    [resolved] = [event for event in history if event["event_type"] == "HITL_RESOLVED"]
    assert (resolved["action_id"], resolved["channel"], resolved["comment"]) == ("RES_MANUAL_SKU", "ag-ui", "by AG-UI")


async def test_the_terminal_goes_on_over_cuts_and_speaks_plainly_into_a_pipe(up: Up) -> None:
    trace_id = await started(up, HELD)
    async with TcpProxy("127.0.0.1", up.port, seed=6) as proxy:
        command = (sys.executable, "-m", "handrail", "watch", trace_id, "--url", f"http://127.0.0.1:{proxy.port}")
        watching = asyncio.create_task(run(*command))
        await wait_until(lambda: proxy.accepted, description="it is connected", timeout_s=60)
        seen = proxy.accepted
        await proxy.cut()
        await wait_until(lambda: proxy.accepted > seen, description="it is connected again", timeout_s=60)
        await let_go(up, trace_id)
        text = await watching
    assert "\x1b" not in text
    assert text.count("Accepted workflow") == text.count("Completed with skips") == 1

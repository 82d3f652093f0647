"""The one origin of a single process, while its gateway is still starting."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx2

from handrail.origin import one_origin


async def test_whoever_comes_before_the_gateway_is_up_is_told_to_come_again() -> None:
    gateway: Any = SimpleNamespace(name="gateway", app=None, checks=dict)
    notifier: Any = SimpleNamespace(app=None)
    service: Any = one_origin(gateway, notifier, "127.0.0.1", 0)
    app = service._inner.app
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        for path in ("/readyz", "/workflows", "/inbox/events"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["type"] == "/problems/unavailable"


async def test_open_streams_hear_bye_before_the_port_closes() -> None:
    """The server waits for its streams, and only the notifier can end them."""
    stopped = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        await stopped.wait()
        await send({"type": "http.response.body", "body": b"event: bye\ndata: {}\n\n"})

    async def stop() -> None:
        stopped.set()

    async def nothing() -> None: ...

    gateway: Any = SimpleNamespace(name="gateway", app=stream, checks=dict, start=nothing, stop=nothing)
    notifier: Any = SimpleNamespace(app=stream, stop=stop)
    service: Any = one_origin(gateway, notifier, "127.0.0.1", 0)
    await service.start()
    url = f"http://127.0.0.1:{service.port}/inbox/events"
    async with httpx2.AsyncClient(timeout=30) as client, client.stream("GET", url) as answer:
        chunks = answer.aiter_text()
        said = await anext(chunks)
        stopping = asyncio.create_task(service.stop())
        async for chunk in chunks:
            said += chunk
        await stopping
    assert said.endswith("event: bye\ndata: {}\n\n")

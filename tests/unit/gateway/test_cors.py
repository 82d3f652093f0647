"""Pages of named origins at the gateway's door: permitted, told so once, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest_asyncio
from starlette.responses import JSONResponse

from handrail_gateway.entrypoints.http.door import Door
from handrail_runtime.cors import Cors

PAGE = "https://app.example"


@pytest_asyncio.fixture
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {"access-control-allow-origin": PAGE} if scope["path"] == "/events" else {}
        await JSONResponse({"path": scope["path"]}, headers=headers)(scope, receive, send)

    transport = httpx2.ASGITransport(Door(app, cors=Cors([PAGE])))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_a_named_page_may_read_answers_and_refusals(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/workflows", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers["vary"] == "Origin"
    refused = await client.get("/workflows", headers={"Origin": PAGE, "Accept": "image/png"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (406, PAGE)


async def test_a_preflight_is_answered_at_the_door(client: httpx2.AsyncClient) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = await client.options("/workflows", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]


async def test_another_page_is_refused_and_told_nothing(client: httpx2.AsyncClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (await client.get("/workflows", headers=asked), await client.options("/workflows", headers=asked)):
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


async def test_a_forwarded_answer_says_it_once(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/events", headers={"Origin": PAGE})
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE]

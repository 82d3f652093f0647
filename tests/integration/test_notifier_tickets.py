"""Tickets and pages of other origins: what an EventSource, which sends no headers, may open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Story
from tests.notifier_rig import PARTITIONS, Rig, Wire, running, topics_for
from tests.waiting import wait_until

from handrail_runtime.bus_memory import MemoryBus
from handrail_store import connect, migrate

TENANT = "tickets"
PAGE = "https://app.example"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-tickets")
    yield pool
    await pool.close()


@asynccontextmanager
async def notifier(pool: Any, redis_url: str, **more: Any) -> AsyncGenerator[Rig]:
    bus = MemoryBus()
    await topics_for(bus)
    async with running(pool=pool, bus=bus, redis_url=redis_url, tenant=TENANT, **more) as rig:
        yield rig
    await bus.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(pool: Any, redis_url: str) -> AsyncGenerator[Rig]:
    async with notifier(pool, redis_url, tickets="required", origins=[PAGE]) as rig:
        for trace_id in ("t1", "t2"):
            story = Story(trace_id)
            story.accepted()
            await rig.source.both(story.events)
        yield rig


async def ordered(rig: Rig, body: Any, **headers: str) -> Wire:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    wire = await rig.open(
        "/sse-tickets", method="POST", headers={"Content-Type": "application/json", **headers}, body=raw
    )
    await wait_until(lambda: wire.closed, description="the answer")
    return wire


async def ticket(rig: Rig, **body: Any) -> dict[str, Any]:
    wire = await ordered(rig, body)
    assert wire.status == 201, wire.body
    assert wire.headers["cache-control"] == "no-store"
    return json.loads(wire.body)


async def problem(wire: Wire) -> str:
    await wait_until(lambda: wire.closed, description="the problem")
    assert wire.headers["content-type"] == "application/problem+json", wire.body
    return json.loads(wire.body)["type"].removeprefix("/problems/")


@pytest.mark.parametrize(
    "body",
    [
        {"trace_id": "t1"},
        {"inbox": True},
        {"trace_ids": ["t2", "t1"]},
        {"label": "team:it"},
        {"label": "k8s:app:web:1"},
        {"label": f"{'k' * 128}:{'v' * 128}"},
        {"trace_ids": ["t1"], "started": True},
    ],
)
async def test_a_ticket_opens_its_stream_once(rig: Rig, body: dict[str, Any]) -> None:
    got = await ticket(rig, **body)
    assert (await rig.open(got["url"])).status == 200
    again = await rig.open(got["url"])
    assert (again.status, await problem(again)) == (401, "ticket-invalid")
    assert "www-authenticate" in again.headers


async def test_a_ticket_for_several_workflows_opens_them_in_any_order(rig: Rig) -> None:
    got = await ticket(rig, trace_ids=["t1", "t2", "t1"])
    wire = await rig.open(f"/events?trace_id=t2&trace_id=t1&ticket={got['ticket']}")
    assert wire.status == 200


@pytest.mark.parametrize("stream", ["/workflows/t1/events", "/inbox/events", "/events?trace_id=t1"])
async def test_where_tickets_are_required_nothing_opens_without_one(rig: Rig, stream: str) -> None:
    wire = await rig.open(stream)
    assert (wire.status, await problem(wire)) == (401, "ticket-required")


async def test_a_ticket_tried_on_another_stream_is_spent(rig: Rig) -> None:
    got = await ticket(rig, trace_id="t1")
    for path in ("/workflows/t2/events", "/workflows/t1/events"):
        wire = await rig.open(f"{path}?ticket={got['ticket']}")
        assert (wire.status, await problem(wire)) == (401, "ticket-invalid")


@pytest.mark.parametrize("made_up", ["", "x", "%00", "a" * 5000, "%F0%9F%8E%AB"])
async def test_made_up_tickets_open_nothing(rig: Rig, made_up: str) -> None:
    wire = await rig.open(f"/inbox/events?ticket={made_up}")
    assert (wire.status, await problem(wire)) == (401, "ticket-invalid")


async def test_of_many_who_try_the_same_ticket_at_once_one_gets_in(rig: Rig) -> None:
    got = await ticket(rig, trace_id="t1")
    tried = await asyncio.gather(*(rig.open(got["url"]) for _ in range(50)))
    assert sorted(wire.status for wire in tried) == [200, *[401] * 49]


async def test_what_is_not_an_order_for_one_stream_is_told_field_by_field(rig: Rig) -> None:
    for body, status, code in [
        ({}, 422, "validation"),
        ({"trace_id": "t1", "inbox": True}, 422, "validation"),
        ({"trace": "t1"}, 422, "unknown-field"),
        (b"{", 400, "malformed-json"),
        (b'{"trace_id":"t1","trace_id":"t2"}', 400, "duplicate-key"),
        (b'{"trace_id":"\\ud800"}', 400, "invalid-text"),
        (b'{"label":"a:\\u0000"}', 400, "invalid-text"),
        (b"[" * 5_000 + b"]" * 5_000, 400, "too-deep"),
        (b"[" * 100_000, 413, "payload-too-large"),
        ({"trace_id": "nobody"}, 404, "workflow-not-found"),
        ({"trace_ids": ["t1", "../x"]}, 404, "workflow-not-found"),
    ]:
        wire = await ordered(rig, body)
        assert (wire.status, await problem(wire)) == (status, code)
    for headers in (
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ):
        form = await ordered(rig, b'{"inbox":true}', **headers)
        assert (form.status, await problem(form)) == (415, "unsupported-media-type")
    near = await ordered(rig, {"trce_id": "t1"})
    assert await problem(near) == "unknown-field"
    assert "Did you mean 'trace_id'?" in near.body.decode()
    plain = await ordered(rig, {"label": "team"})
    assert await problem(plain) == "validation"
    assert "Expected a label as key:value" in plain.body.decode()
    assert "Value error" not in (await ordered(rig, {})).body.decode()
    wire = await rig.open("/sse-tickets")
    assert (wire.status, wire.headers["allow"]) == (405, "POST")


async def test_who_leaves_while_he_orders_is_no_fault_of_ours(
    rig: Rig, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = (
        b"POST /sse-tickets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    )
    writer.write(head + b'{"inbox":')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    for _ in range(3):
        assert await ticket(rig, inbox=True)
    assert "ClientDisconnect" not in caplog.text + "".join(capfd.readouterr())


async def test_a_ticket_expires_is_good_on_any_replica_and_optional_by_default(pool: Any, redis_url: str) -> None:
    async with notifier(pool, redis_url, ticket_s=0.05) as brief, notifier(pool, redis_url) as other:
        await brief.source.both([Story("t3").accepted()])
        late = await ticket(brief, trace_id="t3")
        gone = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, gone.set)
        await gone.wait()
        wire = await brief.open(late["url"])
        assert (wire.status, await problem(wire)) == (401, "ticket-invalid")
        good = await ticket(other, trace_id="t3")
        assert (await brief.open(good["url"])).status == 200
        assert (await other.events("t3")).status == 200


async def test_no_ticket_is_in_redis_as_it_is(rig: Rig) -> None:
    got = await ticket(rig, inbox=True)
    kept = [key async for key in rig.redis.scan_iter("handrail:ticket:*")]
    assert kept
    assert all(got["ticket"].encode() not in key for key in kept)


async def test_without_redis_tickets_are_put_off_and_streams_that_need_none_open(pool: Any) -> None:
    async with notifier(pool, "redis://127.0.0.1:9/0") as rig:
        await rig.source.write([Story("t4").accepted()])
        wire = await ordered(rig, {"trace_id": "t4"})
        assert (wire.status, await problem(wire)) == (503, "unavailable")
        assert (await rig.events("t4")).status == 200


async def test_a_named_page_may_ask_and_read_and_another_may_not(rig: Rig) -> None:
    got = await ticket(rig, trace_id="t1")
    wire = await rig.open(got["url"], headers={"Origin": PAGE})
    assert (wire.status, wire.headers["access-control-allow-origin"]) == (200, PAGE)
    assert wire.headers["vary"] == "Origin"
    refused = await rig.open("/workflows/t1/events", headers={"Origin": PAGE})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    evil = await rig.open("/workflows/t1/events", headers={"Origin": "https://evil.example"})
    assert (evil.status, await problem(evil)) == (403, "foreign-origin")
    assert "access-control-allow-origin" not in evil.headers


async def test_a_preflight_of_a_named_page_is_permitted(rig: Rig) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    wire = await rig.open("/sse-tickets", method="OPTIONS", headers=asked)
    assert wire.status == 204
    assert "content-type" in wire.headers["access-control-allow-headers"].lower()
    other = await rig.open("/sse-tickets", method="OPTIONS", headers={**asked, "Origin": "https://evil.example"})
    assert other.status == 403


async def test_what_cannot_be_parsed_is_a_problem_too(rig: Rig) -> None:
    for raw in (b"NOT HTTP AT ALL\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in head
        assert json.loads(body)["type"] == "/problems/malformed-request"

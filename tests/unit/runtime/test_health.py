"""Health, readiness and metrics, as functions and over the small HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from handrail_runtime import health
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.health import Check
from handrail_runtime.health_server import HealthServer
from handrail_runtime.ports import Bus


async def _well() -> None:
    return None


async def _ill() -> None:
    raise ConnectionRefusedError("postgresql://u:hunter2@db refused")


async def _hangs() -> None:
    await asyncio.Event().wait()


async def test_ready_only_when_every_check_answers() -> None:
    status, body = await health.readyz({"db": _well, "bus": _well})
    assert (status, body["status"]) == (200, "ready")
    assert body["checks"]["db"]["ok"]
    status, body = await health.readyz({"db": _well, "bus": _ill})
    assert (status, body["status"]) == (503, "not_ready")
    assert (body["checks"]["db"]["ok"], body["checks"]["bus"]) == (
        True,
        {"ok": False, "error": "ConnectionRefusedError"},
    )
    assert "hunter2" not in json.dumps(body)


async def test_a_check_that_hangs_is_told_as_no_answer_and_does_not_hold_up_the_others() -> None:
    checks: Mapping[str, Check] = {"well": _well, **{f"hangs {i}": _hangs for i in range(20)}}
    status, body = await health.readyz(checks, budget_s=0.2)
    assert status == 503
    assert body["checks"]["well"]["ok"]
    assert body["checks"]["hangs 3"] == {"ok": False, "error": "no answer within 0.2 s"}


async def test_checks_run_at_once() -> None:
    both_there = asyncio.Barrier(2)

    async def check() -> None:
        await both_there.wait()

    assert (await health.readyz({"a": check, "b": check}))[0] == 200


async def test_a_service_that_does_not_accept_work_is_not_ready_whatever_its_checks_say() -> None:
    assert (await health.readyz({"db": _well}, accepting=False))[0] == 503
    assert (await health.readyz({}))[0] == 200


async def test_the_bus_is_ready_when_its_topic_exists() -> None:
    bus: Bus = MemoryBus()
    check = health.bus_check(bus, "t")
    with pytest.raises(LookupError, match=r"handrail topics apply"):
        await check()
    await bus.ensure_topics({"t": (1, {})})
    await check()


# ---- over HTTP


@asynccontextmanager
async def _served(checks: Mapping[str, Check], *, accepting: bool = True) -> AsyncGenerator[int]:
    server = HealthServer(lambda: checks, lambda: accepting)
    port = await server.start("127.0.0.1", 0)
    yield port
    await server.stop()


async def _ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    if not answer:
        return 0, {}, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def _get(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], Any]:
    status, headers, body = await _ask(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return status, headers, json.loads(body) if "json" in headers.get("Content-Type", "") and body else body


async def test_the_three_routes_answer() -> None:
    async with _served({"db": _well}) as port:
        status, headers, body = await _get(port, "/healthz")
        assert (status, body, headers["Content-Type"]) == (200, {"status": "ok"}, "application/json")
        assert headers["Connection"] == "close"
        status, _, body = await _get(port, "/readyz?x=1")
        assert (status, body["status"]) == (200, "ready")
        status, headers, body = await _get(port, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain")
        assert int(headers["Content-Length"]) == len(body) > 0
        status, headers, body = await _get(port, "/readyz", "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 0


async def test_not_ready_is_503_while_alive_is_200() -> None:
    async with _served({"db": _ill}) as port:
        assert (await _get(port, "/readyz"))[0] == 503
        assert (await _get(port, "/healthz"))[0] == 200
    async with _served({"db": _well}, accepting=False) as port:
        assert (await _get(port, "/readyz"))[0] == 503


async def test_anything_else_is_told_as_a_problem() -> None:
    async with _served({}) as port:
        status, headers, body = await _get(port, "/secrets")
        assert (status, headers["Content-Type"], body["status"]) == (404, "application/problem+json", 404)
        status, headers, _ = await _get(port, "/healthz", "POST")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        for garbage in (
            b"\x16\x03\x01 tls\r\n\r\n",
            b"GET /healthz\r\n\r\n",
            b"\r\n\r\n",
            b"GET  /healthz HTTP/1.1\r\n\r\n",
        ):
            status, _, _ = await _ask(port, garbage)
            assert status == 400


async def test_an_endless_head_is_cut_off_and_the_server_goes_on() -> None:
    async with _served({}) as port:
        try:
            status, _, _ = await _ask(port, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000)
        except ConnectionError:
            status = 0
        assert status == 0
        assert (await _get(port, "/healthz"))[0] == 200


async def test_many_at_once_are_answered() -> None:
    async with _served({"db": _well}) as port:
        answers = await asyncio.gather(*(_get(port, "/readyz") for _ in range(40)))
        assert {status for status, _, _ in answers} == {200}


async def test_a_port_in_use_raises_and_stop_is_idempotent() -> None:
    async with _served({}) as port:
        other = HealthServer(dict, lambda: True)
        with pytest.raises(OSError):
            await other.start("127.0.0.1", port)
        await other.stop()
        await other.stop()

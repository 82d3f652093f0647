"""Idempotency keys: the first 2xx answer is kept with the work, everybody else waits for it or is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import Rig, accepted, node, planned, running_gateway
from tests.waiting import wait_until

from handrail_gateway.adapters import postgres
from handrail_gateway.adapters.housekeeping import Housekeeping
from handrail_gateway.adapters.postgres import Database
from handrail_store import intake

PLAN = {"plan": {"nodes": [node("a")]}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as running:
        await running.register()
        yield running
    await drop_database(postgres_server, dsn)


async def starts(rig: Rig) -> int:
    return await rig.db.fetchval("SELECT count(*) FROM handrail.command WHERE kind = 'start'")


async def test_the_first_answer_is_repeated_byte_for_byte(rig: Rig) -> None:
    before = await starts(rig)
    first = await rig.post("/workflows", PLAN, Idempotency_Key="a-1")
    again = await rig.post("/workflows", PLAN, Idempotency_Key='"a-1"')
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await starts(rig) == before + 1


async def test_the_same_json_written_differently_is_the_same_body(rig: Rig) -> None:
    one = b'{"intent":"x","plan":{"nodes":[{"id":"a","agent":"simulator","action":"script"}]}}'
    other = b'{ "plan": {"nodes": [{"action": "script", "id": "a", "agent": "simulator"}]}, "intent": "\\u0078" }'
    headers = {"Content-Type": "application/json", "Idempotency-Key": "a-2"}
    answers = [await rig.client.post("/workflows", content=body, headers=headers) for body in (one, other)]
    assert answers[0].json() == answers[1].json()


async def test_the_same_key_with_another_body_is_refused(rig: Rig) -> None:
    await rig.post("/workflows", PLAN, Idempotency_Key="a-3")
    answer = await rig.post("/workflows", {"plan": {"nodes": [node("b")]}}, Idempotency_Key="a-3")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_a_key_counts_per_path(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    for path in ("pause", "cancel"):
        assert (await rig.post(f"/workflows/{trace_id}/{path}", {}, Idempotency_Key="a-4")).status_code == 202
    assert len(await rig.commands(trace_id)) == 2
    again = await rig.post(f"/workflows/{trace_id}/cancel", {}, Idempotency_Key="a-4")
    assert again.headers["idempotent-replayed"] == "true"
    assert len(await rig.commands(trace_id)) == 2


async def test_what_was_accepted_once_is_repeated_even_if_it_would_be_refused_now(rig: Rig) -> None:
    await rig.add_agent("passing_bot", "go", {"effect_class": "pure"})
    body = {"plan": {"nodes": [{"id": "a", "agent": "passing_bot", "action": "go"}]}}
    first = await rig.post("/workflows", body, Idempotency_Key="a-5")
    await rig.db.execute("DELETE FROM handrail.agent WHERE name = 'passing_bot'")

    async def forgotten() -> bool:
        return (await rig.post("/workflows", body)).status_code == 422

    await wait_until(forgotten, description="the agent to be unknown")
    again = await rig.post("/workflows", body, Idempotency_Key="a-5")
    assert (again.status_code, again.content) == (202, first.content)


@pytest.mark.parametrize("chosen", [False, True])
async def test_thirty_at_once_with_one_key_are_one_workflow(rig: Rig, chosen: bool) -> None:
    before = await starts(rig)
    body = {**PLAN, **({"trace_id": "thirty"} if chosen else {})}
    answers = await asyncio.gather(*(rig.post("/workflows", body, Idempotency_Key=f"a-6-{chosen}") for _ in range(30)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.content for a in answers}) == 1
    assert [a.headers.get("idempotent-replayed") for a in answers].count(None) == 1
    assert await starts(rig) == before + 1


async def test_two_gateways_share_one_key(rig: Rig) -> None:
    before = await starts(rig)
    async with running_gateway(rig.dsn) as other:
        answers = await asyncio.gather(
            *(g.post("/workflows", PLAN, Idempotency_Key=f"shared-{i}") for i in range(20) for g in (rig, other))
        )
    assert {a.status_code for a in answers} == {202}
    assert await starts(rig) == before + 20
    assert [a.headers.get("idempotent-replayed") for a in answers].count(None) == 20


async def hold(rig: Rig, path: str, key: str, release: asyncio.Event, held: asyncio.Event) -> None:
    """Another gateway that is at work under this key, and fails in the end."""
    async with rig.db.acquire() as c:
        transaction = c.transaction()
        await transaction.start()
        assert await intake.recall(c, intake.KeyUse("default", "POST", path, key, "other")) is None
        held.set()
        await release.wait()
        await transaction.rollback()


@pytest.mark.parametrize("chosen", [False, True])
async def test_a_second_request_waits_for_the_first_and_takes_over_when_that_fails(rig: Rig, chosen: bool) -> None:
    held, release = asyncio.Event(), asyncio.Event()
    key = f"w-1-{chosen}"
    holding = asyncio.create_task(hold(rig, "/workflows", key, release, held))
    await held.wait()
    body: dict[str, Any] = {**PLAN, **({"trace_id": "waited"} if chosen else {})}
    second = asyncio.create_task(rig.post("/workflows", body, Idempotency_Key=key))
    await blocked(rig)
    assert not second.done()
    release.set()
    await holding
    answer = await second
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


async def blocked(rig: Rig) -> None:
    async def waits() -> bool:
        return await rig.db.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'handrail-gateway'"
            " AND wait_event_type = 'Lock' AND datname = current_database())"
        )

    await wait_until(waits, description="a request that waits for the key")


@pytest.mark.parametrize("path", ["/workflows", "/workflows/{}/cancel"])
async def test_a_request_that_waited_too_long_is_told_to_come_back(
    rig: Rig, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        postgres, "PATIENCE_S", 60.0
    )  # the wait for the key is what ends, not all patience with the database
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    path = path.format(trace_id)
    held, release = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(hold(rig, path, "w-2", release, held))
    await held.wait()
    try:
        body = PLAN if path == "/workflows" else {}
        first = asyncio.create_task(rig.post(path, body, Idempotency_Key="w-2"))
        await blocked(rig)
        # The second waits within the process, the first in the database: neither for longer than 2 s.
        second = asyncio.create_task(rig.post(path, body, Idempotency_Key="w-2"))
        others = await rig.post("/workflows", PLAN) if path != "/workflows" else None
        assert others is None or others.status_code == 202
        for answer in await asyncio.gather(first, second):
            assert (answer.status_code, answer.json()["type"]) == (409, "/problems/request-in-progress")
            assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] >= 1
    finally:
        release.set()
        await holding
    assert (await rig.post(path, body, Idempotency_Key="w-2")).status_code == 202


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
async def test_bad_keys_are_refused(rig: Rig, key: str) -> None:
    before = await starts(rig)
    answer = await rig.post("/workflows", PLAN, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency-key-invalid")
    assert await starts(rig) == before


async def test_keys_are_forgotten_after_seven_days(rig: Rig) -> None:
    await rig.post("/workflows", PLAN, Idempotency_Key="old")
    await rig.post("/workflows", PLAN, Idempotency_Key="young")
    await rig.db.execute("UPDATE handrail.idempotency SET at = now() - interval '8 days' WHERE key = 'old'")
    await rig.db.execute("UPDATE handrail.idempotency SET at = now() - interval '6 days' WHERE key = 'young'")
    forgotten, _ = await Housekeeping(Database(rig.db), 3600).round()
    assert forgotten == 1
    left = await rig.db.fetch("SELECT key FROM handrail.idempotency WHERE key IN ('old', 'young')")
    assert [row["key"] for row in left] == ["young"]

"""A pause that is answered a week later by other processes, with nothing left of the bus and of Redis: all of it stood in
PostgreSQL."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest

from handrail.stack import Options, Stack
from handrail_contracts.view import WorkflowView
from tests.system.demo import Demo
from tests.system.house import Up, free_ports
from tests.waiting import nothing_moves, wait_until

PERSON: dict[str, Any] = {"order_id": "12345", "message": "I was charged twice, I want a person"}


async def state(http: httpx2.AsyncClient, trace_id: str) -> dict[str, Any]:
    return (await http.get(f"/workflows/{trace_id}/state", params={"history": "true"})).json()


async def until(http: httpx2.AsyncClient, trace_id: str, status: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal found
        found = await state(http, trace_id)
        return found["status"] == status and nothing_moves(found)

    await wait_until(there, description=f"{trace_id} is {status}", timeout_s=90)
    return found


@pytest.mark.torture
@pytest.mark.kafka
async def test_on_real_kafka_too_with_its_log_gone(tmp_path: Path) -> None:
    """Every service and every engine ends; Kafka's and Valkey's folders are deleted; PostgreSQL alone is kept."""
    environment = {"HANDRAIL_DEV": "1", "HANDRAIL_AGENTS__DEMO_DELAY_MS": "0"}
    options = Options(tmp_path, port=free_ports(16), partitions=4, environment=environment)
    first = Stack(options)
    await first.start()
    try:
        async with httpx2.AsyncClient(base_url=first.url, timeout=30, trust_env=False) as http:
            talk = (await http.post("/workflows", json={"blueprint": "refund-support", "input": PERSON})).json()[
                "trace_id"
            ]
            outside = (await http.post("/escalations", json={"reason": "A dispute."})).json()["trace_id"]
            before = {t: await until(http, t, "PAUSED_HITL") for t in (talk, outside)}
        demo = Demo(tmp_path)
        moved = await demo.handrail("clock", "advance", "7d", "--postgres", first.postgres.dsn, HANDRAIL_DEV="1")
        assert moved.code == 0, moved.err
    finally:
        await first.stop()
    shutil.rmtree(tmp_path / "kafka")
    shutil.rmtree(tmp_path / "valkey")
    second = Stack(options)
    await second.start()
    try:
        async with httpx2.AsyncClient(base_url=second.url, timeout=30, trust_env=False) as http:
            for t in (talk, outside):
                assert (await state(http, t))["history"][: len(before[t]["history"])] == before[t]["history"]
            for trace_id, action in ((talk, "RES_HAND_BACK"), (outside, "RES_CLOSE")):
                answer = await http.post(f"/workflows/{trace_id}/resume", json={"action_id": action})
                assert answer.status_code == 202, answer.text
                await until(http, trace_id, "COMPLETED")
    finally:
        await second.stop()


async def test_a_pause_is_answered_a_week_later_by_other_processes(tmp_path: Path) -> None:
    up = Up(tmp_path / "data", HANDRAIL_DEV="1")
    await up.start()
    async with httpx2.AsyncClient(base_url=up.url, timeout=30, trust_env=False) as http:
        onboarding = {"employee": "Ada", "department": "IT", "sku": "MBP-OUT-OF-STOCK", "budget": 2500}
        talk = (await http.post("/workflows", json={"blueprint": "refund-support", "input": PERSON})).json()["trace_id"]
        order = await http.post("/workflows", json={"blueprint": "employee-onboarding", "input": onboarding})
        order = order.json()["trace_id"]
        outside = (await http.post("/escalations", json={"reason": "A dispute.", "metadata": {"cart": [1]}})).json()
        traces = (talk, order, outside["trace_id"])
        before = {t: await until(http, t, "PAUSED_HITL") for t in traces}
        said = {"role": "operator", "text": "The bank is asked."}
        pause_id = before[talk]["pauses"][0]["pause_id"]
        assert (await http.post(f"/pauses/{pause_id}/messages", json=said)).status_code == 202

        async def heard() -> bool:
            return len((await http.get(f"/pauses/{pause_id}")).json()["conversation"]) == 4

        await wait_until(heard, description="what was said is journaled")
    demo = Demo(up.data)
    moved = await demo.handrail("clock", "advance", "7d", "--data", str(up.data), HANDRAIL_DEV="1")
    assert moved.code == 0, moved.err
    await up.kill()  # every process of it; the bus was in its memory
    shutil.rmtree(up.data / "valkey")
    await up.start()
    async with httpx2.AsyncClient(base_url=up.url, timeout=30, trust_env=False) as http:
        for t in traces:
            now = await state(http, t)
            assert now["status"] == "PAUSED_HITL"
            assert now["history"][: len(before[t]["history"])] == before[t]["history"]
            assert [p["pause_id"] for p in now["pauses"]] == [p["pause_id"] for p in before[t]["pauses"]]
            assert now["nodes"] == before[t]["nodes"]
        for trace_id, action in ((talk, "RES_HAND_BACK"), (order, "RES_SKIP"), (outside["trace_id"], "RES_CLOSE")):
            answer = await http.post(f"/workflows/{trace_id}/resume", json={"action_id": action})
            assert answer.status_code == 202, answer.text
        ended = await until(http, talk, "COMPLETED")
        assert "The bank is asked." in ended["output"]["assistant"]["response"]
        await until(http, order, "COMPLETED_WITH_SKIPS")
        await until(http, outside["trace_id"], "COMPLETED")
        decided = next(e for e in ended["history"] if e["event_type"] == "HITL_RESOLVED")
        opened = next(e for e in ended["history"] if e["event_type"] == "WORKFLOW_PAUSED_HITL")
        assert decided["at"][:10] > opened["at"][:10]
        for t in traces:
            events = (await state(http, t))["history"]
            assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
            assert WorkflowView(t).apply_all(events).ended
        ledger = (await http.get("/simulators/ledger", params={"trace_id": order})).json()
        assert all(entry["repeats"] == 0 for entry in ledger if entry["kind"] == "do")
    await up.stop()

"""An intent that no blueprint means, planned by a model behind a local endpoint, in the whole system."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.llm_stub import LlmStub, running, says, tool_call
from tests.system.demo import Demo
from tests.system.house import Up
from tests.waiting import wait_until

LOOK = {"id": "look", "agent": "bank", "action": "balance_check", "inputs": {"account": "checking"}}
PAY = {"id": "pay", "agent": "bank", "action": "transfer", "depends_on": ["look"], "inputs": {"to": "Al", "amount": 5}}
INTENT = "Settle what we owe to the caterers of last Friday"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def llm() -> AsyncGenerator[LlmStub]:
    async with running() as stub:
        yield stub


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def up(llm: LlmStub, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Up]:
    settings = {
        "HANDRAIL_AI__BASE_URL": llm.url,
        "HANDRAIL_AI__MODEL": "m",
        "HANDRAIL_AI__OUTPUT_USD_PER_MILLION": "10",
        "HANDRAIL_AI__PLAN_MAX_NODES": "5",
    }
    up = Up(tmp_path_factory.mktemp("planner") / "data", **settings)
    await up.start()
    yield up
    await up.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def http(up: Up) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=up.url, timeout=30, trust_env=False) as client:
        yield client


async def until(http: httpx2.AsyncClient, trace_id: str, *statuses: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal found
        found = (await http.get(f"/workflows/{trace_id}/state", params={"history": "true"})).json()
        return found["status"] in statuses

    await wait_until(there, description=f"{trace_id} is {statuses}", timeout_s=60)
    return found


async def start(http: httpx2.AsyncClient, llm: LlmStub, *drafts: Any, intent: str = INTENT) -> str:
    llm.clear()
    llm.play(*(tool_call("final_result", {"nodes": d}, f"call_{i}") for i, d in enumerate(drafts)))
    started = await http.post("/workflows", json={"intent": intent})
    assert started.status_code == 202, started.text
    return started.json()["trace_id"]


async def paid(http: httpx2.AsyncClient, trace_id: str) -> list[str]:
    ledger = (await http.get("/simulators/ledger", params={"trace_id": trace_id})).json()
    return [e["node_id"] for e in ledger if e["kind"] == "do"]


async def test_what_a_model_planned_looks_at_once_and_acts_after_a_person(
    http: httpx2.AsyncClient, llm: LlmStub
) -> None:
    trace_id = await start(http, llm, [LOOK, PAY])
    paused = await until(http, trace_id, "PAUSED_HITL")
    (pause,) = paused["pauses"]
    assert (pause["kind"], pause["node_id"]) == ("gate", "pay")
    assert pause["risk"]["rule_id"] == "untrusted-content"
    states = {n["id"]: n["state"] for n in paused["nodes"]}
    assert states == {"plan": "COMPLETE", "look": "COMPLETE", "pay": "AWAITING_HUMAN"}
    assert await paid(http, trace_id) == []
    plan = next(n for n in paused["nodes"] if n["id"] == "plan")
    assert plan["usage"] == {"calls": 1, "input_tokens": 100, "output_tokens": 20, "cost_usd": 0.0002, "model": "m"}
    await http.post(f"/workflows/{trace_id}/resume", json={"action_id": "RES_APPROVE", "pause_id": pause["pause_id"]})
    await until(http, trace_id, "COMPLETED")
    assert await paid(http, trace_id) == ["pay"]


async def test_an_intent_that_means_a_blueprint_asks_no_model(http: httpx2.AsyncClient, llm: LlmStub) -> None:
    trace_id = await start(http, llm, intent="Please onboard our new engineer and get her a laptop")
    await until(http, trace_id, "COMPLETED", "PAUSED_HITL")
    assert llm.asked == []


@pytest.mark.parametrize(
    "draft",
    [
        [{**PAY, "depends_on": [], "agent": "root"}],
        [{**PAY, "depends_on": [], "resolutions": [{"action_id": "RES_OK", "display_text": "ok", "kind": "retry"}]}],
        [{**LOOK, "id": f"n{i}"} for i in range(6)],
        [{"id": "s", "agent": "simulator", "action": "script", "inputs": {}}],
    ],
)
async def test_a_plan_that_may_not_run_reaches_a_person_and_does_nothing(
    http: httpx2.AsyncClient, llm: LlmStub, draft: list[dict[str, Any]]
) -> None:
    trace_id = await start(http, llm, *([draft] * 5))
    paused = await until(http, trace_id, "PAUSED_HITL")
    (pause,) = paused["pauses"]
    assert (pause["kind"], pause["node_id"]) == ("failure", "plan")
    assert [r["action_id"] for r in pause["available_resolutions"]] == ["RES_RETRY", "RES_ABORT_SAGA"]
    assert pause["attempts"][0]["error"]["code"] == "PLAN_REFUSED"
    assert len(paused["nodes"]) == 1
    assert await paid(http, trace_id) == []
    await http.post(f"/workflows/{trace_id}/resume", json={"action_id": "RES_ABORT_SAGA"})
    await until(http, trace_id, "COMPENSATED")


async def test_the_refund_assistant_asks_the_endpoint_and_hands_over_by_itself(
    http: httpx2.AsyncClient, llm: LlmStub
) -> None:
    llm.clear()
    scores = says(json.dumps({"intents": {}, "moods": [0]}))
    asks = {"reason": "The customer wants a promise that I may not give."}
    llm.play(scores, tool_call("look_up_order", {"order_id": "7"}), tool_call("escalate_to_human", asks, "call_2"))
    body = {"blueprint": "refund-support", "input": {"order_id": "7", "message": "Promise me the money by noon"}}
    trace_id = (await http.post("/workflows", json=body)).json()["trace_id"]
    paused = await until(http, trace_id, "PAUSED_HITL")
    (pause,) = paused["pauses"]
    assert (pause["kind"], pause["failure_reason"]) == ("escalation", asks["reason"])
    assert paused["nodes"][0]["usage"]["calls"] == 2


async def test_the_command_line_shows_what_was_spent(up: Up, http: httpx2.AsyncClient, llm: LlmStub) -> None:
    trace_id = await start(http, llm, [LOOK])
    await until(http, trace_id, "COMPLETED")
    demo = Demo(up.data)
    demo.url = up.url
    shown = await demo.handrail("trace", trace_id)
    assert "120 tokens, $0.0002" in shown.out

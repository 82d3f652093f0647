"""A person takes over a conversation and gives it back, through the whole system, as CONTRACT section 9 says it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from handrail_contracts.events import EVENTS
from tests.system.house import Up
from tests.waiting import wait_until

PERSON: dict[str, Any] = {"order_id": "12345", "message": "I was charged twice, I want a person"}
BUTTONS = ["RES_RESPOND", "RES_HAND_BACK", "RES_CLOSE", "RES_ABORT_SAGA"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[httpx2.AsyncClient]:
    up = Up(tmp_path_factory.mktemp("escalation") / "data")
    await up.start()
    async with httpx2.AsyncClient(base_url=up.url, timeout=30, trust_env=False) as client:
        yield client
    await up.stop()


async def state(http: httpx2.AsyncClient, trace_id: str) -> dict[str, Any]:
    return (await http.get(f"/workflows/{trace_id}/state", params={"history": "true"})).json()


async def until(http: httpx2.AsyncClient, trace_id: str, *statuses: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal found
        found = await state(http, trace_id)
        return found["status"] in statuses

    await wait_until(there, description=f"{trace_id} is {statuses}", timeout_s=60)
    return found


async def refund(http: httpx2.AsyncClient) -> tuple[str, dict[str, Any]]:
    started = await http.post("/workflows", json={"blueprint": "refund-support", "input": PERSON})
    trace_id = started.json()["trace_id"]
    (pause,) = (await until(http, trace_id, "PAUSED_HITL"))["pauses"]
    return trace_id, pause


async def press(http: httpx2.AsyncClient, trace_id: str, pause_id: str, action_id: str, **more: Any) -> None:
    body = {"action_id": action_id, "pause_id": pause_id, **more}
    assert (await http.post(f"/workflows/{trace_id}/resume", json=body)).status_code == 202


async def say(http: httpx2.AsyncClient, pause_id: str, role: str, text: str = "words") -> tuple[int, str]:
    answer = await http.post(f"/pauses/{pause_id}/messages", json={"role": role, "text": text})
    return answer.status_code, answer.json().get("type", "")


async def test_the_link_of_an_escalation_from_outside_leads_to_its_pause_at_once(http: httpx2.AsyncClient) -> None:
    for n in range(5):
        opened = await http.post("/escalations", json={"reason": f"Asks for a person, {n}."})
        assert opened.status_code == 202
        shown = await http.get(opened.headers["location"])
        assert (shown.status_code, shown.json().get("state")) == (200, "open")
        assert await say(http, opened.json()["pause_id"], "user", "Is anybody there?") == (202, "")


SILENT = (409, "/problems/human-has-control")


async def test_refund_support_pauses_as_an_escalation(http: httpx2.AsyncClient) -> None:
    trace_id, pause = await refund(http)
    assert (pause["kind"], pause["node_id"]) == ("escalation", "assistant")
    assert pause["failure_reason"] == "The customer was charged twice and asks for a person."
    assert pause["context_snapshot"]["order_id"] == "12345"
    assert [r["action_id"] for r in pause["available_resolutions"]] == BUTTONS
    assert pause["available_resolutions"][0]["input_schema"] == "text"
    assert all({"role", "text", "at"} <= set(line) for line in pause["transcript"])
    roles = [line["role"] for line in pause["transcript"]]
    assert roles[0] == "user" and roles[-1] == "system"
    for event in (await state(http, trace_id))["history"]:
        EVENTS[event["event_type"]].model_validate(event)


async def test_a_reply_is_sent_and_completes_the_node(http: httpx2.AsyncClient) -> None:
    trace_id, pause = await refund(http)
    assert await say(http, pause["pause_id"], "operator", "One moment.") == (202, "")
    assert await say(http, pause["pause_id"], "user", "Thank you.") == (202, "")
    assert await say(http, pause["pause_id"], "agent") == SILENT
    no_text = await http.post(f"/workflows/{trace_id}/resume", json={"action_id": "RES_RESPOND"})
    assert no_text.status_code == 422
    await press(http, trace_id, pause["pause_id"], "RES_RESPOND", input="The second charge is undone.")
    ended = await until(http, trace_id, "COMPLETED")
    assert ended["output"] == {"assistant": {"response": "The second charge is undone."}}
    shown = (await http.get(f"/pauses/{pause['pause_id']}")).json()
    assert (shown["decision"]["action_id"], shown["decision"]["applied"]) == ("RES_RESPOND", True)
    told = [(line["role"], line["text"]) for line in shown["conversation"]]
    assert told[-3:] == [
        ("operator", "One moment."),
        ("user", "Thank you."),
        ("operator", "The second charge is undone."),
    ]
    assert await say(http, pause["pause_id"], "agent") == SILENT
    assert (await say(http, pause["pause_id"], "operator"))[0] == 409


async def test_handed_back_the_agent_goes_on_with_what_the_person_said(http: httpx2.AsyncClient) -> None:
    trace_id, pause = await refund(http)
    await say(http, pause["pause_id"], "operator", "The money is on its way.")
    assert await say(http, pause["pause_id"], "agent") == SILENT
    await press(http, trace_id, pause["pause_id"], "RES_HAND_BACK")
    ended = await until(http, trace_id, "COMPLETED")
    assert "The money is on its way." in ended["output"]["assistant"]["response"]
    (node,) = ended["nodes"]
    assert node["attempt"] == 2
    assert await say(http, pause["pause_id"], "agent", "Anything else?") == (202, "")

    async def kept() -> bool:
        conversation = (await http.get(f"/pauses/{pause['pause_id']}")).json()["conversation"]
        return (conversation[-1]["role"], conversation[-1]["text"]) == ("agent", "Anything else?")

    await wait_until(kept, description="what the agent said after the end stands in the conversation")


async def test_closed_without_a_text_and_aborted(http: httpx2.AsyncClient) -> None:
    for action, status, output in (
        ("RES_CLOSE", "COMPLETED", {"assistant": {"response": None}}),
        ("RES_ABORT_SAGA", "COMPENSATED", None),
    ):
        trace_id, pause = await refund(http)
        await press(http, trace_id, pause["pause_id"], action)
        assert (await until(http, trace_id, status))["output"] == output


async def test_an_agent_outside_is_silent_until_a_person_hands_back(http: httpx2.AsyncClient) -> None:
    body = {"reason": "A dispute.", "transcript": [{"role": "user", "text": "I dispute it"}], "metadata": {"cart": [1]}}
    opened = await http.post("/escalations", json={**body, "handover_message": "A colleague takes over."})
    assert opened.status_code == 202
    trace_id, pause_id = opened.json()["trace_id"], opened.json()["pause_id"]
    (pause,) = (await until(http, trace_id, "PAUSED_HITL"))["pauses"]
    assert (pause["pause_id"], pause["context_snapshot"]) == (pause_id, {"cart": [1]})
    inbox = (await http.get("/inbox", params={"kind": "escalation", "trace_id": trace_id})).json()["items"]
    assert [p["pause_id"] for p in inbox] == [pause_id]
    assert await say(http, pause_id, "agent") == SILENT
    assert await say(http, pause_id, "operator", "I have refunded it.") == (202, "")
    preview = await http.get(f"/workflows/{trace_id}/pauses/{pause_id}/preview/RES_HAND_BACK")
    assert preview.json()["status_after"] == "RUNNING"
    await press(http, trace_id, pause_id, "RES_HAND_BACK")
    assert await say(http, pause_id, "agent", "You have your money.") == (202, "")

    async def told() -> bool:
        found = (await http.get(f"/pauses/{pause_id}")).json()
        return [line["role"] for line in found["conversation"]] == ["user", "system", "operator", "agent"]

    await wait_until(told, description="the whole conversation is under the pause")
    assert (await state(http, trace_id))["status"] == "RUNNING"
    assert "outside" in (await http.get(f"/workflows/{trace_id}/explain")).json()["sentence"]
    assert (await http.post(f"/workflows/{trace_id}/cancel", json={"compensate": False})).status_code == 202
    await until(http, trace_id, "CANCELLED")

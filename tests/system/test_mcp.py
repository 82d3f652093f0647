"""`/mcp` as agents use it: the reference client, and a published agent framework whose model is a stub."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, TypedDict

import httpx2
import pytest
import pytest_asyncio
from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from mcp import Client
from openai import AsyncOpenAI

from handrail_sdk import Client as HandrailClient
from handrail_sdk.adapters.langgraph import escalation_node, resume_with
from handrail_sdk.handover import Handover
from tests.llm_stub import running, says, tool_call
from tests.system.house import Up
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
ASKED: dict[str, Any] = {
    "reason": "The customer disputes a charge.",
    "summary": "Two charges on one order.",
    "transcript": [{"role": "user", "text": "I dispute it"}],
    "metadata": {"order_id": "7"},
    "handover_message": "A colleague takes over.",
}


class Visits(TypedDict, total=False):
    """What the graph carries."""

    visits: int
    human: dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    up = Up(tmp_path_factory.mktemp("mcp") / "data")
    await up.start()
    yield up.url
    await up.stop()


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def insist(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """Calls again while another call with the same key is under way."""
    while True:
        result = await client.call_tool(name, arguments)
        if not result.is_error or result.structured_content["type"] != "/problems/request-in-progress":
            assert not result.is_error, result.content
            return result.structured_content


async def until(client: Client, trace_id: str, **wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal found
        found = await call(client, "get_workflow", trace_id=trace_id)
        return all(found[k] == v for k, v in wanted.items())

    await wait_until(there, description=f"{trace_id} shows {wanted}", timeout_s=60)
    return found


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools_are_described(url: str, mode: Any) -> None:
    async with Client(f"{url}/mcp", mode=mode) as client:
        tools = {t.name: t for t in (await client.list_tools()).tools}
    assert set(tools) == {"escalate_to_human", "list_pending", "get_workflow", "resolve"}
    assert tools["escalate_to_human"].input_schema["required"] == ["reason"]
    hints = {n: (t.annotations.read_only_hint, t.annotations.destructive_hint) for n, t in tools.items()}  # type: ignore[union-attr]
    assert hints["list_pending"][0] is True and hints["resolve"] == (False, True)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_asks_for_a_person_and_gets_the_conversation_back(url: str, mode: Any) -> None:
    async with Client(f"{url}/mcp", mode=mode) as client:
        opened = await call(client, "escalate_to_human", **ASKED)
        assert opened["has_control"] == "human" and ASKED["handover_message"] in opened["next"]
        trace_id, pause_id = opened["trace_id"], opened["pause_id"]
        seen = await until(client, trace_id, status="PAUSED_HITL", has_control="human")
        assert (seen["pause_id"], seen["conversation"][0]["text"]) == (pause_id, "I dispute it")
        pending = await call(client, "list_pending", kind="escalation")
        assert pause_id in [p["pause_id"] for p in pending["items"]]
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
            said = {"role": "operator", "text": "I have refunded it."}
            assert (await http.post(f"/pauses/{pause_id}/messages", json=said)).status_code == 202
            pressed = await call(client, "resolve", pause_id=pause_id, action_id="RES_HAND_BACK", comment="done")
            assert pressed["status"] == "RESUMING"
            back = await until(client, trace_id, has_control="agent", status="RUNNING")
            assert [line["role"] for line in back["conversation"]] == ["user", "system", "operator"]
            assert back["decision"]["channel"] == "mcp"
            assert (await http.get(f"/pauses/{pause_id}")).json()["decision"]["channel"] == "mcp"


async def test_a_refusal_is_a_result_from_which_a_model_can_learn(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        for name, arguments, code in (
            ("escalate_to_human", {}, "validation"),
            ("escalate_to_human", {"reason": "x", "mood": 1}, "unknown-field"),
            ("escalate_to_human", {"reason": "x", "callback_url": "http://localhost/"}, "webhook-url-rejected"),
            ("escalate_to_human", {"reason": "a\0b"}, "invalid-text"),
            ("get_workflow", {"trace_id": "nobody"}, "workflow-not-found"),
            ("get_workflow", {"trace_id": "../../etc"}, "validation"),
            ("list_pending", {"limit": 10**9}, "validation"),
            ("resolve", {"pause_id": "nobody", "action_id": "RES_CLOSE"}, "pause-not-found"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error, (name, arguments)
            assert result.structured_content["type"] == f"/problems/{code}", result.structured_content


async def test_once_per_idempotency_key_and_the_first_decision_is_the_only_one(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        asked = [insist(client, "escalate_to_human", **ASKED, idempotency_key="call-1") for _ in range(4)]
        opened = {o["pause_id"]: o for o in await asyncio.gather(*asked)}
        assert len(opened) == 1
        ((pause_id, told),) = opened.items()
        await until(client, told["trace_id"], status="PAUSED_HITL")
        await call(client, "resolve", pause_id=pause_id, action_id="RES_RESPOND", input="It is undone.")
        second = await client.call_tool("resolve", {"pause_id": pause_id, "action_id": "RES_CLOSE"})
        assert second.is_error and second.structured_content["type"] == "/problems/already-resolved"
        ended = await until(client, told["trace_id"], status="COMPLETED")
        assert ended["output"] == {"conversation": {"response": "It is undone."}}


async def test_pages_of_other_origins_and_rebound_names_are_refused(url: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        accept = {"Accept": "application/json, text/event-stream"}
        for headers, code in (
            ({"Origin": "https://evil.example"}, "foreign-origin"),
            ({"Host": "evil.example"}, "foreign-host"),
        ):
            answer = await http.post("/mcp", json=body, headers={**accept, **headers})
            assert (answer.status_code, answer.json()["type"]) == (403, f"/problems/{code}")
        large = await http.post(
            "/mcp", content=b"x" * (1024 * 1024 + 1), headers={**accept, "Content-Type": "application/json"}
        )
        assert large.status_code == 413
        plain = await http.post("/mcp", content=b"x", headers={**accept, "Content-Type": "text/plain"})
        assert (plain.status_code, plain.json()["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_nothing_but_a_post_is_answered_and_no_other_request_is_left_open(url: str, accept: str) -> None:
    """There are no sessions: nothing would ever come on a stream, and there is none to end. After a HEAD that opened one, the
    connection answered nothing any more."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=5) as http:
        for method in ("HEAD", "GET", "DELETE", "PUT", "OPTIONS"):
            answer = await http.request(method, "/mcp", headers={"Accept": accept})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST"), method
            assert answer.headers["content-type"] == "application/problem+json"
            assert (await http.get("/healthz")).status_code == 200


async def test_a_published_agent_framework_hands_over_by_itself(url: str) -> None:
    """The OpenAI Agents SDK, unchanged, with a model that plays what a real one would: it calls the tool, then hands over."""
    set_tracing_disabled(True)
    async with running() as llm:
        llm.play(tool_call("escalate_to_human", ASKED), says("A colleague takes over."))
        model = OpenAIChatCompletionsModel("stub", AsyncOpenAI(base_url=llm.url, api_key="none"))
        async with MCPServerStreamableHttp({"url": f"{url}/mcp"}, cache_tools_list=True) as server:
            agent = OpenAIAgent("shop", instructions="Help.", mcp_servers=[server], model=model)
            result = await Runner.run(agent, "I dispute a charge")
    assert result.final_output == "A colleague takes over."
    offered = {t["function"]["name"] for t in llm.asked[0]["tools"]}
    assert offered == {"escalate_to_human", "list_pending", "get_workflow", "resolve"}
    heard = str(llm.asked[1]["messages"][-1]["content"])
    assert "has_control" in heard
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:

        async def waiting() -> bool:
            items = (await http.get("/inbox", params={"kind": "escalation"})).json()["items"]
            return any(p["failure_reason"] == ASKED["reason"] and p["pause_id"] in heard for p in items)

        await wait_until(waiting, description="what the model asked for is in the inbox")


async def decide(url: str, seen: set[str], *, hand_back: bool) -> str:
    """A person: says a sentence to the newest escalation, then hands back or answers with it. Answers its pause."""
    text = "It is settled."
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        pause: dict[str, Any] = {}

        async def waiting() -> bool:
            items = (await http.get("/inbox", params={"kind": "escalation"})).json()["items"]
            pause.update(next((p for p in items if p["pause_id"] not in seen), {}))
            return bool(pause)

        await wait_until(waiting, description="the agent has asked for a person", timeout_s=60)
        said = {"role": "operator", "text": text}
        if hand_back:
            assert (await http.post(f"/pauses/{pause['pause_id']}/messages", json=said)).status_code == 202
            body: dict[str, Any] = {"action_id": "RES_HAND_BACK"}
        else:
            body = {"action_id": "RES_RESPOND", "input": text}
        assert (await http.post(f"/workflows/{pause['trace_id']}/resume", json=body)).status_code == 202
        return (await http.get(f"/pauses/{pause['pause_id']}")).json()


@pytest.mark.parametrize("hand_back", [True, False])
@pytest.mark.parametrize("name", ["pydantic_ai", "openai_agents", "langgraph"])
async def test_the_examples_run_as_they_stand(
    url: str, name: str, hand_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module(f"handover_{name}")
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        items = (await http.get("/inbox", params={"kind": "escalation"})).json()["items"]
    async with asyncio.timeout(90), asyncio.TaskGroup() as both:
        person = both.create_task(decide(url, {p["pause_id"] for p in items}, hand_back=hand_back))
        agent = both.create_task(example.main(url))
    pause, answer = person.result(), agent.result()
    assert pause["failure_reason"] == "The customer disputes a charge."
    assert pause["context_snapshot"] == {"order_id": "7"}
    told = [(line["role"], line["text"]) for line in pause["conversation"]]
    assert told[0] == ("user", "I dispute the second charge") and told[1][0] == "system"
    if not hand_back:
        assert answer == "It is settled."
    elif name == "pydantic_ai":
        assert answer.startswith("As my colleague said")
    elif name == "langgraph":
        assert answer == "My colleague says: It is settled."


async def test_an_agent_outside_gets_a_person_however_long_and_odd_the_conversation_is(url: str) -> None:
    said: list[dict[str, Any]] = [{"role": "user", "text": "old", "at": "yesterday"}] * 2_000
    said += [{"role": "user", "text": "x" * 30_000}, {"role": "tool", "text": "a\0b", "more": 1}]
    async with HandrailClient(url, actor="shop-bot") as client:
        handover = Handover(client, metadata={"wei": 10**20, "ratio": float("nan"), "order": "\ud800"})
        await handover.escalate(" ", summary="s" * 5_000, transcript=said)
        pause = (await client.get_pause(str(handover.pause_id))).model_dump(mode="json")
    assert pause["failure_reason"] == "s" * 4_000
    assert [line["text"][:5] for line in pause["transcript"]][-2:] == ["xxxxx", "a\ufffdb"]
    assert pause["context_snapshot"] == {"wei": str(10**20), "ratio": None, "order": "?"}


async def test_a_graph_that_comes_to_a_person_twice_asks_twice(url: str) -> None:
    """In one thread, with the same words: the first answer is not the second."""

    async def more(state: Any) -> dict[str, Any]:
        return {"visits": state.get("visits", 0) + 1}

    async with HandrailClient(url, actor="shop-bot") as client:
        handover = Handover(client)
        human = escalation_node(handover, reason=lambda _: "A dispute.", transcript=lambda _: [])
        graph = StateGraph(Visits)
        graph.add_node("human", human)
        graph.add_node("more", more)
        graph.add_edge(START, "human")
        graph.add_edge("human", "more")
        graph.add_conditional_edges("more", lambda state: "human" if state["visits"] < 2 else END)
        app = graph.compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
        await app.ainvoke({"visits": 0}, config)
        seen: list[str | None] = []
        for answer in ("first", "second"):
            assert handover.pause_id not in seen and not await handover.may_speak()
            seen.append(handover.pause_id)
            await client.resume(str(handover.trace_id), "RES_RESPOND", input=answer, pause_id=handover.pause_id)
            back = await handover.wait(timeout_s=30)
            assert back.response == answer
            await app.ainvoke(Command(resume=resume_with(back)), config)
        assert app.get_state(config).next == () and handover.pause_id == seen[-1]

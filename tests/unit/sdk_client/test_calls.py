"""`Client`'s single calls: what is sent, what is repeated, what is raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.journals import Story
from tests.unit.sdk_client.fake_handrail import Answer, FakeHandrail

from handrail_contracts.plan import Node, Plan
from handrail_contracts.problems import problem
from handrail_sdk.client import Client
from handrail_sdk.client_errors import Problem, Unexpected, Unreachable

ACCEPTED = {
    "trace_id": "t1",
    "status": "ACCEPTED",
    "links": {"state": "/workflows/t1/state", "events": "/workflows/t1/events", "console": "/console/workflows/t1"},
}
RESUMING = {"trace_id": "t", "pause_id": "p1", "action_id": "RES_SKIP", "status": "RESUMING"}


@pytest.fixture(autouse=True)
def _quick_repeats(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("handrail_sdk.calls._FIRST_DELAY_S", 0.001)
    monkeypatch.delenv("HANDRAIL_ACTOR", raising=False)
    yield


def a_fake() -> FakeHandrail:
    tale = Story("t")
    tale.accepted()
    tale.planned({"a": []})
    return FakeHandrail(tale.events)


async def test_start_sends_only_what_was_given() -> None:
    async with a_fake() as fake, Client(fake.url, actor="ada", channel="cli") as client:
        fake.answer("POST", "/workflows", Answer(202, ACCEPTED))
        accepted = await client.start("Onboard Ada", blueprint="employee-onboarding", input={"budget": 2500})
        assert (accepted.trace_id, accepted.links.console) == ("t1", "/console/workflows/t1")
        (sent,) = fake.requests
        assert sent.body == {
            "intent": "Onboard Ada",
            "blueprint": "employee-onboarding",
            "input": {"budget": 2500},
        }
        assert (sent.headers["handrail-actor"], sent.headers["handrail-channel"]) == ("ada", "cli")
        assert sent.headers["content-type"] == "application/json"


async def test_a_plan_is_sent_as_it_was_written() -> None:
    plan = Plan(nodes=[Node(id="a", agent="simulator", action="script", inputs={"output": {"$from": "input.x"}})])
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows", Answer(202, ACCEPTED))
        await client.start(plan=plan)
        assert fake.requests[0].body == {
            "plan": {
                "nodes": [
                    {"id": "a", "agent": "simulator", "action": "script", "inputs": {"output": {"$from": "input.x"}}}
                ]
            }
        }


async def test_an_order_whose_answer_got_lost_is_repeated_under_the_same_key() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows", Answer(cut=True), Answer(cut=True), Answer(202, ACCEPTED))
        await client.start("x")
        await client.start("x")
        keys = [r.headers["idempotency-key"] for r in fake.requests]
        assert len(keys) == 4
        assert len(set(keys[:3])) == 1
        assert keys[3] != keys[0]


async def test_a_key_of_ones_own_is_used() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows/t/resume", Answer(202, RESUMING))
        await client.resume("t", "RES_SKIP", idempotency_key="k-1")
        assert fake.requests[0].headers["idempotency-key"] == "k-1"


@pytest.mark.parametrize("code", ["overloaded", "unavailable", "request-in-progress", "too-many-requests"])
async def test_what_passes_by_itself_is_repeated(code: str) -> None:
    busy = problem(code, "A moment.")
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows", Answer(busy["status"], busy), Answer(202, ACCEPTED))
        assert (await client.start("x")).trace_id == "t1"
        assert len({r.headers["idempotency-key"] for r in fake.requests}) == 1


async def test_a_proxy_whose_backend_is_down_counts_as_not_available() -> None:
    async with a_fake() as fake, Client(fake.url, retries=1) as client:
        down = Answer(502, "Bad Gateway", {"content-type": "text/html"})
        fake.answer("GET", "/agents", down)
        with pytest.raises(Problem) as caught:
            await client.agents()
        assert (caught.value.code, caught.value.status, caught.value.retriable) == ("unavailable", 502, True)
        assert len(fake.requests) == 2


async def test_a_refusal_is_raised_at_once_with_all_that_it_says() -> None:
    fault = {"pointer": "/input", "code": "format", "message": "is not a URL"}
    refused = problem("invalid-input", "Expected a URL, but found 'x'.", trace_id="t", errors=[fault], hint="h")
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows/t/resume", Answer(422, refused))
        with pytest.raises(Problem, match="Expected a URL") as caught:
            await client.resume("t", "RES_MANUAL_SKU", input="x", pause_id="p1")
        error = caught.value
        assert (error.code, error.status, error.trace_id, error.retriable) == ("invalid-input", 422, "t", False)
        assert [(e.pointer, e.message) for e in error.errors] == [("/input", "is not a URL")]
        assert error.body["hint"] == "h"
        assert len(fake.requests) == 1


@pytest.mark.parametrize(("given", "sent"), [({}, False), ({"input": None}, True), ({"input": False}, True)])
async def test_no_input_and_an_input_that_is_null_are_two_things(given: dict[str, Any], sent: bool) -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows/t/resume", Answer(202, RESUMING))
        await client.resume("t", "RES_SKIP", **given)
        assert ("input" in fake.requests[0].body) is sent


async def test_an_address_where_nobody_listens_is_unreachable() -> None:
    async with Client("http://127.0.0.1:9", retries=2) as client:
        with pytest.raises(Unreachable, match="connection refused") as caught:
            await client.agents()
        assert caught.value.url == "http://127.0.0.1:9"


async def test_a_server_that_is_not_handrail_is_named_as_such() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("GET", "/agents", Answer(404, "<html>", {"content-type": "text/html"}))
        with pytest.raises(Unexpected, match="not Handrail"):
            await client.agents()
        fake.answers.clear()
        fake.answer("GET", "/agents", Answer(200, {"agents": []}))
        with pytest.raises(Unexpected, match="items"):
            await client.agents()


async def test_an_answer_of_another_form_says_where() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("POST", "/workflows", Answer(202, {**ACCEPTED, "links": {"state": "/s", "events": "/e"}}))
        with pytest.raises(Unexpected, match="/links/console"):
            await client.start("x")


async def test_an_id_cannot_reach_another_route() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        with pytest.raises(Problem):
            await client.state("../inbox?state=open#")
        assert fake.requests[0].path == "/workflows/../inbox?state=open#/state"
        assert fake.requests[0].query == {}


async def test_list_filters_become_the_query() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("GET", "/workflows", Answer(200, {"items": [], "next_cursor": "c2"}))
        page = await client.list(status=("RUNNING", "PAUSED_HITL"), labels={"team": "it", "a": "b"}, limit=5)
        assert (page.items, page.next_cursor) == ([], "c2")
        assert fake.requests[0].query == {
            "status": ["RUNNING,PAUSED_HITL"],
            "label": ["team:it", "a:b"],
            "limit": ["5"],
        }


async def test_readiness_is_read_also_when_it_is_bad() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        fake.answer("GET", "/readyz", Answer(503, {"ready": False}))
        assert await client.ready() == {"ready": False}


async def test_state_with_history_is_typed_and_keeps_what_it_does_not_know() -> None:
    async with a_fake() as fake, Client(fake.url) as client:
        state = await client.state("t", history=True)
        assert (state.status, state.cursor, state.nodes[0].id) == ("RUNNING", "2", "a")
        assert state.history == fake.journal
        assert state.model_dump(mode="json", by_alias=True, exclude_unset=True) == {
            **fake.state(),
            "history": fake.journal,
        }


@pytest.mark.parametrize("actor", ["ada", "zoë ✓"])
async def test_any_actor_fits_into_a_header(actor: str) -> None:
    async with a_fake() as fake, Client(fake.url, actor=actor) as client:
        await client.state("t")
        assert fake.requests[0].headers["handrail-actor"].isascii()

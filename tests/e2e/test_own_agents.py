"""Agents that a user wrote (`examples/my_agents.py`, loaded by HANDRAIL_AGENTS__LOAD), as docs/howto/write-an-agent.md runs them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.strange import Strange


@pytest.fixture(autouse=True)
def loaded(handrail: Strange) -> None:
    known = {agent["name"] for agent in handrail.get("/agents").json()["items"]}
    if not {"scout", "buyer"} <= known:
        pytest.skip("the Handrail of HANDRAIL_E2E_URL has not loaded examples.my_agents")


def plan(may_add_nodes: int, vendor: str = "beta") -> dict[str, Any]:
    wish, order = {"sku": "MBP-16"}, {"sku": "MBP-16", "vendor": vendor}
    find = {"id": "find", "agent": "scout", "action": "find_vendors", "inputs": wish, "may_add_nodes": may_add_nodes}
    buy = {"id": "order", "agent": "buyer", "action": "buy", "depends_on": ["find"], "inputs": order}
    return {"nodes": [find, buy]}


def test_steps_that_a_task_adds_run_in_the_same_workflow(handrail: Strange) -> None:
    trace_id = handrail.start(plan=plan(5))
    state = handrail.ended(trace_id)
    assert state["status"] == "COMPLETED"
    nodes = {n["id"]: n for n in state["nodes"]}
    assert set(nodes) == {"find", "order", "quote_alpha", "quote_beta"}
    assert nodes["quote_beta"]["output"] == {"vendor": "beta", "price": 2350}
    assert nodes["quote_alpha"]["depends_on"] == ["find"]


def test_more_steps_than_the_plan_allows_are_none_and_a_person_is_asked(handrail: Strange) -> None:
    trace_id = handrail.start(plan=plan(1))
    pause = handrail.paused(trace_id)
    assert (pause["node_id"], pause["attempts"][-1]["error"]["code"]) == ("find", "too-many-nodes")
    assert {n["id"] for n in handrail.state(trace_id)["nodes"]} == {"find", "order"}


def test_a_task_shows_its_own_buttons_and_takes_the_corrected_input(handrail: Strange) -> None:
    trace_id = handrail.start(plan=plan(5, vendor="gamma"))
    pause = handrail.paused(trace_id)
    assert [r["action_id"] for r in pause["available_resolutions"]] == ["RES_SKIP", "RES_VENDOR", "RES_ABORT_SAGA"]
    assert handrail.resume(trace_id, "RES_VENDOR", input="beta").status_code == 202
    assert handrail.ended(trace_id)["status"] == "COMPLETED"

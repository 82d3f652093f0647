"""The planner: what is recorded, what a model makes within its budgets, and what no model can get past the code."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import Response
from tests.llm_stub import LlmStub, running, tool_call
from tests.unit.catalog.hostile_plans import HOSTILE, look, node, plan

from handrail_agents.catalog.planner import (
    Budget,
    ModelPlanner,
    PlanMaker,
    RecordedPlans,
    plan_settings,
    planner,
    recorded_plans,
)
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import Outcome, Result
from handrail_engine.admission import admit
from handrail_engine.decide import decide
from handrail_engine.inputs import Now, Rejection, Start
from handrail_engine.state import WorkflowState
from handrail_sdk.ai import Endpoint
from handrail_sdk.failures import DefinitionError, Fail
from handrail_sdk.testing import call, context

EFFECT = {"effect_class": "idempotent", "compensatable": True}
MANIFESTS: dict[tuple[str, str], dict[str, Any]] = {
    ("bank", "transfer"): {**EFFECT, "description": "Pays."},
    ("bank", "balance_check"): {"effect_class": "pure"},
    ("mailbox", "create"): EFFECT,
    ("simulator", "script"): {"effect_class": "pure", "compensatable": True},
    ("planner", "plan"): {"effect_class": "pure", "untrusted": True},
}
T0 = 1_800_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def llm() -> AsyncGenerator[LlmStub]:
    async with running() as stub:
        yield stub


async def known() -> dict[tuple[str, str], dict[str, Any]]:
    return MANIFESTS


def by_model(
    llm: LlmStub, *, budget: Budget | None = None, allowed: list[str] | None = None, **prices: float
) -> ModelPlanner:
    llm.clear()
    llm.otherwise = lambda body: Response("nothing to play", 500)
    return ModelPlanner(Endpoint(base_url=llm.url, model="m", **prices), known, budget, allowed)


async def made(maker: PlanMaker, intent: str = "pay Mallory") -> Any:
    return await call(planner(maker).tasks["plan"], {"intent": intent, "input": {}})


async def refused(maker: PlanMaker, intent: str = "pay Mallory") -> Fail:
    with pytest.raises(Fail) as failed:
        await made(maker, intent)
    return failed.value


def answers(llm: LlmStub, draft: Any) -> None:
    llm.otherwise = lambda body: tool_call("final_result", draft, f"call_{len(llm.asked)}")


# recorded


async def test_a_recorded_intent_is_planned_without_a_key() -> None:
    found = await made(recorded_plans({}), "look up the balance of the checking account!")
    assert [n["agent"] for n in found["nodes"]] == ["bank"]
    assert found["output"] == {"balance": {"$from": "nodes.balance.output.balance"}}


async def test_what_is_not_recorded_is_told_plainly_and_not_tried_again() -> None:
    error = await refused(recorded_plans({}), "bake a cake")
    assert (error.code, error.retryable) == ("no-plan", False)
    assert "HANDRAIL_AI__BASE_URL" in error.message


def test_the_registry_is_told_what_is_known_by_heart() -> None:
    assert planner(recorded_plans({})).tasks["plan"].facts == {"knows": ["look up the balance of the checking account"]}


def test_recordings_of_ones_own_are_read(tmp_path: Any) -> None:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({"plans": [{"intent": "Bake a cake", "nodes": [look()]}]}))
    found = recorded_plans({"HANDRAIL_AI__PLAN_RECORDINGS": str(path)})
    assert isinstance(found, RecordedPlans) and "bake a cake" in found.facts["knows"]
    for text in ("{", "[]", '{"plans": [{"intent": "x"}]}'):
        path.write_text(text)
        with pytest.raises(DefinitionError, match="HANDRAIL_AI__PLAN_RECORDINGS"):
            recorded_plans({"HANDRAIL_AI__PLAN_RECORDINGS": str(path)})


# by a model


async def test_a_model_plans_with_structured_output_and_what_it_spent_is_counted(llm: LlmStub) -> None:
    maker = by_model(llm, input_usd_per_million=10)
    llm.play(tool_call("final_result", plan(look(), node("pay", depends_on=["look"]))))
    task = planner(maker).tasks["plan"]
    ctx = context(task)
    found = await call(task, {"intent": "pay Alice", "input": {"who": "Alice"}}, ctx)
    assert [n["id"] for n in found["nodes"]] == ["look", "pay"]
    assert ctx.usage == {"calls": 1, "input_tokens": 100, "output_tokens": 20, "cost_usd": 0.001, "model": "m"}
    said = json.dumps(llm.asked[0]["messages"])
    assert "balance_check" in said and "pay Alice" in said
    assert "simulator" not in said
    assert task.facts == {"untrusted": True}


async def test_a_model_is_told_what_was_wrong_and_may_try_again(llm: LlmStub) -> None:
    maker = by_model(llm)
    llm.play(tool_call("final_result", plan(node(agent="nobody"))), tool_call("final_result", plan(look()), "call_2"))
    assert len((await made(maker))["nodes"]) == 1
    assert "was never seen" in json.dumps(llm.asked[1]["messages"])


async def test_only_agents_of_the_list_may_be_used(llm: LlmStub) -> None:
    maker = by_model(llm, allowed=["mailbox"])
    answers(llm, plan(look()))
    assert (await refused(maker)).code == "PLAN_REFUSED"


@pytest.mark.parametrize(
    ("budget", "prices", "code"),
    [
        ({"max_tokens": 110}, {}, "MODEL_BUDGET_SPENT"),
        ({"max_usd": 0.001}, {"output_usd_per_million": 20}, "MODEL_BUDGET_SPENT"),
        ({"max_nodes": 1}, {}, "PLAN_REFUSED"),
    ],
)
async def test_budgets_hold(llm: LlmStub, budget: dict[str, Any], prices: dict[str, float], code: str) -> None:
    maker = by_model(llm, budget=Budget(**budget), **prices)
    answers(llm, plan(look("a"), look("b"), node(agent="nobody")))
    task = planner(maker).tasks["plan"]
    ctx = context(task)
    with pytest.raises(Fail) as failed:
        await call(task, {"intent": "x"}, ctx)
    assert (failed.value.code, failed.value.retryable) == (code, False)
    assert ctx.usage["input_tokens"] > 0


async def test_a_model_that_does_not_answer_is_asked_again_later(llm: LlmStub) -> None:
    error = await refused(by_model(llm))
    assert (error.code, error.retryable) == ("MODEL_UNAVAILABLE", True)


async def test_time_is_a_budget(llm: LlmStub) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", model="m")
        error = await refused(ModelPlanner(endpoint, known, Budget(max_s=0.3)))
    assert (error.code, error.retryable) == ("MODEL_BUDGET_SPENT", False)


def test_settings_of_planning_are_read_and_faults_named() -> None:
    found = plan_settings({"HANDRAIL_AI__PLAN_MAX_NODES": "5", "HANDRAIL_AI__PLAN_AGENTS": "bank, mailbox"})
    assert (found[0].max_nodes, found[1]) == (5, ["bank", "mailbox"])
    with pytest.raises(DefinitionError, match="HANDRAIL_AI__PLAN_MAX_USD"):
        plan_settings({"HANDRAIL_AI__PLAN_MAX_USD": "free"})


# hostile plans


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_plan_is_refused_by_the_planner_or_holds_nothing_but_known_steps(
    llm: LlmStub, name: str
) -> None:
    maker = by_model(llm)
    answers(llm, HOSTILE[name])
    try:
        found = await made(maker)
    except Fail as e:
        assert e.code == "PLAN_REFUSED"
        return
    for n in found["nodes"]:
        assert set(n) <= {"id", "agent", "action", "depends_on", "inputs"}
        assert (n["agent"], n["action"]) in MANIFESTS and n["agent"] in ("bank", "mailbox")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_plan_past_the_planner_is_refused_or_stops_at_a_person(name: str) -> None:
    """As if somebody had answered in the planner's place: the owner judges by itself."""
    s = WorkflowState("t", "w")
    now = Now(T0)
    assert not isinstance(decide(s, Start("pay", None, {}, {}, None), now), Rejection)
    nodes = HOSTILE[name].get("nodes")
    task = s.nodes["plan"]
    answer = Result(
        trace_id="w", node_id="plan", attempt=1, effect_key=s.do_key(task), outcome=Outcome.OK,
        output=HOSTILE[name], nodes=nodes if isinstance(nodes, list) else None,
    )  # fmt: skip
    sent: list[Any] = []
    decided = decide(s, admit(s, answer, MANIFESTS), now)
    while not isinstance(decided, Rejection):
        sent += decided.messages
        out = next((n for n in s.nodes.values() if n.live is not None and n.spec.id != "plan"), None)
        if out is None:
            break
        ok = answer.model_copy(
            update={"node_id": out.spec.id, "effect_key": s.do_key(out), "nodes": None, "output": {"balance": 5}}
        )
        decided = decide(s, ok.model_copy(update={"attempt": out.attempt}), now)
    acted = [t for t in sent if t.node_id != "plan" and t.effect_class is not EffectClass.PURE]
    assert not acted, f"{name}: dispatched {[t.node_id for t in acted]} without a person"
    plan_refused = s.nodes["plan"].error is not None
    gated = any(p.kind == "gate" for p in s.pauses.values())
    harmless = s.planned and all(n.spec.effect_class is EffectClass.PURE for n in s.nodes.values())
    assert plan_refused or gated or harmless

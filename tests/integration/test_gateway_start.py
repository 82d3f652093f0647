"""`POST /workflows`: what is accepted and durable, and every bad start of RELIABILITY's table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from tests.integration.gateway_rig import BLUEPRINT, Rig, node, raw, running_gateway
from tests.waiting import wait_until

from handrail_contracts import topics
from handrail_contracts.answers import Accepted, State
from handrail_contracts.codec import decode
from handrail_contracts.commands import Nudge
from handrail_store import archive


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    from tests.engines import drop_database, fresh_database

    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as running:
        await running.register()
        yield running
    await drop_database(postgres_server, dsn)


async def refused(rig: Rig, body: Any, status: int, code: str) -> dict[str, Any]:
    answer = await rig.post("/workflows", body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{code}"), problem
    assert problem["status"] == status
    assert problem["instance"] == "/workflows"
    return problem


async def test_a_blueprint_is_accepted_and_durable_before_the_answer(rig: Rig) -> None:
    body = {
        "blueprint": "employee-onboarding",
        "input": {"employee": "Ada"},
        "labels": {"team": "it"},
        "deadline_s": 60,
    }
    answer = await rig.post("/workflows", body, Handrail_Actor="ada", Handrail_Channel="cli")
    assert answer.status_code == 202
    accepted = Accepted.model_validate(answer.json())
    trace_id = accepted.trace_id
    assert answer.headers["location"] == f"/workflows/{trace_id}/state"
    assert answer.json()["links"] == {
        "state": f"/workflows/{trace_id}/state",
        "events": f"/workflows/{trace_id}/events",
        "console": f"/console/workflows/{trace_id}",
    }
    [command] = await rig.commands(trace_id)
    assert (command["kind"], command["actor"], command["channel"]) == ("start", "ada", "cli")
    stored = command["body"]
    assert stored["blueprint"] == "employee-onboarding"
    assert stored["blueprint_version"] == 2
    assert stored["input"] == {"employee": "Ada", "sku": "MBP-16", "budget": 2500}
    assert stored["labels"] == {"team": "it"}
    assert stored["deadline_s"] == 60
    assert stored["output"] == BLUEPRINT["output"]
    assert [n["id"] for n in stored["plan"]["nodes"]] == ["hr_record", "hardware"]
    # The manifest's own defaults are merged in, so that the orchestrator needs no registry.
    assert stored["plan"]["nodes"][1]["retry"]["max_attempts"] == 5
    assert stored["plan"]["nodes"][1]["effect_class"] == "idempotent"


async def test_the_owner_is_nudged_with_ids_only(rig: Rig) -> None:
    trace_id = (await rig.post("/workflows", {"blueprint": "employee-onboarding"})).json()["trace_id"]
    reader = await rig.bus.reader()
    found: list[Nudge] = []

    async def nudged() -> bool:
        for record in await reader.read(1_000, 0.05):
            _, message = decode(record.topic, record.headers, record.value)
            assert isinstance(message, Nudge)
            found.append(message)
        return any(n.trace_id == trace_id for n in found)

    ranges = await rig.bus.ranges([(topics.COMMANDS, p) for p in range(4)])
    reader.assign({where: held.start for where, held in ranges.items()})
    await wait_until(nudged, description="the nudge")
    await reader.close()


async def test_from_the_202_on_the_state_answers(rig: Rig) -> None:
    body = {"intent": "Onboard a new employee", "blueprint": "employee-onboarding", "labels": {"a": "b"}}
    trace_id = (await rig.post("/workflows", body)).json()["trace_id"]
    for history in (False, True):
        answer = await rig.get(f"/workflows/{trace_id}/state", **({"history": "true"} if history else {}))
        assert answer.status_code == 200
        state = answer.json()
        State.model_validate(state)
        assert (state["status"], state["cursor"], state["nodes"], state["pauses"]) == ("ACCEPTED", "0", [], [])
        assert (state["blueprint"], state["intent"], state["labels"]) == (
            "employee-onboarding",
            "Onboard a new employee",
            {"a": "b"},
        )
        assert state["input"]["sku"] == "MBP-16"
        assert state["created_at"] is not None
        assert state.get("history", []) == []
    assert (await rig.post(f"/workflows/{trace_id}/pause")).status_code == 202
    assert (await rig.post(f"/workflows/{trace_id}/cancel")).status_code == 202


async def test_an_intent_alone_finds_its_blueprint(rig: Rig) -> None:
    answer = await rig.post("/workflows", {"intent": "Please onboard our new engineer and get her a laptop"})
    assert answer.status_code == 202
    [command] = await rig.commands(answer.json()["trace_id"])
    assert command["body"]["blueprint"] == "employee-onboarding"
    assert command["body"]["input"] == {"employee": "New colleague", "sku": "MBP-16", "budget": 2500}


async def test_an_explicit_plan_is_compiled_and_stored(rig: Rig) -> None:
    plan = {
        "nodes": [node("b", "a"), node("a", inputs={"x": {"$from": "input.n"}})],
        "output": {"r": {"$from": "nodes.b.output"}},
    }
    answer = await rig.post("/workflows", {"plan": plan, "input": {"n": 1}, "trace_id": "my-plan_1"})
    assert answer.json()["trace_id"] == "my-plan_1"
    [command] = await rig.commands("my-plan_1")
    assert [n["id"] for n in command["body"]["plan"]["nodes"]] == ["a", "b"]
    assert command["body"]["output"] == plan["output"]
    assert command["body"]["input"] == {"n": 1}


async def test_a_blueprint_or_an_agent_counts_from_its_registration_on(rig: Rig) -> None:
    fresh = {**BLUEPRINT, "name": "fresh", "nodes": [{"id": "n", "agent": "fresh_bot", "action": "go"}], "output": None}
    await refused(rig, {"blueprint": "fresh"}, 422, "unknown-blueprint")
    await rig.add_blueprint(fresh)
    await refused(rig, {"blueprint": "fresh"}, 422, "unknown-agent")
    await rig.add_agent("fresh_bot", "go", {"effect_class": "pure"})
    assert (await rig.post("/workflows", {"blueprint": "fresh"})).status_code == 202


async def test_a_plan_that_came_before_is_compiled_as_its_agents_stand_now(postgres_server: str) -> None:
    """The gateway remembers what it made of a plan: for those bytes, and for that reading of the registry only."""
    from tests.engines import drop_database, fresh_database

    async def stored(rig: Rig, **more: Any) -> dict[str, Any]:
        one = {"id": "a", "agent": "bot", "action": "go", "inputs": {"n": 1}, **more}
        answer = await rig.post("/workflows", {"plan": {"nodes": [one]}})
        assert answer.status_code == 202, answer.text
        [command] = await rig.commands(answer.json()["trace_id"])
        (compiled,) = command["body"]["plan"]["nodes"]
        return compiled

    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as other:
        await other.add_agent("bot", "go", {"effect_class": "pure", "retry": {"max_attempts": 4}})
        first = await stored(other)
        assert first["retry"]["max_attempts"] == 4
        assert await stored(other) == first
        assert (await stored(other, inputs={"n": 1.0}))["inputs"] == {"n": 1.0}
        assert (await stored(other, retry={"max_attempts": 2}))["retry"]["max_attempts"] == 2
        for _ in range(2):
            await refused(
                other, {"plan": {"nodes": [{"id": "a", "agent": "ghost", "action": "go"}]}}, 422, "unknown-agent"
            )
        manifest = {"effect_class": "pure", "retry": {"max_attempts": 7}}
        await other.db.execute("UPDATE handrail.agent SET manifest = $1, manifest_as_written = NULL", manifest)

        async def newer() -> bool:
            return (await stored(other))["retry"]["max_attempts"] == 7

        await wait_until(newer, description="the registry is read again, a second later at the latest")
    await drop_database(postgres_server, dsn)


async def test_what_stands_beside_a_plan_that_came_before_is_judged_each_time(rig: Rig) -> None:
    """The gateway does not read such a plan again: everything else of the body, and a plan that differs in anything, it does."""
    one = node("known_before") | {"inputs": {"n": 1}}
    plan = {"nodes": [one], "output": {"n": 1}}

    async def stored(body: Any, **headers: str) -> dict[str, Any]:
        answer = await rig.post("/workflows", body, **headers)
        assert answer.status_code == 202, answer.text
        [command] = await rig.commands(answer.json()["trace_id"])
        return command["body"]

    first = await stored({"plan": plan, "input": {"x": 1}, "labels": {"a": "b"}, "deadline_s": 5})
    assert (first["output"], first["labels"], first["deadline_s"]) == ({"n": 1}, {"a": "b"}, 5)
    assert await stored({"plan": plan, "input": {"x": 1}, "labels": {"a": "b"}, "deadline_s": 5}) == first
    assert await stored({"input": {"x": 2.5}, "plan": plan}) == first | {
        "input": {"x": 2.5},
        "labels": {},
        "deadline_s": None,
    }
    key = {"Idempotency_Key": "known-before"}
    kept = await stored({"plan": plan, "input": {"x": 1}}, **key)
    assert await stored({"input": {"x": 1}, "plan": plan}, **key) == kept
    again = await rig.post("/workflows", {"plan": plan, "input": {"x": 2}}, **key)
    assert again.json()["type"] == "/problems/idempotency-key-reused"
    for body, code, pointer in (
        ({"plan": plan, "labels": {"a": 1}}, "validation", "/labels/a"),
        ({"plan": plan, "lables": {}}, "unknown-field", "/lables"),
        ({"plan": plan, "deadline_s": "5"}, "validation", "/deadline_s"),
        ({"plan": plan, "blueprint": "employee-onboarding"}, "validation", "/plan"),
        ({"plan": plan, "trace_id": "no such"}, "invalid-trace-id", "/trace_id"),
        ({"plan": plan | {"budget": {"tokens": 0}}}, "validation", "/plan/budget/tokens"),
        ({"plan": {"nodes": [one | {"optional": 0}], "output": {"n": 1}}}, "validation", "/plan/nodes/0/optional"),
    ):
        problem = await refused(rig, body, 400 if code == "invalid-trace-id" else 422, code)
        assert [e["pointer"] for e in problem["errors"]] == [pointer]


async def test_what_an_author_grants_a_node_is_held_against_the_deadline_each_time(rig: Rig) -> None:
    """Also where the plan came before, with a later deadline or none. What nobody wrote down is no promise."""
    granted = [
        node("a", timeouts={"start_to_close_s": 90}),
        node("b", retry={"total_timeout_s": 61}, timeouts={"start_to_close_s": 60}),
        node("c", retry={"max_attempts": 3}, timeouts={"schedule_to_start_s": 3600, "lease_s": 9}),
    ]
    plan = {"nodes": granted}
    for deadline_s in (None, 90, 1000, 90.5):
        answer = await rig.post("/workflows", {"plan": plan, "deadline_s": deadline_s})
        assert answer.status_code == 202, answer.text
    for _ in range(2):
        problem = await refused(rig, {"plan": plan, "deadline_s": 60}, 422, "invalid-retry-policy")
        found = {e["pointer"] for e in problem["errors"]}
        assert found == {"/plan/nodes/0/timeouts/start_to_close_s", "/plan/nodes/1/retry/total_timeout_s"}
        assert "60" in problem["detail"]
        assert "90" in problem["detail"]
    fresh = {"nodes": [node("fresh", timeouts={"start_to_close_s": 5.5})]}
    problem = await refused(rig, {"plan": fresh, "deadline_s": 5}, 422, "invalid-retry-policy")
    assert [e["pointer"] for e in problem["errors"]] == ["/plan/nodes/0/timeouts/start_to_close_s"]
    quick = {"nodes": [node("quick"), {"id": "manifest", "agent": "hardware_bot", "action": "order"}]}
    assert (await rig.post("/workflows", {"plan": quick, "deadline_s": 0.1})).status_code == 202


async def test_a_planner_that_only_knows_by_heart_is_not_asked_for_anything_else(postgres_server: str) -> None:
    from tests.engines import drop_database, fresh_database

    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as other:
        await other.add_agent("planner", "plan", {"effect_class": "pure", "knows": ["bake a cake"]})
        assert (await other.post("/workflows", {"intent": "Bake a cake!"})).status_code == 202
        await refused(other, {"intent": "bake two cakes"}, 422, "no-plan")
    await drop_database(postgres_server, dsn)


async def test_an_intent_that_nothing_matches_needs_a_planner(rig: Rig, postgres_server: str) -> None:
    await refused(rig, {"intent": "bake a cake"}, 422, "no-plan")
    from tests.engines import drop_database, fresh_database

    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as other:
        await other.add_agent("planner", "plan", {"effect_class": "pure"})
        answer = await other.post("/workflows", {"intent": "bake a cake", "input": {"flour": 500}})
        assert answer.status_code == 202
        [command] = await other.commands(answer.json()["trace_id"])
        assert (command["body"]["plan"], command["body"]["input"]) == (None, {"flour": 500})
    await drop_database(postgres_server, dsn)


def chain(count: int) -> dict[str, Any]:
    return {"nodes": [node(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(count)]}


def expiry(action_id: str, *given: Any) -> dict[str, Any]:
    return {"after_s": 9, "action_id": action_id, **({"input": given[0]} if given else {})}


def wired(**more: Any) -> dict[str, Any]:
    return {"id": "a", "agent": "bank", "action": "wire", "compensation": "none", **more}


def silent(action_id: str, *given: Any) -> dict[str, Any]:
    """A plan whose first node presses one of its buttons by itself, with this input; its second reads `n` of the first."""
    order = {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}
    buttons = [
        {"action_id": "RES_NOTE", "kind": "retry", "sets": "link", "requires_input": True, "input_schema": "url"},
        {"action_id": "RES_ORDER", "kind": "retry", "sets": "order", "requires_input": True, "input_schema": order},
        {"action_id": "RES_LEAVE", "kind": "skip"},
        {"action_id": "RES_ABORT", "kind": "compensate"},
    ]
    first = node(
        "a",
        resolutions=[{"display_text": "x", **b} for b in buttons],
        expiry=expiry(action_id, *given),
        output_schema={"type": "object", "properties": {"n": {"type": "number"}}},
    )
    return {"nodes": [first, node("b", "a", inputs={"n": {"$from": "nodes.a.output.n"}})]}


@pytest.mark.parametrize(
    "plan",
    [
        silent("RES_NOTE", "https://vendor.example/x"),
        silent("RES_ORDER", {"sku": "MBP-16"}),
        silent("RES_LEAVE"),
        silent("RES_LEAVE", None),
        silent("RES_LEAVE", {"n": 1}),
        silent("RES_ABORT"),
        {"nodes": [node("a", expiry=expiry("RES_RESPOND", "Nobody is there."))]},
        {"nodes": [node("a", expiry=expiry("RES_HAPPENED", None))]},
        {"nodes": [node("a", gate={}, expiry=expiry("RES_EDIT", {"x": 1}))]},
        {"nodes": [wired(gate={}, expiry=expiry("RES_EDIT", {"amount": 5}))]},
    ],
)
async def test_a_deadline_that_gives_its_button_what_it_asks_for_is_taken(rig: Rig, plan: dict[str, Any]) -> None:
    answer = await rig.post("/workflows", {"plan": plan})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({}, 422, "validation", ""),
        ({"intent": "  "}, 422, "validation", ""),
        ({"plan": chain(1), "blueprint": "employee-onboarding"}, 422, "validation", "/plan"),
        ({"intnt": "x"}, 422, "unknown-field", "/intnt"),
        ({"intent": 5}, 422, "validation", "/intent"),
        ({"blueprint": "nope"}, 422, "unknown-blueprint", "/blueprint"),
        ({"blueprint": "../etc"}, 422, "unknown-blueprint", "/blueprint"),
        ({"blueprint": "employee-onboarding", "input": {"employee": 5}}, 422, "validation", "/input/employee"),
        ({"blueprint": "employee-onboarding", "input": {"salary": 5}}, 422, "validation", "/input/salary"),
        ({"blueprint": "employee-onboarding", "trace_id": "a b"}, 400, "invalid-trace-id", "/trace_id"),
        ({"blueprint": "employee-onboarding", "trace_id": ""}, 400, "invalid-trace-id", "/trace_id"),
        ({"blueprint": "employee-onboarding", "trace_id": "x" * 65}, 400, "invalid-trace-id", "/trace_id"),
        ({"blueprint": "employee-onboarding", "deadline_s": -5}, 422, "validation", "/deadline_s"),
        ({"plan": {"nodes": []}}, 422, "empty-dag", "/plan/nodes"),
        ({"plan": {"nodes": [node("a", "b"), node("b", "a")]}}, 422, "dag-cycle", None),
        ({"plan": {"nodes": [node("a", "a")]}}, 422, "dag-cycle", "/plan/nodes/0/depends_on/0"),
        ({"plan": {"nodes": [node("a", "zzz")]}}, 422, "unknown-dependency", "/plan/nodes/0/depends_on/0"),
        ({"plan": {"nodes": [node("a"), node("A")]}}, 422, "duplicate-node", "/plan/nodes/1/id"),
        ({"plan": {"nodes": [node("\u212b"), node("\u00e5")]}}, 422, "duplicate-node", "/plan/nodes/1/id"),
        ({"plan": {"nodes": [node("a") | {"agent": "ghost"}]}}, 422, "unknown-agent", "/plan/nodes/0/agent"),
        ({"plan": {"nodes": [node("a") | {"action": "ghost"}]}}, 422, "unknown-agent", "/plan/nodes/0/agent"),
        (
            {"plan": {"nodes": [node("a", retry={"max_attempts": 0})]}},
            422,
            "invalid-retry-policy",
            "/plan/nodes/0/retry/max_attempts",
        ),
        (
            {"plan": {"nodes": [node("a", retry={"multiplier": 0})]}},
            422,
            "invalid-retry-policy",
            "/plan/nodes/0/retry/multiplier",
        ),
        (
            {"plan": {"nodes": [node("a", timeouts={"lease_s": 60, "start_to_close_s": 5})]}},
            422,
            "invalid-retry-policy",
            "/plan/nodes/0/timeouts/lease_s",
        ),
        (
            {"plan": {"nodes": [{"id": "a", "agent": "bank", "action": "wire"}]}},
            422,
            "compensation-missing",
            "/plan/nodes/0/compensation",
        ),
        (
            {"plan": {"nodes": [{"id": "a", "agent": "hr_bot", "action": "create", "effect_class": "pure"}]}},
            422,
            "effect-class-lowered",
            "/plan/nodes/0/effect_class",
        ),
        (
            {"plan": {"nodes": [node("a", inputs={"x": {"$from": "nodes.zz.output"}})]}},
            422,
            "invalid-reference",
            "/plan/nodes/0/inputs/x",
        ),
        (
            {"plan": {"nodes": [node("a", resolutions=[{"action_id": "RES_X", "display_text": "x", "kind": "stop"}])]}},
            422,
            "validation",
            "/plan/nodes/0/resolutions/0/kind",
        ),
        (
            {"plan": {"nodes": [node("a", output_schema={"type": "objekt"})]}},
            422,
            "validation",
            "/plan/nodes/0/output_schema/type",
        ),
        (
            {"plan": {"nodes": [node("a", output_schema={"$ref": "http://127.0.0.1:9/x"})]}},
            422,
            "validation",
            "/plan/nodes/0/output_schema",
        ),
        ({"plan": silent("RES_NOTE", "not a link")}, 422, "validation", "/plan/nodes/0/expiry/input"),
        ({"plan": silent("RES_NOTE")}, 422, "validation", "/plan/nodes/0/expiry/input"),
        ({"plan": silent("RES_ORDER", {"sku": 5})}, 422, "validation", "/plan/nodes/0/expiry/input/sku"),
        ({"plan": silent("RES_ABORT", "why not")}, 422, "validation", "/plan/nodes/0/expiry/input"),
        ({"plan": silent("RES_LEAVE", {"n": "one"})}, 422, "validation", "/plan/nodes/0/expiry/input/n"),
        ({"plan": silent("RES_LEAVE", {})}, 422, "validation", "/plan/nodes/0/expiry/input/n"),
        (
            {"plan": {"nodes": [node("b", "a"), node("a", expiry={"after_s": 9, "action_id": "RES_RESPOND"})]}},
            422,
            "validation",
            "/plan/nodes/1/expiry/input",
        ),
        (
            {"plan": {"nodes": [node("a", gate={}, expiry=expiry("RES_EDIT", 5))]}},
            422,
            "validation",
            "/plan/nodes/0/expiry/input",
        ),
        (
            {"plan": {"nodes": [wired(gate={}, expiry=expiry("RES_EDIT", {"amount": "much"}))]}},
            422,
            "validation",
            "/plan/nodes/0/expiry/input/amount",
        ),
    ],
)
async def test_bad_starts_are_refused_at_the_door(
    rig: Rig, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    before = await rig.db.fetchval("SELECT count(*) FROM handrail.command")
    problem = await refused(rig, body, status, code)
    if pointer is not None:
        assert pointer in [e["pointer"] for e in problem["errors"]]
    assert await rig.db.fetchval("SELECT count(*) FROM handrail.command") == before


async def test_a_cycle_is_named(rig: Rig) -> None:
    problem = await refused(
        rig, {"plan": {"nodes": [node("a", "c"), node("b", "a"), node("c", "b")]}}, 422, "dag-cycle"
    )
    assert " → " in problem["detail"]


async def test_all_faults_of_a_plan_are_told(rig: Rig) -> None:
    plan = {"nodes": [node("a", "x"), node("b", "y"), node("c")]}
    problem = await refused(rig, {"plan": plan}, 422, "unknown-dependency")
    assert [e["pointer"] for e in problem["errors"]] == ["/plan/nodes/0/depends_on/0", "/plan/nodes/1/depends_on/0"]


async def test_ten_thousand_nodes_are_accepted_and_one_more_is_refused_with_the_limit(rig: Rig) -> None:
    assert (await rig.post("/workflows", {"plan": chain(10_000)})).status_code == 202
    problem = await refused(rig, {"plan": chain(10_001)}, 422, "dag-too-large")
    assert (problem["limit"], problem["got"]) == (10_000, 10_001)
    problem = await refused(rig, {"plan": {"nodes": [{"id": "n"}] * 50_000}}, 422, "dag-too-large")
    assert problem["got"] == 50_000


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed-json"),
        (b'{"intent":', 400, "malformed-json"),
        (b'{"intent":"x",}', 400, "malformed-json"),
        (b"[" * 100 + b"]" * 100, 400, "too-deep"),
        (b'{"input":{"a":[' + b"0," * 1_000_000 + b"0]}}", 422, "too-many-items"),
        (b'{"intent":"a","intent":"b"}', 400, "duplicate-key"),
        (b'{"deadline_s":NaN}', 400, "number-out-of-range"),
        (b'{"input":{"a":9007199254740993}}', 400, "number-out-of-range"),
        (b'{"input":{"a":1e400}}', 400, "number-out-of-range"),
        (b'{"intent":"\xff"}', 400, "invalid-text"),
        (b'{"intent":"\\ud800"}', 400, "invalid-text"),
        (b'{"intent":"a\\u0000"}', 400, "invalid-text"),
        (b"[]", 422, "validation"),
    ],
)
async def test_bodies_that_are_not_strict_json_are_refused(rig: Rig, body: bytes, status: int, code: str) -> None:
    answer = await rig.client.post("/workflows", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{code}")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_taken_trace_id_is_refused(rig: Rig) -> None:
    body = {"blueprint": "employee-onboarding", "trace_id": "taken-1"}
    assert (await rig.post("/workflows", body)).status_code == 202
    problem = await refused(rig, body, 409, "trace-id-taken")
    assert problem["trace_id"] == "taken-1"
    assert (await rig.post("/workflows", body, Idempotency_Key="late")).status_code == 409
    kept = await rig.db.fetchval("SELECT count(*) FROM handrail.idempotency WHERE key = 'late'")
    assert kept == 0, "errors are not kept"


async def test_the_trace_id_of_an_archived_workflow_stays_taken(rig: Rig, tmp_path: Path) -> None:
    body = {"blueprint": "employee-onboarding", "trace_id": "order-7"}
    first = await rig.post("/workflows", body, Idempotency_Key="order-7")
    assert first.status_code == 202
    await rig.workflow([], status="COMPLETED", trace_id="order-7")
    await rig.db.execute("UPDATE handrail.workflow SET born = 202501 WHERE trace_id = 'order-7'")
    await rig.db.execute(
        "CREATE TABLE handrail.journal_202501 PARTITION OF handrail.journal FOR VALUES FROM (202501) TO (202502)"
    )
    async with rig.db.acquire() as connection:
        [week] = await archive.weeks(connection, 30)
        await archive.archive(connection, week, tmp_path)
    assert (await rig.get("/workflows/order-7/state")).status_code == 404
    problem = await refused(rig, body, 409, "trace-id-taken")
    assert problem["trace_id"] == "order-7"
    assert (await rig.post("/workflows", body, Idempotency_Key="late")).status_code == 409
    assert await rig.commands("order-7") == []
    again = await rig.post("/workflows", body, Idempotency_Key="order-7")
    assert (again.status_code, again.json()) == (202, first.json()), "a repeat is one, as long as its key is kept"


async def test_one_of_many_with_the_same_trace_id_wins(rig: Rig) -> None:
    body = {"blueprint": "employee-onboarding", "trace_id": "contended"}
    answers = await asyncio.gather(*(rig.post("/workflows", body) for _ in range(16)))
    assert sorted(a.status_code for a in answers) == [202] + [409] * 15
    assert len(await rig.commands("contended")) == 1


async def test_many_starts_at_once_are_all_stored(rig: Rig) -> None:
    bodies = [{"plan": chain(3), "trace_id": f"crowd-{i}"} for i in range(200)]
    answers = await asyncio.gather(*(rig.post("/workflows", body) for body in bodies))
    assert {a.status_code for a in answers} == {202}
    count = await rig.db.fetchval("SELECT count(DISTINCT trace_id) FROM handrail.command WHERE trace_id LIKE 'crowd-%'")
    assert count == 200


async def test_the_body_limit_here_is_eight_mebibytes(rig: Rig) -> None:
    filler = "x" * (7 * 1024 * 1024)
    body = orjson.dumps({"plan": chain(1), "input": {"filler": filler}})
    head = (
        b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    status, _, _, _ = await raw(rig.port, head % len(body) + body)
    assert status == 202

"""`POST /workflows/{trace_id}/resume` as CONTRACT section 6 says it: one decision per pause, and everybody is told which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import RESOLUTIONS, Rig, accepted, patient_database, planned, running_gateway

from handrail_contracts.answers import Resuming
from handrail_contracts.pauses import DEFAULT_RESOLUTIONS, PauseKind
from handrail_engine.pauses import button

SKIP = {"action_id": "RES_SKIP"}
URL = {"action_id": "RES_MANUAL_SKU", "input": "https://vendor.example/mbp16"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    with patient_database():
        async with running_gateway(dsn) as running:
            yield running
    await drop_database(postgres_server, dsn)


async def resume(rig: Rig, trace_id: str, body: dict[str, Any], **headers: str) -> Any:
    return await rig.post(f"/workflows/{trace_id}/resume", body, **headers)


async def refused(
    rig: Rig, trace_id: str, body: dict[str, Any], status: int, code: str, **headers: str
) -> dict[str, Any]:
    answer = await resume(rig, trace_id, body, **headers)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{code}"), problem
    return problem


async def undecided(rig: Rig, pause_id: str) -> bool:
    decisions = await rig.db.fetchval("SELECT count(*) FROM handrail.decision WHERE pause_id = $1", pause_id)
    commands = await rig.db.fetchval(
        "SELECT count(*) FROM handrail.command WHERE kind = 'decide' AND body->>'pause_id' = $1", pause_id
    )
    return decisions == 0 and commands == 0


async def test_a_decision_is_stored_with_its_command_before_the_answer(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    body = {**URL, "pause_id": pause_id, "comment": "checked by phone", "evidence_digest": "sha256:" + "1" * 64}
    answer = await resume(rig, trace_id, body, Handrail_Actor="ana", Handrail_Channel="console")
    assert answer.status_code == 202
    assert answer.json() == {
        "trace_id": trace_id,
        "pause_id": pause_id,
        "action_id": "RES_MANUAL_SKU",
        "status": "RESUMING",
    }
    Resuming.model_validate(answer.json())
    decision = await rig.db.fetchrow("SELECT * FROM handrail.decision WHERE pause_id = $1", pause_id)
    assert (decision["outcome"], decision["action_id"], decision["input"]) == (
        "decided",
        body["action_id"],
        body["input"],
    )
    assert (decision["actor"], decision["channel"], decision["comment"]) == ("ana", "console", "checked by phone")
    assert decision["evidence_digest"] == body["evidence_digest"]
    assert not decision["applied"]
    [command] = await rig.commands(trace_id, "decide")
    assert command["body"] == {"pause_id": pause_id}


async def test_the_same_decision_again_gets_the_first_answer_whoever_sends_it(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    assert (await resume(rig, trace_id, URL, Handrail_Actor="ana")).status_code == 202
    for body in (URL, {**URL, "pause_id": pause_id, "comment": "me too"}):
        again = await resume(rig, trace_id, body, Handrail_Actor="bob", Idempotency_Key=f"k{len(body)}{trace_id}")
        assert again.status_code == 200
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["resolved_by"] == "ana"
        assert {k: again.json()[k] for k in ("pause_id", "action_id", "status")} == {
            "pause_id": pause_id,
            "action_id": "RES_MANUAL_SKU",
            "status": "RESUMING",
        }
    assert len(await rig.commands(trace_id, "decide")) == 1


async def test_another_decision_is_told_who_won(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await resume(rig, trace_id, SKIP, Handrail_Actor="ana", Handrail_Channel="slack")
    for body in (URL, {"action_id": "RES_ABORT_SAGA", "pause_id": pause_id}):
        problem = await refused(rig, trace_id, body, 409, "already-resolved")
        assert (problem["resolved_by"], problem["channel"], problem["action_id"]) == ("ana", "slack", "RES_SKIP")
        assert problem["resolved_at"].endswith("Z")
    other_input = {**URL, "input": "https://other.example/"}
    trace_id, _ = await rig.paused()
    await resume(rig, trace_id, URL)
    await refused(rig, trace_id, other_input, 409, "already-resolved")


async def test_the_state_stays_as_it_was_after_the_pause_is_closed(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await resume(rig, trace_id, SKIP, Handrail_Actor="ana")
    await rig.close_pause(pause_id, "decided")
    again = await resume(rig, trace_id, SKIP)
    assert (again.status_code, again.json()["resolved_by"]) == (200, "ana")
    await refused(rig, trace_id, URL, 409, "already-resolved")


@pytest.mark.parametrize("races", [5, pytest.param(1_000, marks=[pytest.mark.torture, pytest.mark.timeout(1200)])])
async def test_one_of_sixteen_contenders_wins(rig: Rig, races: int) -> None:
    for _ in range(races):
        trace_id, pause_id = await rig.paused()
        bodies = [
            SKIP if i % 3 == 0 else {"action_id": "RES_ABORT_SAGA"} if i % 3 == 1 else {**URL, "pause_id": pause_id}
            for i in range(16)
        ]
        answers = await asyncio.gather(
            *(resume(rig, trace_id, body, Handrail_Actor=f"actor-{i}") for i, body in enumerate(bodies))
        )
        codes = [a.status_code for a in answers]
        assert codes.count(202) == 1
        assert set(codes) <= {200, 202, 409}
        winner = answers[codes.index(202)].json()["action_id"]
        for body, answer in zip(bodies, answers, strict=True):
            if answer.status_code != 202:
                assert answer.status_code == (200 if body["action_id"] == winner else 409)
                assert answer.json()["resolved_by" if answer.status_code == 200 else "action_id"]
        assert len(await rig.commands(trace_id, "decide")) == 1
        assert await rig.db.fetchval("SELECT action_id FROM handrail.decision WHERE pause_id = $1", pause_id) == winner


async def test_a_decision_races_with_an_orchestrator_that_closes_the_pause(rig: Rig) -> None:
    for _ in range(8):
        trace_id, pause_id = await rig.paused()

        async def close(pause_id: str = pause_id) -> bool:
            async with rig.db.acquire() as c, c.transaction():
                await c.execute("SELECT 1 FROM handrail.pause WHERE pause_id = $1 FOR UPDATE", pause_id)
                if await c.fetchval("SELECT EXISTS (SELECT FROM handrail.decision WHERE pause_id = $1)", pause_id):
                    return False
                await c.execute(
                    "INSERT INTO handrail.decision (pause_id, trace_id, outcome, actor, channel, decided_at, applied)"
                    " VALUES ($1, 'x', 'superseded', 'system', 'system', handrail.clock(), true)",
                    pause_id,
                )
                await c.execute(
                    "UPDATE handrail.pause SET state = 'superseded', closed_at = handrail.clock() WHERE pause_id = $1",
                    pause_id,
                )
                return True

        closed, answer = await asyncio.gather(close(), resume(rig, trace_id, {**SKIP, "pause_id": pause_id}))
        assert answer.status_code == (409 if closed else 202)
        assert len(await rig.commands(trace_id, "decide")) == (0 if closed else 1)


async def test_without_pause_id_the_only_open_one_is_meant(rig: Rig) -> None:
    trace_id, first = await rig.paused()
    await resume(rig, trace_id, SKIP)
    await rig.close_pause(first, "decided")
    second = await rig.pause(trace_id)
    answer = await resume(rig, trace_id, SKIP)
    assert (answer.status_code, answer.json()["pause_id"]) == (202, second)


async def test_several_open_pauses_and_none_named_is_ambiguous(rig: Rig) -> None:
    trace_id, first = await rig.paused()
    second = await rig.pause(trace_id)
    problem = await refused(rig, trace_id, SKIP, 409, "pause-ambiguous")
    assert set(problem["pauses"]) == {first, second}
    assert (await resume(rig, trace_id, {**SKIP, "pause_id": second})).status_code == 202
    assert (await resume(rig, trace_id, {**SKIP, "pause_id": first})).status_code == 202


async def test_a_workflow_that_never_paused_says_its_status(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    problem = await refused(rig, trace_id, SKIP, 409, "not-paused")
    assert "RUNNING" in problem["detail"]
    assert problem["workflow_status"] == "RUNNING"


async def test_unknown_workflows_and_pauses_are_not_found(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    other, _ = await rig.paused()
    await refused(rig, "no-such-workflow", SKIP, 404, "workflow-not-found")
    await refused(rig, "a%00b", SKIP, 404, "workflow-not-found")
    await refused(rig, trace_id, {**SKIP, "pause_id": "p-unknown"}, 404, "pause-not-found")
    await refused(rig, trace_id, {**SKIP, "pause_id": ""}, 404, "pause-not-found")
    await refused(rig, other, {**SKIP, "pause_id": pause_id}, 404, "pause-not-found")
    await rig.db.execute("UPDATE handrail.pause SET tenant = 'other' WHERE pause_id = $1", pause_id)
    await refused(rig, trace_id, {**SKIP, "pause_id": pause_id}, 404, "pause-not-found")


async def test_a_superseded_pause_is_stale_and_names_the_open_one(rig: Rig) -> None:
    trace_id, first = await rig.paused()
    await rig.close_pause(first, "superseded")
    second = await rig.pause(trace_id)
    problem = await refused(rig, trace_id, {**SKIP, "pause_id": first}, 409, "stale-pause")
    assert problem["current"] == [f"/pauses/{second}"]


async def test_pauses_of_a_cancelled_workflow_are_stale(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await rig.close_pause(pause_id, "cancelled")
    await rig.db.execute(
        "UPDATE handrail.workflow SET status = 'CANCELLED', ended_at = now() WHERE trace_id = $1", trace_id
    )
    problem = await refused(rig, trace_id, SKIP, 409, "stale-pause")
    assert problem["current"] == []


async def test_an_expired_pause_is_gone_by_decision_or_by_the_clock(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await rig.close_pause(pause_id, "expired", "RES_SKIP", "system:timeout")
    problem = await refused(rig, trace_id, URL, 410, "expired")
    assert (problem["resolved_by"], problem["action_id"]) == ("system:timeout", "RES_SKIP")
    # The default that the system pressed is not what this person pressed: still told that it is too late.
    await refused(rig, trace_id, SKIP, 410, "expired")
    trace_id, pause_id = await rig.paused(expires_at="2020-01-01T00:00:00.000Z", on_expiry="RES_SKIP")
    await refused(rig, trace_id, SKIP, 410, "expired")
    assert await undecided(rig, pause_id)


async def test_a_claim_of_somebody_else_holds_until_it_runs_out_or_is_overridden(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await rig.post(f"/pauses/{pause_id}/claim", {"seconds": 60}, Handrail_Actor="ana")
    problem = await refused(rig, trace_id, SKIP, 409, "claimed", Handrail_Actor="bob")
    assert problem["claimed_by"] == "ana"
    assert await undecided(rig, pause_id)
    answer = await resume(rig, trace_id, {**SKIP, "override_claim": True}, Handrail_Actor="bob")
    assert answer.status_code == 202
    trace_id, pause_id = await rig.paused()
    await rig.post(f"/pauses/{pause_id}/claim", {"seconds": 60}, Handrail_Actor="ana")
    assert (await resume(rig, trace_id, SKIP, Handrail_Actor="ana")).status_code == 202
    trace_id, pause_id = await rig.paused()
    await rig.post(f"/pauses/{pause_id}/claim", {"seconds": 60}, Handrail_Actor="ana")
    await rig.db.execute(
        "UPDATE handrail.pause SET claimed_until = now() - interval '1 s' WHERE pause_id = $1", pause_id
    )
    assert (await resume(rig, trace_id, SKIP, Handrail_Actor="bob")).status_code == 202


async def test_changed_evidence_is_refused(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await refused(rig, trace_id, {**SKIP, "evidence_digest": "sha256:" + "2" * 64}, 409, "evidence-changed")
    assert await undecided(rig, pause_id)


async def test_a_button_that_is_not_offered_is_refused_with_the_allowed_list(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    problem = await refused(rig, trace_id, {"action_id": "RES_RETRY"}, 422, "action-not-allowed")
    assert problem["allowed"] == [r["action_id"] for r in RESOLUTIONS]
    assert await undecided(rig, pause_id)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"action_id": "RES_MANUAL_SKU"}, "/input"),
        ({"action_id": "RES_MANUAL_SKU", "input": None}, "/input"),
        ({"action_id": "RES_MANUAL_SKU", "input": "not a url"}, "/input"),
        ({"action_id": "RES_MANUAL_SKU", "input": {"url": "https://x.example"}}, "/input"),
        ({"action_id": "RES_ABORT_SAGA", "input": "x"}, "/input"),
        ({"action_id": "RES_FORM", "input": {"amount": "5"}}, "/input/amount"),
        ({"action_id": "RES_FORM", "input": {}}, "/input/amount"),
        ({"action_id": "RES_FORM", "input": {"amount": 5, "note": "x" * 60_000}}, "/input"),
        ({"action_id": "RES_JSON"}, "/input"),
    ],
)
async def test_bad_input_stores_nothing_and_leaves_the_pause_open(rig: Rig, body: dict[str, Any], pointer: str) -> None:
    form = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}}
    resolutions = [
        *RESOLUTIONS,
        {"action_id": "RES_FORM", "display_text": "Edit", "requires_input": True, "input_schema": form, "kind": "edit"},
        {
            "action_id": "RES_JSON",
            "display_text": "It is",
            "requires_input": True,
            "input_schema": "json",
            "kind": "mark",
        },
    ]
    trace_id, pause_id = await rig.paused(resolutions=resolutions)
    problem = await refused(rig, trace_id, body, 422, "invalid-input")
    assert pointer in [e["pointer"] for e in problem["errors"]]
    assert await undecided(rig, pause_id)
    assert (await rig.get(f"/pauses/{pause_id}")).json()["state"] == "open"


async def test_json_takes_any_value_also_null_and_skip_takes_a_substitute(rig: Rig) -> None:
    resolutions = [
        {"action_id": "RES_JSON", "display_text": "x", "requires_input": True, "input_schema": "json", "kind": "mark"}
    ]
    trace_id, _ = await rig.paused(resolutions=resolutions)
    assert (await resume(rig, trace_id, {"action_id": "RES_JSON", "input": None})).status_code == 202
    trace_id, pause_id = await rig.paused()
    assert (await resume(rig, trace_id, {**SKIP, "input": {"po": "1"}})).status_code == 202
    assert await rig.db.fetchval("SELECT input FROM handrail.decision WHERE pause_id = $1", pause_id) == {"po": "1"}


async def test_a_substitute_output_must_be_what_was_promised_and_what_others_read(rig: Rig) -> None:
    schema = {"type": "object", "properties": {"po": {"type": "string"}}}
    compiled = [
        {"id": "a", "agent": "simulator", "action": "script", "output_schema": schema},
        {"id": "b", "depends_on": ["a"], "agent": "x", "action": "y", "inputs": {"n": {"$from": "nodes.a.output.po"}}},
        {"id": "c", "depends_on": ["b"], "agent": "x", "action": "y", "inputs": {"n": {"$from": "nodes.a.output.eta"}}},
        {
            "id": "d",
            "depends_on": ["a"],
            "agent": "x",
            "action": "y",
            "inputs": {"n": {"$from": "nodes.a.output.tip", "default": 0}},
        },
    ]
    plan = {**planned("a", "b", "c", "d"), "meta": {"nodes": compiled[:2]}}
    rest = {"event_type": "NODES_ADDED", "nodes": [], "by": None, "meta": {"nodes": compiled[2:]}}
    trace_id = await rig.workflow([accepted(), plan, rest], status="PAUSED_HITL")
    pause_id = await rig.pause(trace_id)
    for given, pointers in (
        ({"po": 5, "eta": "x"}, ["/input/po"]),
        ({"eta": "x"}, ["/input/po"]),
        ({"po": "1"}, ["/input/eta"]),
        ([], ["/input", "/input/po", "/input/eta"]),
    ):
        problem = await refused(rig, trace_id, {**SKIP, "input": given}, 422, "invalid-input")
        assert [e["pointer"] for e in problem["errors"]] == pointers
    assert await undecided(rig, pause_id)
    assert (await resume(rig, trace_id, {**SKIP, "input": {"po": "1", "eta": "now"}})).status_code == 202


@pytest.mark.parametrize("given", [5, None, {}, {"po": 5}])
async def test_what_a_person_says_happened_must_be_what_was_promised_and_what_others_read(rig: Rig, given: Any) -> None:
    promised = {"type": "object", "properties": {"po": {"type": "string"}}}
    reads = {"agent": "x", "action": "y", "inputs": {"n": {"$from": "nodes.a.output.po"}}}
    compiled = [
        {"id": "a", "agent": "simulator", "action": "script", "output_schema": promised},
        {"id": "b", "depends_on": ["a"], **reads},
    ]
    plan = {**planned("a", "b"), "meta": {"nodes": compiled}}
    trace_id = await rig.workflow([accepted(), plan], status="PAUSED_HITL")
    offered = [button(r) for r in DEFAULT_RESOLUTIONS[PauseKind.AMBIGUOUS]]
    pause_id = await rig.pause(trace_id, kind="ambiguous", resolutions=offered)
    happened = {"action_id": "RES_HAPPENED"}
    problem = await refused(rig, trace_id, {**happened, "input": given}, 422, "invalid-input")
    assert problem["errors"][0]["pointer"] in ("/input", "/input/po")
    assert await undecided(rig, pause_id)
    assert (await resume(rig, trace_id, {**happened, "input": {"po": "1"}})).status_code == 202


@pytest.mark.parametrize("place", ["²", "9" * 5_000])
async def test_a_path_that_no_list_has_is_one_that_the_substitute_does_not_have(rig: Rig, place: str) -> None:
    reads = {"agent": "x", "action": "y", "inputs": {"n": {"$from": f"nodes.a.output.l.{place}"}}}
    compiled = [{"id": "a", "agent": "simulator", "action": "script"}, {"id": "b", "depends_on": ["a"], **reads}]
    plan = {**planned("a", "b"), "meta": {"nodes": compiled}}
    trace_id = await rig.workflow([accepted(), plan], status="PAUSED_HITL")
    pause_id = await rig.pause(trace_id)
    problem = await refused(rig, trace_id, {**SKIP, "input": {"l": [1]}}, 422, "invalid-input")
    assert [e["code"] for e in problem["errors"]] == ["read-by-dependant"]
    assert await undecided(rig, pause_id)


async def test_inputs_are_told_apart_as_json_tells_them_apart(rig: Rig) -> None:
    resolutions = [
        {"action_id": "RES_JSON", "display_text": "x", "requires_input": True, "input_schema": "json", "kind": "mark"}
    ]
    trace_id, _ = await rig.paused(resolutions=resolutions)
    assert (await resume(rig, trace_id, {"action_id": "RES_JSON", "input": {"a": 1, "b": [True]}})).status_code == 202
    assert (await resume(rig, trace_id, {"action_id": "RES_JSON", "input": {"b": [True], "a": 1}})).status_code == 200
    assert (await resume(rig, trace_id, {"action_id": "RES_JSON", "input": {"a": 1, "b": [1]}})).status_code == 409


@pytest.mark.parametrize("body", [{}, {"action_id": 5}, {"action_id": "RES_SKIP", "pauze_id": "x"}, []])
async def test_bad_bodies_are_refused(rig: Rig, body: Any) -> None:
    trace_id, pause_id = await rig.paused()
    answer = await resume(rig, trace_id, body)
    assert answer.status_code == 422
    assert await undecided(rig, pause_id)


async def test_a_key_repeats_the_answer_as_a_repeated_resume_is_answered(rig: Rig) -> None:
    trace_id, _ = await rig.paused()
    first = await resume(rig, trace_id, SKIP, Idempotency_Key='"k-1"')
    again = await resume(rig, trace_id, SKIP, Idempotency_Key="k-1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert "resolved_by" in again.json()
    reused = await resume(rig, trace_id, URL, Idempotency_Key="k-1")
    assert (reused.status_code, reused.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_a_refused_resume_does_not_burn_its_key(rig: Rig) -> None:
    trace_id, _ = await rig.paused()
    bad = await resume(rig, trace_id, {"action_id": "RES_MANUAL_SKU"}, Idempotency_Key="k-2")
    assert bad.status_code == 422
    assert (await resume(rig, trace_id, URL, Idempotency_Key="k-2")).status_code == 202


async def test_fifty_identical_clicks_are_one_decision(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    body = {**SKIP, "pause_id": pause_id}
    answers = await asyncio.gather(
        *(resume(rig, trace_id, body, Idempotency_Key=f"click-{trace_id}") for _ in range(50))
    )
    codes = [a.status_code for a in answers]
    assert codes.count(202) == 1
    assert codes.count(200) == 49
    assert len(await rig.commands(trace_id, "decide")) == 1

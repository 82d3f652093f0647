"""Lists and what operators do besides deciding: inbox, claims, conversations, dead letters, quarantine, feedback, registry."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from pydantic import BaseModel
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import PARTITIONS, RESOLUTIONS, Rig, accepted, node, planned, running_gateway
from tests.waiting import wait_until

from handrail_agents.adapters.registry import Registry as AgentRegistry
from handrail_contracts import answers, topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.ids import partition
from handrail_contracts.tasks import DeadLetter
from handrail_gateway.adapters.postgres import Database
from handrail_gateway.adapters.views import PostgresViews
from handrail_orchestrator.application.inbound import Inbound
from handrail_orchestrator.application.work import Work
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_store import connect, desk


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)

    async def ledger(tenant: str, trace_id: str) -> list[dict[str, Any]]:
        return [{"trace_id": trace_id, "node_id": "a", "kind": "do", "repeats": 0, "tenant": tenant}]

    async with running_gateway(dsn, ledger=ledger) as running:
        await running.register()
        yield running
    await drop_database(postgres_server, dsn)


async def every(rig: Rig, path: str, model: type[BaseModel], **parameters: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page; checks each against its model."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = await rig.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        for item in page["items"]:
            model.model_validate(item)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    problem = (await answer if asyncio.iscoroutine(answer) else answer).json()
    assert (problem["status"], problem["type"]) == (status, f"/problems/{code}"), problem
    return problem


async def test_workflows_are_listed_newest_first_with_filters_and_pages(rig: Rig) -> None:
    odd = {
        3: {"k8s:app:web": "2", "k8s": "app"},
        4: {"k" * 128: "v" * 128},
        5: {"k8s:app": "web:1"},
        6: {"a:b:c:d:e:f:g:h:i": "j:k:l"},
    }
    ids = [
        await rig.workflow(
            [accepted()],
            status="RUNNING" if i % 2 else "COMPLETED",
            blueprint="listed",
            intent=f"List 100% of {i}",
            labels={"team": "a" if i < 3 else "b", "n": str(i), **odd.get(i, {})},
        )
        for i in range(7)
    ]
    waiting = (
        await rig.post("/workflows", {"plan": {"nodes": [node("a")]}, "labels": {"n": "w", "w:a": "i:t"}})
    ).json()["trace_id"]
    newest = ids[::-1]
    listed = answers.WorkflowSummary

    async def found(**parameters: Any) -> list[str]:
        return [w["trace_id"] for w in await every(rig, "/workflows", listed, **parameters)]

    assert await found(blueprint="listed") == newest
    assert await found(blueprint="listed", limit=2) == newest
    assert (await found())[0] == waiting
    assert await found(status="ACCEPTED", label="n:w") == [waiting]
    assert await found(blueprint="listed", status="RUNNING") == newest[1::2]
    assert set(await found(blueprint="listed", status="RUNNING,COMPLETED")) == set(ids)
    assert await found(label="team:a") == newest[4:]
    assert await found(label=["team:a", "n:2"]) == [ids[2]]
    assert await found(label="k8s:app:web:1") == [ids[5]]
    assert await found(label=["k8s:app:web:1", "n:5"]) == [ids[5]]
    assert await found(label=["k8s:app:web", "n:5"]) == []
    assert await found(label="w:a:i:t") == [waiting]
    assert await found(label=":".join("abcdefghijkl")) == [ids[6]]
    assert await found(label=f"{'k' * 128}:{'v' * 128}") == [ids[4]]
    assert await found(q="list 100% of 3") == [ids[3]]
    assert await found(q="100_ of") == []
    assert await found(q=ids[4]) == [ids[4]]
    assert await found(blueprint="nope") == []


async def test_bad_filters_are_refused_and_limits_moved(rig: Rig) -> None:
    for parameters, code in (
        ({"status": "WALKING"}, "invalid-query"),
        ({"label": "x"}, "invalid-query"),
        ({"limit": "ten"}, "invalid-query"),
        ({"lmit": "5"}, "invalid-query"),
        ({"q": "a\x00"}, "invalid-query"),
        ({"cursor": "nonsense"}, "invalid-cursor"),
        ({"cursor": "WzEsMl0"}, "invalid-cursor"),
    ):
        await refused(rig.get("/workflows", **parameters), 400, code)
    assert len((await rig.get("/workflows", limit=-7)).json()["items"]) == 1
    assert (await rig.get("/workflows", limit=10**9)).status_code == 200
    for path in ("/inbox", "/dead-letters", "/quarantine"):
        await refused(rig.get(path, cursor="nonsense"), 400, "invalid-cursor")
        await refused(rig.get(path, state="x"), 400, "invalid-query")
    for path in ("/workflows", "/inbox", "/dead-letters"):
        # A NUL within: well-formed, and nothing that PostgreSQL can be asked for.
        await refused(rig.get(path, cursor="WzE3MDAwMDAwMDAwMDAwMDAsIlx1MDAwMCJd"), 400, "invalid-cursor")


async def test_the_inbox_shows_open_mine_and_resolved(rig: Rig) -> None:
    workflow = {"blueprint": "boxed", "intent": "Buy a laptop", "labels": {"a": "b"}}
    pauses = [
        await rig.paused(workflow=workflow, kind="gate" if i == 1 else "failure", error_code=f"E{i}") for i in range(4)
    ]
    ids = [pause_id for _, pause_id in pauses]
    inbox = answers.InboxPause

    async def found(**parameters: Any) -> list[str]:
        return [p["pause_id"] for p in await every(rig, "/inbox", inbox, blueprint="boxed", **parameters)]

    assert await found() == await found(limit=1) == ids[::-1]
    page = (await rig.get("/inbox", blueprint="boxed", limit=1)).json()
    assert page["total"] == 4
    item = page["items"][0]
    assert item["workflow"] == {
        "status": "PAUSED_HITL",
        "blueprint": "boxed",
        "intent": "Buy a laptop",
        "labels": {"a": "b"},
    }
    assert (item["state"], item["decision"], item["available_resolutions"]) == ("open", None, RESOLUTIONS)
    assert await found(kind="gate") == [ids[1]]
    assert await found(error_code="E2") == [ids[2]]
    assert await found(agent="hardware_bot", trace_id=pauses[3][0]) == [ids[3]]
    assert await found(agent="nobody") == []
    assert await found(q="LAPTOP") == ids[::-1]
    assert await found(q="vendors returned 404") == ids[::-1]

    await rig.post(f"/pauses/{ids[0]}/claim", {"seconds": 60}, Handrail_Actor="ana")
    mine = await rig.client.get("/inbox?state=mine", headers={"Handrail-Actor": "ana"})
    assert [p["pause_id"] for p in mine.json()["items"]] == [ids[0]]
    assert mine.json()["items"][0]["claimed_by"] == "ana"
    assert (await rig.client.get("/inbox?state=mine", headers={"Handrail-Actor": "bob"})).json()["items"] == []

    await rig.post(f"/workflows/{pauses[2][0]}/resume", {"action_id": "RES_SKIP"}, Handrail_Actor="ana")
    decided = (await rig.get(f"/pauses/{ids[2]}")).json()
    assert (decided["state"], decided["decision"]["actor"], decided["decision"]["applied"]) == ("open", "ana", False)
    await rig.close_pause(ids[2], "decided")
    assert await found() == [ids[3], ids[1], ids[0]]
    resolved = (await rig.get("/inbox", state="resolved", blueprint="boxed")).json()
    assert [p["pause_id"] for p in resolved["items"]] == [ids[2]]
    assert (resolved["items"][0]["decision"]["action_id"], resolved["items"][0]["state"]) == ("RES_SKIP", "decided")


async def test_the_inbox_of_another_tenant_is_not_ours(rig: Rig) -> None:
    _, pause_id = await rig.paused()
    await rig.db.execute("UPDATE handrail.pause SET tenant = 'other' WHERE pause_id = $1", pause_id)
    assert pause_id not in [p["pause_id"] for p in await every(rig, "/inbox", answers.InboxPause)]
    await refused(rig.get(f"/pauses/{pause_id}"), 404, "pause-not-found")
    await refused(rig.post(f"/pauses/{pause_id}/claim"), 404, "pause-not-found")


_BODIES = {
    "/workflows/{trace_id}/resume": {"action_id": "RES_SKIP"},
    "/pauses/{pause_id}/messages": {"role": "user", "text": "x"},
}


async def test_on_every_route_what_is_somebody_elses_is_answered_like_what_is_not_there(rig: Rig) -> None:
    """Every path of the published description that names something; a new one is tried without being added here."""
    trace_id, pause_id = await rig.paused()
    record = await quarantine(rig, b"x", kind="parked", trace_id=trace_id)
    letter = f"d{'7' * 25}"
    await rig.db.execute(
        "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, kind, data, pause_id, state, at)"
        " VALUES ($1, $2, 'a', 'task', '{}', $3, 'open', handrail.clock())",
        letter,
        trace_id,
        pause_id,
    )
    for table in ("workflow", "journal", "pause", "quarantine", "dead_letter"):
        await rig.db.execute(f"UPDATE handrail.{table} SET tenant = 'other' WHERE trace_id = $1", trace_id)
    ours = {"trace_id": trace_id, "pause_id": pause_id, "record_id": str(record), "dead_letter_id": letter}
    nobodys = {
        "trace_id": "n" * 36,
        "pause_id": "p" + "0" * 25,
        "record_id": "999999999",
        "dead_letter_id": "d" + "0" * 25,
    }
    tried = 0
    for path, operations in (await rig.get("/openapi.json")).json()["paths"].items():
        named = [n for n in ours if "{" + n + "}" in path]
        if not named or path.endswith("/events"):
            continue  # streams are the notifier's: test_a_workflow_of_another_tenant_is_unknown
        for method in operations:
            seen: list[tuple[int, str]] = []
            for ids in (ours, nobodys):
                filled = path.format_map(
                    {"node_id": "a", "action_id": "RES_SKIP", "digest": "sha256:" + "0" * 64, **ids}
                )
                body = _BODIES.get(path, {}) if method == "post" else None
                answer = await rig.client.request(method, filled, **({} if body is None else {"json": body}))
                text = answer.text
                for n in named:
                    text = text.replace(ids[n], f"<{n}>")
                seen.append((answer.status_code, text))
            assert seen[0] == seen[1], (method, path)
            assert seen[0][0] == 404, (method, path, seen[0])
            tried += 1
    assert tried > 20


async def test_claims_are_time_boxed_exclusive_and_told_to_the_owner(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    claim, release = f"/pauses/{pause_id}/claim", f"/pauses/{pause_id}/release"
    first = await rig.post(claim, {"seconds": 60}, Handrail_Actor="ana")
    assert first.status_code == 200
    answers.Claimed.model_validate(first.json())
    assert first.json()["claimed_by"] == "ana"
    problem = await refused(rig.post(claim, {"seconds": 60}, Handrail_Actor="bob"), 409, "claimed")
    assert problem["claimed_by"] == "ana"
    await refused(rig.post(release, None, Handrail_Actor="bob"), 409, "claimed")
    longer = await rig.post(claim, {"seconds": 600}, Handrail_Actor="ana")
    assert longer.json()["claimed_until"] > first.json()["claimed_until"]
    freed = await rig.client.post(release, headers={"Handrail-Actor": "ana"})
    assert freed.json()["claimed_by"] is None
    assert (await rig.post(claim, {}, Handrail_Actor="bob")).status_code == 200
    bodies = [c["body"] for c in await rig.commands(trace_id, "claim")]
    assert [b["claimed_by"] for b in bodies] == ["ana", "ana", None, "bob"]
    for seconds in (0, -1, 10**9, "60", 1.5):
        assert (await rig.post(claim, {"seconds": seconds})).status_code == 422
    await rig.close_pause(pause_id, "superseded")
    await refused(rig.post(claim, {}), 409, "stale-pause")


async def test_one_of_many_claims_wins(rig: Rig) -> None:
    _, pause_id = await rig.paused()
    found = await asyncio.gather(
        *(rig.post(f"/pauses/{pause_id}/claim", {}, Handrail_Actor=f"a{i}") for i in range(12))
    )
    assert sorted(a.status_code for a in found) == [200] + [409] * 11


async def test_an_agent_is_silent_while_a_person_has_the_conversation(rig: Rig) -> None:
    resolutions = [
        {"action_id": "RES_HAND_BACK", "display_text": "x", "requires_input": False, "kind": "hand_back"},
        {"action_id": "RES_CLOSE", "display_text": "x", "requires_input": False, "kind": "close"},
    ]
    transcript = [{"role": "user", "text": "help", "at": "2026-01-01T00:00:00.000Z"}]
    trace_id, pause_id = await rig.paused(resolutions=resolutions, kind="escalation", transcript=transcript)
    path = f"/pauses/{pause_id}/messages"
    said = await rig.post(path, {"role": "operator", "text": "I am here"}, Handrail_Actor="ana")
    assert said.status_code == 202
    [command] = await rig.commands(trace_id, "message")
    assert command["body"] == {"pause_id": pause_id, "role": "operator", "text": "I am here"}
    await refused(rig.post(path, {"role": "agent", "text": "hi"}), 409, "human-has-control")
    await refused(rig.post(path, {"role": "system", "text": "hi"}), 422, "validation")
    await refused(rig.post(path, {"role": "user", "text": ""}), 422, "validation")
    await rig.append(
        trace_id, [{"event_type": "MESSAGE_ADDED", "pause_id": pause_id, "role": "operator", "text": "I am here"}]
    )
    conversation = (await rig.get(f"/pauses/{pause_id}")).json()["conversation"]
    assert [(m["role"], m["text"]) for m in conversation] == [("user", "help"), ("operator", "I am here")]
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_HAND_BACK"})
    assert (await rig.post(path, {"role": "agent", "text": "hi"})).status_code == 202
    await refused(rig.post(path, {"role": "operator", "text": "x"}), 409, "already-resolved")
    trace_id, pause_id = await rig.paused(resolutions=resolutions, kind="escalation")
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_CLOSE"})
    await refused(rig.post(f"/pauses/{pause_id}/messages", {"role": "agent", "text": "hi"}), 409, "human-has-control")


async def test_the_panic_button_pauses_once_and_never_what_has_ended(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    pressed = await rig.post(f"/workflows/{trace_id}/pause", {"comment": "stop!"})
    assert (pressed.status_code, pressed.json()["trace_id"]) == (202, trace_id)
    [command] = await rig.commands(trace_id, "pause")
    assert command["body"] == {"comment": "stop!"}
    await refused(rig.post(f"/workflows/{trace_id}/pause"), 409, "already-paused")
    await rig.db.execute("UPDATE handrail.command SET applied_pseq = 1 WHERE trace_id = $1", trace_id)
    await rig.pause(trace_id, kind="manual")
    await refused(rig.post(f"/workflows/{trace_id}/pause"), 409, "already-paused")
    ended = await rig.workflow([accepted()], status="COMPLETED")
    for order in ("pause", "cancel"):
        problem = await refused(rig.post(f"/workflows/{ended}/{order}"), 409, "already-ended")
        assert problem["workflow_status"] == "COMPLETED"
        await refused(rig.post(f"/workflows/nobody/{order}"), 404, "workflow-not-found")


async def test_cancel_undoes_unless_told_not_to(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    assert (await rig.client.post(f"/workflows/{trace_id}/cancel")).status_code == 202
    assert (await rig.post(f"/workflows/{trace_id}/cancel", {"compensate": False, "comment": "x"})).status_code == 202
    bodies = [c["body"] for c in await rig.commands(trace_id, "cancel")]
    assert bodies == [{"compensate": True, "comment": None}, {"compensate": False, "comment": "x"}]


RETRY = {"action_id": "RES_RETRY", "display_text": "Try again", "requires_input": False, "kind": "retry"}


async def letter(rig: Rig, trace_id: str, pause_id: str | None) -> str:
    letter_id = f"d{await rig.db.fetchval('SELECT count(*) FROM handrail.dead_letter')}-{trace_id}"
    await rig.db.execute(
        "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, agent, error_code, data, pause_id, at)"
        " VALUES ($1, $2, 'a', 'hardware_bot', 'X', '{}', $3, handrail.clock())",
        letter_id,
        trace_id,
        pause_id,
    )
    return letter_id


async def test_replaying_a_dead_letter_decides_retry_and_discarding_decides_skip(rig: Rig) -> None:
    for order, action, state in (("replay", "RES_RETRY", "replayed"), ("discard", "RES_SKIP", "discarded")):
        trace_id, pause_id = await rig.paused(resolutions=[*RESOLUTIONS, RETRY])
        letter_id = await letter(rig, trace_id, pause_id)
        done = await rig.post(f"/dead-letters/{letter_id}/{order}", {"reason": "looked at it"}, Handrail_Actor="ana")
        assert (done.status_code, done.json()["action_id"]) == (202, action)
        decision = await rig.db.fetchrow("SELECT * FROM handrail.decision WHERE pause_id = $1", pause_id)
        assert (decision["action_id"], decision["actor"], decision["comment"]) == (action, "ana", "looked at it")
        assert len(await rig.commands(trace_id, "decide")) == 1
        shown = (await rig.get(f"/dead-letters/{letter_id}")).json()
        answers.DeadLetterView.model_validate(shown)
        assert (shown["state"], shown["reason"]) == (state, "looked at it")
        await refused(rig.post(f"/dead-letters/{letter_id}/{order}"), 409, "already-resolved")


async def test_a_replay_takes_the_input_that_the_only_retry_asks_for(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    letter_id = await letter(rig, trace_id, pause_id)
    path = f"/dead-letters/{letter_id}/replay"
    await refused(rig.post(path), 422, "invalid-input")
    assert (await rig.post(path, {"input": "https://vendor.example/x"})).status_code == 202
    assert (
        await rig.db.fetchval("SELECT input FROM handrail.decision WHERE pause_id = $1", pause_id)
    ) == "https://vendor.example/x"


@pytest.mark.parametrize("left", ["no pause, workflow ended", "pause closed"])
async def test_a_dead_letter_that_was_left_behind_can_be_discarded(rig: Rig, left: str) -> None:
    trace_id, pause_id = await rig.paused(resolutions=[*RESOLUTIONS, RETRY])
    letter_id = await letter(rig, trace_id, pause_id if left == "pause closed" else None)
    await rig.db.execute("UPDATE handrail.pause SET state = 'cancelled' WHERE pause_id = $1", pause_id)
    if left != "pause closed":
        await refused(rig.post(f"/dead-letters/{letter_id}/discard"), 409, "not-paused")
        await rig.db.execute("UPDATE handrail.workflow SET ended_at = handrail.clock() WHERE trace_id = $1", trace_id)
    problem = await refused(rig.post(f"/dead-letters/{letter_id}/replay"), 422, "action-not-allowed")
    assert problem["allowed"] == ["discard"]
    done = await rig.post(f"/dead-letters/{letter_id}/discard", {"reason": "of last year"}, Handrail_Actor="ana")
    assert (done.status_code, done.json()["status"]) == (202, "DISCARDED")
    answers.Ordered.model_validate(done.json())
    shown = (await rig.get(f"/dead-letters/{letter_id}")).json()
    assert (shown["state"], shown["reason"], shown["closed_by"]) == ("discarded", "of last year", "ana")
    assert await rig.commands(trace_id, "decide") == []


async def test_dead_letters_that_cannot_be_decided_say_why(rig: Rig) -> None:
    await refused(rig.get("/dead-letters/nope"), 404, "dead-letter-not-found")
    await refused(rig.post("/dead-letters/nope/replay"), 404, "dead-letter-not-found")
    trace_id, pause_id = await rig.paused(resolutions=[RESOLUTIONS[2]])
    early = await letter(rig, trace_id, None)
    await refused(rig.post(f"/dead-letters/{early}/replay"), 409, "not-paused")
    offered = await letter(rig, trace_id, pause_id)
    problem = await refused(rig.post(f"/dead-letters/{offered}/replay"), 422, "action-not-allowed")
    assert problem["allowed"] == ["RES_ABORT_SAGA"]
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_ABORT_SAGA"})
    await refused(rig.post(f"/dead-letters/{offered}/discard"), 409, "already-resolved")


async def test_dead_letters_are_listed_with_filters(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    ids = [await letter(rig, trace_id, pause_id) for _ in range(3)]
    found = await every(rig, "/dead-letters", answers.DeadLetterView, trace_id=trace_id, limit=1)
    assert [d["dead_letter_id"] for d in found] == ids[::-1]
    assert await every(rig, "/dead-letters", answers.DeadLetterView, trace_id=trace_id, state="replayed") == []
    assert len(await every(rig, "/dead-letters", answers.DeadLetterView, trace_id=trace_id, agent="hardware_bot")) == 3


async def quarantine(rig: Rig, value: bytes | None, **more: Any) -> int:
    return await rig.db.fetchval(
        'INSERT INTO handrail.quarantine (topic, partition, "offset", bus_id, key, value, headers, reason, kind, trace_id, at)'
        " VALUES ($1, 2, $2, 'bus', 'k', $3, $4, 'cannot be read', $5, $6, handrail.clock()) RETURNING id",
        topics.RESULTS,
        await rig.db.fetchval("SELECT count(*) FROM handrail.quarantine"),
        value,
        [["ce_type", "x"], ["ce_id", "ü"]],
        more.get("kind", "undecodable"),
        more.get("trace_id"),
    )


async def test_a_list_shows_the_beginning_of_a_large_record_and_the_record_all_of_it(rig: Rig) -> None:
    record_id = await quarantine(rig, b"x" * 100_000)
    [listed] = (await rig.get("/quarantine")).json()["items"]
    whole = (await rig.get(f"/quarantine/{record_id}")).json()
    assert (len(base64.b64decode(listed["value"])), listed["bytes"], listed["truncated"]) == (65_536, 100_000, True)
    assert (len(base64.b64decode(whole["value"])), whole["bytes"], whole["truncated"]) == (100_000, 100_000, False)


async def test_a_quarantined_record_goes_back_onto_its_topic_byte_for_byte(rig: Rig) -> None:
    record_id = await quarantine(rig, b"\x00garbage\xff")
    shown = (await rig.get(f"/quarantine/{record_id}")).json()
    answers.QuarantineView.model_validate(shown)
    assert (shown["value"], shown["key"], shown["state"]) == ("AGdhcmJhZ2X/", "aw==", "open")
    end = (await rig.bus.ranges([(topics.RESULTS, 2)]))[topics.RESULTS, 2].end
    done = await rig.post(f"/quarantine/{record_id}/replay", {"reason": "fixed the reader"})
    assert done.status_code == 202
    reader = await rig.bus.reader()
    reader.assign({(topics.RESULTS, 2): end})
    [record] = await reader.read(10, 5)
    await reader.close()
    assert (record.key, record.value) == (b"k", b"\x00garbage\xff")
    assert list(record.headers) == [("ce_type", b"x"), ("ce_id", "ü".encode())]
    again = (await rig.get(f"/quarantine/{record_id}")).json()
    assert (again["state"], again["state_reason"]) == ("replayed", "fixed the reader")
    await refused(rig.post(f"/quarantine/{record_id}/replay"), 409, "already-resolved")


@pytest.mark.parametrize("headers", [[], None], ids=["as anybody puts it there", "as an owner publishes it"])
async def test_a_dead_letter_that_lay_in_a_wrong_partition_is_replayed_into_that_of_its_workflow(
    rig: Rig, headers: list[tuple[str, bytes]] | None
) -> None:
    letter = DeadLetter(trace_id="astray", node_id="a", reason="put there by hand")
    if headers is None:
        about = Envelope("1", ce_type("dead_letter"), "/elsewhere", subject="astray")
        headers = to_headers(about)
    home = partition("default", "astray", PARTITIONS)
    assert home != 2
    record_id = await rig.db.fetchval(
        'INSERT INTO handrail.quarantine (topic, partition, "offset", bus_id, key, value, headers, reason, kind, at)'
        " VALUES ($1, 2, $2, 'bus', 'k', $3, $4, 'wrong partition', 'undecodable', handrail.clock()) RETURNING id",
        topics.DEAD_LETTERS,
        await rig.db.fetchval("SELECT count(*) FROM handrail.quarantine"),
        encode(letter),
        [[name, value.decode()] for name, value in headers],
    )
    end = (await rig.bus.ranges([(topics.DEAD_LETTERS, home)]))[topics.DEAD_LETTERS, home].end
    assert (await rig.post(f"/quarantine/{record_id}/replay")).status_code == 202
    reader = await rig.bus.reader()
    reader.assign({(topics.DEAD_LETTERS, home): end})
    [record] = await reader.read(10, 5)
    await reader.close()
    assert (record.key, record.value, list(record.headers)) == (b"k", encode(letter), headers)
    taken = Work()
    Inbound("default", PARTITIONS).records([record], taken)
    assert not taken.unread, "its owner reads it and sets it aside no more"


async def test_replaying_what_parked_a_workflow_lets_it_go_on(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted()], status="RUNNING")
    await rig.db.execute("UPDATE handrail.workflow SET parked_reason = 'KeyError: x' WHERE trace_id = $1", trace_id)
    explained = (await rig.get(f"/workflows/{trace_id}/explain")).json()
    assert "parked" in explained["sentence"]
    record_id = await quarantine(rig, b"{}", kind="parked", trace_id=trace_id)
    assert (await rig.post(f"/quarantine/{record_id}/replay")).status_code == 202
    row = await rig.db.fetchrow("SELECT parked_reason, wake_at FROM handrail.workflow WHERE trace_id = $1", trace_id)
    assert row["parked_reason"] is None
    assert row["wake_at"] is not None


async def parked(rig: Rig, **more: Any) -> tuple[str, int]:
    trace_id = await rig.workflow([accepted()], status="RUNNING")
    await rig.db.execute("UPDATE handrail.workflow SET parked_reason = 'KeyError: x' WHERE trace_id = $1", trace_id)
    return trace_id, await quarantine(rig, b"{}", kind="parked", trace_id=trace_id)


async def ordered(rig: Rig, trace_id: str) -> list[tuple[str, Any, str]]:
    rows = await rig.db.fetch("SELECT kind, body, actor FROM handrail.command WHERE trace_id = $1 ORDER BY n", trace_id)
    return [
        (r["kind"], r["body"] if isinstance(r["body"], dict) else orjson.loads(r["body"]), r["actor"]) for r in rows
    ]


async def test_a_parked_workflow_says_its_ways_on_and_goes_on_without_its_record(rig: Rig) -> None:
    trace_id, record_id = await parked(rig)
    explained = (await rig.get(f"/workflows/{trace_id}/explain")).json()
    for way in (f"quarantine replay {record_id}", f"quarantine discard {record_id}", "--give-up"):
        assert way in explained["sentence"]
    assert explained["facts"][0]["records"] == [record_id]
    assert (await rig.post(f"/quarantine/{record_id}/discard", {"reason": "noise"})).status_code == 202
    assert await rig.db.fetchval("SELECT parked_reason FROM handrail.workflow WHERE trace_id = $1", trace_id) is None
    assert [(kind, body) for kind, body, _ in await ordered(rig, trace_id)] == [("look", {})]


@pytest.mark.parametrize("door", ["discard", "cancel"])
async def test_a_parked_workflow_is_given_up_by_name_and_reason(rig: Rig, door: str) -> None:
    trace_id, record_id = await parked(rig)
    if door == "discard":
        body = {"reason": "hopeless", "give_up": True, "compensate": False}
        done = await rig.post(f"/quarantine/{record_id}/discard", body, Handrail_Actor="ada")
    else:
        body = {"comment": "hopeless", "compensate": False}
        done = await rig.post(f"/workflows/{trace_id}/cancel", body, Handrail_Actor="ada")
    assert done.status_code == 202, done.text
    assert await ordered(rig, trace_id) == [("give-up", {"compensate": False, "comment": "hopeless"}, "ada")]


async def test_who_put_a_record_back_or_let_it_go_is_kept(rig: Rig) -> None:
    for verb in ("replay", "discard"):
        record_id = await quarantine(rig, b"x")
        done = await rig.post(
            f"/quarantine/{record_id}/{verb}", {"reason": "seen"}, Handrail_Actor="ada", Handrail_Channel="cli"
        )
        assert done.status_code == 202
        shown = (await rig.get(f"/quarantine/{record_id}")).json()
        answers.QuarantineView.model_validate(shown)
        assert (shown["closed_by"], shown["closed_channel"], shown["state_reason"]) == ("ada", "cli", "seen")
        assert shown["closed_at"] >= shown["at"]
    letter = f"d{'6' * 25}"
    await rig.db.execute(
        "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, kind, data, state, at)"
        " VALUES ($1, 'gone', 'a', 'late_effect', '{}', 'open', handrail.clock())",
        letter,
    )
    assert (
        await rig.post(f"/dead-letters/{letter}/discard", {"reason": "kept"}, Handrail_Actor="bob")
    ).status_code == 202
    shown = (await rig.get(f"/dead-letters/{letter}")).json()
    assert (shown["state"], shown["reason"], shown["closed_by"]) == ("discarded", "kept", "bob")


async def test_the_undo_of_a_late_effect_has_the_large_values_that_it_is_given(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted()], status="COMPLETED")
    letter, mark, other = f"d{'8' * 25}", "sha256:" + "c" * 64, "sha256:" + "d" * 64
    for digest, of in ((mark, trace_id), (other, "somebody-else")):
        await rig.db.execute(
            "INSERT INTO handrail.blob (digest, trace_id, content_type, body, at) VALUES ($1, $2, 'application/json', $3, now())",
            digest,
            of,
            b'{"text": "long"}',
        )
    inputs = {
        "doc": {"$ref": f"/workflows/{trace_id}/blobs/{mark}"},
        "no": {"$ref": f"/workflows/{trace_id}/blobs/{other}"},
    }
    task = {
        "agent": "worker",
        "action": "do",
        "undo": "undo",
        "effect_key": f"default/{trace_id}/a/1",
        "inputs": inputs,
    }
    await rig.db.execute(
        "INSERT INTO handrail.dead_letter (dead_letter_id, trace_id, node_id, kind, data, state, at)"
        " VALUES ($1, $2, 'a', 'late_effect', $3, 'open', handrail.clock())",
        letter,
        trace_id,
        {"node_id": "a", "task": task},
    )
    done = await rig.post(f"/dead-letters/{letter}/replay")
    assert done.status_code == 202
    undo = done.json()["replay_trace_id"]
    (start,) = await rig.commands(undo, "start")
    given = start["body"]["plan"]["nodes"][0]["undo_of"]["inputs"]
    assert given["doc"] == {"$ref": f"/workflows/{undo}/blobs/{mark}"}
    kept = await rig.db.fetch("SELECT digest, body FROM handrail.blob WHERE trace_id = $1", undo)
    assert [tuple(r) for r in kept] == [(mark, b'{"text": "long"}')]


async def test_what_only_says_that_a_workflow_stands_still_is_replayed_by_an_order_and_not_discarded(rig: Rig) -> None:
    trace_id, record_id = await parked(rig)
    await rig.db.execute(
        'UPDATE handrail.quarantine SET topic = $1, "offset" = -id WHERE id = $2', topics.COMMANDS, record_id
    )
    await refused(rig.post(f"/quarantine/{record_id}/discard"), 422, "action-not-allowed")
    assert (await rig.post(f"/quarantine/{record_id}/replay", {"reason": "repaired"})).status_code == 202
    assert [kind for kind, _, _ in await ordered(rig, trace_id)] == ["look"]
    assert (await rig.get(f"/quarantine/{record_id}")).json()["state"] == "replayed"


async def test_only_what_keeps_a_workflow_parked_can_give_it_up(rig: Rig) -> None:
    unread = await quarantine(rig, b"x")
    await refused(rig.post(f"/quarantine/{unread}/discard", {"give_up": True}), 422, "action-not-allowed")
    _, record_id = await parked(rig)
    await rig.db.execute("UPDATE handrail.workflow SET parked_reason = NULL")
    await refused(rig.post(f"/quarantine/{record_id}/discard", {"give_up": True}), 422, "action-not-allowed")
    assert (await rig.post(f"/quarantine/{record_id}/discard")).status_code == 202


async def test_quarantine_is_listed_discarded_and_told_apart(rig: Rig) -> None:
    ids = [await quarantine(rig, None) for _ in range(3)]
    found = await every(rig, "/quarantine", answers.QuarantineView, state="open", topic=topics.RESULTS, limit=2)
    assert [r["id"] for r in found][:3] == ids[::-1]
    assert (await rig.post(f"/quarantine/{ids[0]}/discard", {"reason": "noise"})).status_code == 202
    assert ids[0] not in [r["id"] for r in await every(rig, "/quarantine", answers.QuarantineView, state="open")]
    for bad in ("99999999", "x", "-1", "9" * 30):
        await refused(rig.get(f"/quarantine/{bad}"), 404, "quarantine-not-found")
        await refused(rig.post(f"/quarantine/{bad}/replay"), 404, "quarantine-not-found")


@pytest.mark.parametrize("what", ["dead letter", "record"])
async def test_a_discard_waits_for_whoever_is_ending_the_same_without_holding_him_up(rig: Rig, what: str) -> None:
    """A batch has the pause (or the workflow) and comes to its letter (or its record) next."""
    trace_id, pause_id = await rig.paused(resolutions=[*RESOLUTIONS, RETRY])
    if what == "dead letter":
        id_ = await letter(rig, trace_id, pause_id)
        first = ("SELECT FROM handrail.pause WHERE pause_id = $1 FOR UPDATE", pause_id)
        then = ("UPDATE handrail.dead_letter SET closed_by = NULL WHERE dead_letter_id = $1", id_)
        path = f"/dead-letters/{id_}/discard"
    else:
        await rig.db.execute("UPDATE handrail.workflow SET parked_reason = 'x' WHERE trace_id = $1", trace_id)
        id_ = await quarantine(rig, b"{}", kind="parked", trace_id=trace_id)
        first = ("UPDATE handrail.workflow SET updated_at = handrail.clock() WHERE trace_id = $1", trace_id)
        then = ("UPDATE handrail.quarantine SET closed_by = NULL WHERE id = $1", id_)
        path = f"/quarantine/{id_}/discard"
    async with rig.db.acquire() as batch, batch.transaction():
        await batch.execute("SET LOCAL lock_timeout = '300ms'")
        await batch.execute(*first)
        discard = asyncio.create_task(rig.post(path))

        async def waits() -> bool:
            return await rig.db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )

        await wait_until(waits, description="the discard waits")
        await batch.execute(*then)
    assert (await discard).status_code == 202


async def test_feedback_has_a_line_per_decision(rig: Rig) -> None:
    risk = {"rule_id": "money-over-100", "policy_version": 3, "score": 0.4, "decide": "always"}
    proposed = {"action": "transfer", "args": {"to": "Alice", "amount": 500}}
    form = {"type": "object"}
    gate = [
        {"action_id": "RES_APPROVE", "display_text": "x", "requires_input": False, "kind": "approve"},
        {"action_id": "RES_EDIT", "display_text": "x", "requires_input": True, "input_schema": form, "kind": "edit"},
        {"action_id": "RES_REJECT", "display_text": "x", "requires_input": False, "kind": "reject"},
    ]
    expected: dict[str, tuple[str, Any, int]] = {}
    for body, outcome, final, steps in (
        ({"action_id": "RES_APPROVE"}, "approved", {"to": "Alice", "amount": 500}, 0),
        ({"action_id": "RES_EDIT", "input": {"to": "Alice", "amount": 90}}, "edited", {"to": "Alice", "amount": 90}, 1),
        ({"action_id": "RES_REJECT", "comment": "no"}, "rejected", None, 0),
    ):
        trace_id, pause_id = await rig.paused(resolutions=gate, kind="gate", risk=risk, proposed_action=proposed)
        assert (await rig.post(f"/workflows/{trace_id}/resume", body)).status_code == 202
        expected[pause_id] = (outcome, final, steps)
    trace_id, expired = await rig.paused()
    await rig.close_pause(expired, "expired", "RES_SKIP", "system:timeout")
    answer = await rig.get("/feedback.jsonl")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = {line["pause_id"]: line for line in map(orjson.loads, answer.content.splitlines())}
    for line in lines.values():
        answers.Feedback.model_validate(line)
    for pause_id, (outcome, final, steps) in expected.items():
        line = lines[pause_id]
        assert (line["outcome"], line["final"], len(line["patch"])) == (outcome, final, steps)
        assert line["proposed"] == proposed["args"]
        assert line["policy"] == {"version": 3, "rule_id": "money-over-100", "score": 0.4}
        assert line["later"] == {"status": "PAUSED_HITL"}
        assert line["input"] == (final if outcome == "edited" else None)
    assert lines[expired]["outcome"] == "expired"
    assert (await rig.get("/feedback.jsonl", since="2100-01-01T00:00:00Z")).content == b""
    await refused(rig.get("/feedback.jsonl", since="yesterday"), 422, "invalid-time")


async def test_a_long_export_is_streamed_whole(rig: Rig) -> None:
    trace_id, pause_id = await rig.paused()
    await rig.db.execute(
        "INSERT INTO handrail.pause (pause_id, trace_id, seq, kind, data, opened_at, state)"
        " SELECT 'bulk' || i, trace_id, i, kind, data, opened_at, 'decided' FROM handrail.pause, generate_series(1, 1200) i"
        " WHERE pause_id = $1",
        pause_id,
    )
    await rig.db.execute(
        "INSERT INTO handrail.decision (pause_id, trace_id, outcome, action_id, actor, channel, decided_at)"
        " SELECT 'bulk' || i, $1, 'decided', 'RES_SKIP', 'x', 'api', now() FROM generate_series(1, 1200) i",
        trace_id,
    )
    lines = (await rig.get("/feedback.jsonl")).content.splitlines()
    assert sum(orjson.loads(line)["pause_id"].startswith("bulk") for line in lines) == 1200


async def test_readers_of_an_export_who_take_their_time_keep_nobody_from_the_database(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_PORTION", 2)
    for _ in range(5):
        _, pause_id = await rig.paused()
        await rig.close_pause(pause_id, "expired", "RES_SKIP", "system:timeout")
    two = await connect.pool(rig.dsn, app="test-export", max_size=2)
    try:
        views = PostgresViews(Database(two))
        whole = [row["pause_id"] async for row in views.decisions("default", None)]
        exports = [views.decisions("default", None) for _ in range(4)]
        begun = [[(await anext(export))["pause_id"]] for export in exports]
        assert await views.now_ms()
        for read, export in zip(begun, exports, strict=True):
            read.extend([row["pause_id"] async for row in export])
        assert begun == [whole] * 4
    finally:
        await two.close()


async def test_what_can_run_and_what_is_alive_is_shown(rig: Rig) -> None:
    blueprints = await every(rig, "/blueprints", answers.BlueprintView)
    [onboarding] = [b for b in blueprints if b["name"] == "employee-onboarding"]
    assert (onboarding["version"], onboarding["defaults"]["sku"]) == (2, "MBP-16")
    await rig.db.execute(
        "UPDATE handrail.agent SET last_seen = handrail.clock() + interval '1 h' WHERE name = 'hr_bot'"
    )
    await rig.db.execute("UPDATE handrail.agent SET last_seen = now() - interval '1 hour' WHERE name = 'bank'")
    agents = {a["name"]: a for a in await every(rig, "/agents", answers.AgentView)}
    assert (agents["hr_bot"]["alive"], agents["bank"]["alive"]) == (True, False)
    assert agents["hardware_bot"]["actions"][0]["retry"] == {"max_attempts": 5}


async def test_an_action_comes_with_its_track_record_and_its_rate_from_twenty_attempts_on(rig: Rig) -> None:
    await rig.db.execute(
        "INSERT INTO handrail.track_record (agent, action, ok, total) VALUES ('hr_bot', 'create', 19, 20),"
        " ('hardware_bot', 'order', 3, 19)"
    )
    agents = {a["name"]: a["actions"][0] for a in await every(rig, "/agents", answers.AgentView)}
    told = ("attempts_ok", "attempts_ended", "success_rate")
    assert [agents["hr_bot"][name] for name in told] == [19, 20, 0.95]
    assert [agents["hardware_bot"][name] for name in told] == [3, 19, None]
    assert [agents["bank"][name] for name in told] == [0, 0, None]


async def test_the_fields_of_an_action_come_in_the_order_in_which_their_author_wrote_them(rig: Rig) -> None:
    class Order(BaseModel):
        recipient: str
        amount: int
        on: str = "today"  # the shortest name: jsonb puts it first

    shop = Agent("shop_bot", version="1")

    @shop.task(effect="pure")
    async def order(asked: Order, ctx: Context) -> Order:
        return asked

    async def shown() -> list[str]:
        [agent] = [a for a in await every(rig, "/agents", answers.AgentView) if a["name"] == "shop_bot"]
        return list(agent["actions"][0]["input_schema"]["properties"])

    pool = await connect.pool(rig.dsn, app="test", max_size=1)
    try:
        registry = AgentRegistry(pool, "default", [shop])
        await registry.register()
        assert await shown() == ["recipient", "amount", "on"]
        assert list((await registry.known())["shop_bot", "order"]["input_schema"]["properties"]) == await shown()
    finally:
        pool.terminate()
    # A process of before this column writes its manifest beside it: what it says counts.
    await rig.db.execute(
        "UPDATE handrail.agent SET manifest = jsonb_set(manifest, '{input_schema,properties}', '{\"later\": {}}')"
        " WHERE name = 'shop_bot'"
    )
    assert await shown() == ["later"]


async def test_the_ledger_is_there_where_simulators_run(rig: Rig, postgres_server: str) -> None:
    assert (await rig.get("/simulators/ledger", trace_id="t1")).json()[0]["trace_id"] == "t1"
    await refused(rig.get("/simulators/ledger"), 400, "invalid-query")
    async with running_gateway(rig.dsn) as other:
        await refused(other.get("/simulators/ledger", trace_id="t1"), 404, "not-found")


async def test_orders_are_nudged(rig: Rig) -> None:
    trace_id, _ = await rig.paused()
    before = sum(r.end for r in (await rig.bus.ranges([(topics.COMMANDS, p) for p in range(4)])).values())
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})

    async def nudged() -> bool:
        ranges = await rig.bus.ranges([(topics.COMMANDS, p) for p in range(4)])
        return sum(r.end for r in ranges.values()) > before

    await wait_until(nudged, description="the nudge")


@pytest.mark.parametrize("path", ["/inbox", "/agents", "/blueprints", "/dead-letters", "/quarantine", "/workflows"])
async def test_lists_answer_items_and_a_cursor(rig: Rig, path: str) -> None:
    body = (await rig.get(path)).json()
    assert isinstance(body["items"], list)
    assert "next_cursor" in body

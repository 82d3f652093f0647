"""State, history, journal, preview and explain: always the journal as it stands, cursor and history one read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.engines import drop_database, fresh_database
from tests.integration.gateway_rig import RESOLUTIONS, Rig, accepted, moved, planned, running_gateway

from handrail_contracts.answers import Preview, State
from handrail_contracts.live import LiveView, view_key
from handrail_contracts.view import WorkflowView
from handrail_gateway.adapters import projection


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_server: str) -> AsyncGenerator[Rig]:
    dsn = await fresh_database(postgres_server)
    async with running_gateway(dsn) as running:
        yield running
    await drop_database(postgres_server, dsn)


async def state(rig: Rig, trace_id: str, *, history: bool = False) -> dict[str, Any]:
    answer = await rig.get(f"/workflows/{trace_id}/state", **({"history": "true"} if history else {}))
    assert answer.status_code == 200
    found = answer.json()
    State.model_validate(found)
    return found


async def journal(rig: Rig, trace_id: str) -> list[dict[str, Any]]:
    rows = await rig.db.fetch("SELECT data FROM handrail.journal WHERE trace_id = $1 ORDER BY seq", trace_id)
    return [row["data"] for row in rows]


def attempts(count: int) -> list[dict[str, Any]]:
    """So many events of a node that is tried again and again."""
    return [moved("a", "IN_PROGRESS", "RETRYING", attempt) for attempt in range(1, count + 1)]


async def test_the_state_is_the_fold_of_the_journal_and_follows_it(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(input={"x": 1}), planned("a", "b")], status="RUNNING")
    for more in (
        [],
        [moved("a", "PENDING", "SCHEDULED")],
        [moved("a", "SCHEDULED", "COMPLETE", output={"y": 2})],
        attempts(3),
    ):
        await rig.append(trace_id, more)
        events = await journal(rig, trace_id)
        for history in (False, True):
            found = await state(rig, trace_id, history=history)
            kept = found.pop("history", None)
            assert found == WorkflowView(trace_id).apply_all(events).state()
            assert kept == (events if history else None)
            assert found["cursor"] == str(len(events))


async def test_history_is_what_was_journaled_byte_for_byte(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    odd = (
        b'{"event_type": "NODE_STATE_CHANGED",  "trace_id":"%s","seq":3,"at":"x","node_id":"a","from":"PENDING",'
        % trace_id.encode()
    )
    odd += b'"to":"SCHEDULED","attempt":1,"output":1.0e2}'
    await rig.append(trace_id, [moved("a", "PENDING", "SCHEDULED")])
    await rig.db.execute("UPDATE handrail.journal SET data = $2 WHERE trace_id = $1 AND seq = 3", trace_id, odd)
    answer = await rig.get(f"/workflows/{trace_id}/state", history="true")
    assert odd in answer.content
    assert odd in (await rig.get(f"/workflows/{trace_id}/journal")).content


async def test_a_long_history_is_cut_and_says_where_the_rest_is(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a"), *attempts(998)], status="RUNNING")
    whole = await state(rig, trace_id, history=True)
    assert len(whole["history"]) == 1000
    assert "history_truncated" not in whole
    await rig.append(trace_id, attempts(1500))
    cut = await state(rig, trace_id, history=True)
    assert [e["seq"] for e in cut["history"]] == list(range(1501, 2501))
    assert cut["cursor"] == "2500"
    page = (await rig.get(f"/workflows/{trace_id}/journal", after="3", limit="2")).json()
    following = (await rig.get(f"/workflows/{trace_id}/journal", cursor=page["next_cursor"], limit="1")).json()
    assert [e["seq"] for e in (*page["items"], *following["items"])] == [4, 5, 6]
    assert (cut["history_truncated"], cut["history_next"]) == (True, f"/workflows/{trace_id}/journal?after=0")
    assert cut["nodes"] == WorkflowView(trace_id).apply_all(await journal(rig, trace_id)).state()["nodes"]


async def test_cursor_and_history_agree_while_events_arrive(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    written = 2

    async def write() -> None:
        nonlocal written
        while True:
            await rig.append(trace_id, attempts(2))
            written += 2

    async def read(reads: int) -> None:
        last = 0
        for i in range(reads):
            before = written
            found = await state(rig, trace_id, history=i % 2 == 0)
            cursor = int(found["cursor"])
            if i % 2 == 0:
                # Events are appended two at a time: half of an append is never seen.
                assert [e["seq"] for e in found["history"]] == list(range(max(1, cursor - 999), cursor + 1))
            assert cursor % 2 == 0
            assert cursor >= max(before, last), "a state is never older than its question"
            last = cursor

    writing = asyncio.create_task(write())
    try:
        await asyncio.gather(*(read(20) for _ in range(3)))
    finally:
        writing.cancel()
    assert written > 2


async def test_a_first_question_about_a_long_workflow_is_answered_whole(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a"), *attempts(4500)], status="RUNNING")
    found = await state(rig, trace_id)
    assert found["cursor"] == "4502"
    assert found["nodes"][0]["attempt"] == 4500


async def test_open_pauses_stand_in_the_state_with_every_field(rig: Rig) -> None:
    trace_id, first = await rig.paused()
    second = await rig.pause(trace_id)
    found = await state(rig, trace_id)
    assert found["status"] == "PAUSED_HITL"
    assert [p["pause_id"] for p in found["pauses"]] == [first, second]
    assert found["pauses"][0]["available_resolutions"] == RESOLUTIONS
    assert found["pauses"][0]["event_type"] == "WORKFLOW_PAUSED_HITL"


async def test_what_is_not_there_and_what_is_somebody_elses_look_the_same(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a")], status="RUNNING")
    for table in ("workflow", "journal"):
        await rig.db.execute(f"UPDATE handrail.{table} SET tenant = 'other' WHERE trace_id = $1", trace_id)
    for path in ("state", "state?history=true", "journal", "explain", "blobs/sha256:" + "0" * 64):
        shown = []
        for name in (trace_id, "x" * len(trace_id)):
            answer = await rig.client.get(f"/workflows/{name}/{path}")
            assert answer.status_code == 404
            shown.append(answer.text.replace(name, "…"))
        assert shown[0] == shown[1]
    assert (await rig.client.get("/workflows/a%20b/state")).status_code == 404
    assert (await rig.client.get("/workflows/%00/state")).status_code == 404
    assert (await rig.client.get(f"/workflows/{'x' * 65}/state")).status_code == 404


async def test_the_journal_is_paged_oldest_first(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted(), planned("a"), *attempts(5)], status="RUNNING")
    events = await journal(rig, trace_id)
    first = (await rig.get(f"/workflows/{trace_id}/journal", limit=3)).json()
    assert (first["items"], first["next_cursor"]) == (events[:3], "3")
    rest = (await rig.get(f"/workflows/{trace_id}/journal", after=first["next_cursor"], limit=1000)).json()
    assert (rest["items"], rest["next_cursor"]) == (events[3:], None)
    assert (await rig.get(f"/workflows/{trace_id}/journal", after=99)).json() == {"items": [], "next_cursor": None}
    assert "meta" not in events[1]
    waiting = (await rig.post("/workflows", {"intent": "x"})).status_code
    assert waiting == 422
    for bad in ("-1", "x", "01"):
        answer = await rig.get(f"/workflows/{trace_id}/journal", after=bad)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor")


async def test_large_values_are_served_as_what_cannot_be_rendered(rig: Rig) -> None:
    trace_id = await rig.workflow([accepted()], status="RUNNING")
    for media, served in (("application/json", "application/json"), ("text/html", "application/octet-stream")):
        digest = "sha256:" + ("a" if media == served else "b") * 64
        await rig.db.execute(
            "INSERT INTO handrail.blob (digest, trace_id, content_type, body, at) VALUES ($1, $2, $3, $4, now())",
            digest,
            trace_id,
            media,
            b"<script>alert(1)</script>",
        )
        answer = await rig.get(f"/workflows/{trace_id}/blobs/{digest}")
        assert (answer.status_code, answer.content) == (200, b"<script>alert(1)</script>")
        assert answer.headers["content-type"].partition(";")[0] == served
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        other = await rig.workflow([accepted()], status="RUNNING")
        assert (await rig.get(f"/workflows/{other}/blobs/{digest}")).status_code == 404
        names_it = await rig.workflow(
            [accepted(input={"$ref": f"/workflows/{trace_id}/blobs/{digest}"})], status="RUNNING"
        )
        assert (await rig.get(f"/workflows/{names_it}/blobs/{digest}")).status_code == 404


async def test_a_preview_shows_what_the_button_would_do_and_changes_nothing(rig: Rig) -> None:
    trace_id = await stuck(rig)
    pause_id = await rig.pause(trace_id, resolutions=RESOLUTIONS)
    before = await journal(rig, trace_id)
    answer = await rig.get(f"/workflows/{trace_id}/pauses/{pause_id}/preview/RES_SKIP")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    Preview.model_validate(found)
    assert found["action_id"] == "RES_SKIP"
    assert {"node_id": "a", "from": "AWAITING_HUMAN", "to": "SKIPPED"} in found["nodes"]
    assert found["status_after"] == "COMPLETED_WITH_SKIPS"
    assert await journal(rig, trace_id) == before
    assert (await rig.commands(trace_id)) == []
    problem = (await rig.get(f"/workflows/{trace_id}/pauses/{pause_id}/preview/RES_NOPE")).json()
    assert (problem["type"], problem["allowed"]) == (
        "/problems/action-not-allowed",
        [r["action_id"] for r in RESOLUTIONS],
    )
    assert (await rig.get(f"/workflows/{trace_id}/pauses/p-none/preview/RES_SKIP")).status_code == 404
    await rig.post(f"/workflows/{trace_id}/resume", {"action_id": "RES_SKIP"})
    late = await rig.get(f"/workflows/{trace_id}/pauses/{pause_id}/preview/RES_SKIP")
    assert (late.status_code, late.json()["type"]) == (409, "/problems/already-resolved")


async def stuck(rig: Rig) -> str:
    """A workflow whose only node waits for a person, journaled as the engine does."""
    error = {"code": "X", "message": "m", "evidence": {}}
    steps = [
        moved("a", "PENDING", "SCHEDULED", meta={"sends": 1}),
        moved("a", "SCHEDULED", "DEAD_LETTERED", error=error, meta={"outcome": "failed"}),
    ]
    dead = {
        "event_type": "TASK_DEAD_LETTERED",
        "node_id": "a",
        "attempts": [],
        "dead_letter_id": "d1",
        "meta": {"due_ms": 1},
    }
    waits = moved("a", "DEAD_LETTERED", "AWAITING_HUMAN")
    return await rig.workflow([accepted(), planned("a"), *steps, dead, waits], status="PAUSED_HITL")


async def test_explain_says_in_one_sentence_what_is_waited_for(rig: Rig) -> None:
    trace_id = await stuck(rig)
    await rig.pause(trace_id)
    found = (await rig.get(f"/workflows/{trace_id}/explain")).json()
    assert "person" in found["sentence"]
    assert found["status"] == "PAUSED_HITL"
    await rig.post("/workflows", {"intent": "x"})
    assert (await rig.get("/workflows/nobody/explain")).status_code == 404


async def test_explain_tells_what_was_spent_and_the_narrowest_budget(rig: Rig) -> None:
    usage = {"calls": 1, "input_tokens": 900, "output_tokens": 100, "cost_usd": 0.02}
    plan = planned("a", "b")
    plan["meta"]["budget"] = {"tokens": 5000}
    steps = [
        moved("a", "PENDING", "SCHEDULED", meta={"sends": 1}),
        moved("a", "SCHEDULED", "COMPLETE", output={}, usage=usage, meta={"outcome": "ok"}),
    ]
    trace_id = await rig.workflow([accepted(), plan, *steps], status="RUNNING")
    found = (await rig.get(f"/workflows/{trace_id}/explain")).json()["spending"]
    assert found == {"tokens": {"spent": 1000, "limit": 5000}, "usd": {"spent": 0.02, "limit": None}}


async def test_a_projection_in_redis_spares_the_long_fold_and_is_completed_by_the_journal(
    rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_PATIENCE_S", 30.0)
    trace_id = await rig.workflow([accepted(), planned("a"), *attempts(1200)], status="RUNNING")
    events = await journal(rig, trace_id)
    redis = Redis.from_url(redis_url)
    view = WorkflowView(trace_id).apply_all(events[:-1])
    # A mark that only the projection can have: it shows where the state came from.
    view.intent = "seen in Redis"
    live = LiveView(view)
    whole = live.whole() if hasattr(live, "whole") else None
    assert whole is not None
    await redis.hset(view_key("default", trace_id), mapping={"seq": str(view.cursor), **whole.fields})
    try:
        async with running_gateway(rig.dsn, redis_url=redis_url) as other:
            found = await state(other, trace_id)
            assert found["intent"] == "seen in Redis"
            assert found["cursor"] == str(len(events))
            short = await rig.workflow([accepted()], status="RUNNING")
            await redis.hset(view_key("default", short), mapping={"seq": "7", **whole.fields})
            assert (await state(other, short))["intent"] is None, "few events are folded without asking"
    finally:
        await redis.delete(view_key("default", trace_id), view_key("default", short))
        await redis.aclose()


async def test_views_that_were_kept_stay_within_their_bound(rig: Rig) -> None:
    from handrail_gateway.adapters.postgres import Database
    from handrail_gateway.adapters.views import PostgresViews
    from handrail_gateway.application.snapshots import Snapshots
    from handrail_store.connect import pool

    raw = await pool(rig.dsn, app="test", raw_json=True)
    try:
        snapshots = Snapshots(PostgresViews(Database(raw)), "default", kept_bytes=60_000)
        ids = [await rig.workflow([accepted(intent="x" * 1000), planned("a")], status="RUNNING") for _ in range(40)]
        for _ in range(2):
            for trace_id in ids:
                found = orjson.loads(await snapshots.state(trace_id))
                assert (found["trace_id"], found["cursor"]) == (trace_id, "2")
        assert 1 <= snapshots.kept <= 20
    finally:
        await raw.close()
